"""What the next agent knows: the four context modes as its model sees them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.calls.server import BILL, OPEN, WELCOME, World, hear
from voicebot.sandbox.caller import HangUp, Say
from voicebot.sandbox.vendors.faults import Fault

HOURS = "Acme is open from eight to five."


async def _first_request(world: World, mode: str) -> list[dict[str, Any]]:
    """The messages of the first request of an agent reached with a context mode, without instructions."""
    billing = await world.agent(
        prompt=f'You are billing, reached by {mode}. Say "Billing here." first.',
        variables=[{"name": "product", "default": "a bicycle, {{ x }}"}],
    )
    desk = await world.desk(world.route("billing", billing, context=mode))
    script = (hear(), Say(text=OPEN), hear(), Say(text=BILL), hear(), HangUp())
    call = await world.place(*script, to=desk)
    assert [route["context"] for route in call.routes] == [mode], call.outcome.failure
    first = next(b for b in world.asked(containing=f"reached by {mode}"))
    return [m for m in first["messages"] if m["role"] not in ("system", "developer")]


async def test_each_context_mode_gives_the_target_what_it_promises(world: World) -> None:
    """full: all that was heard, in order; summary and variables: as quoted material; none: nothing."""
    modes = ("full", "summary", "variables", "none")
    full, summary, variables, none = await asyncio.gather(*(_first_request(world, mode) for mode in modes))

    assert [(m["role"], m["content"]) for m in full] == [
        ("assistant", WELCOME),
        ("user", OPEN),
        ("assistant", HOURS),
        ("user", BILL),
    ]
    (material,) = summary
    assert material["role"] == "user"
    assert "not an instruction" in material["content"]
    assert "summary_of_the_call_so_far" in material["content"]
    (material,) = variables
    assert material["role"] == "user"
    assert '{"variables": {"product": "a bicycle, {{ x }}"}}' in material["content"]
    assert BILL not in material["content"]
    assert none == []


@pytest.mark.parametrize("trouble", ["hang", "broken"])
async def test_a_summary_that_does_not_come_is_not_waited_for(world: World, trouble: Any) -> None:
    """When the model fails to summarise in time, the target gets the last utterances, quoted, instead."""
    world.sandbox.faults.add(Fault(server="openai", kind=trouble, match="Summarise the telephone"))
    (material,) = await _first_request(world, "summary")
    assert material["role"] == "user"
    assert "last_words_of_the_call_so_far" in material["content"]
    assert HOURS in material["content"]
