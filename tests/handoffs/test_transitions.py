"""The one table of moves: whole, and no wider than what was agreed."""

from __future__ import annotations

import itertools
import re
from typing import get_args

import pytest

from db.handoffs import Intent, State
from db.pool import Database
from voicebot.handoffs import transitions
from voicebot.handoffs.transitions import CONNECTED, INITIAL, TRANSITIONS, WAITING

PATHS = {
    "escalate": ["queued", "offered", "claimed", "transferring", "bridged", "resolved"],
    "park": ["scheduled", "due", "dialing", "connected", "resolved"],
}
ENDS = {
    "escalate": {"resolved", "abandoned", "expired", "cancelled", "failed", "converted_to_park"},
    "park": {"resolved", "no_answer", "expired"},
}


def states(intent: Intent) -> set[State]:
    """All that a handoff of an intent can be in."""
    return set(TRANSITIONS[intent]) | {state for targets in TRANSITIONS[intent].values() for state in targets}


@pytest.mark.parametrize("intent", get_args(Intent))
def test_every_state_is_reached_and_every_open_one_can_end(intent: Intent) -> None:
    """From where a handoff begins there is a way to each state, and from each open state to an end."""
    reached, seen = {INITIAL[intent]}, set[State]()
    while reached - seen:
        seen |= reached
        reached |= {to for state in seen for to in transitions.allowed(intent, state)}

    assert reached == states(intent)
    assert {state for state in reached if transitions.is_final(intent, state)} == ENDS[intent]
    assert all(transitions.allowed(intent, state) for state in TRANSITIONS[intent])


@pytest.mark.parametrize("intent", get_args(Intent))
def test_the_straight_path_is_in_the_table(intent: Intent) -> None:
    """Each step of a handoff that goes well is a move."""
    path = PATHS[intent]
    assert all(after in transitions.allowed(intent, before) for before, after in itertools.pairwise(path))  # type: ignore[arg-type]


async def test_the_table_has_the_states_of_the_database(database: Database) -> None:
    """Both intents' states are those that the column allows, no more and no fewer."""
    [row] = await database.fetch(
        "SELECT pg_get_constraintdef(oid) AS told FROM pg_constraint WHERE conname = 'handoffs_state_known'"
    )

    assert (
        states("escalate") | states("park")
        == set(re.findall(r"'(\w+)'", row["told"]))
        == set(get_args(State))
    )
    assert {*WAITING.values(), *INITIAL.values(), *CONNECTED} <= set(get_args(State))
