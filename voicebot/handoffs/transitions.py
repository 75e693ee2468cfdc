"""State transitions of handoffs: the table, the errors of a refused one, and how one is applied.

A transaction locks in one order, so that none deadlocks: operator, handoff, outbox, and last the account's
event sequence.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from uuid import UUID

from db import handoff_events, handoff_transitions, operators
from db.handoff_transitions import Transition
from db.handoffs import HandoffRecord, Intent, Priority, State
from db.operators import OperatorRecord
from db.pool import Transaction
from voicebot import availability
from voicebot.handoffs import notifications

CLAIM_LEASE = timedelta(minutes=3)
"""A claim without a renewal (heartbeat, another claim) or a change for this time returns to the queue."""

ESCALATE: Mapping[State, frozenset[State]] = {
    "queued": frozenset({"offered", "claimed", "abandoned", "expired", "cancelled", "converted_to_park"}),
    "offered": frozenset({"queued", "claimed", "abandoned", "expired", "cancelled", "converted_to_park"}),
    "claimed": frozenset(
        {
            "queued",
            "transferring",
            "bridged",
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
    "scheduled": frozenset({"due", "scheduled", "resolved", "expired", "cancelled"}),
    "due": frozenset({"offered", "claimed", "dialing", "scheduled", "resolved", "expired", "cancelled"}),
    "offered": frozenset({"due", "claimed", "scheduled", "resolved", "expired", "cancelled"}),
    "claimed": frozenset(
        {"due", "dialing", "connected", "scheduled", "resolved", "no_answer", "expired", "cancelled"}
    ),
    "dialing": frozenset({"connected", "no_answer", "due"}),
    "connected": frozenset({"resolved", "no_answer"}),
}

TRANSITIONS: Mapping[Intent, Mapping[State, frozenset[State]]] = {"escalate": ESCALATE, "park": PARK}
"""From each open state to the states that may follow; a state that is not a key is final."""

WAITING: Mapping[Intent, State] = {"escalate": "queued", "park": "due"}
"""The state in which a handoff waits for a claim, and to which it returns when the claim ends early."""

INITIAL: Mapping[Intent, State] = {"escalate": "queued", "park": "scheduled"}

TICKETED: frozenset[State] = frozenset({"resolved", "expired", "abandoned"})
"""States in which the account's ticket systems get the handoff."""

CONNECTED: frozenset[State] = frozenset({"bridged", "connected"})
"""States in which the caller is connected to the operator."""

PRIORITY_OFFSET: Mapping[Priority, timedelta] = {
    "low": timedelta(minutes=-10),
    "normal": timedelta(0),
    "high": timedelta(minutes=10),
    "urgent": timedelta(minutes=60),
}
"""How much earlier in the queue a priority places a handoff. It is a duration, so that no handoff starves:
one of normal priority that has waited for ten minutes precedes a new one of high priority."""


class IllegalTransition(Exception):
    """The handoff's state does not allow this transition; ``allowed`` lists the states that may follow."""

    def __init__(self, state: State, wanted: State, allowed: frozenset[State]) -> None:
        self.state = state
        self.wanted = wanted
        self.allowed = tuple(sorted(allowed))
        choices = ", ".join(self.allowed) or "nothing"
        super().__init__(f"A handoff in the state {state} cannot become {wanted}. Allowed: {choices}.")


class AlreadyClaimed(Exception):
    """Another operator holds the handoff; a retry helps only after they release it."""

    def __init__(self, claimed_by: UUID) -> None:
        self.claimed_by = claimed_by
        super().__init__(f"The handoff is claimed by {claimed_by}.")


class StaleClaim(Exception):
    """The claim has ended and its writes are refused; read the handoff again instead of retrying."""

    def __init__(self, handoff: HandoffRecord) -> None:
        self.claimed_by = handoff.claimed_by
        self.epoch = handoff.epoch
        super().__init__("You do not hold this claim.")


class CapacityReached(Exception):
    """The operator's capacity is reached; release or resolve a handoff first."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        super().__init__(
            f"You hold {capacity} handoffs, which is your capacity. Release or resolve one first."
        )


class LostRace(Exception):
    """Rolls back a transaction whose conditional statement found that the row has changed."""


def allowed(intent: Intent, state: State) -> frozenset[State]:
    """The states that may follow; none if the state is final."""
    return TRANSITIONS[intent].get(state, frozenset())


def is_final(intent: Intent, state: State) -> bool:
    """Whether a handoff in this state has ended."""
    return state not in TRANSITIONS[intent]


def check(handoff: HandoffRecord, wanted: State) -> None:
    """Check a transition against the table; a park becomes due only with the caller's consent.

    Raises:
        IllegalTransition: the table does not allow it.
    """
    possible = allowed(handoff.intent, handoff.state)
    if handoff.intent == "park" and not handoff.consent:
        possible -= {"due"}
    if wanted not in possible:
        raise IllegalTransition(handoff.state, wanted, possible)


def queue_at(since: datetime, priority: Priority) -> datetime:
    """The queue's sort key of a handoff that waits since ``since``; lower values come first."""
    return since - PRIORITY_OFFSET[priority]


async def claim(
    transaction: Transaction,
    account_id: UUID,
    handoff_id: UUID,
    user_id: UUID,
    now: datetime,
    *,
    actor_id: UUID | None = None,
) -> HandoffRecord:
    """Claim a handoff for an operator, renew their other claims, cancel unsent notices, append the event.

    ``actor_id`` is who gives it to the operator; None: they claim it themselves.

    Raises:
        LostRace: the operator or the handoff does not allow it; the transaction must be rolled back.
    """
    claimed = await handoff_transitions.claim(
        transaction, account_id, handoff_id, user_id, at=now, lease_until=now + CLAIM_LEASE
    )
    if claimed is None:
        raise LostRace
    await handoff_transitions.renew(transaction, account_id, user_id, now + CLAIM_LEASE)
    await notifications.cancel_unsent(transaction, account_id, handoff_id, now)
    await handoff_events.append_change(
        transaction, claimed, "handoff.claimed", now, actor_id=actor_id or user_id
    )
    return claimed


async def apply(
    transaction: Transaction, before: HandoffRecord, wanted: Transition, actor_id: UUID | None = None
) -> HandoffRecord:
    """Apply a transition with all its effects: operator's counters, notices and event.

    Args:
        transaction: the transaction of the change.
        before: the handoff that the transition was decided on; the caller has called ``check``.
        wanted: the transition.
        actor_id: the user who caused it; None: the program.

    Raises:
        LostRace: the handoff has changed meanwhile; the transaction must be rolled back.
    """
    operator = None
    if before.claimed_by is not None:
        operator = await operators.count(
            transaction,
            before.account_id,
            before.claimed_by,
            holding=0 if wanted.claimed_by else -1,
            bridged=(wanted.to in CONNECTED) - (before.state in CONNECTED),
        )
        if operator is None:
            # The claim has ended meanwhile: it is not counted on the operator any more.
            raise LostRace
    ended = is_final(before.intent, wanted.to)
    after = await handoff_transitions.apply(transaction, before, wanted, ended=ended)
    if after is None:
        raise LostRace
    if ended:
        await notifications.cancel_unsent(transaction, before.account_id, before.id, wanted.at)
    if wanted.to in TICKETED:
        await notifications.add_tickets(transaction, after, wanted.at)
    if wanted.to == "resolved" and operator is not None:
        await _start_wrap_up(transaction, operator, wanted.at)
    if before.claimed_by is not None and wanted.to in WAITING.values():
        await notifications.ask_again(transaction, after, "queued", wanted.at, exclude=actor_id)
    elif before.state == "scheduled" and wanted.to == "due":
        await notifications.ask_again(transaction, after, "due", wanted.at)
    await handoff_events.append_change(
        transaction, after, wanted.event_type, wanted.at, actor_id=actor_id, leg_id=wanted.leg_id
    )
    return after


async def _start_wrap_up(transaction: Transaction, operator: OperatorRecord, now: datetime) -> None:
    after = availability.wrap_up(operator, now)
    if after != operator:
        # The row is locked since its counters were changed, so the revision cannot have changed.
        await operators.save(transaction, after)
