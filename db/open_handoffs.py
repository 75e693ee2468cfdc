"""Handoffs that have not ended: of an operator, of a call, and those the keeper has to look after."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from db.handoffs import HandoffRecord
from db.pool import Executor
from db.rows import columns, read

_HANDOFF = columns(HandoffRecord)


async def held_by(db: Executor, account_id: UUID, user_id: UUID) -> Sequence[HandoffRecord]:
    """What an operator holds, oldest first."""
    rows = await db.fetch(
        f"""
        SELECT {_HANDOFF} FROM handoffs
        WHERE account_id = $1 AND holder_id = $2 AND ended_at IS NULL ORDER BY id
        """,  # noqa: S608
        account_id,
        user_id,
    )
    return [read(HandoffRecord, row) for row in rows]


async def open_of_call(db: Executor, account_id: UUID, call_id: UUID) -> Sequence[HandoffRecord]:
    """The call's handoffs that have not ended, oldest first."""
    rows = await db.fetch(
        f"""
        SELECT {_HANDOFF} FROM handoffs
        WHERE account_id = $1 AND call_id = $2 AND ended_at IS NULL ORDER BY id
        """,  # noqa: S608
        account_id,
        call_id,
    )
    return [read(HandoffRecord, row) for row in rows]


async def to_look_after(db: Executor, now: datetime, *, limit: int) -> Sequence[HandoffRecord]:
    """Open handoffs of all accounts for which something is due: a lease, a time, a caller who is gone."""
    rows = await db.fetch(
        f"""
        SELECT {columns(HandoffRecord, "handoff")} FROM handoffs handoff
        LEFT JOIN calls call ON call.account_id = handoff.account_id AND call.id = handoff.call_id
        WHERE handoff.ended_at IS NULL AND (
            handoff.expires_at <= $1 OR handoff.lease_until <= $1
            OR (handoff.state = 'scheduled' AND handoff.due_at <= $1 AND handoff.consent)
            OR (handoff.intent = 'escalate' AND call.ended_at >= handoff.created_at
                AND handoff.state <> 'bridged'))
        ORDER BY handoff.expires_at LIMIT $2
        """,  # noqa: S608
        now,
        limit,
    )
    return [read(HandoffRecord, row) for row in rows]


async def queued(db: Executor, *, limit: int) -> Sequence[HandoffRecord]:
    """Handoffs of all accounts that nobody has been offered, who is to be helped first first."""
    rows = await db.fetch(
        f"""
        SELECT {columns(HandoffRecord, "handoff")} FROM handoffs handoff
        WHERE handoff.ended_at IS NULL AND handoff.state = 'queued' AND EXISTS (
            SELECT FROM operators operator WHERE operator.account_id = handoff.account_id
                AND operator.signed_on AND operator.holding < operator.capacity)
        ORDER BY handoff.queue_at, handoff.id LIMIT $1
        """,  # noqa: S608
        limit,
    )
    return [read(HandoffRecord, row) for row in rows]
