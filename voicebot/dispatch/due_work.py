"""A loop for due rows: each row is claimed with a lease and processed in its own task.

The dispatcher and the finaliser are such loops. Any number of processes run them.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Generic, TypeVar

from loguru import logger

from db.errors import DatabaseError
from voicebot.background import BackgroundTasks
from voicebot.clock import Clock

RowT = TypeVar("RowT")

CHECK_AGAIN_S = 30.0
"""The longest pause; notifications may be lost while a connection is down, and claims with their process."""

DATABASE_PAUSE_S = 1.0

CLAIM_INTERVAL_S = 0.05
"""The shortest time between two claims, so that a claim takes several rows that became due meanwhile."""


class DueWork(ABC, Generic[RowT]):
    """Claims due rows when it is woken and at the next due time, without polling."""

    def __init__(
        self, name: str, at_once: int, clock: Clock, *, interval_s: float = CLAIM_INTERVAL_S
    ) -> None:
        """Work on rows.

        Args:
            name: for the log.
            at_once: how many rows are worked on at once.
            clock: the time.
            interval_s: the shortest time between two claims, in seconds.
        """
        self._name = name
        self._at_once = at_once
        self._clock = clock
        self._interval_ms = interval_s * 1000
        self._wakeup = asyncio.Event()
        self._background = BackgroundTasks(name)
        self._working = 0

    @abstractmethod
    async def claim(self, now: datetime, limit: int) -> Sequence[RowT]:
        """Claim at most ``limit`` rows that are due."""

    @abstractmethod
    async def next_due(self, after: datetime) -> datetime | None:
        """Return the time at which the next row becomes due; None: there is none."""

    @abstractmethod
    async def work(self, row: RowT, /) -> None:
        """Work on a claimed row. After a ``DatabaseError`` it is claimed again when its lease is over."""

    def wake(self) -> None:
        """Claim due rows soon."""
        self._wakeup.set()

    async def run(self) -> None:
        """Work until cancelled: a wake-up after a pause is handled at once, others after an interval."""
        while True:
            again_ms = self._clock.monotonic_ms() + self._interval_ms
            self._wakeup.clear()
            try:
                pause_s = await self.run_once()
            except DatabaseError as error:
                logger.warning("{} waits for the database: {}", self._name, type(error).__name__)
                pause_s = DATABASE_PAUSE_S
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._wakeup.wait()
            await asyncio.sleep(max(again_ms - self._clock.monotonic_ms(), 0) / 1000)

    async def run_once(self) -> float:
        """Start the work on rows that are due; return how long to wait for the next one, in seconds.

        If all places are taken, nothing is claimed: the end of a row's work wakes the loop. The next due time
        is asked for only if no row was claimed.

        Raises:
            DatabaseError: nothing was claimed, or it is not known when something is due.
        """
        free = self._at_once - self._working
        if free <= 0:
            return CHECK_AGAIN_S
        now = self._clock.now()
        claimed = await self.claim(now, free)
        for row in claimed:
            self._working += 1
            self._background.start(self._work(row), name="claimed row")
        if claimed:
            return 0.0 if len(claimed) < free else CHECK_AGAIN_S
        due = await self.next_due(now)
        seconds = CHECK_AGAIN_S if due is None else (due - self._clock.now()).total_seconds()
        return min(max(seconds, 0.0), CHECK_AGAIN_S)

    async def finish(self, timeout_s: float) -> None:
        """Wait until work that has begun is done."""
        await self._background.finish(timeout_s)

    async def _work(self, row: RowT) -> None:
        try:
            await self.work(row)
        except DatabaseError as error:
            logger.warning("{}: a row waits for the database: {}", self._name, type(error).__name__)
        finally:
            self._working -= 1
            self._wakeup.set()
