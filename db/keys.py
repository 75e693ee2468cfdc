"""API keys. Only the hash of a key is stored; the key is shown once, when it is created."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal
from uuid import UUID

from db.errors import ConstraintViolated, KeyRefused, NotFound
from db.ids import new_id
from db.pool import Executor, Row
from db.rows import Page, after_id, columns, page, read

Role = Literal["owner", "admin", "author", "operator", "viewer"]

_PREFIX_LENGTH = 10
_RANK: Mapping[Role, int] = {"owner": 3, "admin": 2, "author": 1, "operator": 1, "viewer": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """An API key, without its secret."""

    id: UUID
    account_id: UUID
    role: Role
    label: str
    prefix: str
    """The first characters of the key, by which its holder recognises it."""
    created_at: datetime
    last_used_at: datetime | None
    """Accurate to a minute."""
    revoked_at: datetime | None
    user_id: UUID | None
    """The user whom the key acts for; None for a key of the account alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedKey:
    """A new key, with its secret."""

    record: KeyRecord
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokedKey:
    """A key that was revoked, by this request or by an earlier one."""

    record: KeyRecord
    first: bool
    """Whether this request revoked it."""


_KEY = columns(KeyRecord)
_BEARER = f"""
    SELECT {columns(KeyRecord, "key")}, person.role AS user_role FROM api_keys key
    LEFT JOIN users person ON person.account_id = key.account_id AND person.id = key.user_id
    WHERE key.revoked_at IS NULL AND (key.user_id IS NULL OR person.active)"""  # noqa: S608 - only column names


async def create(
    db: Executor, account_id: UUID, role: Role, *, label: str = "", user_id: UUID | None = None
) -> CreatedKey:
    """Create a key for an account, which acts for one of its users if given.

    Raises:
        NotFound: there is no such account, or it has no such user.
    """
    key = f"vb_{secrets.token_urlsafe(32)}"
    try:
        row = await db.fetchrow(
            f"""
            INSERT INTO api_keys (id, account_id, role, label, prefix, key_hash, user_id)
            VALUES ($2, $1, $3, $4, $5, $6, $7)
            RETURNING {_KEY}
            """,  # noqa: S608 - only column names
            account_id,
            new_id(),
            role,
            label,
            key[:_PREFIX_LENGTH],
            _hash(key),
            user_id,
        )
    except ConstraintViolated as error:
        if error.constraint == "api_keys_account_id_fkey":
            raise NotFound("account", account_id) from None
        if error.constraint == "api_keys_account_id_user_id_fkey":
            raise NotFound("user", str(user_id)) from None
        raise
    if row is None:
        raise NotFound("account", account_id)
    return CreatedKey(record=read(KeyRecord, row), key=key)


def least(one: Role, other: Role) -> Role:
    """The role with the permissions that both roles have; of an author and an operator: a viewer's."""
    if one != other and _RANK[one] == _RANK[other]:
        return "viewer"
    return min(one, other, key=lambda role: _RANK[role])


async def authenticate(db: Executor, key: str) -> KeyRecord:
    """The record of a key, by the key itself. Its role is what the key allows now (see ``least``).

    Raises:
        KeyRefused: it is unknown or revoked, or its user is deactivated.
    """
    row = await db.fetchrow(
        f"""
        WITH touched AS (
            UPDATE api_keys SET last_used_at = now()
            WHERE key_hash = $1 AND revoked_at IS NULL
                AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')
        )
        {_BEARER} AND key.key_hash = $1
        """,  # noqa: S608
        _hash(key),
    )
    return _good(row)


async def get_valid(db: Executor, account_id: UUID, key_id: UUID) -> KeyRecord:
    """The record of a key that was authenticated before, as ``authenticate`` returns it now.

    Raises:
        KeyRefused: it has been revoked, or its user is deactivated.
    """
    row = await db.fetchrow(
        f"{_BEARER} AND key.account_id = $1 AND key.id = $2",
        account_id,
        key_id,
    )
    return _good(row)


async def valid_ids(db: Executor, key_ids: Sequence[UUID]) -> frozenset[UUID]:
    """Those of the keys that are not revoked, and whose users are active."""
    rows = await db.fetch(f"{_BEARER} AND key.id = ANY($1::uuid[])", list(key_ids))
    return frozenset(row["id"] for row in rows)


async def get(db: Executor, account_id: UUID, key_id: UUID) -> KeyRecord:
    """One key, revoked or not.

    Raises:
        NotFound: the account has no such key.
    """
    row = await db.fetchrow(
        f"SELECT {_KEY} FROM api_keys WHERE account_id = $1 AND id = $2",  # noqa: S608
        account_id,
        key_id,
    )
    if row is None:
        raise NotFound("key", key_id)
    return read(KeyRecord, row)


async def list_keys(
    db: Executor, account_id: UUID, *, limit: int, cursor: str | None = None
) -> Page[KeyRecord]:
    """The account's keys, revoked ones included, newest first.

    Raises:
        BadCursor: the cursor is not one of this list.
    """
    rows = await db.fetch(
        f"""
        SELECT {_KEY} FROM api_keys WHERE account_id = $1 AND id < $2
        ORDER BY id DESC LIMIT $3
        """,  # noqa: S608
        account_id,
        after_id(cursor),
        limit + 1,
    )
    return page([read(KeyRecord, row) for row in rows], limit, lambda key: key.id)


async def revoke(db: Executor, account_id: UUID, key_id: UUID) -> RevokedKey:
    """Revoke a key; revoking it again keeps the first time.

    Raises:
        NotFound: the account has no such key.
    """
    row = await db.fetchrow(
        f"""
        UPDATE api_keys SET revoked_at = now() WHERE account_id = $1 AND id = $2 AND revoked_at IS NULL
        RETURNING {_KEY}
        """,  # noqa: S608
        account_id,
        key_id,
    )
    if row is None:
        return RevokedKey(record=await get(db, account_id, key_id), first=False)
    return RevokedKey(record=read(KeyRecord, row), first=True)


def _good(row: Row | None) -> KeyRecord:
    """The key in a row of ``_BEARER``, with the role that it has in common with its user."""
    if row is None:
        raise KeyRefused
    facts = dict(row)
    user_role: Role | None = facts.pop("user_role")
    key: KeyRecord = KeyRecord(**facts)
    return key if user_role is None else replace(key, role=least(key.role, user_role))


def _hash(key: str) -> bytes:
    """SHA-256; a key of 256 random bits needs no slow hash."""
    return hashlib.sha256(key.encode()).digest()
