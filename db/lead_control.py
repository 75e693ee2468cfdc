"""Control of leads: cancel, hold, resume, dial now, and stop dialling for a template or an account."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args
from uuid import UUID

from db.leads import LeadStatus
from db.pool import Executor
from db.rows import read

StopKind = Literal["pause", "kill_switch"]

OpenStatus = Literal["queued", "held", "dialing", "in_call"]
"""The statuses of a lead that is not over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelledLead:
    """A lead that was cancelled now."""

    id: UUID
    phone: str
    number_id: UUID
    template_id: UUID
    attempts: int
    before: OpenStatus
    """The status that it had."""
    outbound: str | None
    """How its template reports, as its document says: JSON."""


_CANCEL = """
    WITH was AS (
        SELECT id, status FROM leads WHERE account_id = $1 AND direction = 'outbound' AND {which}
    )
    UPDATE leads SET status = 'cancelled', claimed_by = NULL, claimed_until = NULL, waits_for = NULL,
        next_attempt_at = NULL, finished_at = $2
    FROM was, templates template
    WHERE leads.id = was.id AND template.account_id = leads.account_id AND template.id = leads.template_id
    RETURNING leads.id, leads.phone, leads.number_id, leads.template_id, leads.attempts,
        was.status AS before, template.content ->> 'outbound' AS outbound
"""


async def cancel(db: Executor, account_id: UUID, lead_id: UUID, at: datetime) -> CancelledLead | None:
    """Cancel a lead that is not over; None if it is over."""
    row = await db.fetchrow(
        _CANCEL.format(which="id = $3 AND status = ANY($4::text[]) FOR UPDATE"),
        account_id,
        at,
        lead_id,
        list(get_args(OpenStatus)),
    )
    return None if row is None else read(CancelledLead, row)


async def cancel_some(
    db: Executor,
    account_id: UUID,
    template_id: UUID | None,
    status: OpenStatus,
    at: datetime,
    *,
    ids: tuple[UUID, UUID],
    limit: int,
) -> Sequence[CancelledLead]:
    """Cancel the next leads of a status, in the order of their ids.

    Leads that another transaction is changing are left out, so that no transaction waits for this one and
    this one for it.

    Args:
        db: the connection.
        account_id: whose leads.
        template_id: only those of this template; None: of all.
        status: which leads.
        at: the present moment.
        ids: only leads with ids after the first, up to the second.
        limit: how many leads at most.
    """
    of_template = "" if template_id is None else "AND template_id = $7"
    rows = await db.fetch(
        _CANCEL.format(
            which=f"""status = $3 AND id > $4 AND id <= $5 {of_template}
            ORDER BY id LIMIT $6 FOR UPDATE SKIP LOCKED"""
        ),
        account_id,
        at,
        status,
        *ids,
        limit,
        *([] if template_id is None else [template_id]),
    )
    return sorted((read(CancelledLead, row) for row in rows), key=lambda lead: lead.id)


async def newest(db: Executor, account_id: UUID) -> UUID | None:
    """The id of the account's newest lead; None: it has none."""
    row = await db.fetchrow("SELECT id FROM leads WHERE account_id = $1 ORDER BY id DESC LIMIT 1", account_id)
    return None if row is None else row["id"]


async def is_any_open(db: Executor, account_id: UUID, template_id: UUID | None, until: UUID) -> bool:
    """Whether leads of a template (None: of the account) with ids up to ``until`` are not over."""
    row = await db.fetchrow(
        """
        SELECT FROM unnest($2::text[]) AS open (status) CROSS JOIN LATERAL (
            SELECT FROM leads WHERE account_id = $1 AND leads.status = open.status AND direction = 'outbound'
                AND id <= $3 AND ($4::uuid IS NULL OR template_id = $4)
            LIMIT 1
        ) lead LIMIT 1
        """,
        account_id,
        list(get_args(OpenStatus)),
        until,
        template_id,
    )
    return row is not None


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
            next_attempt_at = CASE $4 WHEN 'held' THEN next_attempt_at
                ELSE greatest($5::timestamptz, earliest_at, next_attempt_at) END
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
