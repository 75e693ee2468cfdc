"""One telephone line: two timelines, one clock, a frame every 20 ms without drift."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import numpy as np

from voicebot.sandbox.audio.mulaw import Samples
from voicebot.sandbox.carrier.timeline import SAMPLE_RATE, TICK, TICK_MS, Timeline


class LineDead(ConnectionError):
    """The call is over: nothing more will be heard on this line. Trying again does not help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lateness:
    """How late the line's frames were handled, in ms: what this machine added, not the server under test."""

    frames: int
    p50_ms: float
    p95_ms: float
    max_ms: float
    late: int
    """Frames handled more than 20 ms after their time."""


class Line:
    """The person's end of a call: what they said, what they heard, and the current time."""

    def __init__(self) -> None:
        self.said = Timeline()
        self.heard = Timeline()
        self.alive = False
        self._origin = 0.0
        self.waited = 0
        """Samples that have sounded, without late frames: due when the frame before was handled."""
        self._late_s: list[float] = []
        self._tick = asyncio.Event()

    def open(self) -> None:
        """Start the clock: this moment is sample 0 of both timelines."""
        self._origin = time.monotonic()
        self.alive = True

    def close(self) -> None:
        """End the line and wake everyone who listens."""
        self.alive = False
        self._tick.set()

    def now(self) -> int:
        """The present moment, in samples since the line was opened."""
        return int((time.monotonic() - self._origin) * SAMPLE_RATE)

    async def run(self, on_frame: Callable[[Samples], Awaitable[None]]) -> None:
        """Every 20 ms, let both timelines sound and hand over the frame that was said; runs until cancelled.

        Frame k is due at (k + 1) × 20 ms after `open`, however late the frames before it were.
        """
        while True:
            due = self._origin + (self.said.cursor + TICK) / SAMPLE_RATE
            if (wait_s := due - time.monotonic()) > 0:
                self.waited += TICK
            await asyncio.sleep(max(0.0, wait_s))
            self._late_s.append(max(0.0, time.monotonic() - due))
            self.heard.advance(TICK)
            await on_frame(self.said.advance(TICK))
            tick, self._tick = self._tick, asyncio.Event()
            tick.set()

    async def next_frame(self) -> int:
        """Wait for the next 20 ms to have sounded, and return how many samples have sounded in all.

        Raises:
            LineDead: the call is over.
        """
        if self.alive:
            await self._tick.wait()
        if not self.alive:
            raise LineDead("the call is over")
        return self.heard.cursor

    def lateness(self) -> Lateness:
        """Measure how well this line kept its pace."""
        late = np.array(self._late_s or [0.0]) * 1000.0
        return Lateness(
            frames=len(self._late_s),
            p50_ms=float(np.percentile(late, 50)),
            p95_ms=float(np.percentile(late, 95)),
            max_ms=float(late.max()),
            late=int((late > TICK_MS).sum()),
        )
