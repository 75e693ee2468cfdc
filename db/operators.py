"""Operators: people at the desk. Facts are changed by compare-and-set; claims are counted conditionally."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from db.errors import ConstraintViolated, NotFound
from db.pool import Executor
from db.rows import Page, after_id, columns, page, read

Activity = Literal["idle", "away", "on_call", "wrapping_up"]
Quota = Literal["free", "timed", "billing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorRecord:
    """The facts of one operator; ``voicebot.availability`` says what they add up to."""

    account_id: UUID
    user_id: UUID
    last_seen_at: datetime | None
    activity: Activity
    activity_until: datetime | None
    quota: Quota
    quota_until: datetime | None
    capacity: int
    """The most claims at once."""
    holding: int
    bridged: int
    languages: Sequence[str]
    """What they speak; empty: asked for any."""
    teams: Sequence[str]
    last_offered_at: datetime | None
    signed_on: bool
    """Whether they were there when last looked at; the keeper tells of those who fall silent."""
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorFacts:
    """The facts that are set, not counted."""

    last_seen_at: datetime | None
    activity: Activity
    activity_until: datetime | None
    quota: Quota
    quota_until: datetime | None
    capacity: int
    languages: Sequence[str]
    teams: Sequence[str]
    signed_on: bool


_OPERATOR = columns(OperatorRecord)


async def ensure(db: Executor, account_id: UUID, user_id: UUID) -> OperatorRecord:
    """The operator a user is; made when they first come to the desk.

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


async def set_facts(
    db: Executor, account_id: UUID, user_id: UUID, facts: OperatorFacts, *, expected_revision: int
) -> OperatorRecord | None:
    """Write facts decided on knowing a revision; None: the operator has changed since, look again."""
    row = await db.fetchrow(
        f"""
        UPDATE operators SET last_seen_at = $4, activity = $5, activity_until = $6, quota = $7,
            quota_until = $8, capacity = $9, languages = $10, teams = $11, signed_on = $12,
            revision = revision + 1
        WHERE account_id = $1 AND user_id = $2 AND revision = $3 RETURNING {_OPERATOR}
        """,  # noqa: S608
        account_id,
        user_id,
        expected_revision,
        facts.last_seen_at,
        facts.activity,
        facts.activity_until,
        facts.quota,
        facts.quota_until,
        facts.capacity,
        list(facts.languages),
        list(facts.teams),
        facts.signed_on,
    )
    return None if row is None else read(OperatorRecord, row)


async def count(
    db: Executor, account_id: UUID, user_id: UUID, *, holding: int = 0, bridged: int = 0
) -> OperatorRecord | None:
    """Add to what an operator holds; None: there is no such operator. Locks the operator."""
    row = await db.fetchrow(
        f"""
        UPDATE operators SET holding = holding + $3, bridged = bridged + $4, revision = revision + 1
        WHERE account_id = $1 AND user_id = $2 RETURNING {_OPERATOR}
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
    """The account's operators who are not deleted, the newest user first.

    Raises:
        BadCursor: the cursor is not one of this list.
    """
    rows = await db.fetch(
        f"""
        SELECT {columns(OperatorRecord, "operator")} FROM operators operator
        JOIN users person ON person.account_id = operator.account_id AND person.id = operator.user_id
        WHERE operator.account_id = $1 AND operator.user_id < $2 AND person.deleted_at IS NULL
        ORDER BY operator.user_id DESC LIMIT $3
        """,  # noqa: S608
        account_id,
        after_id(cursor),
        limit + 1,
    )
    return page([read(OperatorRecord, row) for row in rows], limit, lambda one: one.user_id)


async def with_room(db: Executor, account_id: UUID) -> Sequence[OperatorRecord]:
    """Who could be offered a handoff: active, signed on, with room; the longest unasked first."""
    rows = await db.fetch(
        f"""
        SELECT {columns(OperatorRecord, "operator")} FROM operators operator
        JOIN users person ON person.account_id = operator.account_id AND person.id = operator.user_id
        WHERE operator.account_id = $1 AND operator.signed_on AND operator.holding < operator.capacity
            AND person.active
        ORDER BY operator.last_offered_at NULLS FIRST, operator.user_id
        """,  # noqa: S608
        account_id,
    )
    return [read(OperatorRecord, row) for row in rows]


async def offered(db: Executor, account_id: UUID, user_id: UUID, at: datetime) -> None:
    """Remember that somebody was asked, so that the next one asked is another."""
    await db.execute(
        "UPDATE operators SET last_offered_at = $3 WHERE account_id = $1 AND user_id = $2",
        account_id,
        user_id,
        at,
    )


async def silent_since(db: Executor, before: datetime, *, limit: int) -> Sequence[OperatorRecord]:
    """Operators of all accounts who are signed on but were last heard from earlier than ``before``."""
    rows = await db.fetch(
        f"""
        SELECT {_OPERATOR} FROM operators
        WHERE signed_on AND last_seen_at < $1 ORDER BY last_seen_at LIMIT $2
        """,  # noqa: S608
        before,
        limit,
    )
    return [read(OperatorRecord, row) for row in rows]
