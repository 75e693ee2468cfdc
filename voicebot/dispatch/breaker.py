"""A circuit breaker per carrier: after failures in a row, only one attempt at a time is made."""

from __future__ import annotations

from dataclasses import dataclass

FAILURES = 5
"""Failures in a row after which the breaker opens."""

FIRST_PAUSE_MS = 5_000.0
MAX_PAUSE_MS = 300_000.0

MAX_ASKED_MS = 3_600_000.0
"""The longest pause that a carrier gets because it asked for it."""

PROBE_MS = 60_000.0
"""How long the breaker waits for the result of a test attempt, whose task may have died."""


@dataclass(slots=True)
class Breaker:
    """The state for one carrier's credentials. Times are ms of a monotonic clock."""

    failures: int = 0
    open_until_ms: float = 0.0
    probing_until_ms: float = 0.0

    def admits(self, now_ms: float) -> bool:
        """Whether a call may be placed now; while the breaker is half open, one at a time."""
        if now_ms < self.open_until_ms:
            return False
        if self.failures < FAILURES:
            return True
        if now_ms < self.probing_until_ms:
            return False
        self.probing_until_ms = now_ms + PROBE_MS
        return True

    def remaining_ms(self, now_ms: float) -> float:
        """How long to wait before asking again, in ms."""
        return max(self.open_until_ms - now_ms, 1000.0)

    def unused(self) -> None:
        """No call was placed after all."""
        self.probing_until_ms = 0.0

    def succeeded(self) -> None:
        """The carrier took a call."""
        self.failures, self.probing_until_ms = 0, 0.0

    def failed(self, now_ms: float) -> None:
        """The carrier could not be reached, or failed."""
        self.probing_until_ms = 0.0
        if now_ms < self.open_until_ms:
            return  # of calls that were placed before it opened
        self.failures += 1
        if self.failures >= FAILURES:
            pause_ms = min(FIRST_PAUSE_MS * 2.0 ** (self.failures - FAILURES), MAX_PAUSE_MS)
            self.open_until_ms = max(self.open_until_ms, now_ms + pause_ms)

    def pause(self, now_ms: float, pause_ms: float) -> None:
        """The carrier asked for a pause (HTTP 429)."""
        self.probing_until_ms = 0.0
        self.open_until_ms = max(self.open_until_ms, now_ms + min(pause_ms, MAX_ASKED_MS))
