"""One move with all that belongs to it, in one transaction.

Locks are taken in one order: operator, handoff, outbox, the account's sequence (the event, always last).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from db import desk_events, handoff_moves, operators
from db.handoff_moves import Move
from db.handoffs import HandoffRecord, State
from db.operators import OperatorRecord
from db.pool import Transaction
from voicebot import availability
from voicebot.escalation import moves, notices, story
from voicebot.escalation.operator_facts import facts_of, presence_of

CLAIM_LEASE = timedelta(minutes=3)
"""A claim that is neither renewed (by heartbeats, or by claiming again) nor moved on returns to the queue."""


class Undone(Exception):
    """Leaves a transaction that turned out to be too late."""


async def take(
    transaction: Transaction, account_id: UUID, handoff_id: UUID, user_id: UUID, now: datetime
) -> HandoffRecord:
    """Take a handoff for an operator, or raise `Undone` to have the transaction undone."""
    won = await handoff_moves.claim(
        transaction, account_id, handoff_id, user_id, at=now, lease_until=now + CLAIM_LEASE
    )
    if won is None:
        raise Undone
    await notices.call_off(transaction, account_id, handoff_id, now)
    event = story.changed("handoff.claimed", won, now, actor_id=user_id)
    await desk_events.append(transaction, account_id, event)
    return won


async def apply(
    transaction: Transaction, seen: HandoffRecord, wanted: Move, event: str, actor_id: UUID | None = None
) -> HandoffRecord:
    """Make one move with all that belongs to it, or raise `Undone` to have the transaction undone.

    The move is one of the table: who calls this has checked.
    """
    holder = None
    if seen.holder_id is not None:
        bridged = (wanted.to in moves.ON_THE_LINE) - (seen.state in moves.ON_THE_LINE)
        holder = await operators.count(
            transaction,
            seen.account_id,
            seen.holder_id,
            holding=0 if wanted.holder_id else -1,
            bridged=bridged,
        )
    moved = await handoff_moves.move(transaction, seen, wanted)
    if moved is None:
        raise Undone
    if wanted.ends:
        await notices.call_off(transaction, seen.account_id, seen.id, wanted.at)
    if wanted.to == "resolved":
        await notices.file_notes(transaction, moved, wanted.at)
        if holder is not None:
            await _wrap_up(transaction, holder, wanted.at)
    await desk_events.append(
        transaction, seen.account_id, story.changed(event, moved, wanted.at, actor_id=actor_id)
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
