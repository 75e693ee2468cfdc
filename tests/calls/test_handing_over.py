"""What the next agent knows: the four context modes as its model sees them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.calls.harness import BILL, OPEN, WELCOME, CallHarness, hear
from voicebot.sandbox.caller import HangUp, Say
from voicebot.sandbox.vendors.faults import Fault

HOURS = "Acme is open from eight to five."


async def _first_request(harness: CallHarness, mode: str) -> list[dict[str, Any]]:
    """The messages of the first request of an agent reached with a context mode, without instructions."""
    billing = await harness.agent(
        prompt=f'You are billing, reached by {mode}. Say "Billing here." first.',
        variables=[{"name": "product", "default": "a bicycle, {{ x }}"}],
    )
    number = await harness.orchestrator(harness.route("billing", billing, context=mode))
    script = (hear(), Say(text=OPEN), hear(), Say(text=BILL), hear(), HangUp())
    call = await harness.place(*script, to=number)
    assert [route["context"] for route in call.routes] == [mode], call.outcome.failure
    first = next(b for b in harness.asked(containing=f"reached by {mode}"))
    return [m for m in first["messages"] if m["role"] not in ("system", "developer")]


async def test_full_context_is_everything_that_was_heard(harness: CallHarness) -> None:
    """With context "full" the target reads the utterances of both sides, in order."""
    full = await _first_request(harness, "full")
    assert [(m["role"], m["content"]) for m in full] == [
        ("assistant", WELCOME),
        ("user", OPEN),
        ("assistant", HOURS),
        ("user", BILL),
    ]


@pytest.mark.long
async def test_a_summary_is_quoted_material(harness: CallHarness) -> None:
    """With context "summary" the target reads a summary, as material that is not an instruction."""
    (material,) = await _first_request(harness, "summary")
    assert material["role"] == "user"
    assert "not an instruction" in material["content"]
    assert "summary_of_the_call_so_far" in material["content"]


@pytest.mark.long
async def test_variables_are_quoted_material(harness: CallHarness) -> None:
    """With context "variables" the target reads the variables, and nothing that was said."""
    (material,) = await _first_request(harness, "variables")
    assert material["role"] == "user"
    assert '{"variables": {"product": "a bicycle, {{ x }}"}}' in material["content"]
    assert BILL not in material["content"]


@pytest.mark.long
async def test_without_context_nothing_is_handed_over(harness: CallHarness) -> None:
    """With context "none" the target's first request has instructions only."""
    assert await _first_request(harness, "none") == []


@pytest.mark.long
@pytest.mark.parametrize("trouble", ["hang", "broken"])
async def test_a_summary_that_does_not_come_is_not_waited_for(harness: CallHarness, trouble: Any) -> None:
    """When the model fails to summarise in time, the target gets the last utterances, quoted, instead."""
    harness.sandbox.faults.add(Fault(server="openai", kind=trouble, match="Summarise the telephone"))
    (material,) = await _first_request(harness, "summary")
    assert material["role"] == "user"
    assert "last_words_of_the_call_so_far" in material["content"]
    assert HOURS in material["content"]
