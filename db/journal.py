"""Line numbers of the journal: which committed event is which line. The file is written from these rows.

The process that holds the journal's advisory lock numbers lines in transactions of their own, before it
writes them. Therefore the next writer continues exactly where one that died has stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import asyncpg

from db.errors import DatabaseUnavailable
from db.pool import Database, Executor
from db.rows import columns, read

RemarkKind = Literal["gap", "lag"]

# A constant that no other advisory lock of this database uses (see db.migrate).
_LOCK = 0x766F696A
_CONNECT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LineRecord:
    """One line to write: an event, or a remark of the journal about itself."""

    line: int
    at: datetime
    kind: str
    call_id: UUID | None
    handoff_id: UUID | None
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """Events that have no line number yet."""

    count: int
    oldest_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRecord:
    """A part of the journal: a directory that a process has written to, and its last line."""

    id: UUID
    host: str
    directory: str
    """Absolute."""
    last_line: int
    last_hash: str
    updated_at: datetime


_LINE = columns(LineRecord)
_PART = columns(PartRecord)


class JournalLock:
    """The advisory lock of the only writer of all processes; it lasts as long as its connection."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        """Create it with ``only_writer``."""
        self._connection = connection

    async def is_held(self) -> bool:
        """Whether the connection, and with it the lock, still exists; check it before each batch."""
        try:
            await self._connection.fetchval("SELECT 1", timeout=5)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        return True


@contextlib.asynccontextmanager
async def only_writer(database: Database) -> AsyncIterator[JournalLock | None]:
    """Hold the writer's lock while the block runs; None if another process holds it.

    Raises:
        DatabaseUnavailable: the connection failed; try again.
    """
    try:
        connection = await asyncpg.connect(database.dsn, timeout=_CONNECT_S)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise DatabaseUnavailable(f"The journal's lock was not acquired ({type(error).__name__}).") from None
    try:
        held = await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK)
        yield JournalLock(connection) if held else None
    finally:
        with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            async with asyncio.timeout(1):
                await connection.close()
        connection.terminate()


async def number(db: Executor, *, limit: int) -> int:
    """Number the oldest events that have no line; returns how many were numbered."""
    return await db.execute(
        """
        WITH next AS (
            SELECT greatest((SELECT coalesce(max(line), 0) FROM handoff_events),
                (SELECT coalesce(max(line), 0) FROM journal_remarks)) AS last
        ), waiting AS (
            SELECT account_id, seq, row_number() OVER (ORDER BY at, account_id, seq) AS position
            FROM (SELECT account_id, seq, at FROM handoff_events
                WHERE kind IS NOT NULL AND line IS NULL ORDER BY at LIMIT $1) oldest
        )
        UPDATE handoff_events event SET line = next.last + waiting.position
        FROM next, waiting WHERE event.account_id = waiting.account_id AND event.seq = waiting.seq
        """,
        limit,
    )


async def remark(db: Executor, kind: RemarkKind, summary: str, at: datetime) -> None:
    """Add a remark of the journal about itself as the next line."""
    await db.execute(
        """
        INSERT INTO journal_remarks (line, at, kind, summary)
        SELECT 1 + greatest((SELECT coalesce(max(line), 0) FROM handoff_events),
            (SELECT coalesce(max(line), 0) FROM journal_remarks)), $1, $2, $3
        """,
        at,
        kind,
        summary,
    )


async def lines_after(db: Executor, line: int, *, limit: int) -> Sequence[LineRecord]:
    """The lines after ``line``, in order."""
    rows = await db.fetch(
        f"""
        SELECT {_LINE} FROM (
            (SELECT line, at, kind, call_id, handoff_id, data FROM handoff_events
                WHERE line > $1 ORDER BY line LIMIT $2)
            UNION ALL
            (SELECT line, at, kind, NULL, NULL, jsonb_build_object('summary', summary) FROM journal_remarks
                WHERE line > $1 ORDER BY line LIMIT $2)
        ) lines ORDER BY line LIMIT $2
        """,  # noqa: S608 - only column names
        line,
        limit,
    )
    return [read(LineRecord, row) for row in rows]


async def record_part(db: Executor, part: PartRecord) -> None:
    """Record how far a part of the journal was written."""
    await db.execute(
        f"""
        INSERT INTO journal_parts ({_PART}) VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (id) DO UPDATE SET host = EXCLUDED.host, directory = EXCLUDED.directory,
            last_line = EXCLUDED.last_line, last_hash = EXCLUDED.last_hash, updated_at = EXCLUDED.updated_at
        WHERE journal_parts.last_line <= EXCLUDED.last_line
        """,  # noqa: S608 - only column names
        part.id,
        part.host,
        part.directory,
        part.last_line,
        part.last_hash,
        part.updated_at,
    )


async def forget_part(db: Executor, part_id: UUID) -> None:
    """Remove a part whose directory is lost from the register; its lines are no longer missed."""
    await db.execute("DELETE FROM journal_parts WHERE id = $1", part_id)


async def parts(db: Executor) -> Mapping[UUID, PartRecord]:
    """All parts of the journal, by id."""
    rows = await db.fetch(f"SELECT {_PART} FROM journal_parts ORDER BY id")  # noqa: S608 - only column names
    return {row["id"]: read(PartRecord, row) for row in rows}


async def backlog(db: Executor) -> Backlog:
    """Count the events that have no line number yet."""
    row = await db.fetchrow(
        """
        SELECT count(*) AS count, min(at) AS oldest_at FROM handoff_events
        WHERE kind IS NOT NULL AND line IS NULL
        """
    )
    return Backlog(count=0, oldest_at=None) if row is None else read(Backlog, row)
