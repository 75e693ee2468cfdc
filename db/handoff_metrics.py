"""Figures of the desk, exact: computed from the rows whenever they are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from db.pool import Executor


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """How long something took, in milliseconds. Percentiles are nearest-rank: values that occurred."""

    count: int
    p50: int | None
    p90: int | None
    p99: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Handoffs made from ``since`` until before ``until``."""

    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class HandoffMetrics:
    """What an account's desk did with the handoffs of a window, and how it stands."""

    created: int
    states: Mapping[str, int]
    """Those of the window, by the state they are in."""
    to_offer: Times
    """Of escalations, from being made to being first offered; so for the next two."""
    to_claim: Times
    to_bridge: Times
    in_time: int
    """Escalations that were claimed within the time asked for."""
    late: int
    """Escalations that were claimed later, ended unclaimed, or have waited for longer."""
    failures: Mapping[str, int]
    """Those that failed, were abandoned, expired or not answered, by cause."""
    open: int
    """Of all times, as for the next two."""
    abandoned: int
    oldest_open_at: datetime | None
    notices: Mapping[str, int]
    """Notices of the window's handoffs, by state."""
    delivery: Times
    """From a notice's making to its being sent."""
    last_seq: int
    unjournaled: int
    oldest_unjournaled_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How the desks of all accounts stand, for whoever runs the server."""

    open: Mapping[str, int]
    """Open handoffs by state."""
    ended: Mapping[str, int]
    oldest_open_at: datetime | None
    notices: Mapping[str, int]
    unjournaled: int
    oldest_unjournaled_at: datetime | None


_MS = "round(extract(epoch FROM ({})) * 1000)::bigint"
_TIMES = """
    SELECT count(took) AS count, percentile_disc(ARRAY[0.5, 0.9, 0.99]) WITHIN GROUP (ORDER BY took) AS found
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
"""  # noqa: S608 - written above
_OF_ALL_TIMES = """
    SELECT (SELECT count(*) FROM handoffs WHERE account_id = $1 AND ended_at IS NULL) AS open,
        (SELECT count(*) FROM handoffs WHERE account_id = $1 AND state = 'abandoned') AS abandoned,
        (SELECT min(created_at) FROM handoffs WHERE account_id = $1 AND ended_at IS NULL) AS oldest_open_at,
        coalesce((SELECT last_seq FROM desk_sequences WHERE account_id = $1), 0) AS last_seq,
        (SELECT count(*) FROM desk_events WHERE kind IS NOT NULL AND line IS NULL AND account_id = $1)
            AS unjournaled,
        (SELECT min(at) FROM desk_events WHERE kind IS NOT NULL AND line IS NULL AND account_id = $1)
            AS oldest_unjournaled_at
"""
_FAILED = "(state = 'failed' OR state = 'abandoned' OR state = 'expired' OR state = 'no_answer')"
_NOTICES = f"FROM outbox WHERE medium <> 'assessment' AND {_IN_WINDOW}"


async def of_account(
    db: Executor, account_id: UUID, window: Window, *, in_time_ms: int, now: datetime
) -> HandoffMetrics:
    """The figures of an account. ``in_time_ms``: how soon an escalation is to be claimed."""
    counted = await db.fetchrow(_COUNTED, account_id, window.since, window.until, in_time_ms, now)
    of_all_times = await db.fetchrow(_OF_ALL_TIMES, account_id)
    assert counted is not None and of_all_times is not None  # noqa: S101, PT018 - aggregates have one row
    handoffs = f"FROM handoffs WHERE {_IN_WINDOW}"
    sending = f"SELECT {_MS.format('sent_at - created_at')} AS took {_NOTICES}"
    return HandoffMetrics(
        **dict(counted),
        **dict(of_all_times),
        states=await _by(db, "state", handoffs, account_id, window),
        failures=await _by(db, "coalesce(cause, state)", f"{handoffs} AND {_FAILED}", account_id, window),
        to_offer=await _waited(db, "offered_at", account_id, window),
        to_claim=await _waited(db, "claimed_at", account_id, window),
        to_bridge=await _waited(db, "bridged_at", account_id, window),
        notices=await _by(db, "state", _NOTICES, account_id, window),
        delivery=await _times(db, sending, account_id, window),
    )


async def standing(db: Executor) -> Standing:
    """How all desks stand."""
    row = await db.fetchrow(
        """
        SELECT (SELECT min(created_at) FROM handoffs WHERE ended_at IS NULL) AS oldest_open_at,
            (SELECT count(*) FROM desk_events WHERE kind IS NOT NULL AND line IS NULL) AS unjournaled,
            (SELECT min(at) FROM desk_events WHERE kind IS NOT NULL AND line IS NULL) AS oldest_unjournaled_at
        """
    )
    assert row is not None  # noqa: S101 - aggregates have one row
    handoffs = await db.fetch(
        "SELECT state, ended_at IS NULL AS open, count(*) AS count FROM handoffs GROUP BY state, open"
    )
    notices = await db.fetch("SELECT state, count(*) AS count FROM outbox GROUP BY state")
    return Standing(
        **dict(row),
        open={one["state"]: one["count"] for one in handoffs if one["open"]},
        ended={one["state"]: one["count"] for one in handoffs if not one["open"]},
        notices={one["state"]: one["count"] for one in notices},
    )


async def _by(db: Executor, column: str, source: str, account_id: UUID, window: Window) -> Mapping[str, int]:
    rows = await db.fetch(
        f"SELECT {column} AS name, count(*) AS count {source} GROUP BY 1 ORDER BY 1",
        account_id,
        window.since,
        window.until,
    )
    return {row["name"]: row["count"] for row in rows}


async def _waited(db: Executor, column: str, account_id: UUID, window: Window) -> Times:
    source = f"""
        SELECT {_MS.format(f"{column} - created_at")} AS took FROM handoffs
        WHERE intent = 'escalate' AND {_IN_WINDOW}
    """  # noqa: S608
    return await _times(db, source, account_id, window)


async def _times(db: Executor, source: str, account_id: UUID, window: Window) -> Times:
    row = await db.fetchrow(_TIMES.format(source=source), account_id, window.since, window.until)
    assert row is not None  # noqa: S101 - aggregates have one row
    p50, p90, p99 = row["found"] or (None, None, None)
    return Times(count=row["count"], p50=p50, p90=p90, p99=p99)
