"""Finalisation of ended calls, each once: outcome, cost and output of the call, and its lead's change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from db.call_leases import NEVER_CONNECTED
from db.calls import CallRecord
from db.ids import new_id
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
    outbound: str | None
    """How the template that the call began with dials and reports, as its document says now: JSON."""
    prices: Mapping[str, Any]
    """The account's prices (``db.account_settings``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finalisation:
    """The result of finalising a call, and the change of its lead."""

    at: datetime
    outcome: str
    cost: Mapping[str, Any] | None
    output: Mapping[str, Any] | None
    retry_at: datetime | None
    """When an outbound lead is dialled again; None: it is finished."""
    attempts: int
    """How many attempts of the lead count."""


LeadChange = Literal["finished", "queued", "cancelled", "unchanged"]
"""What became of the lead; ``cancelled``: it was cancelled during the call; ``unchanged``: it is inbound, and
ended with its call."""


_LOST = "status = 'ringing' AND direction = 'outbound' AND carrier_call_id IS NULL"
"""Condition: an attempt that the carrier has not taken yet; its process is lost when its lease is over."""


async def claim(db: Executor, *, now: datetime, until: datetime, limit: int) -> Sequence[EndedCall]:
    """Claim ended calls that are not finalised, until a moment, after which another process may have them.

    Attempts whose process was lost before the carrier had taken them are ended; the next claim has them.
    Calls that another transaction is changing are left to a later claim, see ``next_due``.

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
            RETURNING *
        ), told AS (
            INSERT INTO events (id, account_id, call_id, seq, type, at, template_id, node, data)
            SELECT ($4::uuid[])[row_number() OVER ()], account_id, id,
                coalesce((SELECT max(seq) FROM events WHERE call_id = lost.id), 0) + 1, 'call.ended',
                ended_at, template_id, node, jsonb_build_object('ended_by', ended_by, 'reason', end_reason)
            FROM lost
        ), call AS (
            UPDATE calls SET finalise_after = $2 WHERE id IN (
                SELECT id FROM calls
                WHERE status = 'ended' AND finalised_at IS NULL
                    AND (finalise_after IS NULL OR finalise_after <= $1)
                ORDER BY id LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED)
            RETURNING *
        )
        SELECT {columns(CallRecord, "call")}, lead.attempts, lead.latest_at,
            coalesce(lead.time_zone, number.time_zone) AS time_zone,
            template.content ->> 'outbound' AS outbound, account.prices
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
        [new_id() for _ in range(limit)],
    )
    found = []
    for row in rows:
        values = dict(row)
        names = ("attempts", "latest_at", "time_zone", "outbound", "prices")
        own = {name: values.pop(name) for name in names}
        found.append(EndedCall(call=CallRecord(**values), **own))
    return found


async def renew(db: Executor, call_id: UUID, until: datetime) -> None:
    """Keep a claimed call until a moment; nothing happens if it was finalised."""
    await db.execute(
        "UPDATE calls SET finalise_after = $2 WHERE id = $1 AND finalised_at IS NULL", call_id, until
    )


async def next_due(db: Executor, after: datetime) -> datetime | None:
    """When the next claim or the lease of an attempt runs out that is not over yet; None: there is none.

    If there are calls that could have been claimed, it is in a second: other transactions were changing them.
    """
    row = await db.fetchrow(
        f"""
        SELECT least(
            (SELECT $1::timestamptz + interval '1 second' WHERE EXISTS (
                SELECT FROM calls WHERE status = 'ended' AND finalised_at IS NULL
                    AND (finalise_after IS NULL OR finalise_after <= $1))),
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
    WITH result AS MATERIALIZED (
        SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::jsonb[], $5::jsonb[],
            $6::timestamptz[], $7::integer[])
        AS given (call_id, at, outcome, cost, output, retry_at, attempts)
    ), call AS (
        UPDATE calls SET finalised_at = result.at, outcome = coalesce(calls.outcome, result.outcome),
            cost = result.cost, output = result.output
        FROM result WHERE calls.id = result.call_id AND calls.finalised_at IS NULL
        RETURNING calls.id, calls.account_id, calls.lead_id, calls.direction
    ), inbound AS (
        UPDATE leads lead SET outcome = coalesce(lead.outcome, result.outcome)
        FROM call JOIN result ON result.call_id = call.id
        WHERE call.direction = 'inbound' AND lead.account_id = call.account_id AND lead.id = call.lead_id
    ), outbound AS (
        UPDATE leads lead SET next_attempt_at = result.retry_at, outcome = result.outcome,
            attempts = result.attempts,
            status = CASE WHEN result.retry_at IS NULL THEN 'finished' ELSE 'queued' END,
            waits_for = CASE WHEN result.retry_at IS NOT NULL THEN 'retry' END,
            finished_at = CASE WHEN result.retry_at IS NULL THEN result.at END
        FROM call JOIN result ON result.call_id = call.id
        WHERE call.direction = 'outbound' AND lead.account_id = call.account_id AND lead.id = call.lead_id
            AND (lead.status = 'dialing' OR lead.status = 'in_call')
        RETURNING call.id AS call_id, lead.status
    )
    -- An outbound lead leaves the two statuses during its call only if it is cancelled.
    SELECT call.id, CASE call.direction WHEN 'inbound' THEN 'unchanged'
        ELSE coalesce(outbound.status, 'cancelled') END AS lead
    FROM call LEFT JOIN outbound ON outbound.call_id = call.id
"""


async def finalise(
    db: Executor, results: Sequence[tuple[EndedCall, Finalisation]]
) -> Mapping[UUID, LeadChange]:
    """Finalise calls by one statement, each once; returns what became of their leads, by the calls' ids.

    A call that another process has finalised is not among them, and nothing of it changes. What a call or a
    lead has recorded as its outcome stays. A lead that was cancelled stays cancelled.
    """
    given = [result for _, result in results]
    rows = await db.fetch(
        _FINALISE,
        [ended.call.id for ended, _ in results],
        [result.at for result in given],
        [result.outcome for result in given],
        [result.cost for result in given],
        [result.output for result in given],
        [result.retry_at for result in given],
        [result.attempts for result in given],
    )
    return {row["id"]: row["lead"] for row in rows}
