"""The queue of outbound leads: claims, attempts and their settlement, each one conditional statement.

The queue is the lead rows, and an attempt is a row in ``calls`` that is written before the carrier is
asked, in the transaction that finds a free channel and room in the person's rate limit. So a crash cannot
dial twice: whoever finds the row knows that a call may have been placed. A channel of a number is the row of
its live call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from db.calls import CallRecord, Carrier
from db.ids import new_id
from db.leads import LeadStatus
from db.pool import Database, Executor, Transaction
from db.rows import columns, read

CHANNEL = "dispatch"
"""NOTIFY channel: something may be due."""

StopKind = Literal["pause", "kill_switch"]

Obstacle = Literal["no_number", "no_channel", "rate_limit", "stopped"]
"""Why an attempt was not begun. ``stopped``: the lead is not this claim's any more, or was paused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedLead:
    """A lead that this process dials now."""

    id: UUID
    account_id: UUID
    phone: str
    number_id: UUID
    template_id: UUID
    carrier: Carrier
    time_zone: str
    """IANA name of the person's time zone; that of the number if the lead has none."""
    earliest_at: datetime | None
    latest_at: datetime | None
    attempts: int
    claimed_by: UUID
    template_status: str
    template_revision: int
    content: Mapping[str, Any]
    """The template's document."""
    opted_out: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptLimits:
    """What an attempt must respect."""

    now: datetime
    calls: int | None
    """Calls to one person in ``period``; None: no limit."""
    period: timedelta
    held_for: timedelta
    """How long the attempt's call counts as live without a sign of life."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocked:
    """An attempt that was not begun; nothing was taken."""

    obstacle: Obstacle
    until: datetime | None = None
    """When the rate limit has room again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettledCall:
    """An ended outbound call that this process settles, with what its lead needs."""

    call: CallRecord
    attempts: int
    latest_at: datetime | None
    time_zone: str
    content: Mapping[str, Any]
    """The template's document."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What becomes of a lead after an attempt."""

    at: datetime
    outcome: str
    retry_at: datetime | None
    """When it is dialled again; None: it is finished."""
    attempts: int
    """How many attempts count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Something that an account's people should know."""

    code: str
    template_id: UUID | None
    detail: str
    at: datetime
    throttle: timedelta
    """The age up to which an earlier alert is counted up."""


_CALL = columns(CallRecord)
_STOPPED = """
    EXISTS (SELECT FROM dispatch_stops stop WHERE stop.account_id = lead.account_id
        AND (stop.template_id IS NULL OR stop.template_id = lead.template_id))
"""


async def claim(
    db: Executor, *, now: datetime, lease: timedelta, limit: int, per_account: int
) -> Sequence[ClaimedLead]:
    """Claim due leads for whose number a channel is free, in turns of the accounts and their templates.

    Args:
        db: the connection.
        now: the present moment.
        lease: how long the claims last.
        limit: how many leads at most.
        per_account: how many leads of one account at most.
    """
    rows = await db.fetch(
        f"""
        WITH RECURSIVE queues AS (
            -- One step for each number and template, however many leads wait.
            (SELECT number_id, template_id FROM leads WHERE status = 'queued'
                ORDER BY number_id, template_id LIMIT 1)
            UNION ALL
            SELECT next.number_id, next.template_id FROM queues previous CROSS JOIN LATERAL (
                SELECT number_id, template_id FROM leads
                WHERE status = 'queued'
                    AND (number_id, template_id) > (previous.number_id, previous.template_id)
                ORDER BY number_id, template_id LIMIT 1
            ) next
        ), free AS (
            SELECT queues.number_id, queues.template_id, least(
                    number.channels - live.all_calls,
                    number.channels - number.reserved_inbound - live.outbound
                ) AS room
            FROM queues JOIN numbers number ON number.id = queues.number_id
            CROSS JOIN LATERAL (
                SELECT count(*) AS all_calls, count(*) FILTER (WHERE direction = 'outbound') AS outbound
                FROM calls WHERE calls.number_id = number.id AND calls.status <> 'ended'
            ) live
        ), due AS (
            SELECT lead.id, lead.account_id, lead.position, free.number_id, free.room
            FROM free CROSS JOIN LATERAL (
                SELECT lead.id, lead.account_id,
                    row_number() OVER (ORDER BY lead.priority DESC, lead.next_attempt_at, lead.id) AS position
                FROM leads lead
                WHERE lead.status = 'queued' AND lead.phone IS NOT NULL AND lead.number_id = free.number_id
                    AND lead.template_id = free.template_id AND lead.next_attempt_at <= $1
                    AND (lead.claimed_until IS NULL OR lead.claimed_until < $1)
                    AND NOT {_STOPPED}
                ORDER BY lead.priority DESC, lead.next_attempt_at, lead.id
                LIMIT least(greatest(free.room, 0), $4)
            ) lead
        ), ordered AS (
            SELECT id, room, row_number() OVER (PARTITION BY account_id ORDER BY position, id) AS turn,
                row_number() OVER (PARTITION BY number_id ORDER BY position, id) AS turn_of_number
            FROM due
        ), taken AS (
            SELECT lead.id FROM leads lead JOIN ordered ON ordered.id = lead.id
            WHERE ordered.turn <= $4 AND ordered.turn_of_number <= ordered.room AND lead.status = 'queued'
                AND (lead.claimed_until IS NULL OR lead.claimed_until < $1)
            ORDER BY ordered.turn, lead.id LIMIT $3
            FOR UPDATE OF lead SKIP LOCKED
        ), claimed AS (
            UPDATE leads SET claimed_by = $5, claimed_until = $1 + $2::interval
            FROM taken WHERE leads.id = taken.id
            RETURNING leads.*
        )
        SELECT lead.id, lead.account_id, lead.phone, lead.number_id, lead.template_id,
            number.carrier, coalesce(lead.time_zone, number.time_zone) AS time_zone, lead.earliest_at,
            lead.latest_at, lead.attempts, lead.claimed_by, template.status AS template_status,
            template.revision AS template_revision, template.content,
            EXISTS (SELECT FROM opt_outs WHERE opt_outs.account_id = lead.account_id
                AND opt_outs.phone = lead.phone) AS opted_out
        FROM claimed lead
        JOIN numbers number ON number.id = lead.number_id
        JOIN templates template ON template.account_id = lead.account_id AND template.id = lead.template_id
        """,  # noqa: S608 - written above
        now,
        lease,
        limit,
        per_account,
        new_id(),
    )
    return [read(ClaimedLead, row) for row in rows]


async def next_due(db: Executor, after: datetime) -> datetime | None:
    """When the next lead is due that is not due yet, or the next claim runs out; None: there is none."""
    row = await db.fetchrow(
        """
        SELECT least(
            (SELECT min(next_attempt_at) FROM leads WHERE status = 'queued' AND next_attempt_at > $1),
            (SELECT min(claimed_until) FROM leads WHERE status = 'queued' AND claimed_until > $1)
        ) AS at
        """,
        after,
    )
    at: datetime | None = None if row is None else row["at"]
    return at


async def defer(db: Executor, lead: ClaimedLead, until: datetime, waits_for: str) -> None:
    """Give a claimed lead back until a moment; nothing happens if the claim is over."""
    await db.execute(
        """
        UPDATE leads SET next_attempt_at = $3, waits_for = $4, claimed_by = NULL, claimed_until = NULL
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
            claimed_by = NULL, claimed_until = NULL
        WHERE id = $1 AND claimed_by = $2 AND status = 'queued'
        """,
        lead.id,
        lead.claimed_by,
        outcome,
        at,
    )
    return changed > 0


async def recent_calls(db: Executor, account_id: UUID, phone: str, since: datetime) -> Sequence[datetime]:
    """When the account's calls to a person since a moment were begun, oldest first. Reads only."""
    rows = await db.fetch(
        """
        SELECT started_at FROM calls
        WHERE account_id = $1 AND to_number = $2 AND direction = 'outbound' AND started_at > $3
            AND end_reason IS DISTINCT FROM 'not_placed'
        ORDER BY started_at
        """,
        account_id,
        phone,
        since,
    )
    return [row["started_at"] for row in rows]


async def begin_attempt(db: Database, lead: ClaimedLead, limits: AttemptLimits) -> CallRecord | Blocked:
    """Take a channel, record the call in the person's rate limit and make the attempt: all or nothing.

    The locks are taken in one order: the number, then the person.
    """
    async with db.transaction() as transaction:
        number = await transaction.fetchrow(
            """
            SELECT e164, carrier, channels, reserved_inbound FROM numbers
            WHERE account_id = $1 AND id = $2 AND active FOR NO KEY UPDATE
            """,
            lead.account_id,
            lead.number_id,
        )
        if number is None:
            return Blocked(obstacle="no_number")
        if not await _has_channel(
            transaction, lead.number_id, number["channels"], number["reserved_inbound"]
        ):
            return Blocked(obstacle="no_channel")
        until = await _rate_limited_until(transaction, lead, limits)
        if until is not None:
            return Blocked(obstacle="rate_limit", until=until)
        return await _attempt(transaction, lead, limits, number["carrier"], number["e164"])


async def _has_channel(db: Transaction, number_id: UUID, channels: int, reserved: int) -> bool:
    live = await db.fetchrow(
        """
        SELECT count(*) AS all_calls, count(*) FILTER (WHERE direction = 'outbound') AS outbound
        FROM calls WHERE number_id = $1 AND status <> 'ended'
        """,
        number_id,
    )
    return live is not None and live["all_calls"] < channels and live["outbound"] < channels - reserved


async def _rate_limited_until(db: Transaction, lead: ClaimedLead, limits: AttemptLimits) -> datetime | None:
    if limits.calls is None:
        return None
    # Two leads may be of one person.
    await db.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"{lead.account_id} {lead.phone}"
    )
    calls = await recent_calls(db, lead.account_id, lead.phone, limits.now - limits.period)
    return calls[-limits.calls] + limits.period if len(calls) >= limits.calls else None


async def _attempt(
    db: Transaction, lead: ClaimedLead, limits: AttemptLimits, carrier: Carrier, from_number: str
) -> CallRecord | Blocked:
    row = await db.fetchrow(
        f"""
        WITH lead AS (
            UPDATE leads lead SET status = 'dialing', attempts = attempts + 1, next_attempt_at = NULL,
                waits_for = NULL, claimed_by = NULL, claimed_until = NULL
            WHERE lead.id = $1 AND lead.claimed_by = $2 AND lead.status = 'queued' AND NOT {_STOPPED}
            RETURNING *
        )
        INSERT INTO calls (id, account_id, lead_id, number_id, carrier, direction, from_number, to_number,
            initial_template_id, template_id, revisions, status, started_at, held_until)
        SELECT $3, account_id, id, number_id, $4, 'outbound', $5, phone, template_id, template_id,
            jsonb_build_object(template_id, $8::integer), 'ringing', $6::timestamptz,
            $6::timestamptz + $7::interval
        FROM lead
        RETURNING {_CALL}
        """,  # noqa: S608
        lead.id,
        lead.claimed_by,
        new_id(),
        carrier,
        from_number,
        limits.now,
        limits.held_for,
        lead.template_revision,
    )
    return Blocked(obstacle="stopped") if row is None else read(CallRecord, row)


async def placed(
    db: Executor, account_id: UUID, call_id: UUID, carrier_call_id: str, ringing: timedelta
) -> CallRecord | None:
    """Store the carrier's id of an attempt, which counts as live for ``ringing`` from now on.

    The carrier's answer and its first webhook come in any order. Returns None if the attempt has another id,
    or there is no attempt.
    """
    row = await db.fetchrow(
        f"""
        UPDATE calls SET carrier_call_id = $3, held_until = greatest(held_until, now() + $4::interval)
        WHERE account_id = $1 AND id = $2 AND (carrier_call_id IS NULL OR carrier_call_id = $3)
        RETURNING {_CALL}
        """,  # noqa: S608
        account_id,
        call_id,
        carrier_call_id,
        ringing,
    )
    return None if row is None else read(CallRecord, row)


async def attempt_of(db: Executor, call_id: UUID) -> CallRecord | None:
    """An outbound call by its id, from a URL that the carrier has signed."""
    row = await db.fetchrow(
        f"SELECT {_CALL} FROM calls WHERE id = $1 AND direction = 'outbound'",  # noqa: S608
        call_id,
    )
    return None if row is None else read(CallRecord, row)


async def claim_unsettled(db: Executor, now: datetime, until: datetime) -> SettledCall | None:
    """Claim an ended outbound call that is not settled, until a moment; None: there is none to claim."""
    row = await db.fetchrow(
        f"""
        WITH call AS (
            UPDATE calls SET settle_after = $2 WHERE id = (
                SELECT id FROM calls
                WHERE status = 'ended' AND direction = 'outbound' AND settled_at IS NULL
                    AND (settle_after IS NULL OR settle_after <= $1)
                ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
            RETURNING *
        )
        SELECT {columns(CallRecord, "call")}, lead.attempts, lead.latest_at,
            coalesce(lead.time_zone, number.time_zone) AS time_zone, template.content
        FROM call
        JOIN leads lead ON lead.account_id = call.account_id AND lead.id = call.lead_id
        JOIN numbers number ON number.id = call.number_id
        JOIN templates template ON template.account_id = call.account_id
            AND template.id = call.initial_template_id
        """,  # noqa: S608
        now,
        until,
    )
    if row is None:
        return None
    values = dict(row)
    own = {name: values.pop(name) for name in ("attempts", "latest_at", "time_zone", "content")}
    return SettledCall(call=CallRecord(**values), **own)


async def settle(db: Database, found: SettledCall, settlement: Settlement) -> bool:
    """Settle a call once: its lead is queued again, or finished; False if another process has done it.

    A lead that was cancelled meanwhile stays cancelled.
    """
    async with db.transaction() as transaction:
        settled = await transaction.execute(
            "UPDATE calls SET settled_at = $2 WHERE id = $1 AND settled_at IS NULL",
            found.call.id,
            settlement.at,
        )
        if not settled:
            return False
        await transaction.execute(
            """
            UPDATE leads SET status = CASE WHEN $3::timestamptz IS NULL THEN 'finished' ELSE 'queued' END,
                next_attempt_at = $3, outcome = $4, attempts = $6,
                waits_for = CASE WHEN $3::timestamptz IS NOT NULL THEN 'retry' END,
                finished_at = CASE WHEN $3::timestamptz IS NULL THEN $5::timestamptz END
            WHERE account_id = $1 AND id = $2 AND (status = 'dialing' OR status = 'in_call')
            """,
            found.call.account_id,
            found.call.lead_id,
            settlement.retry_at,
            settlement.outcome,
            settlement.at,
            settlement.attempts,
        )
    return True


async def alert(db: Database, account_id: UUID, alert: Alert) -> None:
    """Raise an alert; an earlier one of the same code and template is counted up instead."""
    async with db.transaction() as transaction:
        subject = f"alert {account_id} {alert.code} {alert.template_id}"
        await transaction.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", subject)
        counted = await transaction.execute(
            """
            UPDATE alerts SET count = count + 1, last_at = $4 WHERE id = (
                SELECT id FROM alerts
                WHERE account_id = $1 AND code = $2 AND template_id IS NOT DISTINCT FROM $3::uuid
                    AND created_at > $5
                ORDER BY id DESC LIMIT 1)
            """,
            account_id,
            alert.code,
            alert.template_id,
            alert.at,
            alert.at - alert.throttle,
        )
        if not counted:
            await transaction.execute(
                """
                INSERT INTO alerts (id, account_id, code, template_id, detail, created_at, last_at)
                VALUES ($1, $2, $3, $4, $5, $6, $6)
                """,
                new_id(),
                account_id,
                alert.code,
                alert.template_id,
                alert.detail,
                alert.at,
            )


async def cancel(db: Executor, account_id: UUID, lead_id: UUID, at: datetime) -> LeadStatus | None:
    """Cancel a lead that is not over; returns the status that it had, or None if it is over."""
    return await _move(db, account_id, lead_id, ("queued", "held", "dialing", "in_call"), "cancelled", at)


async def hold(db: Executor, account_id: UUID, lead_id: UUID, at: datetime) -> LeadStatus | None:
    """Hold a queued lead back until it is resumed; None if it is not queued."""
    return await _move(db, account_id, lead_id, ("queued",), "held", at)


async def resume(db: Executor, account_id: UUID, lead_id: UUID, at: datetime) -> LeadStatus | None:
    """Queue a held lead again; None if it is not held."""
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
        UPDATE leads SET status = $4, claimed_by = NULL, claimed_until = NULL, waits_for = NULL,
            next_attempt_at = CASE WHEN $4 = 'queued' THEN greatest($5::timestamptz, leads.earliest_at) END,
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
