"""Metrics of handoffs, computed from the rows on every request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from db.pool import Executor
from db.rows import read


@dataclass(frozen=True, slots=True, kw_only=True)
class Durations:
    """Durations in milliseconds. Percentiles are nearest-rank, so they are values that occurred."""

    count: int
    p50: int | None
    p90: int | None
    p99: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Handoffs created from ``since`` (inclusive) to ``until`` (exclusive)."""

    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class HandoffMetrics:
    """Metrics of an account: of the handoffs created in a window, and of the present moment."""

    created: int
    states: Mapping[str, int]
    """Number of handoffs of the window by present state."""
    to_offer: Durations
    """Of escalations, from creation to the first offer; ``to_claim`` and ``to_bridge`` likewise."""
    to_claim: Durations
    to_bridge: Durations
    in_time: int
    """Escalations that were claimed within the target time."""
    late: int
    """Escalations that were claimed later, ended without a claim, or have waited longer than the target."""
    failures: Mapping[str, int]
    """Number of failed, abandoned, expired and unanswered handoffs by cause."""
    open: int
    """Independent of the window, like ``abandoned`` and ``oldest_open_at``."""
    abandoned: int
    oldest_open_at: datetime | None
    notices: Mapping[str, int]
    """Number of notices created in the window, by state."""
    delivery: Durations
    """From the creation of a notice to its delivery."""
    last_seq: int
    unjournaled: int
    oldest_unjournaled_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Present totals over all accounts, for the operator of the server."""

    open: Mapping[str, int]
    """Number of open handoffs by state."""
    oldest_open_at: datetime | None
    waiting_notices: Mapping[str, int]
    """Number of notices that are not sent yet, by state."""
    unjournaled: int
    oldest_unjournaled_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Totals of what is over, over all accounts."""

    handoffs: Mapping[str, int]
    """Number of ended handoffs by state."""
    notices: Mapping[str, int]
    """Number of notices that will not be sent any more, by state."""


_MS = "round(extract(epoch FROM ({})) * 1000)::bigint"
_DURATIONS = """
    SELECT count(took) AS count,
        percentile_disc(ARRAY[0.5, 0.9, 0.99]) WITHIN GROUP (ORDER BY took) AS percentiles
    FROM ({source}) times WHERE took IS NOT NULL
"""
_IN_WINDOW = "account_id = $1 AND created_at >= $2 AND created_at < $3"


_COUNTED = f"""
    SELECT count(*) AS created,
        count(*) FILTER (WHERE intent = 'escalate' AND claimed_at - created_at
            <= $4 * interval '1 millisecond') AS in_time,
        count(*) FILTER (WHERE intent = 'escalate'
            AND coalesce(claimed_at, ended_at, $5) - created_at > $4 * interval '1 millisecond'
            OR intent = 'escalate' AND claimed_at IS NULL AND ended_at IS NOT NULL
            AND ended_at - created_at <= $4 * interval '1 millisecond') AS late
    FROM handoffs WHERE {_IN_WINDOW}
"""  # noqa: S608 - constant text
_UNJOURNALED = """kind IS NOT NULL
    AND (line IS NULL OR line > (SELECT coalesce(max(last_line), 0) FROM journal_parts))"""
_PRESENT = f"""
    SELECT (SELECT count(*) FROM handoffs WHERE account_id = $1 AND ended_at IS NULL) AS open,
        (SELECT count(*) FROM handoffs WHERE account_id = $1 AND state = 'abandoned') AS abandoned,
        (SELECT min(created_at) FROM handoffs WHERE account_id = $1 AND ended_at IS NULL) AS oldest_open_at,
        coalesce((SELECT last_seq FROM handoff_event_sequences WHERE account_id = $1), 0) AS last_seq,
        (SELECT count(*) FROM handoff_events WHERE account_id = $1 AND {_UNJOURNALED}) AS unjournaled,
        (SELECT min(at) FROM handoff_events WHERE account_id = $1 AND {_UNJOURNALED}) AS oldest_unjournaled_at
"""  # noqa: S608 - constant text
_BY_STATE = """(SELECT coalesce(jsonb_object_agg(state, count), '{{}}')
    FROM (SELECT state, count(*) AS count FROM {} GROUP BY state) counted)"""
_FAILED = "(state = 'failed' OR state = 'abandoned' OR state = 'expired' OR state = 'no_answer')"
_NOTICES = f"FROM outbox WHERE medium <> 'assessment' AND {_IN_WINDOW}"


async def usual_wait_ms(
    db: Executor, account_id: UUID, since: datetime, *, latest: int, at_least: int
) -> int | None:
    """Median time from the creation to the first claim of the latest claimed escalations, in ms.

    Args:
        db: the connection.
        account_id: the account.
        since: escalations that were created earlier do not count.
        latest: how many of the latest ones count.
        at_least: with fewer, the answer is None.
    """
    row = await db.fetchrow(
        """
        SELECT count(*) AS count, percentile_disc(0.5) WITHIN GROUP (ORDER BY took) AS median FROM (
            SELECT round(extract(epoch FROM (claimed_at - created_at)) * 1000)::bigint AS took FROM handoffs
            WHERE account_id = $1 AND intent = 'escalate' AND created_at >= $2 AND claimed_at IS NOT NULL
            ORDER BY created_at DESC LIMIT $3) latest
        """,
        account_id,
        since,
        latest,
    )
    return None if row is None or row["count"] < at_least else row["median"]


async def of_account(
    db: Executor, account_id: UUID, window: Window, *, in_time_ms: int, now: datetime
) -> HandoffMetrics:
    """Compute the metrics of an account.

    Args:
        db: the connection.
        account_id: the account.
        window: the handoffs to include.
        in_time_ms: target time from the creation of an escalation to its claim, in ms.
        now: the present moment.
    """
    counted = await db.fetchrow(_COUNTED, account_id, window.since, window.until, in_time_ms, now)
    present = await db.fetchrow(_PRESENT, account_id)
    assert counted is not None and present is not None  # noqa: S101, PT018 - aggregates have one row
    handoffs = f"FROM handoffs WHERE {_IN_WINDOW}"
    failed = f"{handoffs} AND {_FAILED}"
    delivery = f"SELECT {_MS.format('sent_at - created_at')} AS took {_NOTICES}"
    return HandoffMetrics(
        **dict(counted),
        **dict(present),
        states=await _count_by(db, "state", handoffs, account_id, window),
        failures=await _count_by(db, "coalesce(cause, state)", failed, account_id, window),
        to_offer=await _durations_until(db, "offered_at", account_id, window),
        to_claim=await _durations_until(db, "claimed_at", account_id, window),
        to_bridge=await _durations_until(db, "bridged_at", account_id, window),
        notices=await _count_by(db, "state", _NOTICES, account_id, window),
        delivery=await _durations(db, delivery, account_id, window),
    )


async def totals(db: Executor) -> Totals:
    """Count the open handoffs, unsent notices and unwritten journal events of all accounts, by indexes."""
    row = await db.fetchrow(
        f"""
        WITH unjournaled AS (
            SELECT at FROM handoff_events WHERE kind IS NOT NULL AND line IS NULL
            UNION ALL
            SELECT at FROM handoff_events
            WHERE line > (SELECT coalesce(max(last_line), 0) FROM journal_parts)
        )
        SELECT {_BY_STATE.format("handoffs WHERE ended_at IS NULL")} AS open,
            {_BY_STATE.format("outbox WHERE state = 'waiting' OR state = 'sending'")} AS waiting_notices,
            (SELECT min(created_at) FROM handoffs WHERE ended_at IS NULL) AS oldest_open_at,
            (SELECT count(*) FROM unjournaled) AS unjournaled,
            (SELECT min(at) FROM unjournaled) AS oldest_unjournaled_at
        """  # noqa: S608 - constant text
    )
    assert row is not None  # noqa: S101 - without FROM there is one row
    return read(Totals, row)


async def history(db: Executor) -> History:
    """Count the ended handoffs and notices of all accounts, which reads all of them."""
    row = await db.fetchrow(
        f"""
        SELECT {_BY_STATE.format("handoffs WHERE ended_at IS NOT NULL")} AS handoffs,
            {_BY_STATE.format("outbox WHERE state <> 'waiting' AND state <> 'sending'")} AS notices
        """
    )
    assert row is not None  # noqa: S101 - without FROM there is one row
    return read(History, row)


async def _count_by(
    db: Executor, column: str, source: str, account_id: UUID, window: Window
) -> Mapping[str, int]:
    rows = await db.fetch(
        f"SELECT {column} AS name, count(*) AS count {source} GROUP BY 1 ORDER BY 1",
        account_id,
        window.since,
        window.until,
    )
    return {row["name"]: row["count"] for row in rows}


async def _durations_until(db: Executor, column: str, account_id: UUID, window: Window) -> Durations:
    source = f"""
        SELECT {_MS.format(f"{column} - created_at")} AS took FROM handoffs
        WHERE intent = 'escalate' AND {_IN_WINDOW}
    """  # noqa: S608
    return await _durations(db, source, account_id, window)


async def _durations(db: Executor, source: str, account_id: UUID, window: Window) -> Durations:
    row = await db.fetchrow(_DURATIONS.format(source=source), account_id, window.since, window.until)
    assert row is not None  # noqa: S101 - aggregates have one row
    p50, p90, p99 = row["percentiles"] or (None, None, None)
    return Durations(count=row["count"], p50=p50, p90=p90, p99=p99)
