"""The event stream: an account's events in order, to every subscriber, from any position.

Events are always read from the rows by sequence number, so none is missed, repeated or reordered, whichever
process wrote it. Notifications only shorten the delay; polling finds what they missed. A waiting subscriber
holds no database connection.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from loguru import logger

from db import handoff_events
from db.errors import DatabaseError
from db.handoff_events import HandoffEventRecord
from db.pool import Database

POLL_S = 1.0
"""How often new events are looked for without a notification."""

HEARTBEAT_S = 15.0
BATCH = 200


@dataclass(frozen=True, slots=True)
class Reset:
    """The subscriber's position is not stored any more: read the queue again and continue after ``last``."""

    last: int


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """There was no event for a while."""


Item = Sequence[HandoffEventRecord] | Reset | Heartbeat


class EventBroker:
    """The subscribers of this process."""

    def __init__(
        self,
        database: Database,
        *,
        heartbeat_s: float = HEARTBEAT_S,
        poll_s: float = POLL_S,
        on_delivery: Callable[[HandoffEventRecord], None] = lambda _: None,
    ) -> None:
        """Read events from ``database``.

        Args:
            database: the database.
            heartbeat_s: time without an event after which a subscriber gets a heartbeat, in seconds.
            poll_s: interval of polling, in seconds.
            on_delivery: called with the last event of each batch for which a subscriber was waiting.
        """
        self._on_delivery = on_delivery
        self._db = database
        self._heartbeat_s = heartbeat_s
        self._poll_s = poll_s
        self._last: dict[UUID, int] = {}
        self._wakeups: defaultdict[UUID, set[asyncio.Event]] = defaultdict(set)
        self._closed = False

    @property
    def followers(self) -> int:
        """Number of subscribers whose position is known, so that each gets every later event."""
        return sum(len(wakeups) for wakeups in self._wakeups.values())

    def wake(self, account_id: UUID, seq: int) -> None:
        """Wake the account's subscribers, because event ``seq`` was committed."""
        if account_id in self._wakeups and seq > self._last.get(account_id, 0):
            self._last[account_id] = seq
            for wakeup in self._wakeups[account_id]:
                wakeup.set()

    def close(self) -> None:
        """End all streams; the subscribers reconnect to another process."""
        self._closed = True
        for wakeups in self._wakeups.values():
            for wakeup in wakeups:
                wakeup.set()

    async def run(self, is_draining: Callable[[], bool] = lambda: False) -> None:
        """Poll for events that no notification reported, until cancelled.

        Args:
            is_draining: whether the process is shutting down; all streams end then.
        """
        while True:
            await asyncio.sleep(self._poll_s)
            if is_draining():
                self.close()
            if not self._wakeups:
                continue
            try:
                found = await handoff_events.last_seqs(self._db, list(self._wakeups))
            except DatabaseError as error:
                logger.warning("the event stream could not poll: {}", type(error).__name__)
                continue
            for account_id, seq in found.items():
                self.wake(account_id, seq)

    async def follow(self, account: UUID | str, after: int | None = None) -> AsyncGenerator[Item, None]:
        """The events of an account, in batches, until the broker closes.

        Args:
            account: its id.
            after: sequence number of the last event that the subscriber has; None: begin now.

        Raises:
            DatabaseUnavailable: the position could not be read. Later failures are waited out.
        """
        account_id = account if isinstance(account, UUID) else UUID(account)
        bounds = await handoff_events.bounds(self._db, account_id)
        cursor = bounds.last if after is None else after
        # Registered only now that the position is known. An event committed in between wakes nobody, but the
        # first read below finds it, because that read comes before the first wait.
        with self._registered(account_id) as wakeup:
            if not bounds.oldest - 1 <= cursor <= bounds.last:
                yield Reset(bounds.last)
                cursor = bounds.last
            waited = False
            while not self._closed:
                wakeup.clear()
                batch = await self._next(account_id, cursor)
                if batch and batch[0].seq != cursor + 1:
                    # Old events were deleted after the subscriber's position.
                    cursor = (await handoff_events.bounds(self._db, account_id)).last
                    yield Reset(cursor)
                elif batch:
                    cursor = batch[-1].seq
                    if waited:
                        self._on_delivery(batch[-1])
                    waited = False
                    yield batch
                elif await self._woken(wakeup):
                    waited = True
                else:
                    yield Heartbeat()

    async def _next(self, account_id: UUID, cursor: int) -> Sequence[HandoffEventRecord]:
        while not self._closed:
            try:
                return await handoff_events.after(self._db, account_id, cursor, limit=BATCH)
            except DatabaseError as error:
                logger.warning("the event stream waits for the database: {}", type(error).__name__)
                await asyncio.sleep(self._poll_s)
        return []

    async def _woken(self, wakeup: asyncio.Event) -> bool:
        try:
            async with asyncio.timeout(self._heartbeat_s):
                await wakeup.wait()
        except TimeoutError:
            return False
        return True

    @contextlib.contextmanager
    def _registered(self, account_id: UUID) -> Iterator[asyncio.Event]:
        wakeup = asyncio.Event()
        self._wakeups[account_id].add(wakeup)
        try:
            yield wakeup
        finally:
            self._wakeups[account_id].discard(wakeup)
            if not self._wakeups[account_id]:
                del self._wakeups[account_id]
                self._last.pop(account_id, None)
