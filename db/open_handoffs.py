"""Handoffs that have not ended: of an operator, of a call, and those that the scheduler has to act on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from db.handoffs import HandoffRecord, Intent
from db.pool import Executor, Row
from db.rows import columns, read

_HANDOFF = columns(HandoffRecord)
_EARLIEST = datetime(1, 1, 2, tzinfo=UTC)
_NO_ID = UUID(int=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedHandoff:
    """A queued handoff and the users who declined it."""

    handoff: HandoffRecord
    declined_by: frozenset[UUID]


async def held_by(db: Executor, account_id: UUID, user_id: UUID) -> Sequence[HandoffRecord]:
    """Handoffs that an operator holds, oldest first."""
    rows = await db.fetch(
        f"""
        SELECT {_HANDOFF} FROM handoffs
        WHERE account_id = $1 AND claimed_by = $2 AND ended_at IS NULL ORDER BY id
        """,  # noqa: S608
        account_id,
        user_id,
    )
    return [read(HandoffRecord, row) for row in rows]


async def intents(db: Executor, account_id: UUID, call_ids: Sequence[UUID]) -> Mapping[UUID, Intent]:
    """Intent of the unclaimed handoff of each of these calls; an escalation takes precedence over a park."""
    rows = await db.fetch(
        """
        SELECT DISTINCT ON (call_id) call_id, intent FROM handoffs
        WHERE account_id = $1 AND call_id = ANY($2::uuid[]) AND ended_at IS NULL AND claimed_by IS NULL
        ORDER BY call_id, intent = 'park'
        """,
        account_id,
        call_ids,
    )
    return {row["call_id"]: row["intent"] for row in rows}


async def needing_action(db: Executor, now: datetime, *, limit: int) -> Sequence[tuple[HandoffRecord, bool]]:
    """Open handoffs of all accounts whose lease, due time or expiry has passed, or whose caller hung up.

    Returns:
        Each handoff, and whether it is an escalation whose caller hung up (if claimed: until stored).
    """
    rows = await db.fetch(
        f"""
        SELECT * FROM (
            SELECT {columns(HandoffRecord, "handoff")}, coalesce(handoff.intent = 'escalate'
                AND handoff.state <> 'bridged'
                AND (handoff.state <> 'claimed' OR handoff.cause IS DISTINCT FROM 'caller_hung_up')
                AND call.ended_at >= handoff.created_at, false) AS hung_up
            FROM handoffs handoff
            LEFT JOIN calls call ON call.account_id = handoff.account_id AND call.id = handoff.call_id
            WHERE handoff.ended_at IS NULL
        ) open
        WHERE hung_up OR expires_at <= $1 OR lease_until <= $1
            OR (state = 'scheduled' AND due_at <= $1 AND consent)
        ORDER BY expires_at LIMIT $2
        """,  # noqa: S608
        now,
        limit,
    )
    found = []
    for row in rows:
        values = dict(row)
        hung_up = values.pop("hung_up")
        found.append((read(HandoffRecord, values), hung_up))
    return found


async def unclaimed(
    db: Executor, now: datetime, *, levels: int, limit: int
) -> Sequence[tuple[HandoffRecord, int]]:
    """Handoffs of all accounts that have waited for a claim longer than their author's time.

    Args:
        db: the connection.
        now: the present moment.
        levels: how often this is reported; each time after the same time again.
        limit: the maximum number of handoffs.

    Returns:
        Each handoff, and the level that it is reported to now, from 1.
    """
    rows = await db.fetch(
        f"""
        SELECT {_HANDOFF}, escalated + 1 AS level FROM handoffs
        WHERE ended_at IS NULL AND (state = 'queued' OR state = 'offered' OR state = 'due') AND escalated < $2
            AND coalesce(unclaimed_since, created_at)
                + (escalated + 1) * escalate_after_ms * interval '1 millisecond' <= $1
        ORDER BY id LIMIT $3
        """,  # noqa: S608
        now,
        levels,
        limit,
    )
    found = []
    for row in rows:
        values = dict(row)
        level = values.pop("level")
        found.append((read(HandoffRecord, values), level))
    return found


async def accounts_with_queue(db: Executor) -> Sequence[UUID]:
    """Accounts with a handoff that can be offered and a signed-on operator below capacity."""
    rows = await db.fetch(
        """
        SELECT DISTINCT operator.account_id FROM operators operator
        WHERE operator.signed_on AND operator.holding < operator.capacity AND EXISTS (
            SELECT FROM handoffs handoff
            WHERE handoff.account_id = operator.account_id
                AND (handoff.state = 'queued' OR handoff.state = 'due'))
        """
    )
    return [row["account_id"] for row in rows]


async def queued(
    db: Executor, account_id: UUID, *, after: QueuedHandoff | None = None, limit: int
) -> Sequence[QueuedHandoff]:
    """Queued escalations and due parks that are not offered to anybody, in queue order.

    Args:
        db: the connection.
        account_id: the account.
        after: the last handoff of the previous page.
        limit: the maximum number of handoffs.
    """
    position = (_EARLIEST, _NO_ID) if after is None else (after.handoff.queue_at, after.handoff.id)
    rows = await db.fetch(
        f"""
        SELECT {columns(HandoffRecord, "handoff")}, ARRAY(
            SELECT user_id FROM handoff_declines decline
            WHERE decline.account_id = $1 AND decline.handoff_id = handoff.id) AS declined_by
        FROM handoffs handoff
        WHERE handoff.account_id = $1 AND (handoff.state = 'queued' OR handoff.state = 'due')
            AND (handoff.queue_at, handoff.id) > ($2, $3)
        ORDER BY handoff.queue_at, handoff.id LIMIT $4
        """,  # noqa: S608
        account_id,
        *position,
        limit,
    )
    return [_queued(row) for row in rows]


async def of_live_calls(db: Executor, call_ids: Collection[UUID]) -> Sequence[QueuedHandoff]:
    """The latest escalation of each of these calls, of any account, also if it has ended."""
    rows = await db.fetch(
        f"""
        SELECT {columns(HandoffRecord, "latest")}, ARRAY(
            SELECT user_id FROM handoff_declines decline
            WHERE decline.account_id = latest.account_id AND decline.handoff_id = latest.id) AS declined_by
        FROM calls call CROSS JOIN LATERAL (
            SELECT * FROM handoffs handoff
            WHERE handoff.account_id = call.account_id AND handoff.call_id = call.id
                AND handoff.intent = 'escalate'
            ORDER BY handoff.id DESC LIMIT 1) latest
        WHERE call.id = ANY($1::uuid[])
        """,  # noqa: S608
        list(call_ids),
    )
    return [_queued(row) for row in rows]


async def escalation_of(db: Executor, account_id: UUID, call_id: UUID) -> HandoffRecord | None:
    """The open escalation of a call; None: it has none."""
    row = await db.fetchrow(
        f"""
        SELECT {_HANDOFF} FROM handoffs
        WHERE account_id = $1 AND call_id = $2 AND intent = 'escalate' AND ended_at IS NULL
        """,  # noqa: S608
        account_id,
        call_id,
    )
    return None if row is None else read(HandoffRecord, row)


async def declined_by(db: Executor, account_id: UUID, handoff_id: UUID) -> Sequence[UUID]:
    """The users who declined a handoff."""
    rows = await db.fetch(
        "SELECT user_id FROM handoff_declines WHERE account_id = $1 AND handoff_id = $2",
        account_id,
        handoff_id,
    )
    return [row["user_id"] for row in rows]


def _queued(row: Row) -> QueuedHandoff:
    values = dict(row)
    declined_by = frozenset(values.pop("declined_by"))
    return QueuedHandoff(handoff=read(HandoffRecord, values), declined_by=declined_by)
