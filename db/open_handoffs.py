"""Handoffs that have not ended: of an operator, of a call, and those the keeper has to look after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from db.handoffs import HandoffRecord, Intent
from db.pool import Executor
from db.rows import columns, read

_HANDOFF = columns(HandoffRecord)
_EARLIEST = datetime(1, 1, 2, tzinfo=UTC)
_NO_ID = UUID(int=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """A handoff that waits, and who is not to be asked about it again."""

    handoff: HandoffRecord
    declined_by: frozenset[UUID]


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


async def intents(db: Executor, account_id: UUID, call_ids: Sequence[UUID]) -> Mapping[UUID, Intent]:
    """What of these calls people have: a person is wanted now before somebody is to call later."""
    rows = await db.fetch(
        """
        SELECT DISTINCT ON (call_id) call_id, intent FROM handoffs
        WHERE account_id = $1 AND call_id = ANY($2::uuid[]) AND ended_at IS NULL
        ORDER BY call_id, intent = 'park'
        """,
        account_id,
        call_ids,
    )
    return {row["call_id"]: row["intent"] for row in rows}


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


async def accounts_with_queue(db: Executor) -> Sequence[UUID]:
    """The accounts where something is queued and somebody is signed on who has room."""
    rows = await db.fetch(
        """
        SELECT DISTINCT operator.account_id FROM operators operator
        WHERE operator.signed_on AND operator.holding < operator.capacity AND EXISTS (
            SELECT FROM handoffs handoff
            WHERE handoff.account_id = operator.account_id AND handoff.state = 'queued')
        """
    )
    return [row["account_id"] for row in rows]


async def queued(
    db: Executor, account_id: UUID, *, after: Queued | None = None, limit: int
) -> Sequence[Queued]:
    """Handoffs that nobody is being asked about, who is to be helped first first.

    Args:
        after: the last one of the page before.
    """
    seen = (_EARLIEST, _NO_ID) if after is None else (after.handoff.queue_at, after.handoff.id)
    rows = await db.fetch(
        f"""
        SELECT {columns(HandoffRecord, "handoff")}, ARRAY(
            SELECT user_id FROM handoff_declines decline
            WHERE decline.account_id = $1 AND decline.handoff_id = handoff.id) AS declined_by
        FROM handoffs handoff
        WHERE handoff.account_id = $1 AND handoff.state = 'queued'
            AND (handoff.queue_at, handoff.id) > ($2, $3)
        ORDER BY handoff.queue_at, handoff.id LIMIT $4
        """,  # noqa: S608
        account_id,
        *seen,
        limit,
    )
    found = []
    for row in rows:
        facts = dict(row)
        declined_by = frozenset(facts.pop("declined_by"))
        found.append(Queued(handoff=read(HandoffRecord, facts), declined_by=declined_by))
    return found
