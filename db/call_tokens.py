"""The use of the token of a call's media stream.

A token is signed for one call and can be used once, so that a media socket proves which call it belongs to.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from uuid import UUID

from db.calls import CallRecord
from db.dispatch import CALLED_OFF
from db.errors import TokenRefused
from db.pool import Executor
from db.rows import columns


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenUse:
    """The use of a signed media token by one socket; the token names the account and the call."""

    token: str
    account_id: UUID
    call_id: UUID
    carrier_call_id: str
    """The call that the socket is for, according to the carrier."""
    used_by: UUID
    """Id of this use. The same use may be repeated, because an answer of the database may be lost."""


class CallCancelled(TokenRefused):
    """The call was placed by us, and cancelled before it was answered; its token is used up."""

    def __init__(self, call: CallRecord) -> None:
        super().__init__()
        self.call = call


async def consume_token(db: Executor, use: TokenUse) -> CallRecord:
    """Use up a token and return the live call that it opens. Only the token's hash is stored.

    Raises:
        TokenRefused: it was used before or is of another call, or the call has ended.
        CallCancelled: it was dialled and cancelled meanwhile, and its carrier could only ring on.
    """
    row = await db.fetchrow(
        f"""
        WITH used AS (
            INSERT INTO call_tokens (token_hash, account_id, call_id, expires_at, used_at, used_by)
            SELECT $4, account_id, id, now(), now(), $5 FROM calls
            WHERE account_id = $1 AND id = $2 AND carrier_call_id = $3 AND status <> 'ended'
            ON CONFLICT (token_hash) DO UPDATE SET used_at = call_tokens.used_at
                WHERE call_tokens.used_by = $5
            RETURNING account_id, call_id
        )
        SELECT {columns(CallRecord, "call")},
            call.direction = 'outbound' AND call.answered_at IS NULL AND {CALLED_OFF} AS is_cancelled
        FROM calls call JOIN used ON used.account_id = call.account_id AND used.call_id = call.id
        JOIN leads lead ON lead.account_id = call.account_id AND lead.id = call.lead_id
        """,  # noqa: S608
        use.account_id,
        use.call_id,
        use.carrier_call_id,
        token_hash(use.token),
        use.used_by,
    )
    if row is None:
        raise TokenRefused
    values = dict(row)
    is_cancelled = values.pop("is_cancelled")
    call = CallRecord(**values)
    if is_cancelled:
        raise CallCancelled(call)
    return call


def token_hash(token: str) -> bytes:
    """What is stored of a token. Plain SHA-256: a token is too long to guess, so it needs no slow hash."""
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
