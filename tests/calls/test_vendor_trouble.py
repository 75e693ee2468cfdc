"""Vendors that fail during a call: it continues, or ends with a goodbye, and the events say why."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.server_fixture import metric
from tests.calls.harness import BILL, HIGH, LOW, OPEN, WELCOME, CallHarness, hear
from voicebot.call.failure_texts import failure_texts
from voicebot.call.person.waiting_texts import waiting_texts
from voicebot.providers.llm_openai import SILENCE_TIMEOUT_S
from voicebot.sandbox.caller import HangUp, Interrupt, Say, Wait, WaitForHangUp
from voicebot.sandbox.vendors.faults import Fault

HOURS = "Acme is open from eight to five."
FAILURES = 'voicebot_provider_failures_total{part="llm"}'
SORRY = failure_texts("en-US")
# No test waits so long: a prompt would mean that the timer does not respect what the call does.
PATIENT: dict[str, Any] = {"idle": {"after_ms": 60_000, "prompts": ["Are you there?"]}}


@pytest.mark.long
@pytest.mark.parametrize("kind", ["broken", "rate_limited", "drop"])
async def test_a_model_that_fails_for_a_moment_is_asked_again(harness: CallHarness, kind: Any) -> None:
    """The caller hears an apology at once and then the answer to what they asked, and need not ask again."""
    number = await harness.orchestrator(harness.route("billing", await harness.agent()), **PATIENT)
    harness.sandbox.faults.add(Fault(server="openai", kind=kind, match=OPEN, count=2, retry_after_s=0.2))
    call = await harness.place(hear(), Say(text=OPEN), hear(quiet_ms=1200), HangUp(), to=number)

    assert call.outcome.ok, call.outcome.failure
    assert call.said() == [
        ("agent", WELCOME), ("caller", OPEN), ("agent", SORRY.moment), ("agent", HOURS),
    ]  # fmt: skip
    assert [failure["part"] for failure in call.data("provider.failed")] == ["llm"]
    assert call.record["ended_by"] == "caller"
    assert call.heard.overlaps == ()


async def test_a_hiccup_that_a_second_request_survives_is_not_heard(harness: CallHarness) -> None:
    """One refused request is repeated before anybody notices: no apology, and nothing on the record."""
    number = await harness.orchestrator(harness.route("billing", await harness.agent()), **PATIENT)
    harness.sandbox.faults.add(Fault(server="openai", kind="broken", match=OPEN, count=1))
    call = await harness.place(hear(), Say(text=OPEN), hear(), HangUp(), to=number)

    assert call.words() == [WELCOME, HOURS]
    assert call.events("provider.failed") == []


@pytest.mark.long
@pytest.mark.parametrize("kind", ["broken", "unauthorized"])
async def test_a_model_that_stays_away_ends_the_call_politely(harness: CallHarness, kind: Any) -> None:
    """One apology, one more try, one goodbye in the agent's own voice; the record says what was missing."""
    number = await harness.orchestrator(harness.route("billing", await harness.agent()), **PATIENT)
    harness.sandbox.faults.add(Fault(server="openai", kind=kind))
    failures = await metric(harness.server.url, FAILURES)
    call = await harness.place(hear(), Say(text=OPEN), WaitForHangUp(timeout_ms=30_000), to=number)

    assert call.outcome.ok, call.outcome.failure
    assert call.words() == [WELCOME, SORRY.moment, SORRY.goodbye]
    assert call.voices == [LOW]
    assert (call.record["ended_by"], call.record["end_reason"]) == ("system", "llm_unavailable")
    assert len(call.events("provider.failed")) == 2
    assert call.events("idle.prompted") == []
    assert await metric(harness.server.url, FAILURES) == failures + 2
    turns = await harness.turns(call)
    assert [turn["status"] for turn in turns] == ["failed", "failed"]
    assert {turn["error"]["http_status"] for turn in turns} == {500 if kind == "broken" else 401}
    assert all(turn["error"]["code"] for turn in turns)


@pytest.mark.long
async def test_a_model_that_hangs_leaves_no_endless_silence(harness: CallHarness) -> None:
    """When the model is silent for 5 s the caller hears so in their language; the silence is not theirs."""
    idle = {"after_ms": 4000, "prompts": ["Sind Sie noch da?"] * 5}
    number = await harness.orchestrator(
        harness.route("billing", await harness.agent()), idle=idle, language="de-DE"
    )
    call, person = harness.dial(hear(), Say(text=OPEN), WaitForHangUp(timeout_ms=40_000), to=number)
    await call.answered.wait()
    harness.sandbox.faults.add(Fault(server="openai", kind="hang"))
    await call.ended()
    facts = await harness.facts(call, person)

    assert facts.outcome.ok, facts.outcome.failure
    asked = next(n for n, row in enumerate(facts.transcript) if row["speaker"] == "caller")
    answers = facts.transcript[asked + 1 :]
    assert [row["heard_text"] for row in answers] == [failure_texts("de").moment, failure_texts("de").goodbye]
    assert SILENCE_TIMEOUT_S == 5.0
    assert answers[0]["started_ms"] - facts.transcript[asked]["ended_ms"] >= SILENCE_TIMEOUT_S * 1000 - 500
    assert facts.record["end_reason"] == "llm_unavailable"


@pytest.mark.long
async def test_an_answer_that_breaks_off_is_gone_on_with(harness: CallHarness) -> None:
    """The spoken part stays in the record and the context; the model is told once where it broke off."""
    number = await harness.orchestrator(harness.route("billing", await harness.agent()), **PATIENT)
    harness.sandbox.faults.add(
        Fault(server="openai", kind="drop", stage="message", match="eight to", count=1)
    )
    call = await harness.place(hear(), Say(text=OPEN), hear(quiet_ms=1200), HangUp(), to=number)

    assert call.outcome.ok, call.outcome.failure
    assert call.words()[:-1] == [WELCOME, "Acme", SORRY.moment]
    assert call.heard.overlaps == ()
    again = harness.asked(containing="broke off")
    assert len(again) == 1
    said = [(m["role"], m["content"]) for m in again[0]["messages"] if m["role"] in ("user", "assistant")]
    assert said == [("assistant", WELCOME), ("user", OPEN), ("assistant", "Acme")]


@pytest.mark.long
async def test_a_caller_who_goes_on_during_the_apology_is_answered_once(harness: CallHarness) -> None:
    """A caller who asks again during the apology gets one answer, not two."""
    number = await harness.orchestrator(harness.route("billing", await harness.agent()), **PATIENT)
    harness.sandbox.faults.add(Fault(server="openai", kind="broken", match=OPEN, count=2))
    script = (hear(), Say(text=OPEN), Interrupt(text=OPEN, after_ms=300))
    call = await harness.place(*script, hear(quiet_ms=1600), HangUp(), to=number)

    assert call.words("caller") == [OPEN, OPEN]
    assert call.words().count(HOURS) == 1


@pytest.mark.long
async def test_a_target_whose_model_fails_at_once_begins_all_the_same(harness: CallHarness) -> None:
    """The apology for a target's first words is in the target's voice, and the first words follow."""
    number = await harness.orchestrator(harness.route("billing", await harness.agent()), **PATIENT)
    harness.sandbox.faults.add(Fault(server="openai", kind="broken", match="You are billing", count=2))
    call = await harness.place(hear(), Say(text=BILL), hear(quiet_ms=1200), HangUp(), to=number)

    assert call.words() == [WELCOME, SORRY.moment, "Billing here."]
    assert call.voices == [LOW, HIGH]
    assert call.heard.overlaps == ()
    assert [route["status"] for route in call.routes] == ["done"]


@pytest.mark.long
async def test_people_are_asked_where_the_author_offers_them(harness: CallHarness) -> None:
    """When the model stays away a person is asked for, and the caller waits as long as the author says."""
    offered = [{"type": "builtin", "name": "end_call"}, {"type": "builtin", "name": "escalate_to_person"}]
    idle = {"after_ms": 4000, "prompts": ["Are you there?"], "goodbye": "Goodbye."}
    number = await harness.orchestrator(
        harness.route("billing", await harness.agent()), idle=idle, functions=offered,
        waiting={"max_ms": 3000},
    )  # fmt: skip
    harness.sandbox.faults.add(Fault(server="openai", kind="broken"))
    call = await harness.place(hear(), Say(text=OPEN), WaitForHangUp(timeout_ms=40_000), to=number)

    nobody = waiting_texts("en").nobody
    words = [WELCOME, SORRY.moment, SORRY.people, nobody, "Are you there?", "Goodbye."]
    assert call.words() == words
    handoffs = await harness.server.app_state.database.fetch(
        "SELECT call_id, intent, origin FROM handoffs WHERE account_id = $1", harness.tenant.account_id
    )
    assert [(str(row["call_id"]), row["intent"], row["origin"]) for row in handoffs] == [
        (call.record["id"], "escalate", "failed_model")
    ]
    assert call.record["end_reason"] == "idle"


async def test_a_voice_that_drops_in_mid_sentence_comes_back(harness: CallHarness) -> None:
    """After the voice's connection broke in the middle of an answer, later answers are heard again."""
    number = await harness.orchestrator(harness.route("billing", await harness.agent()), **PATIENT)
    harness.sandbox.faults.add(
        Fault(server="elevenlabs", kind="drop", stage="message", match="from eight", count=1)
    )
    script = (hear(), Say(text=OPEN), hear(quiet_ms=1500), Say(text=OPEN), hear(), HangUp())
    call = await harness.place(*script, to=number)

    assert call.outcome.ok, call.outcome.failure
    assert call.words()[-1] == HOURS
    assert call.record["ended_by"] == "caller"


@pytest.mark.long
async def test_a_listener_that_drops_hears_again(harness: CallHarness) -> None:
    """After the transcriber's connection broke on an utterance, the next one is understood."""
    number = await harness.orchestrator(
        harness.route("billing", await harness.agent()), idle={"after_ms": 60_000}
    )
    harness.sandbox.faults.add(Fault(server="deepgram", kind="drop", stage="message", count=1))
    script = (hear(), Say(text=OPEN), Wait(ms=6000), Say(text=OPEN), hear(), HangUp())
    call = await harness.place(*script, to=number)

    assert call.outcome.ok, call.outcome.failure
    assert call.words()[-1] == HOURS
    assert len(harness.sandbox.usage.connections("deepgram")) >= 2


@pytest.mark.long
async def test_a_listener_that_stays_away_ends_the_call_with_words(harness: CallHarness) -> None:
    """A call without a working STT ends with an explanation."""
    number = await harness.orchestrator(
        harness.route("billing", await harness.agent()), idle={"after_ms": 60_000}
    )
    harness.sandbox.faults.add(Fault(server="deepgram", kind="unauthorized"))
    call = await harness.place(hear(), WaitForHangUp(timeout_ms=40_000), to=number)

    assert call.outcome.ok, call.outcome.failure
    assert call.words() == [WELCOME, SORRY.goodbye]
    assert (call.record["ended_by"], call.record["end_reason"]) == ("system", "stt_unavailable")


@pytest.mark.long
async def test_a_target_that_breaks_after_it_was_ready_does_not_end_the_call(
    harness: CallHarness,
) -> None:
    """When the target's voice is lost before the route, the caller is answered all the same."""
    number = await harness.orchestrator(harness.route("billing", await harness.agent(voice=HIGH)), **PATIENT)
    harness.sandbox.faults.add(Fault(server="elevenlabs", kind="drop", stage="message", match=HIGH, count=1))
    script = (hear(), Say(text=BILL), hear(timeout_ms=30_000), Say(text=BILL), hear(), HangUp())
    call = await harness.place(*script, to=number)

    assert call.outcome.ok, call.outcome.failure
    assert call.words()[0] == WELCOME
    assert len(call.words()) >= 2
