"""Attempts to reach the person of a lead: each is a row in ``calls``, written before the carrier is asked.

The row is written by the statement that finds a free channel, no other call to the person, and room in the
person's rate limit. So a crash cannot dial twice: whoever finds the row knows that a call may have been
placed. A channel of a number is the row of its live call.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from db.calls import AnsweredBy, CallRecord
from db.dispatch import CALLED_OFF, OPTED_OUT, PERSON_BUSY, STOPPED, ClaimedLead
from db.ids import new_id
from db.pool import Database, Executor
from db.rows import columns, read

Obstacle = Literal["no_number", "rate_limit", "no_channel", "person_busy", "stopped"]
"""Why an attempt was not begun; the first counts. ``person_busy``: another call of the account to this person
goes on. ``stopped``: the lead is not this claim's any more, or may not be dialled any
more: it was paused, the person has opted out, or the template is not active."""


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


CANCELLED = "canceled"
"""The end reason of a call that was cancelled while it rang."""

_CALL = columns(CallRecord)


# Both locks, always taken in the same order: the person (two leads may be of one), and the number.
_LOCK = """
    SELECT e164, carrier, channels, reserved_inbound,
        pg_advisory_xact_lock(hashtextextended($3, 0)) IS NULL AS is_locked
    FROM numbers WHERE account_id = $1 AND id = $2 AND active FOR NO KEY UPDATE
"""

_ATTEMPT = f"""
    WITH channel AS (
        SELECT count(*) < $4 AND count(*) FILTER (WHERE direction = 'outbound') < $4 - $5 AS is_free
        FROM calls WHERE number_id = $3 AND status <> 'ended'
    ), person AS (
        SELECT {PERSON_BUSY} AS is_busy, (
            SELECT started_at FROM calls
            WHERE account_id = lead.account_id AND to_number = lead.phone AND direction = 'outbound'
                AND started_at > $10::timestamptz - $12::interval AND end_reason IS DISTINCT FROM 'not_placed'
                AND $11::integer IS NOT NULL
            ORDER BY started_at DESC LIMIT 1 OFFSET coalesce($11::integer, 1) - 1
        ) AS limiting_call
        FROM leads lead WHERE id = $1
    ), lead AS (
        UPDATE leads lead SET status = 'dialing', attempts = attempts + 1, next_attempt_at = NULL,
            waits_for = NULL, claimed_by = NULL, claimed_until = NULL
        FROM channel CROSS JOIN person
        WHERE channel.is_free AND NOT person.is_busy AND person.limiting_call IS NULL
            AND lead.id = $1 AND lead.claimed_by = $2 AND lead.status = 'queued' AND NOT {STOPPED}
            AND NOT {OPTED_OUT}
            AND EXISTS (SELECT FROM templates template WHERE template.account_id = lead.account_id
                AND template.id = lead.template_id AND template.status = 'active')
        RETURNING lead.*
    ), made AS (
        INSERT INTO calls (id, account_id, lead_id, number_id, carrier, direction, from_number, to_number,
            initial_template_id, template_id, revisions, status, started_at, held_until)
        SELECT $6, account_id, id, number_id, $7, 'outbound', $8, phone, template_id, template_id,
            jsonb_build_object(template_id, $9::integer), 'ringing', $10::timestamptz, now() + $13::interval
        FROM lead
        RETURNING {_CALL}
    )
    SELECT channel.is_free, person.is_busy, person.limiting_call, made.*
    FROM channel CROSS JOIN person LEFT JOIN made ON true
"""  # noqa: S608 - written above


async def begin_attempt(db: Database, lead: ClaimedLead, limits: AttemptLimits) -> CallRecord | Blocked:
    """Take a channel, record the call in the person's rate limit and make the attempt: all or nothing.

    One statement reads whether all of them are free, and writes only if they are, under the locks of the
    person and of the number.
    """
    async with db.transaction() as transaction:
        number = await transaction.fetchrow(
            _LOCK, lead.account_id, lead.number_id, f"{lead.account_id} {lead.phone}"
        )
        if number is None:
            return Blocked(obstacle="no_number")
        row = await transaction.fetchrow(
            _ATTEMPT,
            lead.id,
            lead.claimed_by,
            lead.number_id,
            number["channels"],
            number["reserved_inbound"],
            new_id(),
            number["carrier"],
            number["e164"],
            lead.template_revision,
            limits.now,
            limits.calls,
            limits.period,
            limits.held_for,
        )
    return Blocked(obstacle="stopped") if row is None else _begun(dict(row), limits)


def _begun(row: dict[str, Any], limits: AttemptLimits) -> CallRecord | Blocked:
    is_free, is_busy, limiting_call = (row.pop(name) for name in ("is_free", "is_busy", "limiting_call"))
    if row["id"] is not None:
        return CallRecord(**row)
    if limiting_call is not None:
        return Blocked(obstacle="rate_limit", until=limiting_call + limits.period)
    if not is_free:
        return Blocked(obstacle="no_channel")
    return Blocked(obstacle="person_busy" if is_busy else "stopped")


async def is_wanted(db: Executor, call: CallRecord) -> bool:
    """Whether an attempt is to be dialled, or to go on ringing.

    It is not if it has ended, its lead was cancelled, or the account's kill switch is on.
    """
    row = await db.fetchrow(
        f"""
        SELECT FROM calls JOIN leads lead ON lead.account_id = calls.account_id AND lead.id = calls.lead_id
        WHERE calls.id = $1 AND calls.status <> 'ended' AND NOT {CALLED_OFF}
        """,
        call.id,
    )
    return row is not None


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


async def known_carrier_ids(db: Executor, carrier: str, carrier_call_ids: Sequence[str]) -> Collection[str]:
    """Which of a carrier's ids are those of calls that were recorded."""
    rows = await db.fetch(
        "SELECT carrier_call_id FROM calls WHERE carrier = $1 AND carrier_call_id = ANY($2::text[])",
        carrier,
        list(carrier_call_ids),
    )
    return {row["carrier_call_id"] for row in rows}


async def report_answered_by(db: Executor, call_id: UUID, who: AnsweredBy) -> CallRecord | None:
    """Store who answered a live outbound call; a machine stays. Returns the call as it was before.

    Returns None if the call is not outbound or not live.
    """
    row = await db.fetchrow(
        f"""
        WITH before AS (
            SELECT {_CALL} FROM calls
            WHERE id = $1 AND direction = 'outbound' AND status <> 'ended' FOR UPDATE
        ), reported AS (
            UPDATE calls SET answered_by = CASE calls.answered_by WHEN 'machine' THEN 'machine' ELSE $2 END
            FROM before WHERE calls.id = before.id
        )
        SELECT {_CALL} FROM before
        """,  # noqa: S608
        call_id,
        who,
    )
    return None if row is None else read(CallRecord, row)


async def begin_machine_action(db: Executor, call_id: UUID) -> bool:
    """Whether the caller of this function is to act on the machine that answered; once for each call."""
    begun = await db.execute(
        """
        UPDATE calls SET machine_action_at = now()
        WHERE id = $1 AND machine_action_at IS NULL AND answered_by = 'machine' AND status <> 'ended'
        """,
        call_id,
    )
    return begun > 0


async def leave_to_message(
    db: Executor, account_id: UUID, call_id: UUID, lasts: timedelta
) -> CallRecord | None:
    """The call is about to leave its agent, to leave a message; it ends after ``lasts`` at the latest.

    It may not have reached its agent yet. Returns None if it has ended, or the carrier has it already.
    """
    row = await db.fetchrow(
        f"""
        UPDATE calls SET status = 'transferring', held_until = now() + $3::interval,
            answered_at = coalesce(answered_at, now())
        WHERE account_id = $1 AND id = $2 AND (status = 'in_progress' OR status = 'ringing')
        RETURNING {_CALL}
        """,  # noqa: S608
        account_id,
        call_id,
        lasts,
    )
    return None if row is None else read(CallRecord, row)


async def attempt_of(db: Executor, call_id: UUID) -> CallRecord | None:
    """An outbound call by its id, from a URL that the carrier has signed."""
    row = await db.fetchrow(
        f"SELECT {_CALL} FROM calls WHERE id = $1 AND direction = 'outbound'",  # noqa: S608
        call_id,
    )
    return None if row is None else read(CallRecord, row)
