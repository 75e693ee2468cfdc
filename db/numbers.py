"""Phone numbers of accounts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from db.errors import (
    ConstraintViolated,
    DatabaseError,
    InvalidValue,
    NotFound,
    NumberInUse,
    NumberNotAssigned,
    NumberTaken,
    RevisionConflict,
)
from db.ids import new_id
from db.pool import Executor, Row, Transaction
from db.rows import Page, after_id, columns, narrow, page, read

DEFAULT_PATIENCE_MS = 30_000
DEFAULT_CHANNELS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberRecord:
    """One number."""

    id: UUID
    account_id: UUID
    e164: str
    carrier: str
    label: str
    time_zone: str
    """IANA name."""
    fallback_number: str | None
    """E.164; where calls are sent that cannot be answered."""
    patience_ms: int
    """How long a call waits while the database is down, in ms."""
    channels: int
    """How many calls the number carries at once; inbound calls are not refused for it."""
    reserved_inbound: int
    """Channels that dialling leaves free."""
    inbound: Mapping[str, Any]
    """Which inbound calls are taken (``voicebot.dispatch.inbound_policy``); empty: all."""
    active: bool
    revision: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberDraft:
    """The columns that a save writes."""

    e164: str
    carrier: str
    label: str = ""
    time_zone: str = "UTC"
    fallback_number: str | None = None
    patience_ms: int = DEFAULT_PATIENCE_MS
    channels: int = DEFAULT_CHANNELS
    reserved_inbound: int = 0
    inbound: Mapping[str, Any] = field(default_factory=dict)
    active: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberFilter:
    """Which numbers to list; None does not filter."""

    carrier: str | None = None
    e164: str | None = None
    active: bool | None = None


_NUMBER = columns(NumberRecord)

# The class of the advisory locks of assignments; locks with one key, of 64 bits, are separate from these.
_ASSIGNMENT_LOCK = 0x6E756D62


async def create(
    db: Executor, account_id: UUID, draft: NumberDraft, *, assigned_only: bool = False
) -> NumberRecord:
    """Add a number at revision 1.

    Args:
        db: the connection.
        account_id: the account that registers it.
        draft: the number.
        assigned_only: whether the number must be assigned to the account (``assign``).

    Raises:
        NumberTaken: an account has it with this carrier, active or not.
        NumberNotAssigned: it is assigned to another account, or not assigned and must be.
        InvalidValue: a number is not E.164.
    """
    try:
        async with db.transaction() as transaction:
            await _check_assignment(transaction, account_id, draft.e164, assigned_only=assigned_only)
            row = await transaction.fetchrow(
                f"""
                INSERT INTO numbers (id, account_id, e164, carrier, label, time_zone, fallback_number, active,
                    patience_ms, channels, reserved_inbound, inbound)
                VALUES ($2, $1, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) RETURNING {_NUMBER}
                """,  # noqa: S608 - only column names
                account_id,
                new_id(),
                *_values(draft),
            )
    except ConstraintViolated as error:
        raise _specific_error(error, draft) from None
    return _found(row, draft.e164)


async def get(db: Executor, account_id: UUID, number_id: UUID) -> NumberRecord:
    """One number.

    Raises:
        NotFound: the account has no such number.
    """
    row = await db.fetchrow(
        f"SELECT {_NUMBER} FROM numbers WHERE account_id = $1 AND id = $2 AND deleted_at IS NULL",  # noqa: S608
        account_id,
        number_id,
    )
    return _found(row, number_id)


async def find(
    db: Executor, account_id: UUID, *, e164s: Collection[str] = (), ids: Collection[UUID] = ()
) -> Sequence[NumberRecord]:
    """The account's numbers with one of these E.164 numbers or ids; active ones come last."""
    rows = await db.fetch(
        f"""
        SELECT {_NUMBER} FROM numbers
        WHERE account_id = $1 AND deleted_at IS NULL AND (e164 = ANY($2::text[]) OR id = ANY($3::uuid[]))
        ORDER BY active, id
        """,  # noqa: S608 - only column names
        account_id,
        list(e164s),
        list(ids),
    )
    return [read(NumberRecord, row) for row in rows]


async def list_numbers(
    db: Executor, account_id: UUID, where: NumberFilter, *, limit: int, cursor: str | None = None
) -> Page[NumberRecord]:
    """The account's numbers, newest first.

    Raises:
        BadCursor: the cursor is not one of this list.
    """
    narrowing, values = narrow(
        {"carrier": where.carrier, "e164": where.e164, "active": where.active}, first=4
    )
    rows = await db.fetch(
        f"""
        SELECT {_NUMBER} FROM numbers
        WHERE account_id = $1 AND deleted_at IS NULL AND id < $2{narrowing} ORDER BY id DESC LIMIT $3
        """,  # noqa: S608
        account_id,
        after_id(cursor),
        limit + 1,
        *values,
    )
    return page([read(NumberRecord, row) for row in rows], limit, lambda number: number.id)


async def assign(db: Executor, account_id: UUID, e164: str) -> None:
    """Give a number to an account: only that account can register it, whether it is required or not.

    Raises:
        NotFound: there is no such account.
        NumberTaken: another account has registered it; it must be deleted there first.
        InvalidValue: the number is not E.164.
    """
    try:
        async with db.transaction() as transaction:
            await _lock_assignment(transaction, e164)
            holder = await transaction.fetchrow(
                """
                SELECT carrier FROM numbers WHERE e164 = $2 AND account_id <> $1 AND deleted_at IS NULL
                """,
                account_id,
                e164,
            )
            if holder is not None:
                raise NumberTaken(holder["carrier"], e164)
            await transaction.execute(
                """
                INSERT INTO number_assignments (e164, account_id) VALUES ($2, $1)
                ON CONFLICT (e164) DO UPDATE SET account_id = EXCLUDED.account_id, assigned_at = now()
                """,
                account_id,
                e164,
            )
    except ConstraintViolated as error:
        if error.constraint == "number_assignments_account_id_fkey":
            raise NotFound("account", account_id) from None
        if error.constraint == "number_assignments_e164_form":
            raise InvalidValue("A phone number is not E.164.") from None
        raise


async def update(
    db: Executor,
    account_id: UUID,
    number_id: UUID,
    draft: NumberDraft,
    *,
    expected_revision: int,
    assigned_only: bool = False,
) -> NumberRecord:
    """Replace a number's record; ``assigned_only`` as for ``create``, if another number is written.

    Raises:
        NotFound: the account has no such number.
        RevisionConflict: it is not at ``expected_revision``.
        NumberTaken, NumberNotAssigned, InvalidValue: as for ``create``.
    """
    try:
        async with db.transaction() as transaction:
            e164 = await _lock(transaction, account_id, number_id, expected_revision)
            if draft.e164 != e164:
                await _check_assignment(transaction, account_id, draft.e164, assigned_only=assigned_only)
            row = await transaction.fetchrow(
                f"""
                UPDATE numbers SET e164 = $3, carrier = $4, label = $5, time_zone = $6, fallback_number = $7,
                    active = $8, patience_ms = $9, channels = $10,
                    reserved_inbound = $11, inbound = $12, revision = revision + 1, updated_at = now()
                WHERE account_id = $1 AND id = $2 RETURNING {_NUMBER}
                """,  # noqa: S608
                account_id,
                number_id,
                *_values(draft),
            )
    except ConstraintViolated as error:
        raise _specific_error(error, draft) from None
    return _found(row, number_id)


def _values(draft: NumberDraft) -> tuple[object, ...]:
    """The columns that a client sets, as the arguments from ``$3`` on."""
    return (
        draft.e164,
        draft.carrier,
        draft.label,
        draft.time_zone,
        draft.fallback_number,
        draft.active,
        draft.patience_ms,
        draft.channels,
        draft.reserved_inbound,
        draft.inbound,
    )


async def delete(db: Executor, account_id: UUID, number_id: UUID, *, expected_revision: int) -> None:
    """Delete a number. Records of its calls keep its id.

    Raises:
        NotFound: the account has no such number.
        RevisionConflict: it is not at ``expected_revision``.
        NumberInUse: templates, drafts included, are attached to it.
    """
    async with db.transaction() as transaction:
        await _lock(transaction, account_id, number_id, expected_revision)
        attached = await transaction.fetch(
            """
            SELECT id FROM templates WHERE account_id = $1 AND number_id = $2 AND deleted_at IS NULL
            ORDER BY id
            """,
            account_id,
            number_id,
        )
        if attached:
            raise NumberInUse([row["id"] for row in attached])
        await transaction.execute(
            """
            UPDATE numbers SET active = false, deleted_at = now(), updated_at = now(), revision = revision + 1
            WHERE account_id = $1 AND id = $2
            """,
            account_id,
            number_id,
        )


async def _lock(transaction: Transaction, account_id: UUID, number_id: UUID, expected_revision: int) -> str:
    row = await transaction.fetchrow(
        """
        SELECT revision, e164 FROM numbers WHERE account_id = $1 AND id = $2 AND deleted_at IS NULL
        FOR NO KEY UPDATE
        """,
        account_id,
        number_id,
    )
    if row is None:
        raise NotFound("number", number_id)
    if row["revision"] != expected_revision:
        raise RevisionConflict("number", number_id, row["revision"])
    e164: str = row["e164"]
    return e164


async def _check_assignment(
    transaction: Transaction, account_id: UUID, e164: str, *, assigned_only: bool
) -> None:
    await _lock_assignment(transaction, e164)
    row = await transaction.fetchrow("SELECT account_id FROM number_assignments WHERE e164 = $1", e164)
    allowed = not assigned_only if row is None else row["account_id"] == account_id
    if not allowed:
        raise NumberNotAssigned(e164)


async def _lock_assignment(transaction: Transaction, e164: str) -> None:
    """Serialise registrations and the assignment of one number, which may have no row to lock."""
    await transaction.execute("SELECT pg_advisory_xact_lock($1, hashtext($2))", _ASSIGNMENT_LOCK, e164)


def _specific_error(error: ConstraintViolated, draft: NumberDraft) -> DatabaseError:
    if error.constraint in ("numbers_active_unique", "numbers_one_owner"):
        return NumberTaken(draft.carrier, draft.e164)
    if error.constraint in ("numbers_e164_form", "numbers_fallback_number_form"):
        return InvalidValue("A phone number is not E.164.")
    return error


def _found(row: Row | None, number: UUID | str) -> NumberRecord:
    if row is None:
        raise NotFound("number", number)
    return read(NumberRecord, row)
