"""Greetings synthesised ahead of time, kept across calls and restarts, bounded per account.

The key is a digest of everything the audio depends on (words, voice, model, settings, rate, encoding), so
an entry never goes stale; it is only pushed out by ones used later.
"""

from __future__ import annotations

from uuid import UUID

from db.errors import GreetingTooLarge, NotFound
from db.pool import Executor

DEFAULT_BOUND = 64 * 1024 * 1024
"""Bytes of audio an account may keep: over two hours of 8 kHz µ-law."""


async def get(db: Executor, account_id: UUID, key: str) -> bytes:
    """The audio as it was put.

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


async def put(db: Executor, account_id: UUID, key: str, audio: bytes, *, bound: int = DEFAULT_BOUND) -> None:
    """Keep audio; the least recently used is dropped until the account's total is within ``bound`` bytes.

    Raises:
        GreetingTooLarge: it exceeds the bound by itself.
    """
    if len(audio) > bound:
        raise GreetingTooLarge(len(audio), bound)
    async with db.transaction() as transaction:
        await transaction.execute(
            """
            INSERT INTO greetings (account_id, key, audio, last_used_at)
            VALUES ($1, $2, $3, clock_timestamp())
            ON CONFLICT (account_id, key) DO UPDATE SET last_used_at = EXCLUDED.last_used_at
            """,
            account_id,
            key,
            audio,
        )
        # Rows that another process is dropping or has just used are left to it.
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
