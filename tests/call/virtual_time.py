"""An event loop in virtual time: waits take no time, and a call of minutes is over in milliseconds."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from unittest.mock import patch

START_S = 1_000_000.0

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):
    """Lets time pass instead of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = START_S

    def select(self, timeout: float | None = None) -> Any:
        events = super().select(timeout if timeout is None else 0)
        if not events and timeout is not None and timeout > 0:
            self.now_s += timeout
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes when there is nothing to do."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)
        self.at_end: list[Callable[[], None]] = []
        """Called before the loop is closed."""

    def time(self) -> float:
        """The virtual time in s."""
        return self._virtual.now_s

    def be_late(self, seconds: float) -> None:
        """Time passes in which the loop does nothing, as if a callback took so long."""
        self._virtual.now_s += seconds

    def play(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work``; meanwhile the functions of ``time`` that measure durations give the virtual time."""
        with (
            patch.object(time, "monotonic", self.time),
            patch.object(time, "time", self.time),
            patch.object(time, "monotonic_ns", lambda: round(self.time() * 1e9)),
        ):
            return self.run_until_complete(work)


@contextmanager
def virtual_time() -> Iterator[VirtualLoop]:
    """A loop in virtual time."""
    loop = VirtualLoop()
    try:
        yield loop
    finally:
        for end in loop.at_end:
            end()
        leftover = asyncio.all_tasks(loop)
        for task in leftover:
            task.cancel()
        if leftover:
            loop.play(asyncio.sleep(1))
        loop.play(loop.shutdown_asyncgens())
        loop.close()
