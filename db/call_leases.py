"""Who has a live call: its process renews a lease on it, and what nobody holds any more is ended.

Leases are told by the database's clock alone, so the clocks of replicas need not agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from db.calls import CallRecord
from db.pool import Executor
from db.rows import columns, read

PROCESS_LOST = "process_lost"
"""Why a call ends that was answered: whoever had it is gone."""

NEVER_CONNECTED = "never_connected"
"""Why a call ends whose media stream never came."""


async def hold(db: Executor, call_ids: Sequence[UUID], lease: timedelta) -> None:
    """Hold calls for ``lease`` from now, all of a process at once; those that have ended stay as they are."""
    await db.execute(
        "UPDATE calls SET held_until = now() + $2::interval WHERE id = ANY($1::uuid[]) AND status <> 'ended'",
        list(call_ids),
        lease,
    )


async def end_unheld(db: Executor, *, limit: int) -> Sequence[CallRecord]:
    """End calls (and their leads) that nobody holds; each is answered to one of all who ask at once.

    A call that is being transferred is the carrier's, and not looked at.
    """
    rows = await db.fetch(
        f"""
        WITH unheld AS (
            SELECT id FROM calls
            WHERE (status = 'ringing' OR status = 'in_progress') AND held_until < now()
            ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED
        ), call AS (
            UPDATE calls SET status = 'ended', ended_by = 'system', ended_at = now(),
                end_reason = CASE WHEN answered_at IS NULL THEN $2 ELSE $3 END
            FROM unheld WHERE calls.id = unheld.id
            RETURNING {columns(CallRecord, "calls")}
        ), lead AS (
            UPDATE leads SET status = 'finished', outcome = coalesce(call.outcome, leads.outcome),
                finished_at = now()
            FROM call
            WHERE leads.account_id = call.account_id AND leads.id = call.lead_id
                AND leads.status <> 'finished'
        )
        SELECT {columns(CallRecord)} FROM call
        """,  # noqa: S608 - only column names
        limit,
        NEVER_CONNECTED,
        PROCESS_LOST,
    )
    return [read(CallRecord, row) for row in rows]
