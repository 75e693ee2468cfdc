"""Tokens of event streams, which an open stream renews: a browser reconnects with the same address."""

from __future__ import annotations

import hashlib
from datetime import datetime
from uuid import UUID

from db.pool import Executor


async def renew(db: Executor, account_id: UUID, token: str, *, now: datetime, expires_at: datetime) -> None:
    """Store until when a token opens streams; expired ones are deleted."""
    await db.execute("DELETE FROM stream_tokens WHERE expires_at < $1", now)
    await db.execute(
        """
        INSERT INTO stream_tokens AS stored (account_id, hash, expires_at) VALUES ($1, $2, $3)
        ON CONFLICT (hash) DO UPDATE SET expires_at = greatest(stored.expires_at, $3)
        """,
        account_id,
        _hash(token),
        expires_at,
    )


async def is_renewed(db: Executor, account_id: UUID, token: str, now: datetime) -> bool:
    """Whether a stream has renewed the token, and that has not expired."""
    row = await db.fetchrow(
        "SELECT 1 FROM stream_tokens WHERE account_id = $1 AND hash = $2 AND expires_at >= $3",
        account_id,
        _hash(token),
        now,
    )
    return row is not None


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
