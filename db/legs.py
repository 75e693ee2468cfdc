"""Legs: the telephone calls to persons that callers are connected with. ``db.leg_changes`` changes them.

The person is the operator who holds a handoff, or whoever answers at a destination of a template.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from db.errors import NotFound
from db.pool import Executor, Row
from db.rows import columns, read

LegState = Literal["dialing", "ringing", "answered", "whispering", "accepted", "bridged", "ended"]
LegResult = Literal["failed", "resolved", "returned"]
LegCause = Literal[
    "busy", "no_answer", "voicemail", "declined", "timeout", "carrier_error", "caller_left", "process_lost"
]

PROGRESS: tuple[LegState, ...] = ("dialing", "ringing", "answered", "whispering")
"""The states before acceptance, in order. Reports that come out of order move a leg forward only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LegRecord:
    """One leg."""

    id: UUID
    account_id: UUID
    handoff_id: UUID | None
    """The handoff whose operator is called; None: a destination is."""
    epoch: int
    """The claim that the leg belongs to; 0 without a handoff."""
    call_id: UUID
    """The call of the caller who is to be connected."""
    user_id: UUID | None
    """The operator; None without a handoff."""
    destination: str | None = None
    """The name of the template's destination that is called; None: an operator is."""
    carrier: str
    from_number: str
    to_number: str
    webhooks_url: str
    """The URL of our webhooks for the carrier, which any process may have to give it."""
    carrier_leg_id: str | None
    """The carrier's id of the call to the operator; None until it is known."""
    state: LegState
    result: LegResult | None
    """How it ended: before the operator and the caller were connected, or afterwards."""
    cause: LegCause | None
    deadline: datetime | None
    """When the leg must have left its state or, once it is bridged, when the carrier is asked about it."""
    created_at: datetime
    accepted_at: datetime | None
    bridged_at: datetime | None
    ended_at: datetime | None
    left_at: datetime | None
    """When the carrier confirmed that the call to the operator is over."""
    closed_at: datetime | None
    """When nothing remained to be done at the carrier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LegDraft:
    """A leg that is about to be dialled."""

    id: UUID
    account_id: UUID
    handoff_id: UUID | None = None
    epoch: int = 0
    call_id: UUID
    user_id: UUID | None = None
    destination: str | None = None
    carrier: str
    from_number: str
    to_number: str
    webhooks_url: str
    deadline: datetime
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorLine:
    """What is needed to dial an operator for a call."""

    phone: str | None
    """The operator's number, E.164; None: the operator has none."""
    from_number: str
    """Our number on the caller's call, E.164."""
    carrier: str
    was_dialled: bool
    """Whether the caller's call was placed by us."""


_LEG = columns(LegRecord)


async def operator_line(db: Executor, account_id: UUID, call_id: UUID, user_id: UUID) -> OperatorLine | None:
    """The numbers with which an operator is dialled for a live, answered call; None: the call has none."""
    row = await db.fetchrow(
        """
        SELECT users.phone, call.carrier, call.direction = 'outbound' AS was_dialled,
            CASE call.direction WHEN 'inbound' THEN call.to_number ELSE call.from_number END AS from_number
        FROM calls call JOIN users ON users.account_id = call.account_id AND users.id = $3
        WHERE call.account_id = $1 AND call.id = $2 AND call.status = 'in_progress'
            AND call.carrier_call_id IS NOT NULL
        """,
        account_id,
        call_id,
        user_id,
    )
    return None if row is None else read(OperatorLine, row)


async def get(db: Executor, leg_id: UUID) -> LegRecord:
    """One leg. Not scoped by account: the carrier signed the URL that names it.

    Raises:
        NotFound: no such leg.
    """
    row = await db.fetchrow(f"SELECT {_LEG} FROM handoff_legs WHERE id = $1", leg_id)  # noqa: S608
    if row is None:
        raise NotFound("leg", leg_id)
    return read(LegRecord, row)


async def open_of(db: Executor, account_id: UUID, handoff_id: UUID) -> LegRecord | None:
    """The open leg of a handoff."""
    row = await db.fetchrow(
        f"SELECT {_LEG} FROM handoff_legs WHERE account_id = $1 AND handoff_id = $2 AND ended_at IS NULL",  # noqa: S608
        account_id,
        handoff_id,
    )
    return _maybe(row)


async def of_call(db: Executor, account_id: UUID, call_id: UUID) -> Sequence[LegRecord]:
    """The legs of a call, in the order in which they were dialled."""
    rows = await db.fetch(
        f"SELECT {_LEG} FROM handoff_legs WHERE account_id = $1 AND call_id = $2 ORDER BY id",  # noqa: S608
        account_id,
        call_id,
    )
    return [read(LegRecord, row) for row in rows]


async def are_unclosed(db: Executor) -> bool:
    """Whether any leg is not closed."""
    return await db.fetchrow("SELECT FROM handoff_legs WHERE closed_at IS NULL LIMIT 1") is not None


async def overdue(db: Executor, now: datetime, *, limit: int) -> Sequence[tuple[LegRecord, bool]]:
    """Open legs whose deadline has passed, whose claim has ended, or whose call has ended.

    Returns:
        Each leg, and whether its caller has left.
    """
    rows = await db.fetch(
        f"""
        SELECT {columns(LegRecord, "leg")}, call.status = 'ended' AS caller_left
        FROM handoff_legs leg
        LEFT JOIN handoffs handoff ON handoff.account_id = leg.account_id AND handoff.id = leg.handoff_id
        JOIN calls call ON call.account_id = leg.account_id AND call.id = leg.call_id
        WHERE leg.closed_at IS NULL AND leg.ended_at IS NULL
            AND (leg.deadline <= $1 OR call.status = 'ended' OR handoff.epoch <> leg.epoch
                OR handoff.state NOT IN ('claimed', 'transferring', 'bridged')
                OR (handoff.state = 'bridged' AND leg.accepted_at IS NULL))
        ORDER BY leg.created_at LIMIT $2
        """,  # noqa: S608
        now,
        limit,
    )
    found = []
    for row in rows:
        values = dict(row)
        caller_left = values.pop("caller_left")
        found.append((read(LegRecord, values), caller_left))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class UnclosedLeg:
    """A leg that has ended and is not closed."""

    leg: LegRecord
    carrier_call_id: str | None
    """The carrier's id of the caller's call."""
    is_away: bool
    """Whether the caller is still where the leg was: not ended, and not back with the agent."""


async def take_unclosed(
    db: Executor, now: datetime, retry_at: datetime, *, alone_retry_at: datetime, limit: int
) -> Sequence[UnclosedLeg]:
    """Take ended legs that are not closed and are due; no other process takes them before ``retry_at``.

    ``alone_retry_at`` is the same for legs whose caller has not come back, and may be alone.
    """
    rows = await db.fetch(
        f"""
        WITH due AS (
            SELECT id FROM handoff_legs
            WHERE closed_at IS NULL AND ended_at IS NOT NULL AND retry_at <= $1
            ORDER BY created_at LIMIT $3 FOR UPDATE SKIP LOCKED
        ), taken AS (
            UPDATE handoff_legs
            SET retry_at = CASE WHEN call.status = 'transferring' THEN $4::timestamptz ELSE $2 END
            FROM due, calls call
            WHERE handoff_legs.id = due.id AND call.account_id = handoff_legs.account_id
                AND call.id = handoff_legs.call_id
            RETURNING {columns(LegRecord, "handoff_legs")}
        )
        SELECT {columns(LegRecord, "taken")}, call.carrier_call_id,
            call.status = 'transferring' AND NOT EXISTS (
                SELECT FROM handoff_legs other WHERE other.account_id = taken.account_id
                    AND other.call_id = taken.call_id AND other.id > taken.id) AS is_away
        FROM taken JOIN calls call ON call.account_id = taken.account_id AND call.id = taken.call_id
        """,  # noqa: S608
        now,
        retry_at,
        limit,
        alone_retry_at,
    )
    found = []
    for row in rows:
        values = dict(row)
        carrier_call_id, is_away = values.pop("carrier_call_id"), values.pop("is_away")
        leg = read(LegRecord, values)
        found.append(UnclosedLeg(leg=leg, carrier_call_id=carrier_call_id, is_away=is_away))
    return found


async def to_destinations(db: Executor, call_ids: Collection[UUID]) -> Sequence[LegRecord]:
    """The latest leg to a destination of each of these calls."""
    rows = await db.fetch(
        f"""
        SELECT DISTINCT ON (call_id) {_LEG} FROM handoff_legs
        WHERE call_id = ANY($1::uuid[]) AND destination IS NOT NULL ORDER BY call_id, id DESC
        """,  # noqa: S608
        list(call_ids),
    )
    return [read(LegRecord, row) for row in rows]


async def unknown_of(db: Executor, carrier: str, carrier_ids: Collection[str]) -> Sequence[str]:
    """Those of a carrier's call ids that belong to no call and no leg."""
    rows = await db.fetch(
        """
        SELECT found.sid FROM unnest($2::text[]) AS found (sid)
        WHERE NOT EXISTS (SELECT FROM calls WHERE carrier = $1 AND carrier_call_id = found.sid)
            AND NOT EXISTS (SELECT FROM handoff_legs WHERE carrier = $1 AND carrier_leg_id = found.sid)
        """,
        carrier,
        list(carrier_ids),
    )
    return [row["sid"] for row in rows]


def _maybe(row: Row | None) -> LegRecord | None:
    return None if row is None else read(LegRecord, row)
