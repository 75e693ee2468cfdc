"""The server processes that share this database. Only the database's clock is used."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from db.pool import Executor


async def seen(db: Executor, process_id: UUID, *, draining: bool, address: str | None = None) -> None:
    """The process is running. Rows of yesterday are deleted.

    Args:
        db: the connection.
        process_id: the process.
        draining: whether it takes no more calls.
        address: the URL at which other servers reach it; None: they cannot.
    """
    await db.execute(
        """
        WITH old AS (DELETE FROM processes WHERE seen_at < now() - interval '1 day' AND id <> $1)
        INSERT INTO processes (id, draining, address) VALUES ($1, $2, $3)
        ON CONFLICT (id) DO UPDATE SET seen_at = now(), draining = $2, address = $3
        """,
        process_id,
        draining,
        address,
    )


async def address_of_call(db: Executor, account_id: UUID, call_id: UUID, *, within: timedelta) -> str | None:
    """The address of the process that has a call; None: it has none, or was not seen ``within`` this time."""
    row = await db.fetchrow(
        """
        SELECT holder.address FROM calls call JOIN processes holder ON holder.id = call.held_by
        WHERE call.account_id = $1 AND call.id = $2 AND call.status <> 'ended'
            AND holder.seen_at > now() - $3::interval
        """,
        account_id,
        call_id,
        within,
    )
    return None if row is None else row["address"]


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
