"""Admission of new calls: none at the maximum number of calls, or while an event loop is late.

The event loop carries the audio of all calls. Its lag is the delay of a timer, smoothed over about a second,
so that one slow task does not refuse calls. The workers of a server decide by their common load, because the
stream of a call may open at another worker than the one that admitted it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Literal
from uuid import UUID

from voicebot.clock import Clock
from voicebot.workers import Load, SharedLoad, Worker

Refusal = Literal["max_calls", "late"]

INTERVAL_MS = 50.0
"""How often the lag is measured."""

SMOOTHING = 0.05
"""Weight of the newest measurement: 20 are made in a second, after which two thirds of a change count."""

EXPECTED_MS = 10_000.0
"""How long an admitted call counts before its media stream is open."""


class Admission:
    """Decides on each new call that reaches this process."""

    def __init__(
        self,
        clock: Clock,
        live: Callable[[], Collection[UUID]],
        *,
        max_calls: int | None,
        max_lag_ms: float,
        worker: Worker | None = None,
    ) -> None:
        """Admit every call at first.

        Args:
            clock: the source of monotonic time.
            live: the ids of the calls of this process.
            max_calls: the most calls of a process; None: no limit. The workers of a server share the sum.
            max_lag_ms: the lag of the event loop above which no call is admitted while others are live. Calls
                are admitted again when it is below half of that. 0: the lag does not matter.
            worker: which of the server's processes this is; None: the only one.
        """
        self._worker = worker or Worker()
        self._shared = SharedLoad(self._worker)
        self._opened: set[UUID] = set()
        self._clock = clock
        self._live = live
        self._max_calls = max_calls
        self._max_lag_ms = max_lag_ms
        self._expected: dict[UUID, float] = {}
        self._late = False
        self.lag_ms = 0.0
        """The smoothed lag of the event loop."""

    @property
    def live(self) -> int:
        """The number of live calls of the server."""
        return len(self._live()) + self._shared.others().live

    def refusal(self) -> Refusal | None:
        """Why no new call is admitted now; None: calls are admitted."""
        own, others = self._load(), self._shared.others()
        count = own.live + own.expected + others.live + others.expected
        if self._max_calls is not None and count >= self._max_calls * self._worker.count:
            return "max_calls"
        # A server without calls has no audio to protect.
        return "late" if count and (own.late or others.late) else None

    def expect(self, call_id: UUID) -> None:
        """Count a call that was admitted and whose media stream will open soon."""
        self._expected.pop(call_id, None)  # so that the entries stay in the order of their times
        self._expected[call_id] = self._clock.monotonic_ms() + EXPECTED_MS
        self.share()

    def observe(self, late_ms: float) -> None:
        """Take a measurement of the lag into account."""
        self.lag_ms += SMOOTHING * (max(0.0, late_ms) - self.lag_ms)
        if self._max_lag_ms:
            limit = self._max_lag_ms / 2 if self._late else self._max_lag_ms
            self._late = self.lag_ms > limit

    def share(self) -> None:
        """Publish the load and the live calls of this worker to the others."""
        live = set(self._live())
        for call_id in live - self._opened:
            self._shared.opened(call_id)
        self._opened = live
        self._shared.publish(self._load())

    async def run(self) -> None:
        """Measure the lag and share the load until cancelled."""
        while True:
            due_ms = self._clock.monotonic_ms() + INTERVAL_MS
            await asyncio.sleep(INTERVAL_MS / 1000)
            self.observe(self._clock.monotonic_ms() - due_ms)
            self.share()

    def _load(self) -> Load:
        """The live calls here, and the calls admitted here whose stream is open nowhere yet."""
        now_ms, live = self._clock.monotonic_ms(), self._live()
        # Not by a pass over all expected calls, which would take long in a burst.
        while self._expected and next(iter(self._expected.values())) <= now_ms:
            del self._expected[next(iter(self._expected))]
        for call_id in (*live, *self._shared.opened_elsewhere()) if self._expected else ():
            self._expected.pop(call_id, None)
        return Load(live=len(live), expected=len(self._expected), late=self._late)
