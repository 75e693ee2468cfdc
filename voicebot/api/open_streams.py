"""The open event streams of this process: limits per key and account, and checks of the keys.

One query checks the keys of all streams: every second, and before events are sent, so that no event is sent
after its key was revoked.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from uuid import UUID

from loguru import logger

from db import keys
from db.errors import DatabaseError
from db.pool import Database
from voicebot.api.limits import Limits, limit_exceeded
from voicebot.clock import Clock

CHECK_S = 1.0
"""How often the keys are checked, in seconds."""

TRUSTED_S = 15 * 60.0
"""How long a key counts as valid while the database cannot be reached, in seconds."""

_RETRY_AFTER_S = 5


class OpenStream:
    """One open stream; it must be closed."""

    def __init__(self, streams: OpenStreams, account_id: UUID, key_id: UUID) -> None:
        """Use ``OpenStreams.open``."""
        self.account_id = account_id
        self.key_id = key_id
        self._streams = streams
        self.revoked = asyncio.Event()
        """Set when the key is no longer valid: the stream must end."""

    async def may_send(self) -> bool:
        """Whether the key is valid now."""
        if not self.revoked.is_set():
            await self._streams.check()
        return not self.revoked.is_set()

    def close(self) -> None:
        """The stream has ended."""
        self._streams.discard(self)


class OpenStreams:
    """The open streams of this process."""

    def __init__(self, database: Database, clock: Clock, limits: Limits) -> None:
        """Check keys in ``database``."""
        self._database = database
        self._clock = clock
        self._limits = limits
        self._streams: set[OpenStream] = set()
        self._per_key: Counter[UUID] = Counter()
        self._per_account: Counter[UUID] = Counter()
        self._next_check: asyncio.Task[None] | None = None
        self._checked_ms = clock.monotonic_ms()

    def __iter__(self) -> Iterator[OpenStream]:
        """The open streams."""
        return iter(self._streams)

    def open(self, account_id: UUID, key_id: UUID) -> OpenStream:
        """Count a new stream.

        Raises:
            ApiProblem: 429, the key or the account has too many.
        """
        if self._per_key[key_id] >= self._limits.streams_per_key:
            raise limit_exceeded(
                "streams_per_key",
                "rate_limited",
                f"A key may have at most {self._limits.streams_per_key} open streams.",
                retry_after_s=_RETRY_AFTER_S,
            )
        if self._per_account[account_id] >= self._limits.streams_per_account:
            raise limit_exceeded(
                "streams_per_account",
                "rate_limited",
                f"An account may have at most {self._limits.streams_per_account} open streams.",
                retry_after_s=_RETRY_AFTER_S,
            )
        stream = OpenStream(self, account_id, key_id)
        self._streams.add(stream)
        self._per_key[key_id] += 1
        self._per_account[account_id] += 1
        return stream

    def discard(self, stream: OpenStream) -> None:
        """A stream has ended; no effect if that is known."""
        if stream in self._streams:
            self._streams.remove(stream)
            for counter, id in (
                (self._per_key, stream.key_id),
                (self._per_account, stream.account_id),
            ):
                counter[id] -= 1
                if not counter[id]:
                    del counter[id]

    async def check(self) -> None:
        """Check all keys with a query that starts after this call; callers of the same moment share it."""
        if self._next_check is None:
            self._next_check = asyncio.create_task(self._check())
        await asyncio.shield(self._next_check)

    async def run(self) -> None:
        """Check the keys from time to time, until cancelled."""
        while True:
            await asyncio.sleep(CHECK_S)
            if self._streams:
                await self.check()

    async def _check(self) -> None:
        await asyncio.sleep(0)
        self._next_check = None
        followed = list(self._per_key)
        now_ms = self._clock.monotonic_ms()
        try:
            valid = await keys.valid_ids(self._database, followed)
        except DatabaseError:
            if now_ms - self._checked_ms < TRUSTED_S * 1000:
                return
            valid = frozenset()
        else:
            self._checked_ms = now_ms
        refused = {key_id for key_id in followed if key_id not in valid}
        for stream in self._streams:
            if stream.key_id in refused and not stream.revoked.is_set():
                logger.info("a stream was closed, because its API key is no longer valid")
                stream.revoked.set()
