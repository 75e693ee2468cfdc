"""The stream: all events of an account in order, to whoever follows, from wherever they left off.

What is sent is always read from the rows, by number: so nothing is missed, doubled or reordered, whichever
process wrote it. Wakes only make it quick; without them a look every second finds what is new. No connection
to the database is held while a follower waits.
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

LOOK_S = 1.0
"""How often new events are looked for without being woken."""

HEARTBEAT_S = 15.0
BATCH = 200


@dataclass(frozen=True, slots=True)
class Reset:
    """What the follower has last seen is not kept any more: read the queue anew, and go on from here."""

    last: int


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Nothing happened for a while."""


Item = Sequence[HandoffEventRecord] | Reset | Heartbeat


class EventBroker:
    """Everybody in this process who follows an account."""

    def __init__(
        self,
        database: Database,
        *,
        heartbeat_s: float = HEARTBEAT_S,
        look_s: float = LOOK_S,
        told: Callable[[HandoffEventRecord], None] = lambda _: None,
    ) -> None:
        """Read from ``database``; ``told`` hears of each batch's last event as a waiting follower gets it."""
        self._told = told
        self._db = database
        self._heartbeat_s = heartbeat_s
        self._look_s = look_s
        self._last: dict[UUID, int] = {}
        self._bells: defaultdict[UUID, set[asyncio.Event]] = defaultdict(set)
        self._closed = False

    @property
    def followers(self) -> int:
        """How many follow now."""
        return sum(len(bells) for bells in self._bells.values())

    def wake(self, account_id: UUID, seq: int) -> None:
        """An event of an account was committed."""
        if account_id in self._bells and seq > self._last.get(account_id, 0):
            self._last[account_id] = seq
            for bell in self._bells[account_id]:
                bell.set()

    def close(self) -> None:
        """Let all followers go: the process stops, and another one will serve them."""
        self._closed = True
        for bells in self._bells.values():
            for bell in bells:
                bell.set()

    async def run(self, leaving: Callable[[], bool] = lambda: False) -> None:
        """Look for what no wake told of, until cancelled; lets all go once the process is ``leaving``."""
        while True:
            await asyncio.sleep(self._look_s)
            if leaving():
                self.close()
            if not self._bells:
                continue
            try:
                found = await handoff_events.last_seqs(self._db, list(self._bells))
            except DatabaseError as error:
                logger.warning("the desk's stream could not look: {}", type(error).__name__)
                continue
            for account_id, seq in found.items():
                self.wake(account_id, seq)

    async def follow(self, account: UUID | str, after: int | None = None) -> AsyncGenerator[Item, None]:
        """The events of an account as they come, in batches.

        Args:
            account: its id, however it is spelt.
            after: the number of the last event seen; None: from now on.

        Raises:
            DatabaseUnavailable: it cannot even be said what there is; later trouble is waited out.
        """
        account_id = account if isinstance(account, UUID) else UUID(account)
        with self._ringing(account_id) as bell:
            bounds = await handoff_events.bounds(self._db, account_id)
            cursor = bounds.last if after is None else after
            if not bounds.oldest - 1 <= cursor <= bounds.last:
                yield Reset(bounds.last)
                cursor = bounds.last
            waited = False
            while not self._closed:
                bell.clear()
                batch = await self._next(account_id, cursor)
                if batch and batch[0].seq != cursor + 1:
                    # Forgotten while the follower was away from the line.
                    cursor = (await handoff_events.bounds(self._db, account_id)).last
                    yield Reset(cursor)
                elif batch:
                    cursor = batch[-1].seq
                    if waited:
                        self._told(batch[-1])
                    waited = False
                    yield batch
                elif await self._rung(bell):
                    waited = True
                else:
                    yield Heartbeat()

    async def _next(self, account_id: UUID, cursor: int) -> Sequence[HandoffEventRecord]:
        while not self._closed:
            try:
                return await handoff_events.after(self._db, account_id, cursor, limit=BATCH)
            except DatabaseError as error:
                logger.warning("the desk's stream waits for the database: {}", type(error).__name__)
                await asyncio.sleep(self._look_s)
        return []

    async def _rung(self, bell: asyncio.Event) -> bool:
        try:
            async with asyncio.timeout(self._heartbeat_s):
                await bell.wait()
        except TimeoutError:
            return False
        return True

    @contextlib.contextmanager
    def _ringing(self, account_id: UUID) -> Iterator[asyncio.Event]:
        bell = asyncio.Event()
        self._bells[account_id].add(bell)
        try:
            yield bell
        finally:
            self._bells[account_id].discard(bell)
            if not self._bells[account_id]:
                del self._bells[account_id]
                self._last.pop(account_id, None)
