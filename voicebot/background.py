"""Work that nobody waits for: kept until it is done, and finished before the process goes."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from loguru import logger


class BackgroundTasks:
    """Background tasks of one server."""

    def __init__(self) -> None:
        """Begin with none."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._droppable: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None], *, name: str, droppable: bool = False) -> None:
        """Run ``work`` beside everything else; what it raises is logged under ``name``.

        Args:
            work: what is to be done.
            name: what to call it in the log.
            droppable: whether nobody misses it when the process goes.
        """
        task = asyncio.create_task(_guarded(work, name), name=name)
        for held in (self._tasks, self._droppable) if droppable else (self._tasks,):
            held.add(task)
            task.add_done_callback(held.discard)

    async def finish(self, timeout_s: float) -> None:
        """Drop what can be dropped, wait for the rest, then give up what takes longer."""
        for task in self._droppable:
            task.cancel()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=timeout_s)
            for task in late:
                logger.warning("{} was given up", task.get_name())
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)


async def _guarded(work: Coroutine[Any, Any, None], name: str) -> None:
    try:
        await work
    except Exception as error:
        # The edge: there is nobody above to tell, and the failure of one task must not affect another.
        logger.error("{} failed: {}: {}", name, type(error).__name__, error)
