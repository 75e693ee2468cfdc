"""Attempts to reach the person of a lead: each is a row in ``calls``, written before the carrier is asked.

The row is written by the statement that finds a free channel, no other call to the person, and that the rate
limit allows a call. A crash therefore cannot dial twice: the row shows that a call may have been placed. A
channel of a number is the row of its live call.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any, Literal
from uuid import UUID

from db.calls import CallRecord
from db.dispatch import CALLED_OFF, CAN_DIAL, OPTED_OUT, PERSON_BUSY, STOPPED, ClaimedLead
from db.ids import new_id
from db.pool import Database, Executor, Row
from db.rows import columns, read

Obstacle = Literal["no_number", "rate_limit", "no_channel", "person_busy", "stopped"]
"""Why an attempt was not begun; if several apply, the first. ``no_number``: the number is not active, or all
its channels are reserved for inbound calls. ``person_busy``: the account has another live call to this
person. ``stopped``: the claim was lost, the lead was paused, the person has opted out, or the template is not
active."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptLimits:
    """The limits of an attempt."""

    now: datetime
    calls: int | None
    """Calls to one person in ``period``; None: no limit."""
    period: timedelta
    held_for: timedelta
    """How long the attempt's call counts as live without a lease renewal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocked:
    """An attempt that was not begun; nothing was taken."""

    obstacle: Obstacle
    until: datetime | None = None
    """When the rate limit allows the next call."""


CANCELLED = "canceled"
"""The end reason of a call that was cancelled while it rang."""

NOT_PLACED = "not_placed"
"""The end reason of an attempt that the carrier certainly did not dial."""

_CALL = columns(CallRecord)


# Both kinds of locks, always taken in the same order: persons (two leads may be of one), then numbers.
_LOCK = f"""
    WITH person AS MATERIALIZED (
        SELECT pg_advisory_xact_lock(hashtextextended(person, 0)) FROM unnest($1::text[]) AS person
    )
    SELECT id FROM numbers number
    WHERE {CAN_DIAL} AND id = ANY($2::uuid[]) AND (SELECT count(*) FROM person) > 0
    ORDER BY id FOR NO KEY UPDATE
"""  # noqa: S608 - written in db.dispatch

_MAY_DIAL = f"""
    NOT {STOPPED} AND NOT {OPTED_OUT} AND EXISTS (SELECT FROM templates template
        WHERE template.account_id = lead.account_id AND template.id = lead.template_id
            AND template.status = 'active')
"""
"""Condition: nothing that people have set keeps the person of the lead ``lead`` from being called."""

_ATTEMPTS = f"""
    WITH wanted AS MATERIALIZED (
        SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::integer[], $5::timestamptz[],
            $6::integer[], $7::interval[], $8::interval[]) WITH ORDINALITY
        AS given (lead_id, claimed_by, call_id, revision, now, calls, period, held_for, place)
    ), number AS MATERIALIZED (
        SELECT number.id, number.account_id, number.e164, number.carrier, least(
                number.channels - live.all_calls,
                number.channels - number.reserved_inbound - live.outbound
            ) AS room
        FROM numbers number CROSS JOIN LATERAL (
            SELECT count(*) AS all_calls, count(*) FILTER (WHERE direction = 'outbound') AS outbound
            FROM calls WHERE number_id = number.id AND status <> 'ended'
        ) live
        WHERE number.id = ANY($9::uuid[])
    ), checked AS MATERIALIZED (
        SELECT wanted.*, number.id AS number_id, number.e164, number.carrier, number.room, lead.account_id,
            lead.phone, {PERSON_BUSY} AS is_busy, (
                SELECT started_at FROM calls
                WHERE account_id = lead.account_id AND to_number = lead.phone AND direction = 'outbound'
                    AND started_at > wanted.now - wanted.period
                    AND end_reason IS DISTINCT FROM '{NOT_PLACED}' AND wanted.calls IS NOT NULL
                ORDER BY started_at DESC LIMIT 1 OFFSET coalesce(wanted.calls, 1) - 1
            ) AS limiting_call,
            lead.claimed_by = wanted.claimed_by AND lead.status = 'queued' AND {_MAY_DIAL} AS may_dial
        FROM wanted JOIN leads lead ON lead.id = wanted.lead_id
        JOIN number ON number.account_id = lead.account_id AND number.id = lead.number_id
    ), in_turn AS (
        -- Of the leads of one person the first one, and of those of a number as many as there is room.
        SELECT place, room, row_number() OVER (PARTITION BY number_id ORDER BY place) AS turn
        FROM (
            SELECT place, number_id, room,
                row_number() OVER (PARTITION BY account_id, phone ORDER BY place) AS turn_of_person
            FROM checked WHERE may_dial AND NOT is_busy AND limiting_call IS NULL
        ) free
        WHERE turn_of_person = 1
    ), lead AS (
        UPDATE leads lead SET status = 'dialing', attempts = attempts + 1, next_attempt_at = NULL,
            waits_for = NULL, claimed_by = NULL, claimed_until = NULL
        FROM in_turn JOIN checked USING (place)
        WHERE in_turn.turn <= in_turn.room AND lead.id = checked.lead_id
            AND lead.claimed_by = checked.claimed_by AND lead.status = 'queued'
        RETURNING lead.id, lead.account_id, lead.phone, lead.template_id, checked.place
    ), made AS (
        INSERT INTO calls (id, account_id, lead_id, number_id, carrier, direction, from_number, to_number,
            initial_template_id, template_id, revisions, status, started_at, held_until)
        SELECT checked.call_id, lead.account_id, lead.id, checked.number_id, checked.carrier, 'outbound',
            checked.e164, lead.phone, lead.template_id, lead.template_id,
            jsonb_build_object(lead.template_id, checked.revision), 'ringing', checked.now,
            now() + checked.held_for
        FROM lead JOIN checked USING (place)
        RETURNING {_CALL}
    )
    SELECT checked.place, checked.room > 0 AND in_turn.turn <= in_turn.room IS NOT FALSE AS is_free,
        checked.is_busy OR checked.may_dial AND in_turn.turn IS NULL AS is_busy, checked.limiting_call, made.*
    FROM checked LEFT JOIN in_turn USING (place) LEFT JOIN made ON made.id = checked.call_id
"""  # noqa: S608 - written above


async def begin_attempts(
    db: Database, wanted: Sequence[tuple[ClaimedLead, AttemptLimits]]
) -> Sequence[CallRecord | Blocked]:
    """Take a channel, record the call in the person's rate limit and make the attempt: all of it or nothing.

    One statement reads for each lead whether all of them are free, and writes only if they are, under the
    locks of the persons and of the numbers. Leads of one number take its channels in the given order.
    """
    leads, limits = [lead for lead, _ in wanted], [limits for _, limits in wanted]
    async with db.transaction() as transaction:
        numbers = await transaction.fetch(
            _LOCK,
            sorted({f"{lead.account_id} {lead.phone}" for lead in leads}),
            list({lead.number_id for lead in leads}),
        )
        rows = await transaction.fetch(
            _ATTEMPTS,
            [lead.id for lead in leads],
            [lead.claimed_by for lead in leads],
            [new_id() for _ in leads],
            [lead.template_revision for lead in leads],
            [each.now for each in limits],
            [each.calls for each in limits],
            [each.period for each in limits],
            [each.held_for for each in limits],
            [number["id"] for number in numbers],
        )
    usable = {number["id"] for number in numbers}
    begun: list[CallRecord | Blocked] = [
        Blocked(obstacle="stopped" if lead.number_id in usable else "no_number") for lead in leads
    ]
    for row in rows:
        values = dict(row)
        place = values.pop("place") - 1
        begun[place] = _begun(values, limits[place])
    return begun


def _begun(row: dict[str, Any], limits: AttemptLimits) -> CallRecord | Blocked:
    is_free, is_busy, limiting_call = (row.pop(name) for name in ("is_free", "is_busy", "limiting_call"))
    if row["id"] is not None:
        return CallRecord(**row)
    if limiting_call is not None:
        return Blocked(obstacle="rate_limit", until=limiting_call + limits.period)
    if not is_free:
        return Blocked(obstacle="no_channel")
    return Blocked(obstacle="person_busy" if is_busy else "stopped")


async def dialable_of(db: Executor, call_ids: Sequence[UUID]) -> Collection[UUID]:
    """Return the attempts that may be placed now; what allowed them to begin may have changed since then.

    Left out are those that have ended, and those that could not begin now.
    """
    rows = await db.fetch(
        f"""
        SELECT calls.id FROM calls
        JOIN leads lead ON lead.account_id = calls.account_id AND lead.id = calls.lead_id
        JOIN numbers number ON number.id = calls.number_id
        WHERE calls.id = ANY($1::uuid[]) AND calls.status <> 'ended' AND lead.status = 'dialing'
            AND {CAN_DIAL} AND {_MAY_DIAL}
        """,  # noqa: S608
        list(call_ids),
    )
    return {row["id"] for row in rows}


async def someone_rings(db: Executor) -> bool:
    """Whether a person is being called, or is about to be, whichever account and process calls them."""
    row = await db.fetchrow(
        "SELECT FROM calls WHERE status = 'ringing' AND direction = 'outbound' AND held_until > now() LIMIT 1"
    )
    return row is not None


async def wanted_of(db: Executor, call_ids: Sequence[UUID]) -> Collection[UUID]:
    """Return the attempts that may continue to ring.

    Left out are those that have ended, whose lead was cancelled, or whose account's kill switch is on.
    """
    rows = await db.fetch(
        f"""
        SELECT calls.id FROM calls
        JOIN leads lead ON lead.account_id = calls.account_id AND lead.id = calls.lead_id
        WHERE calls.id = ANY($1::uuid[]) AND calls.status <> 'ended' AND NOT {CALLED_OFF}
        """,  # noqa: S608
        list(call_ids),
    )
    return {row["id"] for row in rows}


async def is_wanted(db: Executor, call: CallRecord) -> bool:
    """Whether an attempt may continue to ring; see ``wanted_of``."""
    return bool(await wanted_of(db, [call.id]))


async def placed(
    db: Executor, account_id: UUID, call_id: UUID, carrier_call_id: str, ringing: timedelta
) -> CallRecord | None:
    """Store the carrier's id of an attempt, which counts as live for ``ringing`` from now on.

    The carrier's answer and its first webhook come in any order. Returns None if the attempt has another id,
    or there is no attempt.
    """
    rows = await _placed(db, [(account_id, call_id, carrier_call_id)], ringing, columns(CallRecord, "calls"))
    return read(CallRecord, rows[0]) if rows else None


async def all_placed(
    db: Executor, answers: Sequence[tuple[UUID, UUID, str]], ringing: timedelta
) -> Collection[UUID]:
    """Store the carrier's ids of different attempts as ``placed`` does, by one statement.

    Args:
        db: the connection.
        answers: account, call, and the carrier's id.
        ringing: how long the attempts count as live from now on.

    Returns:
        The ids of the calls whose carrier id is stored.
    """
    return {row["id"] for row in await _placed(db, answers, ringing, "calls.id")}


async def _placed(
    db: Executor, answers: Sequence[tuple[UUID, UUID, str]], ringing: timedelta, returned: str
) -> Sequence[Row]:
    account_ids, call_ids, carrier_call_ids = zip(*sorted(answers, key=itemgetter(1)), strict=True)
    return await db.fetch(
        f"""
        WITH answer AS (
            SELECT calls.id, answer.carrier_call_id
            FROM unnest($1::uuid[], $2::uuid[], $3::text[]) AS answer (account_id, id, carrier_call_id)
            JOIN calls ON calls.account_id = answer.account_id AND calls.id = answer.id
            WHERE calls.carrier_call_id IS NULL OR calls.carrier_call_id = answer.carrier_call_id
            ORDER BY calls.id FOR NO KEY UPDATE OF calls
        )
        UPDATE calls SET carrier_call_id = answer.carrier_call_id,
            held_until = greatest(held_until, now() + $4::interval)
        FROM answer WHERE calls.id = answer.id
        RETURNING {returned}
        """,  # noqa: S608 - only column names
        list(account_ids),
        list(call_ids),
        list(carrier_call_ids),
        ringing,
    )


async def was_not_placed(db: Executor, call: CallRecord) -> CallRecord:
    """Record that the carrier never had the call of an ended attempt, unless the attempt is finalised."""
    row = await db.fetchrow(
        f"""
        UPDATE calls SET end_reason = '{NOT_PLACED}' WHERE id = $1 AND finalised_at IS NULL
        RETURNING {_CALL}
        """,  # noqa: S608
        call.id,
    )
    return call if row is None else read(CallRecord, row)


async def ids_of_others(db: Executor, call: CallRecord, carrier_call_ids: Sequence[str]) -> Collection[str]:
    """Return those of its carrier's ids that belong to other calls."""
    rows = await db.fetch(
        """
        SELECT carrier_call_id FROM calls
        WHERE carrier = $1 AND carrier_call_id = ANY($2::text[]) AND id <> $3
        """,
        call.carrier,
        list(carrier_call_ids),
        call.id,
    )
    return {row["carrier_call_id"] for row in rows}


async def attempt_of(db: Executor, call_id: UUID) -> CallRecord | None:
    """An outbound call by its id, from a URL that the carrier has signed."""
    row = await db.fetchrow(
        f"SELECT {_CALL} FROM calls WHERE id = $1 AND direction = 'outbound'",  # noqa: S608
        call_id,
    )
    return None if row is None else read(CallRecord, row)
