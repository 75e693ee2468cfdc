"""Leases on live calls: the process that has a call renews its lease; calls with an expired lease are ended.

Leases use the database's clock only, so the clocks of replicas need not agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from db.calls import VOICEMAIL, CallRecord
from db.pool import Executor
from db.rows import columns, read

PROCESS_LOST = "process_lost"
"""The end reason of an answered call whose process is gone."""

NEVER_CONNECTED = "never_connected"
"""The end reason of a call whose media stream never connected."""


async def renew(db: Executor, call_ids: Sequence[UUID], lease: timedelta) -> None:
    """Extend the leases of live calls to ``lease`` from now; ended calls stay as they are."""
    await db.execute(
        "UPDATE calls SET held_until = now() + $2::interval WHERE id = ANY($1::uuid[]) AND status <> 'ended'",
        list(call_ids),
        lease,
    )


async def end_expired(db: Executor, *, limit: int) -> Sequence[CallRecord]:
    """End calls with an expired lease, and their inbound leads; return those that this statement has ended.

    A call that is being transferred has no lease: the carrier has it. One on which a message is left has.
    """
    rows = await db.fetch(
        f"""
        WITH expired AS (
            SELECT id FROM calls
            WHERE (status = 'ringing' OR status = 'in_progress'
                OR status = 'transferring' AND machine_action_at IS NOT NULL) AND held_until < now()
            ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED
        ), call AS (
            UPDATE calls SET status = 'ended', ended_by = 'system', ended_at = now(),
                end_reason = CASE WHEN machine_action_at IS NOT NULL THEN $4
                    WHEN answered_at IS NULL THEN $2 ELSE $3 END
            FROM expired WHERE calls.id = expired.id
            RETURNING {columns(CallRecord, "calls")}
        ), lead AS (
            UPDATE leads SET status = 'finished', outcome = coalesce(call.outcome, leads.outcome),
                finished_at = now()
            FROM call
            WHERE leads.account_id = call.account_id AND leads.id = call.lead_id
                AND leads.status <> 'finished' AND leads.direction = 'inbound'
        )
        SELECT {columns(CallRecord)} FROM call
        """,  # noqa: S608 - only column names
        limit,
        NEVER_CONNECTED,
        PROCESS_LOST,
        VOICEMAIL,
    )
    return [read(CallRecord, row) for row in rows]
