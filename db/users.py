"""Users: the people of an account. An API key belongs to a user and is refused once the user is inactive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from db.errors import ConstraintViolated, EmailTaken, NotFound
from db.ids import new_id
from db.keys import Role
from db.pool import Executor
from db.rows import Page, after_id, columns, page, read


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRecord:
    """One user."""

    id: UUID
    account_id: UUID
    name: str
    email: str | None
    phone: str | None
    """E.164; where the user is called when they claim a handoff."""
    role: Role
    active: bool
    created_at: datetime
    deleted_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UserDraft:
    """The fields of a user that a client sets."""

    name: str
    role: Role
    email: str | None = None
    phone: str | None = None
    active: bool = True


_USER = columns(UserRecord)


async def create(db: Executor, account_id: UUID, draft: UserDraft) -> UserRecord:
    """Add a user to the account.

    Raises:
        EmailTaken: another user of the account has the address.
        NotFound: there is no such account.
    """
    try:
        row = await db.fetchrow(
            f"""
            INSERT INTO users (id, account_id, name, email, role, active, phone)
            VALUES ($2, $1, $3, $4, $5, $6, $7)
            RETURNING {_USER}
            """,  # noqa: S608 - only column names
            account_id,
            new_id(),
            draft.name,
            draft.email,
            draft.role,
            draft.active,
            draft.phone,
        )
    except ConstraintViolated as error:
        if error.constraint == "users_account_id_fkey":
            raise NotFound("account", account_id) from None
        raise _translated(error) from None
    if row is None:
        raise NotFound("account", account_id)
    return read(UserRecord, row)


async def get(db: Executor, account_id: UUID, user_id: UUID) -> UserRecord:
    """Get one user, also a deleted one.

    Raises:
        NotFound: the account has no such user.
    """
    row = await db.fetchrow(
        f"SELECT {_USER} FROM users WHERE account_id = $1 AND id = $2",  # noqa: S608
        account_id,
        user_id,
    )
    if row is None:
        raise NotFound("user", user_id)
    return read(UserRecord, row)


async def list_users(
    db: Executor, account_id: UUID, *, limit: int, cursor: str | None = None
) -> Page[UserRecord]:
    """List the account's users who are not deleted, newest first.

    Raises:
        BadCursor: the cursor is not one of this list.
    """
    rows = await db.fetch(
        f"""
        SELECT {_USER} FROM users WHERE account_id = $1 AND id < $2 AND deleted_at IS NULL
        ORDER BY id DESC LIMIT $3
        """,  # noqa: S608
        account_id,
        after_id(cursor),
        limit + 1,
    )
    return page([read(UserRecord, row) for row in rows], limit, lambda user: user.id)


async def update(db: Executor, account_id: UUID, user_id: UUID, draft: UserDraft) -> UserRecord:
    """Replace a user; deactivating a user invalidates all of their keys.

    Raises:
        EmailTaken: another user of the account has the address.
        NotFound: the account has no such user, or the user was deleted.
    """
    try:
        row = await db.fetchrow(
            f"""
            UPDATE users SET name = $3, email = $4, role = $5, active = $6, phone = $7
            WHERE account_id = $1 AND id = $2 AND deleted_at IS NULL RETURNING {_USER}
            """,  # noqa: S608
            account_id,
            user_id,
            draft.name,
            draft.email,
            draft.role,
            draft.active,
            draft.phone,
        )
    except ConstraintViolated as error:
        raise _translated(error) from None
    if row is None:
        raise NotFound("user", user_id)
    return read(UserRecord, row)


async def set_phone(db: Executor, account_id: UUID, user_id: UUID, phone: str | None) -> UserRecord:
    """Set the telephone number of a user, E.164; None removes it.

    Raises:
        NotFound: the account has no such user, or the user was deleted.
    """
    row = await db.fetchrow(
        f"""
        UPDATE users SET phone = $3 WHERE account_id = $1 AND id = $2 AND deleted_at IS NULL
        RETURNING {_USER}
        """,  # noqa: S608
        account_id,
        user_id,
        phone,
    )
    if row is None:
        raise NotFound("user", user_id)
    return read(UserRecord, row)


async def phones(db: Executor, account_id: UUID, user_ids: Sequence[UUID]) -> Mapping[UUID, str | None]:
    """The telephone numbers of users of the account, by the user's id."""
    rows = await db.fetch(
        "SELECT id, phone FROM users WHERE account_id = $1 AND id = ANY($2::uuid[])", account_id, user_ids
    )
    return {row["id"]: row["phone"] for row in rows}


async def delete(db: Executor, account_id: UUID, user_id: UUID) -> UserRecord:
    """Delete a user; records of what they did keep their name. Repeating it changes nothing.

    Raises:
        NotFound: the account has no such user.
    """
    row = await db.fetchrow(
        f"""
        UPDATE users SET active = false, deleted_at = coalesce(deleted_at, now())
        WHERE account_id = $1 AND id = $2 RETURNING {_USER}
        """,  # noqa: S608
        account_id,
        user_id,
    )
    if row is None:
        raise NotFound("user", user_id)
    return read(UserRecord, row)


async def to_notify(
    db: Executor,
    account_id: UUID,
    *,
    roles: Sequence[Role] = ("owner", "admin", "operator"),
    exclude: UUID | None = None,
) -> Sequence[UserRecord]:
    """Active users with an e-mail address, by default owners, admins and operators.

    Args:
        db: the connection.
        account_id: the account.
        roles: whose.
        exclude: a user to leave out.
    """
    rows = await db.fetch(
        f"""
        SELECT {_USER} FROM users
        WHERE account_id = $1 AND deleted_at IS NULL AND active AND email IS NOT NULL
            AND role = ANY($3::text[]) AND id IS DISTINCT FROM $2
        ORDER BY id
        """,  # noqa: S608
        account_id,
        exclude,
        list(roles),
    )
    return [read(UserRecord, row) for row in rows]


async def of_key(db: Executor, account_id: UUID, key_id: UUID) -> UserRecord:
    """Get the user of a key. A key that was created without a user gets one of its own on first use.

    Raises:
        NotFound: the account has no such key.
    """
    row = await db.fetchrow(
        f"""
        SELECT {columns(UserRecord, "users")} FROM api_keys key
        JOIN users ON users.account_id = key.account_id AND users.id = key.user_id
        WHERE key.account_id = $1 AND key.id = $2
        """,  # noqa: S608
        account_id,
        key_id,
    )
    if row is not None:
        return read(UserRecord, row)
    async with db.transaction() as transaction:
        key = await transaction.fetchrow(
            "SELECT role, label, prefix, user_id FROM api_keys WHERE account_id = $1 AND id = $2 FOR UPDATE",
            account_id,
            key_id,
        )
        if key is None:
            raise NotFound("key", key_id)
        if key["user_id"] is not None:
            return await get(transaction, account_id, key["user_id"])
        name = key["label"] or f"key {key['prefix']}…"
        user = await create(transaction, account_id, UserDraft(name=name, role=key["role"]))
        await transaction.execute(
            "UPDATE api_keys SET user_id = $3 WHERE account_id = $1 AND id = $2",
            account_id,
            key_id,
            user.id,
        )
    return user


def _translated(error: ConstraintViolated) -> ConstraintViolated | EmailTaken:
    return EmailTaken() if error.constraint == "users_email_unique" else error
