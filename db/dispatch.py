"""The queue of outbound leads: claims of leads that are due, each one conditional statement.

The queue is the lead rows themselves. What happens to a claimed lead is in ``db.attempts``; what becomes of
it after the call is in ``db.finalisation``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any
from uuid import UUID

from db.call_leases import NEVER_CONNECTED, PROCESS_LOST
from db.ids import new_id
from db.pool import Executor
from db.rows import read

CHANNEL = "dispatch"
"""NOTIFY channel: something may be due."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedLead:
    """A lead that this process dials now."""

    id: UUID
    account_id: UUID
    phone: str
    number_id: UUID
    template_id: UUID
    carrier: str
    time_zone: str
    """IANA name of the person's time zone; that of the number if the lead has none."""
    earliest_at: datetime | None
    latest_at: datetime | None
    attempts: int
    payload: Mapping[str, Any]
    claimed_by: UUID
    template_status: str
    template_revision: int
    outbound: str | None
    """How the template dials, as its document says: JSON."""
    opted_out: bool


STOPPED = """
    EXISTS (SELECT FROM dispatch_stops stop WHERE stop.account_id = lead.account_id
        AND (stop.template_id IS NULL OR stop.template_id = lead.template_id))
"""
"""Condition: the lead ``lead`` is paused, with its template or with the whole account."""

CALLED_OFF = """
    (lead.status = 'cancelled' OR EXISTS (SELECT FROM dispatch_stops stop
        WHERE stop.account_id = lead.account_id AND stop.kind = 'kill_switch'))
"""
"""Condition: the lead ``lead`` must not be reached any more, although its telephone may already ring."""

OPTED_OUT = """
    EXISTS (SELECT FROM opt_outs WHERE opt_outs.account_id = lead.account_id AND opt_outs.phone = lead.phone)
"""
"""Condition: the person of the lead ``lead`` does not want to be called."""


CAN_DIAL = "number.active AND number.channels > number.reserved_inbound"
"""Condition: the number ``number`` is active, and not all its channels are reserved for inbound calls."""

PERSON_BUSY = f"""
    (SELECT true FROM calls other
        WHERE other.account_id = lead.account_id AND other.to_number = lead.phone
            AND other.direction = 'outbound' AND (other.status <> 'ended' OR other.finalised_at IS NULL
                AND (other.carrier_call_id IS NULL
                    OR other.end_reason IN ('{NEVER_CONNECTED}', '{PROCESS_LOST}')))
        LIMIT 1) IS TRUE
"""  # noqa: S608 - written above
"""Condition: there is a call of the account to the person of ``lead``, or there may be one at the carrier.

What a lost process has left there is hung up before its call is finalised. A subquery for one value is
evaluated for each lead, by an index; ``EXISTS`` may become a join that reads all calls, and of ``IS NULL``
the planner expects that it excludes nearly all leads, so that it reads all of them.
"""


# One step for each number, template and priority, however many leads wait, and then only rows that are due:
# of each number and template twice its part of the limit. What that leaves is claimed by the next statement.
_CLAIM = f"""
    WITH RECURSIVE queues AS (
        (SELECT number_id, template_id, priority FROM leads WHERE status = 'queued'
            ORDER BY number_id, template_id, priority LIMIT 1)
        UNION ALL
        SELECT next.number_id, next.template_id, next.priority FROM queues previous CROSS JOIN LATERAL (
            SELECT number_id, template_id, priority FROM leads
            WHERE status = 'queued' AND (number_id, template_id, priority)
                > (previous.number_id, previous.template_id, previous.priority)
            ORDER BY number_id, template_id, priority LIMIT 1
        ) next
    ), free AS (
        -- The leads of a number that cannot dial are claimed, to be ended.
        SELECT number.id, number.account_id, CASE WHEN NOT ({CAN_DIAL}) THEN $4
            WHEN number.carrier = ANY($8::text[]) THEN 0
            ELSE least(
                number.channels - live.all_calls,
                number.channels - number.reserved_inbound - live.outbound,
                CASE WHEN number.carrier = ANY($9::text[]) THEN 1 END
            ) END AS room
        FROM (SELECT DISTINCT number_id FROM queues) used JOIN numbers number ON number.id = used.number_id
        CROSS JOIN LATERAL (
            SELECT count(*) AS all_calls, count(*) FILTER (WHERE direction = 'outbound') AS outbound
            FROM calls WHERE calls.number_id = number.id AND calls.status <> 'ended'
        ) live
    ), open AS (
        SELECT lead.* FROM (
            SELECT queues.*, free.account_id, free.room FROM queues JOIN free ON free.id = queues.number_id
        ) lead
        WHERE lead.room > 0 AND NOT {STOPPED}
    ), share AS (
        SELECT ceil(2.0 * $3 / count(DISTINCT (number_id, template_id))) AS leads FROM open
        HAVING count(*) > 0
    ), due AS (
        SELECT lead.id, lead.phone, open.account_id, open.number_id, open.room, row_number() OVER (
                PARTITION BY open.number_id, open.template_id
                ORDER BY open.priority DESC, lead.next_attempt_at, lead.id
            ) AS position
        FROM open CROSS JOIN share CROSS JOIN LATERAL (
            SELECT lead.id, lead.phone, lead.next_attempt_at FROM leads lead
            WHERE lead.status = 'queued' AND lead.phone IS NOT NULL AND lead.number_id = open.number_id
                AND lead.template_id = open.template_id AND lead.priority = open.priority
                AND lead.next_attempt_at <= $1 AND (lead.claimed_until IS NULL OR lead.claimed_until < $1)
                AND NOT {PERSON_BUSY}
            ORDER BY lead.next_attempt_at, lead.id
            LIMIT least($3, $4, open.room, share.leads)
        ) lead
    ), ordered AS (
        SELECT id, room, row_number() OVER (PARTITION BY account_id ORDER BY position, id)
                + coalesce(($7::bigint[])[array_position($6::uuid[], account_id)], 0) AS turn,
            row_number() OVER (PARTITION BY number_id ORDER BY position, id) AS turn_of_number,
            row_number() OVER (PARTITION BY account_id, phone ORDER BY position, id) AS turn_of_person
        FROM due JOIN share ON due.position <= share.leads
    ), taken AS (
        -- A row that another process has changed meanwhile is looked at again.
        SELECT lead.id FROM (
            SELECT id, turn FROM ordered
            WHERE turn <= $4 AND turn_of_number <= room AND turn_of_person = 1 ORDER BY turn, id
        ) next CROSS JOIN LATERAL (
            SELECT id FROM leads WHERE leads.id = next.id AND status = 'queued'
                AND next_attempt_at <= $1 AND (claimed_until IS NULL OR claimed_until < $1)
            FOR NO KEY UPDATE SKIP LOCKED
        ) lead
        LIMIT $3
    ), claimed AS (
        UPDATE leads SET claimed_by = $5, claimed_until = $1 + $2::interval
        WHERE id = ANY(ARRAY(SELECT id FROM taken))
        RETURNING leads.*
    )
    SELECT lead.id, lead.account_id, lead.phone, lead.number_id, lead.template_id,
        number.carrier, coalesce(lead.time_zone, number.time_zone) AS time_zone, lead.earliest_at,
        lead.latest_at, lead.attempts, lead.payload, lead.claimed_by, template.status AS template_status,
        template.revision AS template_revision, template.content ->> 'outbound' AS outbound,
        {OPTED_OUT} AS opted_out
    FROM claimed lead
    JOIN numbers number ON number.id = lead.number_id
    JOIN templates template ON template.account_id = lead.account_id AND template.id = lead.template_id
"""  # noqa: S608 - written above


async def claim(
    db: Executor,
    *,
    now: datetime,
    lease: timedelta,
    limit: int,
    per_account: int,
    claimed: Mapping[UUID, int] = MappingProxyType({}),
    resting: Collection[str] = (),
    tested: Collection[str] = (),
) -> Sequence[ClaimedLead]:
    """Claim due leads for whose number a channel is free, in turns of the accounts and their templates.

    Those of a number that cannot dial are claimed, too: the attempt reports it. Of the leads of one person
    only one is claimed, and none while a call to the person is live.

    Args:
        db: the connection.
        now: the present moment.
        lease: how long the claims last.
        limit: how many leads at most.
        per_account: how many leads of one account at most, with those that it has in ``claimed``.
        claimed: how many claimed leads the caller has already, by account.
        resting: the carriers with which nobody dials now.
        tested: those with which one attempt at a time is made: at most one lead of each number is claimed.
    """
    rows = await db.fetch(
        _CLAIM, now, lease, limit, per_account, new_id(), list(claimed), list(claimed.values()),
        list(resting), list(tested),
    )  # fmt: skip
    return [read(ClaimedLead, row) for row in rows]


async def next_due(db: Executor, after: datetime) -> datetime | None:
    """When the next lead is due that is not due yet; None: there is none.

    When claims run out is not indexed, so that a claim changes no index: only those of lost processes do.
    """
    row = await db.fetchrow(
        "SELECT min(next_attempt_at) AS at FROM leads WHERE status = 'queued' AND next_attempt_at > $1", after
    )
    at: datetime | None = None if row is None else row["at"]
    return at


async def defer(db: Executor, lead: ClaimedLead, until: datetime | None, waits_for: str | None) -> None:
    """Give a claimed lead back; nothing happens if the claim is over.

    Args:
        db: the connection.
        lead: the lead.
        until: when it is due; None: as it was, so that it keeps its place.
        waits_for: what it waits for.
    """
    await db.execute(
        """
        UPDATE leads SET next_attempt_at = coalesce($3, next_attempt_at), waits_for = $4, claimed_by = NULL,
            claimed_until = NULL
        WHERE id = $1 AND claimed_by = $2 AND status = 'queued'
        """,
        lead.id,
        lead.claimed_by,
        until,
        waits_for,
    )


async def finish(db: Executor, lead: ClaimedLead, outcome: str, at: datetime) -> bool:
    """End a claimed lead without a call; False if the claim is over."""
    changed = await db.execute(
        """
        UPDATE leads SET status = 'finished', outcome = $3, finished_at = $4, next_attempt_at = NULL,
            waits_for = NULL, claimed_by = NULL, claimed_until = NULL
        WHERE id = $1 AND claimed_by = $2 AND status = 'queued'
        """,
        lead.id,
        lead.claimed_by,
        outcome,
        at,
    )
    return changed > 0
