"""Tokens that let a carrier's media socket prove which call it belongs to: bound to one call, used once."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta
from uuid import UUID

from db.calls import CallRecord
from db.errors import NotFound, TokenRefused
from db.pool import Executor
from db.rows import columns, read


async def issue(db: Executor, account_id: UUID, call_id: UUID, ttl: timedelta) -> str:
    """A fresh token that opens the call's media stream once within ``ttl``. Only its hash is stored.

    Raises:
        NotFound: the account has no such call, or it has ended.
    """
    token = secrets.token_urlsafe(32)
    made = await db.execute(
        """
        INSERT INTO call_tokens (token_hash, account_id, call_id, expires_at)
        SELECT $3, account_id, id, now() + $4::interval FROM calls
        WHERE account_id = $1 AND id = $2 AND status <> 'ended'
        """,
        account_id,
        call_id,
        _hash(token),
        ttl,
    )
    if not made:
        raise NotFound("call", call_id)
    return token


async def consume(db: Executor, token: str, carrier_call_id: str) -> CallRecord:
    """The live call that the token opens; the token is used up. The token itself names the account.

    Raises:
        TokenRefused: it is unknown, expired, used, of another call, or the call has ended.
    """
    row = await db.fetchrow(
        f"""
        UPDATE call_tokens token SET used_at = now()
        FROM calls call
        WHERE token.token_hash = $1 AND token.used_at IS NULL AND token.expires_at > now()
            AND call.account_id = token.account_id AND call.id = token.call_id
            AND call.carrier_call_id = $2 AND call.status <> 'ended'
        RETURNING {columns(CallRecord, "call")}
        """,  # noqa: S608
        _hash(token),
        carrier_call_id,
    )
    if row is None:
        raise TokenRefused
    return read(CallRecord, row)


def _hash(token: str) -> bytes:
    """Plain SHA-256: a token of 256 random bits needs no slow hash."""
    return hashlib.sha256(token.encode()).digest()
