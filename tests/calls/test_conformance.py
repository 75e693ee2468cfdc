"""What a whole call does on every carrier; where carriers differ, the call's own facts say so.

The parts of a carrier's package are tested in `tests/telephony`, its webhooks and tokens in `tests/api`.
Calls that we place are in `test_conformance_dialled`, keys in `test_conformance_keys`, operators by telephone
in `test_conformance_person`.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.api.server_fixture import create, new_e164
from tests.calls.harness import (
    BILL,
    BYE,
    HIGH,
    LOW,
    OPEN,
    STOP,
    WELCOME,
    CallHarness,
    Facts,
    hear,
)
from voicebot.sandbox.caller import Dtmf, HangUp, Interrupt, Say, WaitForHangUp
from voicebot.sandbox.carrier import Misbehaviour, Phone
from voicebot.sandbox.exotel import ExotelMisbehaviour
from voicebot.sandbox.vendors.script import Answer

FRONT_DESK = "I connect you with the front desk."
DESTINATION = "front_desk"


def ways(line: CallHarness, **exotel: Any) -> Misbehaviour | ExotelMisbehaviour:
    """Unusual events in a call of Exotel; the repeated webhook on both carriers."""
    if line.carrier_name == "exotel":
        return ExotelMisbehaviour(requests=2, **exotel)
    return Misbehaviour(voice_webhooks=2)


async def desk(line: CallHarness, **more: Any) -> str:
    """A number whose orchestrator routes to billing."""
    return await line.orchestrator(line.route("billing", await line.agent()), voice=LOW, **more)


def ended(call: Facts) -> tuple[str, str]:
    """Who ended the call, and why."""
    return call.record["ended_by"], call.record["end_reason"]


async def test_a_routed_call_is_ended_by_its_caller(line: CallHarness) -> None:
    """A repeated webhook is one call; both voices are heard; the messages are valid for the carrier."""
    call = await line.place(
        hear(), Say(text=BILL), hear(), HangUp(), to=await desk(line), wrong=ways(line, method="POST")
    )
    assert call.outcome.ok, call.outcome.failure
    assert call.carrier.complaints == ()
    assert call.words() == [WELCOME, "Billing here."]
    assert call.voices == [LOW, HIGH]
    assert [route["status"] for route in call.routes] == ["done"]
    assert ended(call) == ("caller", "hangup")


@pytest.mark.long
async def test_an_agent_ends_the_call_when_its_farewell_was_heard(line: CallHarness) -> None:
    """Nothing of the farewell is cut off, although Exotel's call ends by its socket and the flow."""
    call = await line.place(hear(), Say(text=BYE), WaitForHangUp(timeout_ms=30_000), to=await desk(line))
    assert call.outcome.ok, call.outcome.failure
    assert call.words() == [WELCOME, "Thank you for calling. Goodbye!"]
    assert call.record["ended_by"] == "agent"
    spoken = call.agent_spans[-1][1] - call.agent_spans[1][0]
    wanted = sum(line.spoken_ms(part, LOW) for part in ("Thank you for calling.", "Goodbye!"))
    assert spoken >= wanted - 100
    if line.carrier_name == "exotel":
        assert call.carrier.asked == ("voice 200", "to-person 302", "again 302")
        assert call.carrier.ended_by == "flow"


@pytest.mark.long
async def test_talking_over_the_agent_stops_it_and_what_was_heard_is_known(line: CallHarness) -> None:
    """The rest of the answer is neither heard nor in the transcript."""
    long_answer = "Acme is open from eight to five, and on every other Saturday from nine to noon as well."
    line.sandbox.script.answer(Answer(text=long_answer), user=OPEN)
    call = await line.place(
        hear(), Say(text=OPEN), Interrupt(text=STOP, after_ms=1000), hear(), HangUp(), to=await desk(line)
    )
    assert call.outcome.ok, call.outcome.failure
    cut = next(row for row in call.transcript if row["text"].startswith("Acme is open"))
    assert cut["interrupted"]
    assert len(cut["heard_text"]) < len(long_answer) - 10
    assert call.events("barge_in")


@pytest.mark.long
async def test_a_lost_stream_is_opened_again(line: CallHarness) -> None:
    """The agent goes on with the caller, by Twilio's redirect and by Exotel's second Passthru applet."""
    call = await line.place_with_lost_stream(
        (hear(), Say(text=OPEN), hear()), (Say(text=OPEN), hear(), HangUp()), to=await desk(line)
    )
    assert call.outcome.ok, call.outcome.failure
    assert (call.record["resumes"], ended(call)) == (1, ("caller", "hangup"))
    assert len(call.events("call.resumed")) == 1


async def transferring(line: CallHarness, phone: str) -> str:
    """A number whose orchestrator transfers to a telephone when it is asked for a bill."""
    wanted = ("transfer_to_number", {"destination": DESTINATION})
    line.sandbox.script.answer(Answer(text=FRONT_DESK, calls=[wanted]), user=BILL)
    return await desk(
        line,
        functions=[{"type": "builtin", "name": "transfer_to_number"}],
        destinations=[{"name": DESTINATION, "number": phone}],
    )


@pytest.mark.long
async def test_a_transfer_to_a_declared_number(line: CallHarness) -> None:
    """The caller hears the agent's words, is connected, and the call ends with the number's."""
    phone = new_e164()
    number = await transferring(line, phone)
    line.carrier.phones[phone] = Phone(after_ms=50, talk_ms=300)
    call = await line.place(hear(), Say(text=BILL), hear(), WaitForHangUp(), to=number)
    assert call.words()[-1] == FRONT_DESK
    connected = [event.data for event in call.carrier.events if event.name in ("dial.bridged", "connected")]
    assert [data.get("number", data.get("to")) for data in connected] == [phone]
    assert ended(call) == ("agent", "transferred")
    assert call.carrier.complaints == ()


@pytest.mark.long
async def test_a_number_that_does_not_answer_gives_the_caller_back(line: CallHarness) -> None:
    """The agent has the caller again and knows why; Exotel is asked for the call's details."""
    phone = new_e164()
    number = await transferring(line, phone)
    line.carrier.phones[phone] = Phone(outcome="busy", after_ms=50)
    wrong = ExotelMisbehaviour(connected_status=False) if line.carrier_name == "exotel" else None
    async with line.when_asked("(busy)") as knows:
        call = await line.place(hear(), Say(text=BILL), knows, HangUp(), to=number, wrong=wrong)
    assert call.outcome.ok, call.outcome.failure
    assert len(call.carrier.streams) == 2
    assert "(busy)" in str(line.asked()[-1]["messages"])
    assert ended(call) == ("caller", "hangup")


@pytest.mark.long
async def test_calls_at_once_are_routed_and_hung_up(line: CallHarness) -> None:
    """None is mixed with another, and each is ended by its agent."""
    number = await desk(line)
    script = (hear(), Say(text=BILL), hear(), Say(text=BYE), WaitForHangUp(timeout_ms=60_000))
    called = await asyncio.gather(*(line.place(*script, to=number) for _ in range(3)))
    for call in called:
        assert call.outcome.ok, call.outcome.failure
        assert call.carrier.complaints == ()
        assert call.words()[:2] == [WELCOME, "Billing here."]
        assert call.words("caller") == [BILL, BYE]
        assert call.record["ended_by"] == "agent"
    assert len({call.record["id"] for call in called}) == 3


@pytest.mark.long
async def test_a_call_whose_carrier_returns_no_marks(line: CallHarness) -> None:
    """What was heard is known by the time that audio takes, and the agent's farewell is heard to its end."""
    wrong = ExotelMisbehaviour(marks=False) if line.carrier_name == "exotel" else Misbehaviour(marks=False)
    script = (hear(), Say(text=BILL), hear(), Say(text=BYE), WaitForHangUp(timeout_ms=30_000))
    call = await line.place(*script, to=await desk(line), wrong=wrong)
    assert call.outcome.ok, call.outcome.failure
    assert call.carrier.complaints == ()
    assert call.words() == [WELCOME, "Billing here.", "Thank you for calling. Goodbye!"]
    assert call.record["ended_by"] == "agent"
    spoken = call.agent_spans[-1][1] - call.agent_spans[2][0]
    wanted = sum(line.spoken_ms(part, HIGH) for part in ("Thank you for calling.", "Goodbye!"))
    assert spoken >= wanted - 100


@pytest.mark.long
@pytest.mark.parametrize(
    ("wrong", "by", "reason"),
    [
        (ExotelMisbehaviour(stop=False), "caller", "hangup"),
        (ExotelMisbehaviour(stop=False, asks_after_hang_up=True), "caller", "hangup"),
        (ExotelMisbehaviour(encoding="mulaw", failed_handshakes=1), "caller", "hangup"),
    ],
)
async def test_how_an_exotel_call_ended_is_known(
    harness: CallHarness, wrong: ExotelMisbehaviour, by: str, reason: str
) -> None:
    """By Call Details where neither `stop` nor a Passthru applet came; and in µ-law."""
    exotel = harness.on("exotel")
    call = await exotel.place(hear(), Say(text=BILL), hear(), HangUp(), to=await desk(exotel), wrong=wrong)
    assert call.outcome.ok, call.outcome.failure
    assert call.carrier.complaints == ()
    assert call.words() == [WELCOME, "Billing here."]
    assert ended(call) == (by, reason)


async def number_of(line: CallHarness, *agents: str, **inbound: Any) -> str:
    """A number of agents without an orchestrator; `inbound`: its policy."""
    number = await create(
        line.api, "/numbers", {"e164": new_e164(), "carrier": line.carrier_name, "inbound": inbound}
    )
    for name in agents:
        await line.agent(name, voice=LOW, number_id=number["id"], greeting={"text": f"{name} speaking."})
    return str(number["e164"])


@pytest.mark.long
async def test_an_exotel_caller_chooses_an_agent_from_a_menu(harness: CallHarness) -> None:
    """The names are spoken on the media socket; the key leads back through the flow to the chosen agent."""
    exotel = harness.on("exotel")
    number = await number_of(exotel, "Alpha", "Beta")
    call = await exotel.place(hear(), Dtmf(digits="2"), hear(), Say(text=OPEN), hear(), HangUp(), to=number)
    assert call.outcome.ok, call.outcome.failure
    assert call.carrier.complaints == ()
    assert call.carrier.asked[:4] == ("voice 200", "to-person 302", "again 200", "voice 200")
    assert call.words()[0] == "Beta speaking."
    assert [data["key"] for data in call.data("inbound.chosen")] == ["2"]
    assert (call.record["resumes"], ended(call)) == (0, ("caller", "hangup"))


@pytest.mark.long
async def test_an_exotel_caller_who_is_refused_hears_why(harness: CallHarness) -> None:
    """The line is spoken on the media socket, whole, and the flow ends the call."""
    exotel = harness.on("exotel")
    closed = "We are closed. Please call again tomorrow."
    number = await number_of(exotel, "Alpha", accepting=False, refusal={"action": "say", "text": closed})
    call = await exotel.place(WaitForHangUp(timeout_ms=30_000), to=number)
    assert call.outcome.ok, call.outcome.failure
    assert call.carrier.asked == ("voice 200", "to-person 302", "again 302")
    begin, end = call.agent_spans[0][0], call.agent_spans[-1][1]
    assert end - begin >= exotel.spoken_ms(closed, LOW) - 100
    assert ended(call) == ("system", "refused")


@pytest.mark.long
@pytest.mark.parametrize("rate", [16_000, 24_000])
async def test_an_exotel_call_runs_at_the_rate_of_its_stream(harness: CallHarness, rate: int) -> None:
    """Vendors are asked for it, voices keep their pitch, and what was heard of a cut answer is known."""
    exotel = harness.on("exotel")
    long_answer = "Acme is open from eight to five, and on every other Saturday from nine to noon as well."
    exotel.sandbox.script.answer(Answer(text=long_answer), user=OPEN)
    script = (hear(), Say(text=OPEN), Interrupt(text=BILL, after_ms=1000), hear(), HangUp())
    call = await exotel.place(*script, to=await desk(exotel), wrong=ExotelMisbehaviour(sample_rate=rate))
    assert call.outcome.ok, call.outcome.failure
    assert call.carrier.complaints == ()
    assert call.voices == [LOW, HIGH]
    assert call.words()[-1] == "Billing here."
    cut = next(row for row in call.transcript if row["text"].startswith("Acme is open"))
    assert cut["interrupted"]
    assert 0 < len(cut["heard_text"]) < len(long_answer) - 10
    assert ended(call) == ("caller", "hangup")


@pytest.mark.long
async def test_a_session_at_its_limit_comes_back_unheard(harness: CallHarness) -> None:
    """`stop` with the reason `stopped` is no hang-up: the flow leads the caller back to the agent."""
    exotel = harness.on("exotel")
    wrong = ExotelMisbehaviour(session_limit_ms=4000)
    call = await exotel.place(
        hear(), hear(), Say(text=BILL), hear(), HangUp(), to=await desk(exotel), wrong=wrong
    )
    assert call.outcome.ok, call.outcome.failure
    assert call.carrier.asked == ("voice 200", "to-person 302", "again 200", "voice 200")
    assert ended(call) == ("caller", "hangup")
