"""Accounts (tenants). Every other row belongs to one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from db.errors import NotFound
from db.ids import new_id
from db.pool import Executor, Row
from db.rows import columns, read


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRecord:
    """One account."""

    id: UUID
    name: str
    created_at: datetime


_ACCOUNT = columns(AccountRecord)


async def create(db: Executor, name: str) -> AccountRecord:
    """Create an account; names need not be unique."""
    row = await db.fetchrow(
        f"INSERT INTO accounts (id, name) VALUES ($1, $2) RETURNING {_ACCOUNT}",  # noqa: S608 - column names
        new_id(),
        name,
    )
    return _found(row, "")


async def get(db: Executor, account_id: UUID) -> AccountRecord:
    """One account.

    Raises:
        NotFound: there is no such account.
    """
    row = await db.fetchrow(f"SELECT {_ACCOUNT} FROM accounts WHERE id = $1", account_id)  # noqa: S608
    return _found(row, account_id)


async def oldest(db: Executor, limit: int) -> Sequence[AccountRecord]:
    """The oldest accounts, at most ``limit``; for commands that use the only account."""
    rows = await db.fetch(f"SELECT {_ACCOUNT} FROM accounts ORDER BY id LIMIT $1", limit)  # noqa: S608
    return [read(AccountRecord, row) for row in rows]


def _found(row: Row | None, account_id: UUID | str) -> AccountRecord:
    if row is None:
        raise NotFound("account", account_id)
    return read(AccountRecord, row)
