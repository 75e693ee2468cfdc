"""A limit for open media sockets that have not yet presented a token."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable


class Handshakes:
    """The sockets whose first messages are awaited. At the limit the oldest one is closed for a new one.

    A carrier sends its first messages at once, so it is never the oldest one for long.
    """

    def __init__(self, most: int, on_limit: Callable[[], None]) -> None:
        """Allow ``most`` handshakes at a time; ``on_limit`` is called for each that has to end."""
        self._most = most
        self._on_limit = on_limit
        self._waiting: dict[asyncio.Timeout, None] = {}

    def __len__(self) -> int:
        """How many handshakes are waiting."""
        return len(self._waiting)

    @contextlib.asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """Hold a place while the block waits for the first messages.

        Raises:
            TimeoutError: the block was cancelled to make room.
        """
        while len(self._waiting) >= self._most:
            oldest = next(iter(self._waiting))
            del self._waiting[oldest]
            oldest.reschedule(0)
            self._on_limit()
        async with asyncio.timeout(None) as place:
            self._waiting[place] = None
            try:
                yield
            finally:
                self._waiting.pop(place, None)
