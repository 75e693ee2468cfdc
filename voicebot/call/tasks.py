"""The tasks of one call: kept until they are done, and none of them fails unheard."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class Tasks:
    """Runs what a call does beside everything else."""

    def __init__(self, failed: Callable[[str, BaseException], None]) -> None:
        """``failed`` is told of what a task raises, by the task's name."""
        self._failed = failed
        self._running: set[asyncio.Task[Any]] = set()
        self._lasting: set[asyncio.Task[Any]] = set()

    def start(
        self, work: Coroutine[Any, Any, Any], *, name: str | None = None, lasting: bool = False
    ) -> asyncio.Task[Any]:
        """Run ``work``; what is ``lasting`` comes to its end although the call is over."""
        task = asyncio.create_task(work, name=name)
        self._running.add(task)
        if lasting:
            self._lasting.add(task)
        task.add_done_callback(self._done)
        return task

    async def stop(self) -> None:
        """Cancel all but what is lasting."""
        others = self._running - self._lasting
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def finish(self) -> None:
        """Wait for what is left."""
        await asyncio.gather(*self._running, return_exceptions=True)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        self._lasting.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._failed(task.get_name(), error)
