"""Background tasks: the only way to start work that is not awaited.

An owner (the server, one call) has one :class:`BackgroundTasks`. Each task has a name and is referenced until
it is done; its failure is reported, and it is cancelled or awaited when the owner closes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from loguru import logger

T = TypeVar("T")
OnFailure = Callable[[str, BaseException], None]
Job = Callable[[], Coroutine[Any, Any, None]]

RESTART_PAUSE_S = 1.0


class BackgroundTasks:
    """The background tasks of one owner."""

    def __init__(self, owner: str = "", *, on_failure: OnFailure | None = None) -> None:
        """Start with no tasks.

        Args:
            owner: put before a task's name in the log, for example ``"call 018f…"``.
            on_failure: called on the event loop with the name of a task that failed and its exception,
                instead of logging it.
        """
        self._prefix = f"{owner}: " if owner else ""
        self._on_failure = on_failure or self._log
        self._tasks: set[asyncio.Task[Any]] = set()
        self._droppable: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, T], *, name: str, droppable: bool = False) -> asyncio.Task[T]:
        """Run ``work`` in a task of its own.

        Args:
            work: the coroutine to run.
            name: the task's name, for the log and for ``on_failure``.
            droppable: whether the work is cancelled, rather than awaited, when the owner closes.

        Returns:
            The task, so that it can be cancelled or awaited; its failure is reported in any case.
        """
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        if droppable:
            self._droppable.add(task)
        task.add_done_callback(self._done)
        return task

    def supervise(
        self, job: Job, *, name: str, pause_s: float = RESTART_PAUSE_S, until_done: bool = False
    ) -> asyncio.Task[None]:
        """Run ``job`` in a droppable task and start it again whenever it fails or returns.

        Args:
            job: makes the coroutine of one run.
            name: the task's name; each failure of a run is reported under it.
            pause_s: the pause before the next run, in seconds.
            until_done: end when a run returns, and start again only after a failure.
        """
        return self.start(self._repeat(job, name, pause_s, until_done), name=name, droppable=True)

    async def in_time(self, work: Coroutine[Any, Any, T], timeout_s: float, *, name: str) -> T:
        """Run ``work`` and wait for its result, for ``timeout_s`` seconds at most.

        Work that takes longer continues in the background, and its result is ignored. It is not cancelled,
        because cancelling may wait too: asyncpg asks the server to cancel a statement.

        Raises:
            TimeoutError: it took longer.
        """
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        self._droppable.add(task)
        task.add_done_callback(self._forget)
        done, _ = await asyncio.wait({task}, timeout=timeout_s)
        if not done:
            raise TimeoutError(f"{self._prefix}{name} took longer than {timeout_s} s")
        return task.result()

    async def cancel(self) -> None:
        """Cancel the droppable tasks, except the one that calls this, and wait until they have ended."""
        dropped = self._droppable - {asyncio.current_task()}
        for task in dropped:
            task.cancel()
        await asyncio.gather(*dropped, return_exceptions=True)

    async def finish(self, timeout_s: float | None = None) -> None:
        """Cancel the droppable tasks and wait for the others.

        Args:
            timeout_s: how long to wait, in seconds; a task that takes longer is cancelled with a warning.
                None waits without a limit.
        """
        await self.cancel()
        others = self._tasks - {asyncio.current_task()}
        if not others:
            return
        _, late = await asyncio.wait(others, timeout=timeout_s)
        for task in late:
            logger.warning("{}{}: cancelled after {} s", self._prefix, task.get_name(), timeout_s)
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    async def _repeat(self, job: Job, name: str, pause_s: float, until_done: bool) -> None:
        while True:
            try:
                await job()
                if until_done:
                    return
            except Exception as error:  # noqa: BLE001 - the top of a task: report it, then start the job again
                self._on_failure(name, error)
            await asyncio.sleep(pause_s)

    def _forget(self, task: asyncio.Task[Any]) -> BaseException | None:
        self._tasks.discard(task)
        self._droppable.discard(task)
        return None if task.cancelled() else task.exception()

    def _done(self, task: asyncio.Task[Any]) -> None:
        error = self._forget(task)
        if error is not None:
            self._on_failure(task.get_name(), error)

    def _log(self, name: str, error: BaseException) -> None:
        kind = type(error).__name__
        logger.opt(exception=error).error("{}{} failed: {}: {}", self._prefix, name, kind, error)
