"""The loop that dispatcher and finaliser share: when it looks for due rows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime

import pytest

from voicebot.clock import SystemClock
from voicebot.dispatch.due_work import CHECK_AGAIN_S, CLAIM_INTERVAL_S, DueWork


class Numbers(DueWork[int]):
    """Works on numbers, of which so many are due; counts how often it has looked for them."""

    def __init__(self, due: int, at_once: int) -> None:
        super().__init__("numbers", at_once, SystemClock())
        self.due = due
        self.claims = 0
        self.claimed = asyncio.Event()
        self.done = asyncio.Event()

    async def claim(self, now: datetime, limit: int) -> Sequence[int]:
        """See ``DueWork.claim``."""
        self.claims += 1
        self.claimed.set()
        return range(min(limit, self.due))

    async def next_due(self, after: datetime) -> datetime | None:
        """Nothing is due later."""
        return None

    async def work(self, row: int) -> None:
        """Takes until the test says so."""
        await self.done.wait()


async def test_many_wakes_are_one_look() -> None:
    """A claim takes what became due since the last one, at intervals; the first follows at once."""
    work = Numbers(due=0, at_once=1)
    began = time.monotonic()
    running = asyncio.create_task(work.run())
    try:
        async with asyncio.timeout(30):
            await work.claimed.wait()
            for _ in range(3):
                work.claimed.clear()
                while not work.claimed.is_set():
                    work.wake()
                    await asyncio.sleep(0)
    finally:
        running.cancel()
        await asyncio.wait([running])
    assert 4 <= work.claims <= 2 + (time.monotonic() - began) / CLAIM_INTERVAL_S


@pytest.mark.parametrize("at_once", [1, 3])
async def test_nothing_is_looked_for_without_a_place(at_once: int) -> None:
    """While all places are taken the database is not asked; the end of a row's work wakes the loop."""
    work = Numbers(10, at_once)
    for _ in range(3):
        assert await work.run_once() == CHECK_AGAIN_S
    assert work.claims == 1
    work.done.set()
    await work.finish(30)
    await work.run_once()
    assert work.claims == 2
    await work.finish(30)
