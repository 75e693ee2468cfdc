"""How long a provider's voices take to start a text."""

from __future__ import annotations

import time
from collections import deque

KEPT_S = 600.0
"""How long a measurement counts, because a vendor may become slower."""


class Pace:
    """The times from a request until its first audio, for the latest texts."""

    def __init__(self, latest: int = 20) -> None:
        """``latest``: how many texts are kept."""
        self._times: deque[tuple[float, float]] = deque(maxlen=latest)

    def note(self, ms: float) -> None:
        """Record the time until the first audio of a text, in ms."""
        self._times.append((time.monotonic(), ms))

    @property
    def slowest_ms(self) -> float | None:
        """The longest of the times, in ms; None: there is none of the last ten minutes."""
        since_s = time.monotonic() - KEPT_S
        return max((ms for at_s, ms in self._times if at_s >= since_s), default=None)
