"""The event stream: delivers an account's events in order to every subscriber, from any position.

Events are always read from the rows by sequence number, so none is missed, repeated or reordered, whichever
process wrote it. Notifications only shorten the delay; polling finds events whose notification was lost. A
waiting subscriber holds no database connection. The subscribers of an account share the rows that were read:
one query serves all that wait for the same event.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
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

RECENT = 50
"""How many of an account's latest events are kept for subscribers that are slightly behind."""


@dataclass(frozen=True, slots=True)
class Reset:
    """The subscriber's position is not stored any more: read the queue again and continue after ``last``."""

    last: int


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """There was no event for ``heartbeat_s``."""


Item = Sequence[HandoffEventRecord] | Reset | Heartbeat


@dataclass(slots=True, eq=False)
class _Feed:
    """The state that the subscribers of one account share."""

    wakeups: set[asyncio.Event] = field(default_factory=set)
    last: int = 0
    """The highest sequence number that is known to be committed."""
    recent: Sequence[HandoffEventRecord] = ()
    """The latest events that were read, without a gap."""
    reads: dict[int, asyncio.Task[Sequence[HandoffEventRecord]]] = field(default_factory=dict)
    """Running queries, by the position after which they read."""

    def advance(self, seq: int) -> None:
        """Wake the subscribers if ``seq`` is the highest sequence number yet."""
        if seq > self.last:
            self.last = seq
            for wakeup in self.wakeups:
                wakeup.set()

    def after(self, cursor: int) -> Sequence[HandoffEventRecord]:
        """The events after a position, if they are kept."""
        if not self.recent or not self.recent[0].seq <= cursor + 1 <= self.recent[-1].seq:
            return ()
        return self.recent[cursor + 1 - self.recent[0].seq :]

    def keep(self, batch: Sequence[HandoffEventRecord]) -> None:
        """Keep events that were read."""
        if not batch:
            return
        self.advance(batch[-1].seq)
        known = self.recent[-1].seq if self.recent else 0
        recent = [*(self.recent if batch[0].seq == known + 1 else ()), *batch][-RECENT:]
        if recent[-1].seq > known and recent[-1].seq - recent[0].seq == len(recent) - 1:
            self.recent = recent


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
        self._feeds: dict[UUID, _Feed] = {}
        self._closed = False

    @property
    def followers(self) -> int:
        """Number of subscribers whose position is known, so that each gets every later event."""
        return sum(len(feed.wakeups) for feed in self._feeds.values())

    @property
    def reading(self) -> bool:
        """Whether a query for events is running."""
        return any(feed.reads for feed in self._feeds.values())

    def wake(self, account_id: UUID, seq: int) -> None:
        """Wake the account's subscribers, because event ``seq`` was committed."""
        feed = self._feeds.get(account_id)
        if feed is not None:
            feed.advance(seq)

    def close(self) -> None:
        """End all streams; the subscribers reconnect to another process."""
        self._closed = True
        for feed in self._feeds.values():
            for wakeup in feed.wakeups:
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
            if not self._feeds:
                continue
            try:
                found = await handoff_events.last_seqs(self._db, list(self._feeds))
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
        with self._registered(account_id) as (feed, wakeup):
            if not bounds.oldest - 1 <= cursor <= bounds.last:
                yield Reset(bounds.last)
                cursor = bounds.last
            waited, behind = False, True
            while not self._closed:
                wakeup.clear()
                # Without a wake-up there is nothing new, so no query is needed.
                batch = await self._next(account_id, feed, cursor) if behind or cursor < feed.last else ()
                behind = len(batch) == BATCH
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

    async def _next(self, account_id: UUID, feed: _Feed, cursor: int) -> Sequence[HandoffEventRecord]:
        """The events after a position; subscribers at the same position share a query."""
        if known := feed.after(cursor):
            return known
        read = feed.reads.get(cursor)
        if read is None:
            read = feed.reads[cursor] = asyncio.create_task(self._read(account_id, feed, cursor))
            read.add_done_callback(lambda _: feed.reads.pop(cursor, None))
        return await asyncio.shield(read)

    async def _read(self, account_id: UUID, feed: _Feed, cursor: int) -> Sequence[HandoffEventRecord]:
        while not self._closed:
            try:
                batch = await handoff_events.after(self._db, account_id, cursor, limit=BATCH)
            except DatabaseError as error:
                logger.warning("the event stream waits for the database: {}", type(error).__name__)
                await asyncio.sleep(self._poll_s)
            else:
                feed.keep(batch)
                return batch
        return []

    async def _woken(self, wakeup: asyncio.Event) -> bool:
        try:
            async with asyncio.timeout(self._heartbeat_s):
                await wakeup.wait()
        except TimeoutError:
            return False
        return True

    @contextlib.contextmanager
    def _registered(self, account_id: UUID) -> Iterator[tuple[_Feed, asyncio.Event]]:
        feed = self._feeds.setdefault(account_id, _Feed())
        wakeup = asyncio.Event()
        feed.wakeups.add(wakeup)
        try:
            yield feed, wakeup
        finally:
            feed.wakeups.discard(wakeup)
            if not feed.wakeups:
                self._feeds.pop(account_id, None)
