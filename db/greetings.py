"""A cache of synthesised greetings, with a size limit per account.

The key is a digest of everything that the audio depends on (text, voice, model, settings, rate, encoding), so
entries never become stale. The least recently used entries are dropped, and those with the values of a lead
when its payload is deleted (``db.retention``).
"""

from __future__ import annotations

from uuid import UUID

from db.errors import GreetingTooLarge, NotFound
from db.pool import Executor

DEFAULT_BOUND = 64 * 1024 * 1024
"""Bytes of audio per account: over two hours of 8 kHz µ-law."""


async def get(db: Executor, account_id: UUID, key: str) -> bytes:
    """The audio of an entry.

    Raises:
        NotFound: it is not in the cache.
    """
    row = await db.fetchrow(
        """
        WITH touched AS (
            UPDATE greetings SET last_used_at = now()
            WHERE account_id = $1 AND key = $2 AND last_used_at < now() - interval '1 minute'
        )
        SELECT audio FROM greetings WHERE account_id = $1 AND key = $2
        """,
        account_id,
        key,
    )
    if row is None:
        raise NotFound("greeting", key)
    audio: bytes = row["audio"]
    return audio


async def put(
    db: Executor,
    account_id: UUID,
    key: str,
    audio: bytes,
    *,
    lead_id: UUID | None = None,
    bound: int = DEFAULT_BOUND,
) -> None:
    """Store audio, and drop the least recently used until the account's total is within ``bound`` bytes.

    Args:
        db: the connection.
        account_id: whose audio.
        key: its digest.
        audio: the audio.
        lead_id: the lead whose values it says; None: it is the same for everybody.
        bound: bytes of audio of the account.

    Raises:
        GreetingTooLarge: it alone exceeds the bound.
    """
    if len(audio) > bound:
        raise GreetingTooLarge(len(audio), bound)
    async with db.transaction() as transaction:
        await transaction.execute(
            """
            INSERT INTO greetings (account_id, key, audio, lead_id, last_used_at)
            VALUES ($1, $2, $3, $4, clock_timestamp())
            ON CONFLICT (account_id, key) DO UPDATE SET last_used_at = EXCLUDED.last_used_at
            """,
            account_id,
            key,
            audio,
            lead_id,
        )
        # Rows that another process has locked are skipped.
        await transaction.execute(
            """
            DELETE FROM greetings WHERE account_id = $1 AND key IN (
                SELECT key FROM greetings WHERE account_id = $1 AND key IN (
                    SELECT key FROM (
                        SELECT key, sum(size) OVER (ORDER BY last_used_at DESC, key) AS running
                        FROM greetings WHERE account_id = $1
                    ) AS by_use WHERE running > $2
                ) FOR UPDATE SKIP LOCKED
            )
            """,
            account_id,
            bound,
        )
