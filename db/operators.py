"""Operators: users who claim handoffs. Facts change by compare-and-set, claims are counted conditionally."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from db.errors import ConstraintViolated, NotFound
from db.pool import Executor
from db.rows import Page, after_id, columns, page, read

Activity = Literal["idle", "away", "on_call", "wrapping_up"]
"""What an operator has set; ``on_call`` is a shift. Claims and bridged callers are counted, not set."""

Quota = Literal["free", "timed", "billing"]
"""Whether a quota is exhausted: ``timed`` ends at a time, ``billing`` when an admin clears it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """The facts from which ``voicebot.availability`` computes a state, of an operator or a provider."""

    last_seen_at: datetime | None = None
    """When it was last heard from; null: never, or signed off."""
    activity: Activity = "idle"
    activity_until: datetime | None = None
    """When the activity ends and becomes `idle`; null: it does not end on its own."""
    quota: Quota = "free"
    quota_until: datetime | None = None
    """When a `timed` exhaustion ends; null for the others."""
    holding: int = 0
    """Number of claims held."""
    bridged: int = 0
    """Number of held claims whose caller is connected to the operator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorRecord(Presence):
    """The stored facts of one operator."""

    account_id: UUID
    user_id: UUID
    capacity: int
    """Maximum number of claims at once."""
    languages: Sequence[str]
    """Language tags the operator speaks; empty: offered handoffs of any language."""
    teams: Sequence[str]
    """Teams of the operator; empty: offered handoffs of any team."""
    last_offered_at: datetime | None
    signed_on: bool
    """Whether the operator was online when last checked; the scheduler finds those that became silent."""
    revision: int


_OPERATOR = columns(OperatorRecord)


async def ensure(db: Executor, account_id: UUID, user_id: UUID) -> OperatorRecord:
    """Get the operator record of a user; it is created on first use.

    Raises:
        NotFound: the account has no such user.
    """
    row = await db.fetchrow(
        f"SELECT {_OPERATOR} FROM operators WHERE account_id = $1 AND user_id = $2",  # noqa: S608 - columns
        account_id,
        user_id,
    )
    if row is None:
        try:
            await db.execute(
                "INSERT INTO operators (account_id, user_id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                account_id,
                user_id,
            )
        except ConstraintViolated:
            raise NotFound("user", user_id) from None
        row = await db.fetchrow(
            f"SELECT {_OPERATOR} FROM operators WHERE account_id = $1 AND user_id = $2",  # noqa: S608
            account_id,
            user_id,
        )
    if row is None:
        raise NotFound("user", user_id)
    return read(OperatorRecord, row)


async def save(db: Executor, operator: OperatorRecord) -> OperatorRecord | None:
    """Write an operator's facts, except the counters of claims.

    Args:
        operator: the record to write; ``revision`` is the revision that it was computed from.

    Returns:
        The written record with its new revision, or None if the row has another revision by now.
    """
    row = await db.fetchrow(
        f"""
        UPDATE operators SET last_seen_at = $4, activity = $5, activity_until = $6, quota = $7,
            quota_until = $8, capacity = $9, languages = $10, teams = $11, signed_on = $12,
            revision = revision + 1
        WHERE account_id = $1 AND user_id = $2 AND revision = $3 RETURNING {_OPERATOR}
        """,  # noqa: S608
        operator.account_id,
        operator.user_id,
        operator.revision,
        operator.last_seen_at,
        operator.activity,
        operator.activity_until,
        operator.quota,
        operator.quota_until,
        operator.capacity,
        list(operator.languages),
        list(operator.teams),
        operator.signed_on,
    )
    return None if row is None else read(OperatorRecord, row)


async def lock(db: Executor, account_id: UUID, user_ids: Collection[UUID]) -> None:
    """Lock the rows of several operators, in one order, so that two transactions do not deadlock."""
    await db.fetch(
        """
        SELECT user_id FROM operators WHERE account_id = $1 AND user_id = ANY($2::uuid[])
        ORDER BY user_id FOR UPDATE
        """,
        account_id,
        list(user_ids),
    )


async def mark_seen(db: Executor, account_id: UUID, user_id: UUID, at: datetime) -> None:
    """Record a sign of life of an operator and lock the row."""
    await db.execute(
        """
        UPDATE operators SET last_seen_at = greatest(last_seen_at, $3), signed_on = true,
            revision = revision + 1
        WHERE account_id = $1 AND user_id = $2
        """,
        account_id,
        user_id,
        at,
    )


async def count(
    db: Executor, account_id: UUID, user_id: UUID, *, holding: int = 0, bridged: int = 0
) -> OperatorRecord | None:
    """Add to an operator's counters and lock the row; None: no such operator, or too little to subtract."""
    row = await db.fetchrow(
        f"""
        UPDATE operators SET holding = holding + $3, bridged = bridged + $4, revision = revision + 1
        WHERE account_id = $1 AND user_id = $2 AND holding + $3 >= 0 AND bridged + $4 >= 0
        RETURNING {_OPERATOR}
        """,  # noqa: S608
        account_id,
        user_id,
        holding,
        bridged,
    )
    return None if row is None else read(OperatorRecord, row)


async def list_operators(
    db: Executor, account_id: UUID, *, limit: int, cursor: str | None = None
) -> Page[OperatorRecord]:
    """List the account's operators whose user is not deleted, newest user first.

    Raises:
        BadCursor: the cursor is not one of this list.
    """
    rows = await db.fetch(
        f"""
        SELECT {columns(OperatorRecord, "operator")} FROM operators operator
        JOIN users ON users.account_id = operator.account_id AND users.id = operator.user_id
        WHERE operator.account_id = $1 AND operator.user_id < $2 AND users.deleted_at IS NULL
        ORDER BY operator.user_id DESC LIMIT $3
        """,  # noqa: S608
        account_id,
        after_id(cursor),
        limit + 1,
    )
    return page([read(OperatorRecord, row) for row in rows], limit, lambda operator: operator.user_id)


async def below_capacity(db: Executor, account_id: UUID) -> Sequence[tuple[OperatorRecord, int]]:
    """Operators below capacity whose user is active and signed on, the longest without an offer first.

    Returns:
        Each operator, and the number of handoffs that are offered to them.
    """
    rows = await db.fetch(
        f"""
        SELECT {columns(OperatorRecord, "operator")}, (
            SELECT count(*) FROM handoffs handoff
            WHERE handoff.account_id = $1 AND handoff.state = 'offered'
                AND handoff.offered_to = operator.user_id) AS offered
        FROM operators operator
        JOIN users ON users.account_id = operator.account_id AND users.id = operator.user_id
        WHERE operator.account_id = $1 AND operator.signed_on AND operator.holding < operator.capacity
            AND users.active
        ORDER BY operator.last_offered_at NULLS FIRST, operator.user_id
        """,  # noqa: S608
        account_id,
    )
    found = []
    for row in rows:
        values = dict(row)
        offered = values.pop("offered")
        found.append((read(OperatorRecord, values), offered))
    return found


async def signed_on(db: Executor, account_id: UUID) -> Sequence[OperatorRecord]:
    """Operators of the account who are signed on and whose user is active."""
    rows = await db.fetch(
        f"""
        SELECT {columns(OperatorRecord, "operator")} FROM operators operator
        JOIN users ON users.account_id = operator.account_id AND users.id = operator.user_id
        WHERE operator.account_id = $1 AND operator.signed_on AND users.active
        """,  # noqa: S608
        account_id,
    )
    return [read(OperatorRecord, row) for row in rows]


async def set_last_offered(db: Executor, account_id: UUID, user_id: UUID, at: datetime) -> None:
    """Store when an operator was last offered a handoff, so that offers rotate."""
    await db.execute(
        "UPDATE operators SET last_offered_at = $3 WHERE account_id = $1 AND user_id = $2",
        account_id,
        user_id,
        at,
    )


async def silent_since(db: Executor, before: datetime, *, limit: int) -> Sequence[OperatorRecord]:
    """Operators of all accounts who are signed on and were last seen earlier than ``before``."""
    rows = await db.fetch(
        f"""
        SELECT {_OPERATOR} FROM operators
        WHERE signed_on AND last_seen_at < $1 ORDER BY last_seen_at LIMIT $2
        """,  # noqa: S608
        before,
        limit,
    )
    return [read(OperatorRecord, row) for row in rows]
