"""What a call writes: one ordered writer per call, that retries until PostgreSQL has it.

A call never waits for the database. Entries are written in the order they were made; while the database is
away they wait here, and the caller hears nothing of it. Every entry is a repeatable statement (db package).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID

from loguru import logger

from db.errors import DatabaseError
from db.pool import Database

Entry = Callable[[Database], Awaitable[object]]

FIRST_RETRY_S = 0.1
LAST_RETRY_S = 5.0


class CallWriter:
    """The ordered writer of one call."""

    def __init__(self, database: Database, call_id: UUID) -> None:
        self._database = database
        self._call_id = call_id
        self._entries: asyncio.Queue[Entry | None] = asyncio.Queue()
        self._task = asyncio.create_task(self._write(), name=f"ledger-{call_id}")

    @property
    def waiting(self) -> int:
        """Entries not yet written."""
        return self._entries.qsize()

    def write(self, entry: Entry) -> None:
        """Have ``entry`` written after all earlier ones; returns at once."""
        self._entries.put_nowait(entry)

    async def flushed(self, timeout_s: float) -> bool:
        """Whether everything was written within ``timeout_s`` seconds; it will be later if not."""
        try:
            await asyncio.wait_for(self._entries.join(), timeout_s)
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Return when everything has been written; no entry may follow."""
        self._entries.put_nowait(None)
        await self._task

    async def _write(self) -> None:
        while (entry := await self._entries.get()) is not None:
            await self._until_written(entry)
            self._entries.task_done()

    async def _until_written(self, entry: Entry) -> None:
        pause = FIRST_RETRY_S
        while True:
            try:
                await entry(self._database)
            except DatabaseError as error:
                if not error.retryable:
                    logger.error("call {}: an entry was refused: {}", self._call_id, type(error).__name__)
                    return
                logger.warning("call {}: the database is away, {} wait", self._call_id, self.waiting + 1)
                await asyncio.sleep(pause)
                pause = min(pause * 2, LAST_RETRY_S)
            else:
                return
