"""Frames that are passed on at a given time each (`CallOutput`)."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from contextlib import suppress
from heapq import heapify, heappop, heappush

from pipecat.frames.frames import Frame

WHEN_ALL_ARE_GONE = float("inf")
"""The time of the last frame."""


class TimedFrames:
    """Waits for the earliest frame; a frame that arrives later and is due earlier is not delayed.

    Times are those of pipecat's clock in ns. Frames of the same time keep their order.
    """

    def __init__(self) -> None:
        """No frame waits."""
        self._frames: list[tuple[float, int, Frame]] = []
        self._number = itertools.count()
        self._changed = asyncio.Event()

    def __iter__(self) -> Iterator[Frame]:
        return (frame for _, _, frame in self._frames)

    def add(self, frame: Frame, at_ns: float) -> None:
        """A frame goes on at a time."""
        heappush(self._frames, (at_ns, next(self._number), frame))
        self._changed.set()

    def take(self, is_taken: Callable[[Frame], bool]) -> list[Frame]:
        """Remove some of the frames; return them in order."""
        taken = sorted(item for item in self._frames if is_taken(item[2]))
        if taken:
            self._frames = [item for item in self._frames if item not in taken]
            heapify(self._frames)
            self._changed.set()
        return [frame for _, _, frame in taken]

    async def next(self, now_ns: Callable[[], int]) -> Frame:
        """Wait for the time of the earliest frame, and remove it."""
        while True:
            wait_s = None
            if self._frames:
                at_ns, _, frame = self._frames[0]
                if at_ns == WHEN_ALL_ARE_GONE or at_ns <= now_ns():
                    heappop(self._frames)
                    return frame
                wait_s = (at_ns - now_ns()) / 1e9
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
