"""Control of leads: cancel, hold, resume, dial now, and stop dialling for a template or an account."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

from db.leads import LeadStatus
from db.pool import Executor

StopKind = Literal["pause", "kill_switch"]


async def cancel(db: Executor, account_id: UUID, lead_id: UUID, at: datetime) -> LeadStatus | None:
    """Cancel a lead that is not over; returns the status that it had, or None if it is over."""
    return await _move(db, account_id, lead_id, ("queued", "held", "dialing", "in_call"), "cancelled", at)


async def hold(db: Executor, account_id: UUID, lead_id: UUID, at: datetime) -> LeadStatus | None:
    """Hold a queued lead back until it is resumed; None if it is not queued."""
    return await _move(db, account_id, lead_id, ("queued",), "held", at)


async def resume(db: Executor, account_id: UUID, lead_id: UUID, at: datetime) -> LeadStatus | None:
    """Queue a held lead again, due when it was due before; None if it is not held."""
    return await _move(db, account_id, lead_id, ("held",), "queued", at)


async def dial_now(db: Executor, account_id: UUID, lead_id: UUID, at: datetime) -> LeadStatus | None:
    """Make a queued or held lead due now; window and limits still apply. None if it is neither."""
    row = await db.fetchrow(
        """
        UPDATE leads SET next_attempt_at = $3, waits_for = NULL, status = 'queued', earliest_at = NULL
        WHERE account_id = $1 AND id = $2 AND status IN ('queued', 'held') RETURNING status
        """,
        account_id,
        lead_id,
        at,
    )
    return None if row is None else "queued"


async def _move(
    db: Executor, account_id: UUID, lead_id: UUID, before: Sequence[LeadStatus], after: LeadStatus,
    at: datetime,
) -> LeadStatus | None:  # fmt: skip
    row = await db.fetchrow(
        """
        WITH was AS (
            SELECT id, status FROM leads WHERE account_id = $1 AND id = $2 AND direction = 'outbound'
                AND status = ANY($3::text[]) FOR UPDATE
        )
        UPDATE leads SET status = $4, claimed_by = NULL, claimed_until = NULL,
            waits_for = CASE WHEN $4 <> 'cancelled' THEN waits_for END,
            next_attempt_at = CASE $4 WHEN 'held' THEN next_attempt_at
                WHEN 'queued' THEN greatest($5::timestamptz, earliest_at, next_attempt_at) END,
            finished_at = CASE WHEN $4 = 'cancelled' THEN $5::timestamptz END
        FROM was WHERE leads.id = was.id RETURNING was.status AS before
        """,
        account_id,
        lead_id,
        list(before),
        after,
        at,
    )
    status: LeadStatus | None = None if row is None else row["before"]
    return status


async def stop(db: Executor, account_id: UUID, template_id: UUID | None, kind: StopKind) -> None:
    """Stop the leads of a template, or of the whole account; repeating it changes nothing."""
    await db.execute(
        """
        INSERT INTO dispatch_stops (account_id, template_id, kind) VALUES ($1, $2, $3)
        ON CONFLICT DO NOTHING
        """,
        account_id,
        template_id,
        kind,
    )


async def lift_stop(db: Executor, account_id: UUID, template_id: UUID | None, kind: StopKind) -> bool:
    """Lift a stop; False if there was none."""
    lifted = await db.execute(
        """
        DELETE FROM dispatch_stops
        WHERE account_id = $1 AND template_id IS NOT DISTINCT FROM $2 AND kind = $3
        """,
        account_id,
        template_id,
        kind,
    )
    return lifted > 0
