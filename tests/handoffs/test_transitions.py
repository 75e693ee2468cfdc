"""The table of transitions is complete and allows nothing else."""

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
FINAL = {
    "escalate": {"resolved", "abandoned", "expired", "cancelled", "failed", "converted_to_park"},
    "park": {"resolved", "no_answer", "expired", "cancelled"},
}


def states(intent: Intent) -> set[State]:
    """All states of an intent."""
    return set(TRANSITIONS[intent]) | {state for targets in TRANSITIONS[intent].values() for state in targets}


@pytest.mark.parametrize("intent", get_args(Intent))
def test_every_state_is_reached_and_every_open_one_can_end(intent: Intent) -> None:
    """Every state can be reached from the initial one, and every open state can end."""
    reached, seen = {INITIAL[intent]}, set[State]()
    while reached - seen:
        seen |= reached
        reached |= {to for state in seen for to in transitions.allowed(intent, state)}

    assert reached == states(intent)
    assert {state for state in reached if transitions.is_final(intent, state)} == FINAL[intent]
    assert all(transitions.allowed(intent, state) for state in TRANSITIONS[intent])


@pytest.mark.parametrize("intent", get_args(Intent))
def test_the_straight_path_is_in_the_table(intent: Intent) -> None:
    """The steps of a successful handoff are transitions of the table."""
    path = PATHS[intent]
    assert all(after in transitions.allowed(intent, before) for before, after in itertools.pairwise(path))  # type: ignore[arg-type]


async def test_the_table_has_the_states_of_the_database(database: Database) -> None:
    """The states of both intents are exactly those that the column allows."""
    [row] = await database.fetch(
        """
        SELECT pg_get_constraintdef(oid) AS definition FROM pg_constraint
        WHERE conname = 'handoffs_state_known'
        """
    )

    assert (
        states("escalate") | states("park")
        == set(re.findall(r"'(\w+)'", row["definition"]))
        == set(get_args(State))
    )
    assert {*WAITING.values(), *INITIAL.values(), *CONNECTED} <= set(get_args(State))
