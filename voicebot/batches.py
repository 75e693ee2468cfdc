"""One statement for several items: items that arrive while a statement runs are stored by the next one.

There is no minimum number and no delay: an item that arrives alone is stored at once. The more items arrive,
the fewer statements each one costs. For items that are not urgent there is a shortest interval of statements.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from db.errors import DatabaseError
from voicebot.background import BackgroundTasks

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

MOST_AT_ONCE = 100
"""The most items of one statement."""


class Batches(Generic[ItemT, ResultT]):
    """Collects items for a function that stores several; it is called once at a time."""

    def __init__(
        self,
        store: Callable[[Sequence[ItemT]], Awaitable[Sequence[ResultT]]],
        background: BackgroundTasks,
        name: str,
        *,
        interval_s: float = 0.0,
    ) -> None:
        """Call ``store`` in a task of ``background`` that runs while there are items.

        Args:
            store: stores items; returns the result of each, in their order.
            background: runs the task.
            name: of the task, for the log.
            interval_s: the shortest time between the beginnings of two statements, in seconds.
        """
        self._store = store
        self._background = background
        self._name = name
        self._interval_s = interval_s
        self._not_before = 0.0
        """When the next statement may begin, on the loop's clock."""
        self._queue: list[tuple[ItemT, asyncio.Future[ResultT]]] = []
        self._storing: asyncio.Task[None] | None = None

    def put(self, item: ItemT) -> asyncio.Future[ResultT]:
        """Store an item and return its result. It is stored even if this call is cancelled.

        A retryable ``DatabaseError`` is raised for all items of the statement. After another one each item is
        stored by its own statement, so that only the item at fault fails.
        """
        future: asyncio.Future[ResultT] = asyncio.get_running_loop().create_future()
        self._queue.append((item, future))
        if self._storing is None or self._storing.done():
            self._storing = self._background.start(self._run(), name=self._name)
        return future

    async def _run(self) -> None:
        batch: list[tuple[ItemT, asyncio.Future[ResultT]]] = []
        try:
            while self._queue:
                now = asyncio.get_running_loop().time()
                if now < self._not_before:
                    await asyncio.sleep(self._not_before - now)
                self._not_before = max(now, self._not_before) + self._interval_s
                batch = self._queue[:MOST_AT_ONCE]
                del self._queue[:MOST_AT_ONCE]
                await self._store_all(batch)
        finally:
            for _, future in (*batch, *self._queue):
                future.cancel()  # there are some without a result only if the process stops
            self._queue.clear()

    async def _store_all(self, batch: Sequence[tuple[ItemT, asyncio.Future[ResultT]]]) -> None:
        try:
            results = await self._store([item for item, _ in batch])
        except DatabaseError as error:
            if not error.retryable and len(batch) > 1:
                for each in batch:
                    await self._store_all([each])
                return
            _fail(batch, error)
        except Exception as error:  # noqa: BLE001 - the top of a task: those who wait report it
            _fail(batch, error)
        else:
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)


def _fail(batch: Sequence[tuple[object, asyncio.Future[ResultT]]], error: Exception) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(error)
