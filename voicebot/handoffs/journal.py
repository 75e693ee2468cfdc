"""The journal's writer: the escalation story in lines of JSON, from committed events, one process at a time.

The order of the lines is committed before they are written (`db.journal`), and the file says how far it got.
So a writer that dies is continued exactly, and a file that cannot be opened loses nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from loguru import logger

from db import journal
from db.errors import DatabaseError
from db.journal import JournalLock, LineRecord
from db.pool import Database
from voicebot.clock import Clock
from voicebot.handoffs.journal_files import FULL_BYTES, JournalFiles

LATE = timedelta(seconds=60)
"""When events have waited for longer than this, the journal says so in a line."""

BATCH = 500
LOOK_S = 1.0
SETTLE_S = 0.05
"""How long after a stir it is written, so that what comes together is synced together."""
TURN_S = 5.0
"""How often it is looked whether another process still writes."""


class Journal:
    """Writes while it can, and tells how far it is behind."""

    def __init__(
        self, database: Database, clock: Clock, directory: Path, *, full_bytes: int = FULL_BYTES
    ) -> None:
        """Write to files in ``directory``, which are sealed at ``full_bytes``."""
        self._db = database
        self._clock = clock
        self._directory = directory
        self._full_bytes = full_bytes
        self._stirred = asyncio.Event()
        self._stopping = False
        self.alarms = 0
        """How often the files could not be used."""

    def stir(self) -> None:
        """Something was committed."""
        self._stirred.set()

    def stop(self) -> None:
        """Write what there is, then let `run` return."""
        self._stopping = True
        self._stirred.set()

    async def run(self) -> None:
        """Write until stopped: when this process is the one whose turn it is."""
        while True:
            try:
                async with journal.only_writer(self._db) as lock:
                    if lock is not None:
                        await self._write(lock)
            except DatabaseError as error:
                logger.warning("the journal waits for the database: {}", type(error).__name__)
            except OSError as error:
                self.alarms += 1
                logger.error(
                    "ALARM: the journal cannot be written ({}); its events wait in the database", error
                )
            if self._stopping:
                return
            await self._pause(TURN_S)

    async def _write(self, lock: JournalLock) -> None:
        files = JournalFiles(self._directory, full_bytes=self._full_bytes)
        try:
            await asyncio.to_thread(files.open)
            while await lock.is_held():
                self._stirred.clear()
                if not await self._batch(files):
                    if self._stopping:
                        return
                    await self._pause(LOOK_S)
        finally:
            await asyncio.to_thread(files.close)

    async def _batch(self, files: JournalFiles) -> bool:
        """Write the next lines; False: there were none."""
        await self._remark_lag()
        await journal.number(self._db, limit=BATCH)
        lines = await journal.lines_after(self._db, files.end.seq, limit=BATCH)
        if lines:
            now = self._clock.now()
            await asyncio.to_thread(files.append, _told(lines, files.end.seq, now))
        return bool(lines)

    async def _remark_lag(self) -> None:
        behind = await journal.backlog(self._db)
        now = self._clock.now()
        if behind.oldest_at is not None and now - behind.oldest_at > LATE:
            late_s = round((now - behind.oldest_at).total_seconds())
            await journal.number(self._db, limit=BATCH)
            summary = f"{behind.count} events were written late, the oldest by {late_s} s"
            await journal.remark(self._db, "lag", summary, now)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stirred.wait()
                if not self._stopping:
                    await asyncio.sleep(SETTLE_S)


def _told(lines: Sequence[LineRecord], last: int, now: datetime) -> list[dict[str, Any]]:
    """The lines as they are written, with one for what was forgotten before the first of them."""
    told = [_line(line, now) for line in lines]
    missing = lines[0].line - last - 1
    if missing:
        told.insert(0, _gap(lines[0], missing, now))
    return told


def _line(line: LineRecord, now: datetime) -> dict[str, Any]:
    data = line.data
    return {
        "seq": line.line,
        "at": line.at.isoformat(),
        "written_at": now.isoformat(),
        "kind": line.kind,
        "call_id": str(line.call_id) if line.call_id else None,
        "handoff_id": str(line.handoff_id) if line.handoff_id else None,
        "goal_id": str(line.handoff_id) if line.handoff_id and data.get("intent") == "park" else None,
        "intent": data.get("intent"),
        "summary": data.get("summary", ""),
        "confidence": data.get("confidence"),
        "auto_proceed": data.get("auto_proceed"),
    }


def _gap(first: LineRecord, missing: int, now: datetime) -> dict[str, Any]:
    return {
        "seq": first.line - 1,
        "at": first.at.isoformat(),
        "written_at": now.isoformat(),
        "kind": "gap",
        "summary": f"{missing} lines are not in the database any more",
    }
