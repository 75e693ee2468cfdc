"""An answering machine is hung up on, left a message after its beep, or talked to, as the author says."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from db import calls, events, utterances
from db.calls import CallRecord
from db.ids import new_id
from db.utterances import UtteranceRecord
from telephony.errors import CarrierError
from telephony.machines import Detection
from tests.dispatch.conftest import DispatchEnvironment
from voicebot.dispatch.machine_words import evidence
from voicebot.dispatch.machines import PAUSE_S, AnsweringMachines

Env = DispatchEnvironment
MESSAGE = {"action": "message", "message": "This is Acme. Please call back."}
BEEP = "Please leave a message after the beep."
SCREENING = "The person you are calling is using a screening service. Say your name after the beep."


@pytest.fixture
async def machines(dispatch_environment: Env) -> AnsweringMachines:
    """What acts on machines."""
    env = dispatch_environment
    return AnsweringMachines(env.database, env.clock, {"twilio": env.carrier.as_carrier()}, nowhere)


async def nowhere(_call_id: UUID, _message: str | None, _pause_s: float) -> bool:
    """No call is live in this process."""
    return False


async def answered(env: Env, **voicemail: Any) -> CallRecord:
    """A lead's call that a person or a machine has answered."""
    lead = await env.lead(await env.template(voicemail=voicemail, retry={"voicemail": 60_000}))
    await env.step()
    call = (await env.calls_of(lead))[-1]
    return await calls.answered(env.database, env.account_id, call.id, env.clock.now())


async def hears(env: Env, machines: AnsweringMachines, call: CallRecord, text: str) -> None:
    """Who answered says something, which is written down and noticed."""
    said = UtteranceRecord(
        id=new_id(), account_id=env.account_id, call_id=call.id, seq=1, speaker="caller", template_id=None,
        node=None, text=text, heard_text=None, interrupted=False, source="stt", started_ms=500, ended_ms=2500,
    )  # fmt: skip
    await utterances.record(env.database, said)
    machines.heard(said)
    await machines.finish(30)


def found(call: CallRecord, who: Any, **more: Any) -> Detection:
    """What the carrier reports of a call."""
    assert call.carrier_call_id is not None
    return Detection(carrier_call_id=call.carrier_call_id, who=who, **more)


async def told(env: Env, call: CallRecord) -> list[Any]:
    """The data of the events about machines."""
    recorded = await events.of_call(env.database, env.account_id, call.id)
    return [event.data for event in recorded if event.type == "machine.detected"]


async def ended(env: Env, call: CallRecord) -> CallRecord:
    """The call, once its end was reported and it was finalised."""
    await env.ends(call, "hangup", ended_by="caller")
    await env.finalise()
    return await calls.get(env.database, env.account_id, call.id)


@pytest.mark.parametrize(
    ("action", "url", "until_beep"),
    [("hang_up", True, False), ("message", True, True), ("continue", False, False)],
)
async def test_the_carrier_is_asked_to_detect_machines(
    dispatch_environment: Env, action: str, url: bool, until_beep: bool
) -> None:
    """Where something is to be done about them; for a message, until it may begin."""
    call = await answered(dispatch_environment, **{**MESSAGE, "action": action})
    [request] = dispatch_environment.carrier.dialled
    expected = f"https://bot.example.com/webhooks/twilio/machine?call={call.id}" if url else None
    assert (request.machine_url, request.until_beep) == (expected, until_beep)


async def test_a_machine_is_hung_up_on_once(dispatch_environment: Env, machines: AnsweringMachines) -> None:
    """However often it is reported; the outcome is `voicemail`, and the lead is dialled again."""
    env = dispatch_environment
    call = await answered(env, action="hang_up")
    for _ in range(3):
        await machines.reported(call, found(call, "machine"))
    assert env.carrier.hung_up == [call.carrier_call_id]
    assert await told(env, call) == [{"source": "carrier", "action": "hang_up"}]
    over = await ended(env, call)
    assert (over.ended_by, over.end_reason, over.outcome) == ("system", "voicemail", "voicemail")
    lead = await env.database.fetchrow("SELECT status, outcome FROM leads")
    assert lead is not None
    assert (lead["status"], lead["outcome"]) == ("queued", "voicemail")


async def test_a_message_is_left_after_the_beep(
    dispatch_environment: Env, machines: AnsweringMachines
) -> None:
    """Not when the machine begins to speak; meanwhile the call keeps its channel."""
    env = dispatch_environment
    call = await answered(env, **MESSAGE)
    await machines.reported(call, found(call, "machine"))
    await hears(env, machines, call, BEEP)
    assert env.carrier.messages == []
    for _ in range(2):
        await machines.reported(call, found(call, "machine", is_over=True))
    assert env.carrier.messages == [(call.carrier_call_id, MESSAGE["message"], "en-US", 0)]
    assert (await calls.get(env.database, env.account_id, call.id)).status == "transferring"
    assert (await ended(env, call)).outcome == "voicemail"


async def test_a_beep_before_the_agent_is_there(
    dispatch_environment: Env, machines: AnsweringMachines
) -> None:
    """The carrier may report it before the media stream has begun; the message is left all the same."""
    env = dispatch_environment
    lead = await env.lead(await env.template(voicemail=MESSAGE))
    await env.step()
    [call] = await env.calls_of(lead)
    await machines.reported(call, found(call, "machine", is_over=True))
    assert [text for _, text, _, _ in env.carrier.messages] == [MESSAGE["message"]]
    late = await calls.answered(env.database, env.account_id, call.id, env.clock.now())
    assert late.status == "transferring"
    assert (await ended(env, call)).outcome == "voicemail"


async def test_a_person_is_talked_to(dispatch_environment: Env, machines: AnsweringMachines) -> None:
    """Nothing is done, and the outcome is that of the conversation."""
    env = dispatch_environment
    call = await answered(env, action="hang_up")
    await machines.reported(call, found(call, "human"))
    await hears(env, machines, call, "Hello, Ada here.")
    assert (env.carrier.hung_up, await told(env, call)) == ([], [])
    over = await ended(env, call)
    assert (over.answered_by, over.end_reason, over.outcome) == ("human", "hangup", "answered")


async def test_call_screening_is_not_a_machine(
    dispatch_environment: Env, machines: AnsweringMachines
) -> None:
    """A smartphone that asks who calls is talked to, whatever the carrier takes it for."""
    env = dispatch_environment
    call = await answered(env, action="hang_up")
    await hears(env, machines, call, SCREENING)
    await machines.reported(call, found(call, "machine"))
    assert (env.carrier.hung_up, await told(env, call)) == ([], [])
    assert (await ended(env, call)).outcome == "answered"


@pytest.mark.parametrize("first", ["carrier", "words"])
async def test_words_tell_of_a_machine_that_the_carrier_missed(
    dispatch_environment: Env, machines: AnsweringMachines, first: str
) -> None:
    """The message is left then, because no beep will be reported."""
    env = dispatch_environment
    call = await answered(env, **MESSAGE)
    if first == "carrier":
        await machines.reported(call, found(call, "human"))
        await hears(env, machines, call, BEEP)
    else:
        await hears(env, machines, call, BEEP)
        await machines.reported(call, found(call, "human"))
    [(_, text, _, pause_s)] = env.carrier.messages
    assert (text, pause_s) == (MESSAGE["message"], PAUSE_S if first == "carrier" else 0)
    assert (await ended(env, call)).outcome == "voicemail"


async def test_a_template_may_talk_to_machines(
    dispatch_environment: Env, machines: AnsweringMachines
) -> None:
    """The words are noted, nothing is done, and the call counts as answered."""
    env = dispatch_environment
    call = await answered(env, action="continue")
    await hears(env, machines, call, BEEP)
    assert env.carrier.hung_up == []
    assert await told(env, call) == [{"source": "conversation", "action": "continue"}]
    over = await ended(env, call)
    assert (over.end_reason, over.outcome) == ("hangup", "answered")


async def test_a_fax_and_a_refused_message_are_hung_up_on(
    dispatch_environment: Env, machines: AnsweringMachines
) -> None:
    """Where no message can be left, the line is not kept open."""
    env = dispatch_environment
    fax = await answered(env, **MESSAGE)
    await machines.reported(fax, found(fax, "machine", takes_message=False))
    await ended(env, fax)
    refused = await answered(env, **MESSAGE)
    env.carrier.errors.append(CarrierError("refused", status=400))
    await machines.reported(refused, found(refused, "machine", is_over=True))
    assert env.carrier.hung_up == [fax.carrier_call_id, refused.carrier_call_id]


@pytest.mark.parametrize(
    ("texts", "what"),
    [
        ([BEEP], "machine"),
        (["Hi, you have reached Ada.", "I can't come to the phone right now."], "machine"),
        (["Sie sind mit dem Anrufbeantworter von Ada verbunden."], "machine"),
        (["Bonjour, laissez un message après le bip."], "machine"),
        (["Deje su mensaje después del tono."], "machine"),
        ([SCREENING], "screening"),
        (["Hi, before I try to connect you, can I ask why you're calling?"], "screening"),
        (["Please record your name after the beep.", BEEP], "screening"),
        (["Hello?", "Yes, speaking."], None),
        (["I got your message."], None),
        ([], None),
    ],
)
def test_what_words_tell(texts: list[str], what: str | None) -> None:
    """Machines announce a beep or a message; a screening service asks who calls; people do neither."""
    assert evidence(texts) == what
