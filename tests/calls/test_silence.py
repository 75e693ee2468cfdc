"""Silence while the caller waits for the agent is broken: by speech, a filler, or another attempt."""

from __future__ import annotations

from typing import Any

import pytest

from tests.calls.harness import BILL, HIGH, LOW, OPEN, WELCOME, CallHarness, Facts, hear
from voicebot.sandbox.caller import HangUp, Interrupt, Say, Wait
from voicebot.sandbox.vendors.faults import Fault
from voicebot.sandbox.vendors.script import Answer

pytestmark = pytest.mark.long

HOURS = "Acme is open from eight to five."
LONG = "Billing here. We answer every question about bills, invoices, payments, refunds and receipts."
PATIENT: dict[str, Any] = {"idle": {"after_ms": 60_000, "prompts": ["Are you there?"]}}


def joined(call: Facts, template_id: str | None = None) -> str:
    """What an agent was heard to say, in one line."""
    rows = [row for row in call.transcript if row["speaker"] == "agent"]
    return " ".join(
        row["heard_text"] for row in rows if template_id in (None, row["template_id"]) and row["heard_text"]
    )


def remembered(harness: CallHarness) -> str:
    """What the model is told it has said, in its latest request."""
    messages = harness.asked()[-1]["messages"]
    return " ".join(m["content"] for m in messages if m["role"] == "assistant" and m.get("content"))


async def test_row_4_first_words_that_noise_has_cut_off_are_spoken_to_their_end(harness: CallHarness) -> None:
    """A sound that is transcribed only for the moment does not cost the caller the rest of the sentence."""
    billing = await harness.agent(says=LONG)
    number = await harness.orchestrator(harness.route("billing", billing), **PATIENT)
    harness.sandbox.faults.add(Fault(server="deepgram", kind="silent", stage="message", match="cough"))
    script = (hear(), Say(text=BILL), Interrupt(text="a cough", after_ms=900), hear(quiet_ms=2200))
    call = await harness.place(*script, Say(text=OPEN), hear(), HangUp(), to=number)

    assert call.outcome.ok, call.outcome.failure
    assert joined(call, billing["id"]).startswith(LONG)
    assert LONG in remembered(harness)
    silent = [
        after - before
        for (_, before), (after, _) in zip(call.agent_spans, call.agent_spans[1:], strict=False)
    ]
    assert len(call.data("barge_in")) == 1
    assert min(silent) < 2500


@pytest.mark.parametrize("kind", ["hang", "drop", "silent"])
async def test_row_11_an_utterance_that_the_voice_loses_is_spoken_again(
    harness: CallHarness, kind: Any
) -> None:
    """A voice that takes a text and makes no audio of it is replaced, and the caller hears the text once."""
    number = await harness.orchestrator(harness.route("billing", await harness.agent()), **PATIENT)
    harness.sandbox.faults.add(
        Fault(server="elevenlabs", kind=kind, stage="message", match="open from", count=1)
    )
    call = await harness.place(hear(), Say(text=OPEN), hear(), HangUp(), to=number)

    assert call.outcome.ok, call.outcome.failure
    assert call.words() == [WELCOME, HOURS]
    spans = call.agent_spans
    assert len(spans) == 2
    assert spans[1][1] - spans[1][0] > harness.spoken_ms(HOURS, LOW) * 0.8


@pytest.mark.long
async def test_a_voice_that_hangs_behind_much_audio_speaks_the_rest_of_the_answer(
    harness: CallHarness,
) -> None:
    """A text without audio from the vendor is spoken by another connection, after the earlier speech."""
    first = "Acme is open from eight to five on all days of the week, and on Saturdays we close at noon."
    answer = f"{first} Is there anything else?"
    harness.sandbox.script.answer(Answer(text=answer), user=OPEN)
    number = await harness.orchestrator(harness.route("billing", await harness.agent()), **PATIENT)
    harness.sandbox.faults.add(
        Fault(server="elevenlabs", kind="hang", stage="message", match="anything else", count=1)
    )
    call = await harness.place(hear(), Say(text=OPEN), hear(quiet_ms=6000), HangUp(), to=number)

    assert call.outcome.ok, call.outcome.failure
    assert joined(call) == f"{WELCOME} {answer}"
    (_, before), (after, _) = call.agent_spans[-2:]
    assert after - before < 2000


async def test_row_11_a_voice_that_drops_twice_speaks_in_the_end(harness: CallHarness) -> None:
    """A second connection that fails on the same text is replaced as well."""
    number = await harness.orchestrator(harness.route("billing", await harness.agent()), **PATIENT)
    harness.sandbox.faults.add(
        Fault(server="elevenlabs", kind="drop", stage="message", match="open from", count=2)
    )
    call = await harness.place(hear(), Say(text=OPEN), hear(), HangUp(), to=number)

    assert call.outcome.ok, call.outcome.failure
    assert call.words() == [WELCOME, HOURS]


async def test_row_8_first_words_that_the_targets_voice_loses_are_spoken(harness: CallHarness) -> None:
    """A target whose voice breaks in its first words says them on another connection, in its own voice."""
    billing = await harness.agent(says=LONG)
    number = await harness.orchestrator(harness.route("billing", billing), **PATIENT)
    harness.sandbox.faults.add(Fault(server="elevenlabs", kind="drop", stage="message", match=HIGH, count=1))
    call = await harness.place(hear(), Say(text=BILL), hear(quiet_ms=1500), HangUp(), to=number)

    assert call.outcome.ok, call.outcome.failure
    assert joined(call, billing["id"]) == LONG
    assert call.voices == [LOW, HIGH]


@pytest.mark.parametrize("prepared", [True, False])
async def test_row_16_a_greeting_that_cannot_be_interrupted_is_heard_and_recorded_whole(
    harness: CallHarness, prepared: bool
) -> None:
    """The caller may talk over it: every word is played, recorded and remembered."""
    text = "This call may be recorded for training. " + LONG
    number = await harness.orchestrator(
        harness.route("billing", await harness.agent()),
        greeting={"text": text, "interruptible": False},
        **PATIENT,
    )
    if prepared:
        await harness.greetings_are_prepared(1)
    script = (Interrupt(text=OPEN, after_ms=900), hear(quiet_ms=1500), Say(text=BILL), hear(), HangUp())
    call = await harness.place(*script, to=number)

    assert call.outcome.ok, call.outcome.failure
    greeting = call.transcript[0]
    assert (greeting["heard_text"], greeting["interrupted"]) == (text, False)
    assert text in remembered(harness)
    assert call.words()[1] == HOURS
    start, end = call.agent_spans[0]
    assert end - start >= harness.spoken_ms(text, LOW) * 0.97


async def test_a_model_that_takes_long_is_covered_by_fillers(harness: CallHarness) -> None:
    """The caller hears within 2 s that it takes a moment, in the agent's voice, and then the answer."""
    number = await harness.orchestrator(
        harness.route("billing", await harness.agent()), fillers=["One moment.", "Nearly there."], **PATIENT
    )
    harness.sandbox.script.answer(Answer(text=HOURS, delay_ms=4300), user=OPEN)
    await harness.greetings_are_prepared(1)
    call = await harness.place(hear(), Say(text=OPEN), hear(quiet_ms=3000), HangUp(), to=number)

    assert call.outcome.ok, call.outcome.failure
    assert call.words() == [WELCOME, "One moment.", "Nearly there.", HOURS]
    assert [row["source"] for row in call.transcript if row["speaker"] == "agent"][1:3] == ["filler"] * 2
    assert call.voices == [LOW]
    assert call.events("idle.prompted") == []


async def test_an_empty_list_of_fillers_silences_them(harness: CallHarness) -> None:
    """An author who wants none has the caller wait for the answer alone."""
    number = await harness.orchestrator(harness.route("billing", await harness.agent()), **PATIENT)
    harness.sandbox.script.answer(Answer(text=HOURS, delay_ms=3000), user=OPEN)
    call = await harness.place(hear(), Say(text=OPEN), hear(quiet_ms=3500), HangUp(), to=number)

    assert call.words() == [WELCOME, HOURS]


async def test_two_fixed_texts_in_a_row_are_recorded_whole(harness: CallHarness) -> None:
    """Of two texts that are spoken back to back the second one is heard with its first word."""
    functions = [
        {"type": "http", "name": "look_up", "description": "Looks something up.", "method": "GET",
         "url": "https://example.com/", "wait_text": "Let me look that up for you."},
    ]  # fmt: skip
    number = await harness.orchestrator(
        harness.route("billing", await harness.agent()), functions=functions, **PATIENT
    )
    harness.sandbox.script.answer(Answer(calls=[("look_up", {})]), user=OPEN)
    harness.sandbox.script.answer("It is open.", tool="")
    call = await harness.place(hear(), Say(text=OPEN), Wait(ms=200), hear(quiet_ms=1500), HangUp(), to=number)

    assert all(row["heard_text"] == row["text"] for row in call.transcript)
