"""Ended calls are finalised once: outcome, cost and output of the call, and what becomes of its lead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from db.call_leases import NEVER_CONNECTED
from db.calls import CallRecord
from db.pool import Executor
from db.rows import columns


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedCall:
    """An ended call that this process finalises, with what its lead needs."""

    call: CallRecord
    attempts: int
    """Of the lead."""
    latest_at: datetime | None
    time_zone: str
    """IANA name of the person's time zone; that of the number if the lead has none."""
    content: Mapping[str, Any]
    """The document of the template that the call began with, as it is now."""
    prices: Mapping[str, Any]
    """The account's prices (``db.account_settings``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finalisation:
    """What is recorded of an ended call, and what becomes of its lead."""

    at: datetime
    outcome: str
    cost: Mapping[str, Any] | None
    output: Mapping[str, Any] | None
    retry_at: datetime | None
    """When an outbound lead is dialled again; None: it is finished."""
    attempts: int
    """How many attempts of the lead count."""


LeadChange = Literal["finished", "queued", "unchanged"]
"""What became of the lead; ``unchanged``: it was cancelled, or it is inbound and ended with its call."""


_LOST = "status = 'ringing' AND direction = 'outbound' AND carrier_call_id IS NULL"
"""Condition: an attempt that the carrier has not taken yet; its process is lost when its lease is over."""


async def claim(db: Executor, *, now: datetime, until: datetime, limit: int) -> Sequence[EndedCall]:
    """Claim ended calls that are not finalised, until a moment, after which another process may have them.

    Attempts whose process was lost before the carrier had taken them are ended; the next claim has them.

    Args:
        db: the connection.
        now: the present moment.
        until: how long they belong to this process.
        limit: how many calls at most.
    """
    rows = await db.fetch(
        f"""
        WITH lost AS (
            UPDATE calls SET status = 'ended', ended_by = 'system', end_reason = '{NEVER_CONNECTED}',
                ended_at = now()
            WHERE id = ANY(ARRAY(
                SELECT id FROM calls WHERE {_LOST} AND held_until < now() LIMIT $3 FOR UPDATE SKIP LOCKED))
        ), call AS (
            UPDATE calls SET finalise_after = $2 WHERE id IN (
                SELECT id FROM calls
                WHERE status = 'ended' AND finalised_at IS NULL
                    AND (finalise_after IS NULL OR finalise_after <= $1)
                ORDER BY id LIMIT $3 FOR UPDATE SKIP LOCKED)
            RETURNING *
        )
        SELECT {columns(CallRecord, "call")}, lead.attempts, lead.latest_at,
            coalesce(lead.time_zone, number.time_zone) AS time_zone, template.content, account.prices
        FROM call
        JOIN leads lead ON lead.account_id = call.account_id AND lead.id = call.lead_id
        JOIN numbers number ON number.id = call.number_id
        JOIN accounts account ON account.id = call.account_id
        JOIN templates template ON template.account_id = call.account_id
            AND template.id = call.initial_template_id
        ORDER BY call.id
        """,  # noqa: S608 - only column names
        now,
        until,
        limit,
    )
    found = []
    for row in rows:
        values = dict(row)
        names = ("attempts", "latest_at", "time_zone", "content", "prices")
        own = {name: values.pop(name) for name in names}
        found.append(EndedCall(call=CallRecord(**values), **own))
    return found


async def next_due(db: Executor, after: datetime) -> datetime | None:
    """When the next claim or the lease of an attempt runs out that is not over yet; None: there is none."""
    row = await db.fetchrow(
        f"""
        SELECT least(
            (SELECT min(finalise_after) FROM calls
                WHERE status = 'ended' AND finalised_at IS NULL AND finalise_after > $1),
            (SELECT min(held_until) FROM calls WHERE {_LOST} AND held_until > $1)
        ) AS at
        """,  # noqa: S608
        after,
    )
    at: datetime | None = None if row is None else row["at"]
    return at


_FINALISE = """
    WITH call AS (
        UPDATE calls SET finalised_at = $2, outcome = coalesce(outcome, $3), cost = $4, output = $5
        WHERE id = $1 AND finalised_at IS NULL
        RETURNING account_id, lead_id, direction
    ), inbound AS (
        UPDATE leads lead SET outcome = coalesce(outcome, $3) FROM call
        WHERE call.direction = 'inbound' AND lead.account_id = call.account_id AND lead.id = call.lead_id
    ), outbound AS (
        UPDATE leads lead SET next_attempt_at = $6, outcome = $3, attempts = $7,
            status = CASE WHEN $6::timestamptz IS NULL THEN 'finished' ELSE 'queued' END,
            waits_for = CASE WHEN $6::timestamptz IS NOT NULL THEN 'retry' END,
            finished_at = CASE WHEN $6::timestamptz IS NULL THEN $2::timestamptz END
        FROM call
        WHERE call.direction = 'outbound' AND lead.account_id = call.account_id AND lead.id = call.lead_id
            AND (lead.status = 'dialing' OR lead.status = 'in_call')
        RETURNING lead.status
    )
    SELECT coalesce(outbound.status, 'unchanged') AS lead FROM call LEFT JOIN outbound ON true
"""


async def finalise(db: Executor, ended: EndedCall, result: Finalisation) -> LeadChange | None:
    """Finalise a call, by one statement; None if another process has done it, and then nothing changes.

    What the call or the lead has recorded as its outcome stays. A lead that was cancelled stays cancelled.
    """
    row = await db.fetchrow(
        _FINALISE,
        ended.call.id,
        result.at,
        result.outcome,
        result.cost,
        result.output,
        result.retry_at,
        result.attempts,
    )
    if row is None:
        return None
    lead: LeadChange = row["lead"]
    return lead
