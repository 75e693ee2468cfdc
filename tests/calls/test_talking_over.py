"""The caller talks over an agent, in every moment in which an agent may be talking."""

from __future__ import annotations

import pytest

from tests.calls.harness import BILL, HIGH, LOW, STOP, WELCOME, CallHarness, hear
from voicebot.sandbox.caller import HangUp, Interrupt, Say
from voicebot.sandbox.carrier import Misbehaviour

# The caller's words arrive while they are spoken, however late a busy machine transcribes them.
LONG = (
    "Billing here. We answer every question about bills, invoices, reminders, payments, discounts, vouchers, "
    "contracts, subscriptions, instalments, deposits, credit notes, refunds and receipts."
)
FAREWELL = (
    "One moment please, I will put you through to the colleagues who know everything about this, about your "
    "bills, about your contracts, about your payments, and about all the other things that you may ask."
)


@pytest.mark.long
async def test_an_interrupted_greeting_is_recorded_as_far_as_it_was_heard(
    any_harness: CallHarness,
) -> None:
    """An interrupted greeting falls silent, its heard_text is what was heard, and the model continues."""
    billing = await any_harness.agent(says="Go on.", greeting={"text": LONG})
    number = await any_harness.orchestrator(any_harness.route("billing", billing))
    await any_harness.greetings_are_prepared(2)
    script = (hear(), Say(text=BILL), Interrupt(text=STOP, after_ms=900), hear(), HangUp())
    call = await any_harness.place(*script, to=number)

    assert call.outcome.ok, call.outcome.failure
    greeting = next(said for said in call.transcript if said["source"] == "greeting" and said["text"] == LONG)
    assert greeting["interrupted"]
    assert LONG.startswith(greeting["heard_text"])
    assert 0 < len(greeting["heard_text"]) < len(LONG)
    assert len(call.data("barge_in")) == 1
    after = call.transcript[-1]
    assert (after["speaker"], after["source"], after["template_id"]) == ("agent", "llm", billing["id"])
    (asked,) = any_harness.asked(containing=STOP)[:1]
    assert greeting["heard_text"] in str(asked["messages"])
    assert "receipts" not in str(asked["messages"])
    assert any(event.name == "clear" for event in call.carrier.events)


async def test_a_farewell_that_is_talked_over_does_not_stop_the_route(any_harness: CallHarness) -> None:
    """Talking over the announcement loses neither the route nor the words, and the old voice is gone."""
    billing = await any_harness.agent(says="Billing here, what is it?")
    number = await any_harness.orchestrator(any_harness.route("billing", billing, announce=FAREWELL))
    script = (hear(), Say(text=BILL), Interrupt(text=STOP, after_ms=900), hear(quiet_ms=2500), HangUp())
    call = await any_harness.place(*script, to=number)

    assert call.outcome.ok, call.outcome.failure
    assert [route["status"] for route in call.routes] == ["done"]
    assert call.lead["template_id"] == billing["id"]
    assert STOP in call.words("caller")
    farewell = next(said for said in call.transcript if said["text"] == FAREWELL)
    assert farewell["interrupted"]
    assert 0 < len(farewell["heard_text"]) < len(FAREWELL)
    assert call.transcript[-1]["template_id"] == billing["id"]
    assert call.voices == [LOW, HIGH]
    assert call.heard.overlaps == ()


@pytest.mark.long
@pytest.mark.parametrize(
    "wrong", [Misbehaviour(mark_delay_ms=700), Misbehaviour(marks=False)], ids=["late", "never"]
)
async def test_what_was_heard_is_known_by_the_carriers_marks(
    any_harness: CallHarness, wrong: Misbehaviour
) -> None:
    """Marks that come late, or never, still leave a shortened heard_text and a call that continues."""
    billing = any_harness.route("billing", await any_harness.agent())
    number = await any_harness.orchestrator(billing, greeting={"text": LONG})
    script = (Interrupt(text=STOP, after_ms=1200), hear(), Say(text=BILL), hear(), HangUp())
    call = await any_harness.place(*script, to=number, wrong=wrong)

    assert call.outcome.ok, call.outcome.failure
    greeting = call.transcript[0]
    assert greeting["interrupted"]
    assert LONG.startswith(greeting["heard_text"])
    assert len(greeting["heard_text"]) < len(LONG)
    assert [route["status"] for route in call.routes] == ["done"]


async def test_words_in_the_middle_of_a_route_are_answered_once(any_harness: CallHarness) -> None:
    """A caller who continues talking while the call changes agent is answered once, by the new agent."""
    billing = await any_harness.agent(says=LONG)
    number = await any_harness.orchestrator(
        any_harness.route("billing", billing), turns={"end_silence_ms": 200}
    )
    script = (hear(), Say(text=BILL), Interrupt(text=STOP, after_ms=20), hear(quiet_ms=1500), HangUp())
    call = await any_harness.place(*script, to=number)

    assert call.outcome.ok, call.outcome.failure
    assert call.words("caller") == [BILL, STOP]
    assert [route["status"] for route in call.routes] == ["done"]
    answers = [said for said in call.transcript if said["speaker"] == "agent" and said["text"] != WELCOME]
    assert all(said["template_id"] == billing["id"] for said in answers)
    assert len([said for said in answers if not said["interrupted"]]) == 1
