"""Injected time: everything that waits or stamps asks a clock, so that tests can hold one still."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What the rest of the program may know about time."""

    def now(self) -> datetime:
        """The current moment, in UTC."""
        ...

    def monotonic_ms(self) -> float:
        """Milliseconds since an arbitrary start, never going back: for durations."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> datetime:
        """The current moment, in UTC."""
        return datetime.now(UTC)

    def monotonic_ms(self) -> float:
        """Milliseconds of the machine's monotonic clock."""
        return time.monotonic() * 1000.0
