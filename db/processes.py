"""The server processes that share this database. Only the database's clock is used."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from db.pool import Executor


async def seen(db: Executor, process_id: UUID, *, draining: bool) -> None:
    """The process is running; ``draining``: it takes no more calls. Rows of yesterday are deleted."""
    await db.execute(
        """
        WITH old AS (DELETE FROM processes WHERE seen_at < now() - interval '1 day' AND id <> $1)
        INSERT INTO processes (id, draining) VALUES ($1, $2)
        ON CONFLICT (id) DO UPDATE SET seen_at = now(), draining = $2
        """,
        process_id,
        draining,
    )


async def stopped(db: Executor, process_id: UUID) -> None:
    """The process has stopped."""
    await db.execute("DELETE FROM processes WHERE id = $1", process_id)


async def has_other(db: Executor, process_id: UUID, *, within: timedelta) -> bool:
    """Whether another process was seen ``within`` this time and takes calls."""
    row = await db.fetchrow(
        """
        SELECT 1 FROM processes
        WHERE id <> $1 AND NOT draining AND seen_at > now() - $2::interval LIMIT 1
        """,
        process_id,
        within,
    )
    return row is not None
