"""How long a provider's voices take to begin a text."""

from __future__ import annotations

import time
from collections import deque

KEPT_S = 600.0
"""For how long a time counts: a vendor may be slower than it was."""


class Pace:
    """The times from giving a voice a text until its first audio, of its latest texts."""

    def __init__(self, latest: int = 20) -> None:
        """``latest``: of how many texts."""
        self._times: deque[tuple[float, float]] = deque(maxlen=latest)

    def note(self, ms: float) -> None:
        """A text took so long to begin, in ms."""
        self._times.append((time.monotonic(), ms))

    @property
    def slowest_ms(self) -> float | None:
        """How long the slowest of them took; None: there is none of the last ten minutes."""
        since_s = time.monotonic() - KEPT_S
        return max((ms for at_s, ms in self._times if at_s >= since_s), default=None)
