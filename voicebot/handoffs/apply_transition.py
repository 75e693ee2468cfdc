"""One move with all that belongs to it, in one transaction.

Locks are taken in one order: operator, handoff, outbox, the account's sequence (the event, always last).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from db import handoff_events, handoff_transitions, operators
from db.handoff_transitions import Transition
from db.handoffs import HandoffRecord, State
from db.operators import OperatorRecord
from db.pool import Transaction
from voicebot import availability
from voicebot.handoffs import events, notifications, transitions
from voicebot.handoffs.presence_mapping import facts_of, presence_of

CLAIM_LEASE = timedelta(minutes=3)
"""A claim that is neither renewed (by heartbeats, or by claiming again) nor moved on returns to the queue."""


class LostRace(Exception):
    """Leaves a transaction that turned out to be too late."""


async def take(
    transaction: Transaction, account_id: UUID, handoff_id: UUID, user_id: UUID, now: datetime
) -> HandoffRecord:
    """Take a handoff for an operator, or raise `Undone` to have the transaction undone."""
    won = await handoff_transitions.claim(
        transaction, account_id, handoff_id, user_id, at=now, lease_until=now + CLAIM_LEASE
    )
    if won is None:
        raise LostRace
    await notifications.call_off(transaction, account_id, handoff_id, now)
    event = events.changed("handoff.claimed", won, now, actor_id=user_id)
    await handoff_events.append(transaction, account_id, event)
    return won


async def apply(
    transaction: Transaction,
    seen: HandoffRecord,
    wanted: Transition,
    event: str,
    actor_id: UUID | None = None,
) -> HandoffRecord:
    """Make one move with all that belongs to it, or raise `Undone` to have the transaction undone.

    The move is one of the table: who calls this has checked.
    """
    holder = None
    if seen.holder_id is not None:
        bridged = (wanted.to in transitions.ON_THE_LINE) - (seen.state in transitions.ON_THE_LINE)
        holder = await operators.count(
            transaction,
            seen.account_id,
            seen.holder_id,
            holding=0 if wanted.holder_id else -1,
            bridged=bridged,
        )
    moved = await handoff_transitions.move(transaction, seen, wanted)
    if moved is None:
        raise LostRace
    if wanted.ends:
        await notifications.call_off(transaction, seen.account_id, seen.id, wanted.at)
    if wanted.to == "resolved":
        await notifications.file_notes(transaction, moved, wanted.at)
        if holder is not None:
            await _wrap_up(transaction, holder, wanted.at)
    await handoff_events.append(
        transaction, seen.account_id, events.changed(event, moved, wanted.at, actor_id=actor_id)
    )
    return moved


async def _wrap_up(transaction: Transaction, operator: OperatorRecord, now: datetime) -> None:
    presence = presence_of(operator)
    after = availability.wrapped_up(presence, now)
    if after != presence:
        facts = facts_of(operator, after, signed_on=operator.signed_on)
        # The row is ours since it was counted, so the revision cannot have changed.
        await operators.set_facts(
            transaction, operator.account_id, operator.user_id, facts, expected_revision=operator.revision
        )


def held_state(state: State) -> bool:
    """Whether an operator who disappears loses it: claimed, but with no caller on the line."""
    return state in ("claimed", "transferring")
