"""Whether this process takes new calls: not when it has as many as it may have, or its event loop is late.

The event loop carries the audio of all calls. Its lag is the delay of a timer, smoothed over about a second,
so that one slow task does not refuse calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Literal
from uuid import UUID

from voicebot.clock import Clock

Refusal = Literal["max_calls", "late"]

INTERVAL_MS = 50.0
"""How often the lag is measured."""

SMOOTHING = 0.05
"""Weight of the newest measurement: 20 are made in a second, after which two thirds of a change count."""

EXPECTED_MS = 10_000.0
"""How long an admitted call counts before its media stream is open."""


class Admission:
    """Decides for each new call of this process."""

    def __init__(
        self, clock: Clock, live: Callable[[], Collection[UUID]], *, max_calls: int | None, max_lag_ms: float
    ) -> None:
        """Admit every call at first.

        Args:
            clock: the source of monotonic time.
            live: the ids of the calls of this process.
            max_calls: how many calls this process may have; None: any number.
            max_lag_ms: the lag of the event loop above which no call is admitted while others are live. Calls
                are admitted again when it is below half of that. 0: the lag does not matter.
        """
        self._clock = clock
        self._live = live
        self._max_calls = max_calls
        self._max_lag_ms = max_lag_ms
        self._expected: dict[UUID, float] = {}
        self._late = False
        self.lag_ms = 0.0
        """The smoothed lag of the event loop."""

    def refusal(self) -> Refusal | None:
        """Why no new call is admitted now; None: calls are admitted."""
        count = self._count()
        if self._max_calls is not None and count >= self._max_calls:
            return "max_calls"
        # A process without calls has no audio to protect.
        return "late" if self._late and count else None

    def expect(self, call_id: UUID) -> None:
        """A call was admitted, and its media stream will open soon."""
        self._expected[call_id] = self._clock.monotonic_ms() + EXPECTED_MS

    def observe(self, late_ms: float) -> None:
        """Take a measurement of the lag into account."""
        self.lag_ms += SMOOTHING * (max(0.0, late_ms) - self.lag_ms)
        if self._max_lag_ms:
            limit = self._max_lag_ms / 2 if self._late else self._max_lag_ms
            self._late = self.lag_ms > limit

    async def run(self) -> None:
        """Measure the lag until cancelled."""
        while True:
            due_ms = self._clock.monotonic_ms() + INTERVAL_MS
            await asyncio.sleep(INTERVAL_MS / 1000)
            self.observe(self._clock.monotonic_ms() - due_ms)

    def _count(self) -> int:
        """The number of live calls and of admitted calls whose stream is not open yet."""
        now_ms, live = self._clock.monotonic_ms(), self._live()
        self._expected = {
            call_id: until_ms
            for call_id, until_ms in self._expected.items()
            if until_ms > now_ms and call_id not in live
        }
        return len(live) + len(self._expected)
