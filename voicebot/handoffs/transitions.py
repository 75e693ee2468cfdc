"""The moves of a handoff, in one table, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from db.handoffs import HandoffRecord, Intent, Priority, State

ESCALATE: Mapping[State, frozenset[State]] = {
    "queued": frozenset({"offered", "claimed", "abandoned", "expired", "cancelled", "converted_to_park"}),
    "offered": frozenset({"queued", "claimed", "abandoned", "expired", "cancelled", "converted_to_park"}),
    "claimed": frozenset(
        {
            "queued",
            "transferring",
            "resolved",
            "abandoned",
            "expired",
            "cancelled",
            "failed",
            "converted_to_park",
        }
    ),
    "transferring": frozenset({"bridged", "claimed", "queued", "abandoned", "cancelled", "failed"}),
    "bridged": frozenset({"resolved", "failed"}),
}

PARK: Mapping[State, frozenset[State]] = {
    "scheduled": frozenset({"due", "scheduled", "resolved", "expired"}),
    "due": frozenset({"claimed", "dialing", "scheduled", "resolved", "expired"}),
    "claimed": frozenset({"due", "dialing", "connected", "scheduled", "resolved", "no_answer", "expired"}),
    "dialing": frozenset({"connected", "no_answer", "due"}),
    "connected": frozenset({"resolved", "no_answer"}),
}

TRANSITIONS: Mapping[Intent, Mapping[State, frozenset[State]]] = {"escalate": ESCALATE, "park": PARK}
"""From each open state to where it may go; what is not a key has ended."""

WAITING: Mapping[Intent, State] = {"escalate": "queued", "park": "due"}
"""Where a handoff waits, and returns to when its holder lets go."""

BEGINS: Mapping[Intent, State] = {"escalate": "queued", "park": "scheduled"}

ON_THE_LINE: frozenset[State] = frozenset({"bridged", "connected"})
"""Where the operator has the caller."""

HEAD_START: Mapping[Priority, timedelta] = {
    "low": timedelta(minutes=-10),
    "normal": timedelta(0),
    "high": timedelta(minutes=10),
    "urgent": timedelta(minutes=60),
}
"""By how much a priority moves a handoff ahead. A time, so that waiting makes up for it and nothing starves:
a normal one that has waited for ten minutes goes before a high one that comes now."""


class IllegalTransition(Exception):
    """The handoff's state does not allow this; `allowed` lists what it does allow."""

    def __init__(self, state: State, wanted: State, allowed: frozenset[State]) -> None:
        self.state = state
        self.wanted = wanted
        self.allowed = tuple(sorted(allowed))
        choices = ", ".join(self.allowed) or "nothing"
        super().__init__(f"A handoff that is {state} cannot become {wanted}; allowed: {choices}.")


def allowed(intent: Intent, state: State) -> frozenset[State]:
    """Where a handoff may go from here; nowhere once it has ended."""
    return TRANSITIONS[intent].get(state, frozenset())


def ends(intent: Intent, state: State) -> bool:
    """Whether a handoff in this state is over."""
    return state not in TRANSITIONS[intent]


def check(handoff: HandoffRecord, wanted: State) -> None:
    """Refuse a move that is not in the table. A parked call becomes due only if the caller agreed to it.

    Raises:
        IllegalTransition: it is not.
    """
    possible = allowed(handoff.intent, handoff.state)
    if handoff.intent == "park" and not handoff.consent:
        possible -= {"due"}
    if wanted not in possible:
        raise IllegalTransition(handoff.state, wanted, possible)


def queue_at(since: datetime, priority: Priority) -> datetime:
    """The place in the queue of a handoff that waits `since` then: lower is sooner."""
    return since - HEAD_START[priority]
