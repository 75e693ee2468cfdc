"""Injected time, so that tests can control it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """A source of time."""

    def now(self) -> datetime:
        """The current moment, in UTC."""
        ...

    def monotonic_ms(self) -> float:
        """Milliseconds since an arbitrary start; never decreases. For durations."""
        ...


class SystemClock:
    """The clocks of the machine."""

    def now(self) -> datetime:
        """The current moment, in UTC."""
        return datetime.now(UTC)

    def monotonic_ms(self) -> float:
        """Milliseconds of the machine's monotonic clock."""
        return time.monotonic() * 1000.0
