"""The owners of an account: changes of users and keys happen one after another, and leave it an owner."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID

from db.errors import LastOwner, NotFound
from db.pool import Executor, Transaction
from db.rows import read


@dataclass(frozen=True, slots=True, kw_only=True)
class _Owners:
    """Whether an account has owners."""

    users: bool
    """An active user with the role."""
    keys: bool
    """A key that allows what an owner may do."""


@contextlib.asynccontextmanager
async def changing(db: Executor, account_id: UUID) -> AsyncIterator[Transaction]:
    """A transaction that may change users and keys of the account; others wait until it has ended.

    Raises:
        LastOwner: it would leave the account without an active owner, or without a key of an owner.
        NotFound: there is no such account.
    """
    async with db.transaction() as transaction:
        # Rows that refer to the account can be written meanwhile: they take a weaker lock.
        account = await transaction.fetchrow(
            "SELECT id FROM accounts WHERE id = $1 FOR NO KEY UPDATE", account_id
        )
        if account is None:
            raise NotFound("account", account_id)
        before = await _owners(transaction, account_id)
        yield transaction
        after = await _owners(transaction, account_id)
        if (before.users and not after.users) or (before.keys and not after.keys):
            raise LastOwner


async def _owners(transaction: Transaction, account_id: UUID) -> _Owners:
    row = await transaction.fetchrow(
        """
        SELECT EXISTS (SELECT 1 FROM users WHERE account_id = $1 AND active AND role = 'owner') AS users,
            EXISTS (SELECT 1 FROM api_keys key
                LEFT JOIN users ON users.account_id = key.account_id AND users.id = key.user_id
                WHERE key.account_id = $1 AND key.role = 'owner' AND key.revoked_at IS NULL
                    AND (key.user_id IS NULL OR (users.active AND users.role = 'owner'))) AS keys
        """,
        account_id,
    )
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    return read(_Owners, row)
