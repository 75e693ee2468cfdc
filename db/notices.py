"""Notices as their account sees them: lists, the attempts to send them, and another try for a dead one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from db.errors import NotFound
from db.outbox import NoticeRecord, NoticeState, Outcome
from db.pool import Executor
from db.rows import Page, after_id, columns, narrow, page, read


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """One attempt to send a notice."""

    account_id: UUID
    notice_id: UUID
    number: int
    started_at: datetime
    ended_at: datetime | None
    outcome: Outcome | None
    """Null while the attempt runs, or after its process died."""
    status_code: int | None
    error: str | None
    retry_after_ms: int | None


_NOTICE = columns(NoticeRecord)
_ATTEMPT = columns(AttemptRecord)


async def retry(db: Executor, account_id: UUID, notice_id: UUID, at: datetime) -> NoticeRecord:
    """Make a dead notice due again; one in another state, or whose message was deleted, is not changed.

    One that asks for help with a handoff that has ended is cancelled: nobody is needed any more.

    Raises:
        NotFound: the account has no such notice.
    """
    await db.execute(
        """
        WITH dead AS (
            SELECT notice.id, medium <> 'ticket' AND handoff.ended_at IS NOT NULL AS unneeded
            FROM outbox notice
            LEFT JOIN handoffs handoff
                ON handoff.account_id = notice.account_id AND handoff.id = notice.handoff_id
            WHERE notice.account_id = $1 AND notice.id = $2 AND notice.state = 'dead'
                AND (notice.message <> '{}' OR notice.medium = 'assessment')
        )
        UPDATE outbox SET next_at = $3, state = CASE WHEN dead.unneeded THEN 'cancelled' ELSE 'waiting' END,
            cancelled_at = CASE WHEN dead.unneeded THEN $3::timestamptz END
        FROM dead WHERE outbox.id = dead.id
        """,
        account_id,
        notice_id,
        at,
    )
    return await get(db, account_id, notice_id)


async def get(db: Executor, account_id: UUID, notice_id: UUID) -> NoticeRecord:
    """Get one notice.

    Raises:
        NotFound: the account has no such notice.
    """
    row = await db.fetchrow(
        f"SELECT {_NOTICE} FROM outbox WHERE account_id = $1 AND id = $2",  # noqa: S608
        account_id,
        notice_id,
    )
    if row is None:
        raise NotFound("notice", notice_id)
    return read(NoticeRecord, row)


async def list_notices(
    db: Executor, account_id: UUID, *, state: NoticeState | None = None, limit: int, cursor: str | None = None
) -> Page[NoticeRecord]:
    """List the account's notices, newest first.

    Raises:
        BadCursor: the cursor is not one of this list.
    """
    narrowing, values = narrow({"state": state}, first=4)
    rows = await db.fetch(
        f"""
        SELECT {_NOTICE} FROM outbox
        WHERE account_id = $1 AND id < $2{narrowing} ORDER BY id DESC LIMIT $3
        """,  # noqa: S608
        account_id,
        after_id(cursor),
        limit + 1,
        *values,
    )
    return page([read(NoticeRecord, row) for row in rows], limit, lambda notice: notice.id)


async def of_handoff(db: Executor, account_id: UUID, handoff_id: UUID) -> Sequence[NoticeRecord]:
    """Notices of a handoff, oldest first."""
    rows = await db.fetch(
        f"SELECT {_NOTICE} FROM outbox WHERE account_id = $1 AND handoff_id = $2 ORDER BY id",  # noqa: S608
        account_id,
        handoff_id,
    )
    return [read(NoticeRecord, row) for row in rows]


async def attempts(db: Executor, account_id: UUID, notice_id: UUID) -> Sequence[AttemptRecord]:
    """The attempts to send a notice, in order."""
    rows = await db.fetch(
        f"SELECT {_ATTEMPT} FROM outbox_attempts WHERE account_id = $1 AND notice_id = $2 ORDER BY number",  # noqa: S608
        account_id,
        notice_id,
    )
    return [read(AttemptRecord, row) for row in rows]
