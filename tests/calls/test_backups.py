"""Templates with backups: a call continues with another provider when one fails."""

from __future__ import annotations

from typing import Any

import pytest

from tests.calls.harness import BILL, BYE, HIGH, LOW, OPEN, WELCOME, CallHarness, Facts, hear
from voicebot.sandbox.caller import HangUp, Say, Step, WaitForHangUp
from voicebot.sandbox.vendors.faults import Fault
from voicebot.sandbox.vendors.script import Answer

HOURS = "Acme is open from eight to five."
PATIENT: dict[str, Any] = {"idle": {"after_ms": 60_000, "prompts": ["Are you there?"]}}
VOICE = {"voice_id": LOW, "backup": [{"provider": "deepgram", "voice_id": "aura-2-thalia-en"}]}
STT = {"provider": "deepgram", "backup": [{"provider": "elevenlabs"}]}
LLM = {"model": "preferred", "backup": [{"provider": "sandbox", "model": "reserve"}]}
SPEAK = "multi-stream-input"
LISTEN = "/v1/listen"
ASK = '"preferred"'


def long(*values: Any) -> Any:
    """A case of the long tests."""
    return pytest.param(*values, marks=pytest.mark.long)


async def desk(harness: CallHarness, **services: Any) -> str:
    """An orchestrator and a target with the same services; return the number."""
    return await harness.orchestrator(harness.route("billing", await harness.agent(**services)), **services)


def switches(call: Facts) -> list[tuple[str, str, str]]:
    """The changes of providers: what for, from whom, to whom."""
    return [(data["part"], data["from"], data["to"]) for data in call.data("provider.switched")]


@pytest.mark.parametrize("kind", ["broken", long("unauthorized"), long("hang")])
async def test_row_9_a_voice_that_refuses_is_replaced_before_the_call(
    harness: CallHarness, kind: Any
) -> None:
    """A TTS that answers 500 or 401, or accepts and hangs: the backup speaks, and the call continues."""
    harness.sandbox.faults.add(Fault(server="elevenlabs", kind=kind, match=SPEAK))
    number = await desk(harness, tts=VOICE, **PATIENT)
    call = await harness.place(hear(), Say(text=OPEN), hear(), HangUp(), to=number)

    assert call.outcome.ok, call.outcome.failure
    assert call.words()[-1] == HOURS
    assert switches(call) == [("tts", "elevenlabs", "deepgram")]
    assert call.record["ended_by"] == "caller"


@pytest.mark.long
async def test_the_backups_of_the_account_take_over_where_a_template_names_none(harness: CallHarness) -> None:
    """The agent who answers and the one that the caller is routed to speak with the account's backup."""
    backup = {"tts": [{"provider": "deepgram", "voice_id": "aura-2-thalia-en"}]}
    patched = await harness.api.patch("/account", json={"backup": backup}, headers={"If-Match": "*"})
    assert patched.status_code == 200
    harness.sandbox.faults.add(Fault(server="elevenlabs", kind="broken", match=SPEAK))
    number = await desk(harness, tts={"voice_id": LOW}, **PATIENT)
    call = await harness.place(hear(), Say(text=BILL), hear(), HangUp(), to=number)

    assert call.outcome.ok, call.outcome.failure
    assert "Billing here." in call.words()
    assert {(part, after) for part, _, after in switches(call)} == {("tts", "deepgram")}


@pytest.mark.long
async def test_row_9_the_next_call_begins_with_the_backup(harness: CallHarness) -> None:
    """What refused the key on one call is not tried by the next one; the providers' states say why."""
    harness.sandbox.faults.add(Fault(server="elevenlabs", kind="unauthorized", match=SPEAK))
    number = await desk(harness, tts=VOICE, **PATIENT)
    await harness.place(hear(), Say(text=OPEN), hear(), HangUp(), to=number)
    call = await harness.place(hear(), Say(text=OPEN), hear(), HangUp(), to=number)

    assert call.words()[-1] == HOURS
    assert call.events("provider.failed") == []
    items = (await harness.api.get("/providers")).json()["items"]
    [state] = [each for each in items if (each["kind"], each["provider"]) == ("tts", "elevenlabs")]
    assert (state["state"], state["credential"], state["reason"]) == (
        "unauthorized", "ELEVENLABS_API_KEY", "HTTP 401",
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["broken", long("unauthorized"), long("hang")])
async def test_row_10_an_stt_that_refuses_is_replaced_before_the_call(
    harness: CallHarness, kind: Any
) -> None:
    """An STT that answers 500 or 401, or accepts and hangs: the backup gets what was said meanwhile."""
    harness.sandbox.faults.add(Fault(server="deepgram", kind=kind, match=LISTEN))
    number = await desk(harness, stt=STT, **PATIENT)
    call = await harness.place(hear(), Say(text=OPEN), hear(), HangUp(), to=number)

    assert call.outcome.ok, call.outcome.failure
    assert call.said() == [("agent", WELCOME), ("caller", OPEN), ("agent", HOURS)]
    assert switches(call) == [("stt", "deepgram", "elevenlabs")]


@pytest.mark.parametrize(
    ("kind", "backed_up"),
    [("hang", True), long("drop", True), long("broken", True), long("hang", False), long("drop", False)],
)
async def test_row_10_an_stt_lost_in_the_call_loses_no_words(
    harness: CallHarness, kind: Any, backed_up: bool
) -> None:
    """An STT that drops or is silent on an utterance: another connection is given the same audio."""
    stt = STT if backed_up else {"provider": "deepgram"}
    number = await desk(harness, stt=stt, **PATIENT)
    harness.sandbox.faults.add(Fault(server="deepgram", kind=kind, stage="message", match=LISTEN, count=1))
    harness.sandbox.transcripts.announce(OPEN)  # for the connection that hears it again
    call = await harness.place(hear(), Say(text=OPEN), hear(timeout_ms=10_000), HangUp(), to=number)

    assert call.outcome.ok, call.outcome.failure
    assert call.said() == [("agent", WELCOME), ("caller", OPEN), ("agent", HOURS)]
    assert [each["part"] for each in call.data("provider.failed")] == ["stt"]
    assert switches(call) == ([("stt", "deepgram", "elevenlabs")] if backed_up else [])


@pytest.mark.parametrize("kind", ["drop", *map(long, ("broken", "unauthorized", "rate_limited", "hang"))])
async def test_a_model_that_fails_is_replaced_at_once(harness: CallHarness, kind: Any) -> None:
    """The request is asked of the backup: no apology is heard, and no words are lost."""
    harness.sandbox.faults.add(Fault(server="openai", kind=kind, match=ASK))
    number = await desk(harness, llm=LLM, **PATIENT)
    call = await harness.place(hear(), Say(text=OPEN), hear(timeout_ms=10_000), HangUp(), to=number)

    assert call.outcome.ok, call.outcome.failure
    assert call.said() == [("agent", WELCOME), ("caller", OPEN), ("agent", HOURS)]
    assert [(each["part"], each["provider"]) for each in call.data("provider.failed")] == [("llm", "openai")]


async def test_a_target_whose_voice_refuses_is_ready_with_its_backup(harness: CallHarness) -> None:
    """A target is offered although its preferred voice cannot be connected."""
    voice = {**VOICE, "voice_id": "voice-19"}
    harness.sandbox.faults.add(Fault(server="elevenlabs", kind="broken", match="voice-19"))
    agent = await harness.agent(tts=voice)
    number = await harness.orchestrator(harness.route("billing", agent), **PATIENT)
    call = await harness.place(hear(), Say(text=BILL), hear(), HangUp(), to=number)

    assert call.words()[-1] == "Billing here."
    assert [route["status"] for route in call.routes] == ["done"]


@pytest.mark.parametrize(("kind", "backed_up"), [("drop", True), long("hang", True), long("drop", False)])
async def test_rows_8_and_11_a_voice_that_fails_in_an_answer_loses_no_words(
    harness: CallHarness, kind: Any, backed_up: bool
) -> None:
    """The second sentence is lost by the TTS: another connection speaks what the caller has not heard."""
    tts = VOICE if backed_up else {"voice_id": LOW}
    number = await desk(harness, tts=tts, **PATIENT)
    answer = "One two three four. Five six seven eight."
    harness.sandbox.script.answer(answer, user=OPEN)
    harness.sandbox.faults.add(
        Fault(server="elevenlabs", kind=kind, stage="message", match="Five six", count=1)
    )
    call = await harness.place(hear(), Say(text=OPEN), hear(quiet_ms=2500), HangUp(), to=number)

    assert call.outcome.ok, call.outcome.failure
    assert " ".join(filter(None, call.words()[1:])) == answer
    assert "tts" in {each["part"] for each in call.data("provider.failed")}
    assert switches(call) == ([("tts", "elevenlabs", "deepgram")] if backed_up else [])


@pytest.mark.long
@pytest.mark.parametrize("kind", ["drop", "hang"])
async def test_row_11_a_goodbye_that_the_voice_loses_is_spoken_and_ends_the_call(
    harness: CallHarness, kind: Any
) -> None:
    """The backup says the goodbye, or its end, and then the line is hung up."""
    goodbye = "Thank you for calling. Goodbye."
    harness.sandbox.script.answer(Answer(text=goodbye, calls=[("end_call", {"reason": "done"})]), user=BYE)
    number = await desk(harness, tts=VOICE, **PATIENT)
    harness.sandbox.faults.add(
        Fault(server="elevenlabs", kind=kind, stage="message", match="Goodbye", count=1)
    )
    call = await harness.place(hear(), Say(text=BYE), WaitForHangUp(timeout_ms=15_000), to=number)

    assert call.outcome.ok, call.outcome.failure
    assert (call.record["ended_by"], call.record["end_reason"]) == ("agent", "done")
    assert " ".join(filter(None, call.words()[1:])).split() == goodbye.split()
    assert len(call.data("provider.failed")) == 1


@pytest.mark.long
async def test_row_8_a_target_whose_voice_dies_in_its_first_words_says_them(harness: CallHarness) -> None:
    """The first words of a target are spoken by its backup when its voice loses them."""
    agent = await harness.agent(tts={**VOICE, "voice_id": HIGH})
    number = await harness.orchestrator(harness.route("billing", agent), **PATIENT)
    harness.sandbox.faults.add(Fault(server="elevenlabs", kind="drop", stage="message", match=HIGH))
    call = await harness.place(hear(), Say(text=BILL), hear(quiet_ms=1500), HangUp(), to=number)

    assert call.words() == [WELCOME, "Billing here."]
    assert [route["status"] for route in call.routes] == ["done"]
    assert switches(call) == [("tts", "elevenlabs", "deepgram")]


async def test_row_8_without_a_backup_another_agents_voice_speaks(harness: CallHarness) -> None:
    """When a target's voice dies and cannot be connected again, its words are spoken by a connected one."""
    number = await harness.orchestrator(harness.route("billing", await harness.agent(voice=HIGH)), **PATIENT)
    dies = Fault(server="elevenlabs", kind="drop", stage="message", match=HIGH)
    refuses = Fault(server="elevenlabs", kind="broken", match=HIGH)

    def on_step(step: Step) -> None:
        if isinstance(step, Say):
            harness.sandbox.faults.add(dies)
            harness.sandbox.faults.add(refuses)

    script = (hear(quiet_ms=800), Say(text=BILL), hear(quiet_ms=1500), HangUp())
    call = await harness.place(*script, to=number, on_step=on_step)

    assert call.words() == [WELCOME, "Billing here."]
    assert call.voices == [LOW]


@pytest.mark.long
async def test_row_10_a_caller_who_talks_to_a_silent_stt_is_not_idle(harness: CallHarness) -> None:
    """A caller who is not understood is not asked whether they are there, and hears an honest sentence."""
    harness.sandbox.faults.add(Fault(server="deepgram", kind="hang", stage="message", match=LISTEN))
    idle = {"after_ms": 2000, "prompts": ["Are you there?"], "goodbye": "Nobody is there."}
    number = await desk(harness, idle=idle)
    script = (hear(), Say(text=OPEN), Say(text=BILL), Say(text=BYE), WaitForHangUp(timeout_ms=40_000))
    call = await harness.place(*script, to=number)

    assert call.events("idle.prompted") == []
    assert call.record["end_reason"] == "stt_unavailable"
