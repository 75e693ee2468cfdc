"""Stops, alerts and opt-outs of dialling, and the calls that ring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from db.calls import CallRecord
from db.errors import NotFound
from db.ids import new_id
from db.pool import Executor
from db.rows import Page, after_id, columns, page, read


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRecord:
    """An alert of an account; repetitions within an hour are counted."""

    id: UUID
    code: str
    """``number_unavailable``, ``template_unavailable`` or ``carrier_refused``."""
    template_id: UUID | None
    carrier: str | None
    """The carrier that refuses the account or its credentials; None: it is not about one."""
    detail: str
    count: int
    created_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OptOutRecord:
    """A person who is not called."""

    id: UUID
    phone: str
    """E.164."""
    reason: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """An alert to raise."""

    code: str
    detail: str
    at: datetime
    template_id: UUID | None = None
    carrier: str | None = None
    throttle: timedelta = timedelta(hours=1)
    """The age up to which an earlier alert is counted up."""


_ALERT = columns(AlertRecord)
_OPT_OUT = columns(OptOutRecord)


async def stops(db: Executor, account_id: UUID) -> list[tuple[UUID | None, str]]:
    """The stops of an account: (template or None for all, kind)."""
    rows = await db.fetch("SELECT template_id, kind FROM dispatch_stops WHERE account_id = $1", account_id)
    return [(row["template_id"], row["kind"]) for row in rows]


async def ringing(db: Executor, account_id: UUID, lead_ids: Sequence[UUID] | None = None) -> list[CallRecord]:
    """The outbound calls of an account, or of some of its leads, that nobody has answered yet."""
    rows = await db.fetch(
        f"""
        SELECT {columns(CallRecord)} FROM calls
        WHERE account_id = $1 AND status = 'ringing' AND direction = 'outbound'
            AND ($2::uuid[] IS NULL OR lead_id = ANY($2))
        """,  # noqa: S608 - only column names
        account_id,
        None if lead_ids is None else list(lead_ids),
    )
    return [read(CallRecord, row) for row in rows]


async def alert(db: Executor, account_id: UUID, alert: Alert) -> bool:
    """Raise an alert; an earlier one of the same code and subject is counted up instead: then False."""
    async with db.transaction() as transaction:
        subject = f"alert {account_id} {alert.code} {alert.template_id} {alert.carrier}"
        await transaction.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", subject)
        counted = await transaction.execute(
            """
            UPDATE alerts SET count = count + 1, last_at = $4 WHERE id = (
                SELECT id FROM alerts
                WHERE account_id = $1 AND code = $2 AND template_id IS NOT DISTINCT FROM $3::uuid
                    AND carrier IS NOT DISTINCT FROM $6::text AND created_at > $5
                ORDER BY id DESC LIMIT 1)
            """,
            account_id,
            alert.code,
            alert.template_id,
            alert.at,
            alert.at - alert.throttle,
            alert.carrier,
        )
        if not counted:
            await transaction.execute(
                """
                INSERT INTO alerts (id, account_id, code, template_id, carrier, detail, created_at, last_at)
                VALUES ($1, $2, $3, $4, $7, $5, $6, $6)
                """,
                new_id(),
                account_id,
                alert.code,
                alert.template_id,
                alert.detail,
                alert.at,
                alert.carrier,
            )
    return not counted


async def list_alerts(
    db: Executor, account_id: UUID, *, limit: int, cursor: str | None = None
) -> Page[AlertRecord]:
    """The account's alerts, newest first.

    Raises:
        BadCursor: the cursor is not one of this list.
    """
    rows = await db.fetch(
        f"SELECT {_ALERT} FROM alerts WHERE account_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3",  # noqa: S608
        account_id,
        after_id(cursor),
        limit + 1,
    )
    return page([read(AlertRecord, row) for row in rows], limit, lambda alert: alert.id)


async def list_opt_outs(
    db: Executor, account_id: UUID, *, limit: int, cursor: str | None = None
) -> Page[OptOutRecord]:
    """The account's opt-outs, newest first.

    Raises:
        BadCursor: the cursor is not one of this list.
    """
    rows = await db.fetch(
        f"SELECT {_OPT_OUT} FROM opt_outs WHERE account_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3",  # noqa: S608
        account_id,
        after_id(cursor),
        limit + 1,
    )
    return page([read(OptOutRecord, row) for row in rows], limit, lambda opt_out: opt_out.id)


async def opt_out(db: Executor, account_id: UUID, phone: str, reason: str) -> OptOutRecord:
    """Record an opt-out; an existing one stays."""
    row = await db.fetchrow(
        f"""
        INSERT INTO opt_outs (account_id, id, phone, reason) VALUES ($1, $2, $3, $4)
        ON CONFLICT (account_id, phone) DO UPDATE SET phone = EXCLUDED.phone
        RETURNING {_OPT_OUT}
        """,  # noqa: S608
        account_id,
        new_id(),
        phone,
        reason,
    )
    if row is None:
        raise NotFound("opt-out", phone)
    return read(OptOutRecord, row)


async def opt_in(db: Executor, account_id: UUID, opt_out_id: UUID) -> None:
    """Allow calls to a person again.

    Raises:
        NotFound: the account has no such opt-out.
    """
    deleted = await db.execute(
        "DELETE FROM opt_outs WHERE account_id = $1 AND id = $2", account_id, opt_out_id
    )
    if not deleted:
        raise NotFound("opt-out", opt_out_id)
