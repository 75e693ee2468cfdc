"""The transactional outbox: notices are committed with the change that they report; every attempt is a row.

The statement that claims a notice also writes the attempt's row, so both exist if the process is killed
while it sends. A notice has the same id at every attempt, so receivers can recognise repetitions. What an
account sees of its notices is in ``db.notices``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from db.ids import new_id
from db.pool import Executor
from db.rows import columns, read

Medium = Literal["email", "slack", "webhook", "ticket", "assessment"]
NoticeState = Literal["waiting", "sending", "sent", "dead", "cancelled"]
Outcome = Literal["sent", "failed", "refused", "lost"]
"""``failed``: a retry may help; ``refused``: a retry does not help; ``lost``: the sending process died."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeRecord:
    """One message to one recipient."""

    id: UUID
    account_id: UUID
    handoff_id: UUID | None
    channel_id: UUID | None
    user_id: UUID | None
    medium: Medium
    message: Mapping[str, Any]
    """What to send; the members depend on the medium."""
    state: NoticeState
    attempts: int
    next_at: datetime
    lease_until: datetime | None
    cancelled_at: datetime | None
    remote_id: str | None
    """The id that the recipient gave to it."""
    created_at: datetime
    sent_at: datetime | None
    template_id: UUID | None
    """The template whose webhook it is."""
    url: str | None
    """Where that goes; None for the notices of channels."""
    destination: UUID
    """Its channel or template; for mail and assessments its account."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimLimits:
    """How many notices of a medium a process may send at once."""

    total: int
    per_account: int
    per_destination: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeDraft:
    """A message to send."""

    medium: Medium
    message: Mapping[str, Any]
    at: datetime
    handoff_id: UUID | None = None
    channel_id: UUID | None = None
    user_id: UUID | None = None
    template_id: UUID | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptResult:
    """How an attempt ended."""

    outcome: Literal["sent", "failed", "refused"]
    at: datetime
    next_at: datetime | None = None
    """When to try again; None: never."""
    status_code: int | None = None
    error: str | None = None
    retry_after_ms: int | None = None
    remote_id: str | None = None


_NOTICE = columns(NoticeRecord)


async def put(db: Executor, account_id: UUID, drafts: Sequence[NoticeDraft]) -> Sequence[UUID]:
    """Add notices in the transaction of the change that they report; returns their ids."""
    if not drafts:
        return []
    ids = [new_id() for _ in drafts]
    await db.execute(
        """
        INSERT INTO outbox
            (account_id, id, handoff_id, channel_id, user_id, template_id, url, medium, message, next_at,
            created_at)
        SELECT $1, given.*, given.at
        FROM unnest(
            $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::uuid[], $7::text[], $8::text[], $9::jsonb[],
            $10::timestamptz[]
        ) AS given (id, handoff_id, channel_id, user_id, template_id, url, medium, message, at)
        """,
        account_id,
        ids,
        [draft.handoff_id for draft in drafts],
        [draft.channel_id for draft in drafts],
        [draft.user_id for draft in drafts],
        [draft.template_id for draft in drafts],
        [draft.url for draft in drafts],
        [draft.medium for draft in drafts],
        [draft.message for draft in drafts],
        [draft.at for draft in drafts],
    )
    return ids


_CLAIM = f"""
    WITH RECURSIVE destinations AS (
        -- One step for each destination, however many notices wait for it.
        (SELECT destination FROM outbox WHERE medium = $1 AND state = 'waiting'
            ORDER BY destination LIMIT 1)
        UNION ALL
        SELECT (SELECT destination FROM outbox WHERE medium = $1 AND state = 'waiting'
            AND destination > previous.destination ORDER BY destination LIMIT 1)
        FROM destinations previous WHERE previous.destination IS NOT NULL
    ), sending AS (
        SELECT * FROM unnest($5::uuid[], $6::uuid[]) AS given (account_id, destination)
    ), due AS (
        SELECT notice.id, notice.account_id, notice.next_at FROM destinations
        CROSS JOIN LATERAL (
            SELECT id, account_id, next_at FROM outbox
            WHERE medium = $1 AND state = 'waiting' AND destination = destinations.destination
                AND next_at <= $2
            ORDER BY next_at
            LIMIT greatest(0, $7 - (SELECT count(*) FROM sending
                WHERE sending.destination = destinations.destination))
            FOR UPDATE SKIP LOCKED
        ) notice
        WHERE (destinations.destination = ANY($9::uuid[])) = $10
    ), placed AS (
        SELECT id, next_at, row_number() OVER (PARTITION BY account_id ORDER BY next_at, id)
            + (SELECT count(*) FROM sending WHERE sending.account_id = due.account_id) AS place
        FROM due
    ), chosen AS (
        SELECT id FROM placed WHERE place <= $8 ORDER BY place, next_at LIMIT $4
    ), claimed AS (
        UPDATE outbox SET state = 'sending', attempts = attempts + 1, lease_until = $3
        FROM chosen WHERE outbox.id = chosen.id RETURNING {columns(NoticeRecord, "outbox")}
    ), started AS (
        INSERT INTO outbox_attempts (account_id, notice_id, number, started_at)
        SELECT account_id, id, attempts, $2 FROM claimed
    )
    SELECT {_NOTICE} FROM claimed ORDER BY id
"""  # noqa: S608 - only column names


async def claim(
    db: Executor,
    medium: Medium,
    *,
    now: datetime,
    lease_until: datetime,
    limits: ClaimLimits,
    sending: Sequence[NoticeRecord] = (),
    slow: Collection[UUID] = (),
    from_slow: bool = False,
) -> Sequence[NoticeRecord]:
    """Claim notices of all accounts that are due, so that no account and no destination has all of them.

    Args:
        db: the connection.
        medium: whose notices.
        now: the present moment.
        lease_until: how long they belong to this process without a sign of life.
        limits: how many notices may be sent at once.
        sending: notices that are being sent now; they count towards the limits.
        slow: destinations that do not answer quickly.
        from_slow: claim notices of the slow destinations only; otherwise only of the others.
    """
    free = limits.total - len(sending)
    if free <= 0:
        return []
    rows = await db.fetch(
        _CLAIM,
        medium,
        now,
        lease_until,
        free,
        [notice.account_id for notice in sending],
        [notice.destination for notice in sending],
        limits.per_destination,
        limits.per_account,
        list(slow),
        from_slow,
    )
    return [read(NoticeRecord, row) for row in rows]


async def due(db: Executor, now: datetime) -> frozenset[Medium]:
    """The media of which notices are due.

    Notices whose sending process has died are due again, or closed if they were cancelled meanwhile; their
    attempts are recorded as lost.
    """
    rows = await db.fetch(
        """
        WITH RECURSIVE lost AS (
            SELECT id FROM outbox WHERE state = 'sending' AND lease_until <= $1 FOR UPDATE SKIP LOCKED
        ), attempt AS (
            UPDATE outbox_attempts attempt SET ended_at = $1, outcome = 'lost'
            FROM lost WHERE attempt.notice_id = lost.id AND attempt.ended_at IS NULL
        ), released AS (
            UPDATE outbox SET lease_until = NULL,
                state = CASE WHEN cancelled_at IS NULL THEN 'waiting' ELSE 'cancelled' END,
                next_at = CASE WHEN cancelled_at IS NULL THEN $1 ELSE next_at END
            FROM lost WHERE outbox.id = lost.id RETURNING outbox.medium, outbox.state
        ), destinations AS (
            -- One step for each destination, however many notices wait for it.
            (SELECT medium, destination FROM outbox WHERE state = 'waiting'
                ORDER BY medium, destination LIMIT 1)
            UNION ALL
            SELECT following.* FROM destinations previous CROSS JOIN LATERAL (
                SELECT medium, destination FROM outbox
                WHERE state = 'waiting' AND (medium, destination) > (previous.medium, previous.destination)
                ORDER BY medium, destination LIMIT 1) following
        )
        SELECT medium FROM released WHERE state = 'waiting'
        UNION SELECT medium FROM destinations WHERE EXISTS (
            SELECT FROM outbox WHERE state = 'waiting' AND medium = destinations.medium
                AND destination = destinations.destination AND next_at <= $1)
        """,
        now,
    )
    return frozenset(row["medium"] for row in rows)


async def finish(db: Executor, sent: NoticeRecord, result: AttemptResult) -> NoticeRecord | None:
    """Record how an attempt ended; None: its lease had run out and another process has claimed the notice."""
    row = await db.fetchrow(
        f"""
        WITH attempt AS (
            UPDATE outbox_attempts SET ended_at = $4, outcome = $5, status_code = $6, error = $7,
                retry_after_ms = $8
            WHERE notice_id = $2 AND number = $3 AND outcome IS NULL
        )
        UPDATE outbox SET lease_until = NULL, remote_id = coalesce($10, remote_id),
            sent_at = CASE WHEN $5 = 'sent' THEN $4::timestamptz END, next_at = coalesce($9, next_at),
            state = CASE WHEN $5 = 'sent' THEN 'sent' WHEN cancelled_at IS NOT NULL THEN 'cancelled'
                WHEN $9::timestamptz IS NULL THEN 'dead' ELSE 'waiting' END
        WHERE account_id = $1 AND id = $2 AND attempts = $3 AND state = 'sending' RETURNING {_NOTICE}
        """,  # noqa: S608
        sent.account_id,
        sent.id,
        sent.attempts,
        result.at,
        result.outcome,
        result.status_code,
        result.error,
        result.retry_after_ms,
        result.next_at,
        result.remote_id,
    )
    return None if row is None else read(NoticeRecord, row)


async def cancel(
    db: Executor, account_id: UUID, handoff_id: UUID, media: Sequence[Medium], at: datetime
) -> int:
    """Cancel a handoff's unsent notices; one that is being sent is not retried. Returns their number."""
    return await db.execute(
        """
        UPDATE outbox SET cancelled_at = $4, state = CASE state WHEN 'waiting' THEN 'cancelled' ELSE state END
        WHERE account_id = $1 AND handoff_id = $2 AND medium = ANY($3::text[])
            AND (state = 'waiting' OR state = 'sending') AND cancelled_at IS NULL
        """,
        account_id,
        handoff_id,
        list(media),
        at,
    )
