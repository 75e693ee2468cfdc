"""The control of a call when several things happen at once: no lost speech, no silence."""

from __future__ import annotations

from typing import Any

import pytest

from tests.calls.harness import BILL, BYE, LOW, OPEN, WELCOME, CallHarness, hear
from voicebot.sandbox.caller import HangUp, Interrupt, Say, WaitForHangUp
from voicebot.sandbox.vendors.script import Answer

FAREWELL = "Thank you for calling us today. Goodbye and have a nice day."
END: tuple[str, dict[str, Any]] = ("end_call", {"reason": "done"})
ROUTE: tuple[str, dict[str, Any]] = ("route_to_agent", {"agent": "billing", "reason": "as asked"})
HOURS = "Acme is open from eight to five."


async def test_row_1_a_caller_who_speaks_during_a_goodbye_is_heard_and_answered(
    harness: CallHarness,
) -> None:
    """The call is not hung up while the caller speaks; their question is answered in the same call."""
    harness.sandbox.script.answer(Answer(text=FAREWELL, calls=[END]), user=BYE)
    number = await harness.orchestrator(harness.route("billing", await harness.agent()))
    script = (hear(), Say(text=BYE), Interrupt(text=OPEN, after_ms=900), hear(), HangUp())
    call = await harness.place(*script, to=number)

    assert call.outcome.ok, call.outcome.failure
    assert call.words("caller") == [BYE, OPEN]
    assert call.words()[-1] == HOURS
    assert call.record["ended_by"] == "caller"


async def test_row_1_a_caller_who_speaks_during_the_goodbye_of_a_silent_line_is_answered(
    harness: CallHarness,
) -> None:
    """The goodbye after unanswered prompts is cancelled when the caller speaks during it."""
    idle = {"after_ms": 2000, "prompts": [], "goodbye": FAREWELL}
    number = await harness.orchestrator(harness.route("billing", await harness.agent()), idle=idle)
    script = (hear(), Interrupt(text=OPEN, after_ms=900), hear(), HangUp())
    call = await harness.place(*script, to=number)

    assert call.outcome.ok, call.outcome.failure
    assert call.words()[-1] == HOURS
    assert call.record["ended_by"] == "caller"


async def test_a_caller_who_says_goodbye_during_a_goodbye_ends_the_call(harness: CallHarness) -> None:
    """A farewell of the caller during ours is heard to its end, and then the call ends."""
    harness.sandbox.script.answer(Answer(text=FAREWELL, calls=[END]), user=BILL)
    number = await harness.orchestrator(harness.route("billing", await harness.agent()))
    script = (hear(), Say(text=BILL), Interrupt(text=BYE, after_ms=900), WaitForHangUp())
    call = await harness.place(*script, to=number)

    assert call.outcome.ok, call.outcome.failure
    assert call.words("caller") == [BILL, BYE]
    assert (call.record["ended_by"], call.record["end_reason"]) == ("agent", "done")


@pytest.mark.long
async def test_row_17_the_longest_duration_during_a_farewell_ends_the_call_with_words(
    harness: CallHarness,
) -> None:
    """A call that reaches its limit while a route is announced says goodbye once and is heard whole."""
    announce = "One moment please, " + "I will put you through to the colleagues who know about this. " * 3
    billing = await harness.agent(greeting={"text": "Billing here."})
    number = await harness.orchestrator(
        harness.route("billing", billing, announce=announce),
        limits={"max_duration_ms": 10_000},
        idle={"after_ms": 60_000, "goodbye": "Time is up, goodbye."},
    )
    await harness.greetings_are_prepared(2)
    call = await harness.place(hear(), Say(text=BILL), WaitForHangUp(timeout_ms=40_000), to=number)

    assert call.outcome.ok, call.outcome.failure
    assert call.words()[0] == WELCOME
    assert call.transcript[-1]["text"] == "Time is up, goodbye."
    assert not call.transcript[-1]["interrupted"]
    assert call.voices == [LOW]
    assert [(route["status"], route["error_code"]) for route in call.routes] == [("failed", "call_ending")]
    assert call.record["end_reason"] == "max_duration"
