"""The journal's writer: writes committed events as lines of JSON; one process at a time writes.

The order of the lines is committed before they are written (``db.journal``), and the file shows its last
line. The next writer therefore continues exactly where a dead one stopped, and an unusable file loses
nothing. The database records the last line that was written, so that a shortened journal is detected.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from loguru import logger

from db import journal
from db.errors import DatabaseError
from db.ids import new_id
from db.journal import Backlog, JournalLock, LineRecord, PartRecord
from db.pool import Database
from voicebot.clock import Clock
from voicebot.handoffs.journal_chain import End, JournalBroken, JournalKeys
from voicebot.handoffs.journal_files import FULL_BYTES, PART_ID, JournalFiles

LATE = timedelta(seconds=60)
"""If events have waited for longer, a line of the journal reports it."""

BATCH = 500
DEBOUNCE_S = 0.05
"""Pause after a wake-up, so that events that are committed together are written together."""
LOCK_POLL_S = 5.0
"""How often a process that is not the writer tries to become it."""


class Journal:
    """Writes events to the journal's files."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        directory: Path,
        keys: JournalKeys,
        *,
        full_bytes: int = FULL_BYTES,
    ) -> None:
        """Write to files in ``directory``, each of which is sealed when it has ``full_bytes`` bytes."""
        self._db = database
        self._clock = clock
        self._directory = directory.absolute()
        self._keys = keys
        self._full_bytes = full_bytes
        self._wakeup = asyncio.Event()
        self._stopping = asyncio.Event()
        self.alarms = 0
        """How many times the files were not usable."""
        self.alarm: str | None = None
        """Why this process cannot write now; None: it can, or it is not the writer."""

    def wake(self) -> None:
        """Write soon, because an event was committed."""
        self._wakeup.set()

    def stop(self) -> None:
        """Write the committed events, then let ``run`` return."""
        self._stopping.set()
        self._wakeup.set()

    async def run(self) -> None:
        """Write until stopped, while this process holds the writer's lock."""
        while True:
            try:
                async with journal.only_writer(self._db) as lock:
                    if lock is not None:
                        await self._write(lock)
            except DatabaseError as error:
                logger.warning("the journal waits for the database: {}", type(error).__name__)
            except (JournalBroken, OSError) as error:
                self._raise_alarm(str(error))
            # Events do not shorten this pause: each attempt opens a connection.
            with suppress(TimeoutError):
                async with asyncio.timeout(LOCK_POLL_S):
                    await self._stopping.wait()
            if self._stopping.is_set():
                return

    def _raise_alarm(self, problem: str) -> None:
        self.alarms += 1
        if problem != self.alarm:
            logger.error(
                "ALARM: the journal cannot be written ({}); its events stay in the database. Run `voicebot "
                "journal verify`; to go on, move the directory {} away.",
                problem,
                self._directory,
            )
        self.alarm = problem

    async def _write(self, lock: JournalLock) -> None:
        files = JournalFiles(self._directory, self._keys, full_bytes=self._full_bytes)
        try:
            await asyncio.to_thread(files.open)
            part_id = await self._part_of(files)
            self.alarm = None
            is_behind = True  # a writer that died may have numbered lines that it did not write
            while True:
                self._wakeup.clear()
                # Read first: what was committed before `stop` must be in the last batch.
                stopping = self._stopping.is_set()
                backlog = await journal.backlog(self._db)
                if is_behind or backlog.count:
                    if not await lock.is_held():
                        return
                    is_behind = await self._write_batch(files, part_id, backlog)
                elif stopping:
                    return
                else:
                    await self._wakeup.wait()
                    if not self._stopping.is_set():
                        await asyncio.sleep(DEBOUNCE_S)
        finally:
            await asyncio.to_thread(files.close)

    async def _part_of(self, files: JournalFiles) -> UUID:
        """The id of the directory in the database, after a check that the directory ends as recorded there.

        Raises:
            JournalBroken: it does not.
        """
        part_id = await asyncio.to_thread(files.part_id)
        if part_id is None:
            part_id = new_id()
            await self._record_end(files, part_id)
            await asyncio.to_thread(files.set_part_id, part_id)
            return part_id
        known = (await journal.parts(self._db)).get(part_id)
        if known is not None:
            await asyncio.to_thread(files.expect, End(known.last_line, known.last_hash))
        elif files.end.seq:
            raise JournalBroken(PART_ID, 0, "the directory is the journal of another database")
        await self._record_end(files, part_id)
        return part_id

    async def _record_end(self, files: JournalFiles, part_id: UUID) -> None:
        part = PartRecord(
            id=part_id,
            host=socket.gethostname(),
            directory=str(self._directory),
            last_line=files.end.seq,
            last_hash=files.end.hash,
            updated_at=self._clock.now(),
        )
        await journal.record_part(self._db, part)

    async def _write_batch(self, files: JournalFiles, part_id: UUID, backlog: Backlog) -> bool:
        """Write the next lines; returns whether there were any."""
        await self._report_lag(backlog)
        await journal.number(self._db, limit=BATCH)
        lines = await journal.lines_after(self._db, files.end.seq, limit=BATCH)
        if lines:
            now = self._clock.now()
            await asyncio.to_thread(files.append, _documents(lines, files.end.seq, now))
            await self._record_end(files, part_id)
        return bool(lines)

    async def _report_lag(self, backlog: Backlog) -> None:
        now = self._clock.now()
        if backlog.oldest_at is not None and now - backlog.oldest_at > LATE:
            late_s = round((now - backlog.oldest_at).total_seconds())
            await journal.number(self._db, limit=BATCH)
            summary = f"{backlog.count} events were written late, the oldest by {late_s} s"
            await journal.remark(self._db, "lag", summary, now)


def _documents(lines: Sequence[LineRecord], last: int, now: datetime) -> list[dict[str, Any]]:
    """The lines to write, with a gap line wherever lines were deleted from the database."""
    documents = []
    for line in lines:
        missing = line.line - last - 1
        if missing:
            documents.append(_gap(line, missing, now))
        documents.append(_line(line, now))
        last = line.line
    return documents


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
        "summary": f"{missing} lines were deleted from the database before they were written here",
    }
