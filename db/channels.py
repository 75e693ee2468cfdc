"""Channels: HTTP endpoints that an account wants to be notified at, in addition to its users' e-mail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from db.errors import NotFound
from db.ids import new_id
from db.pool import Executor
from db.rows import columns, read

ChannelKind = Literal["slack", "webhook", "ticket"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelRecord:
    """One channel."""

    id: UUID
    account_id: UUID
    kind: ChannelKind
    label: str
    url: str
    secret: str | None
    """Signing key of webhooks and tickets, encrypted by ``voicebot.vault``."""
    created_at: datetime
    deleted_at: datetime | None


_CHANNEL = columns(ChannelRecord)
_LIMIT = 100


async def create(
    db: Executor, account_id: UUID, kind: ChannelKind, url: str, *, label: str = "", secret: str | None = None
) -> ChannelRecord:
    """Add a channel.

    Args:
        db: the connection.
        account_id: the account.
        kind: what is sent to it.
        url: the endpoint.
        label: a name for people.
        secret: the signing key, encrypted by ``voicebot.vault``.
    """
    row = await db.fetchrow(
        f"""
        INSERT INTO channels (id, account_id, kind, label, url, secret) VALUES ($2, $1, $3, $4, $5, $6)
        RETURNING {_CHANNEL}
        """,  # noqa: S608 - only column names
        account_id,
        new_id(),
        kind,
        label,
        url,
        secret,
    )
    if row is None:
        raise NotFound("account", account_id)
    return read(ChannelRecord, row)


async def get(db: Executor, account_id: UUID, channel_id: UUID) -> ChannelRecord:
    """Get one channel, also a deleted one.

    Raises:
        NotFound: the account has no such channel.
    """
    row = await db.fetchrow(
        f"SELECT {_CHANNEL} FROM channels WHERE account_id = $1 AND id = $2",  # noqa: S608
        account_id,
        channel_id,
    )
    if row is None:
        raise NotFound("channel", channel_id)
    return read(ChannelRecord, row)


async def of_account(
    db: Executor, account_id: UUID, kind: ChannelKind | None = None
) -> Sequence[ChannelRecord]:
    """The account's channels, of one kind if given, oldest first; at most 100."""
    rows = await db.fetch(
        f"""
        SELECT {_CHANNEL} FROM channels
        WHERE account_id = $1 AND deleted_at IS NULL AND ($2::text IS NULL OR kind = $2)
        ORDER BY id LIMIT {_LIMIT}
        """,  # noqa: S608
        account_id,
        kind,
    )
    return [read(ChannelRecord, row) for row in rows]


async def delete(db: Executor, account_id: UUID, channel_id: UUID) -> None:
    """Delete a channel; notices that wait for it fail when they are due.

    Raises:
        NotFound: the account has no such channel.
    """
    if not await db.execute(
        """
        UPDATE channels SET deleted_at = coalesce(deleted_at, now()), secret = NULL
        WHERE account_id = $1 AND id = $2
        """,
        account_id,
        channel_id,
    ):
        raise NotFound("channel", channel_id)
