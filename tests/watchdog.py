"""A watchdog over the event loop: fails the test in which one step of a task takes too much CPU time.

It is on with ``--loop-watchdog``: in ``make test-long``, and in ``.ci/run`` in ``make test`` too.
asyncio reports slow callbacks by the clock, which depends on what else the machine does. The watchdog
measures the CPU time of the loop's thread (``time.thread_time``) instead, by a task factory that wraps every
coroutine: public API only. What protocols do outside of tasks, such as parsing a header, is not measured;
bench/stall.py measures it.

There are millions of steps, and a call of ``time.thread_time`` takes as long as a short one. It is called
before a step only if the last call is a ms ago, and after it only if the clock says that the step may have
been too long. What the thread may have used between the last call and the step counts in favour of the step.

Steps of the tests themselves and of the sandbox do not count, and neither does the garbage collector, whose
work depends on everything that the worker has run, and neither does the start of a server, which has no
calls yet.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from dataclasses import dataclass, field
from functools import cache
from types import CodeType, TracebackType
from typing import Any

MAX_STEP_S = 0.05
"""CPU time that one step may take."""

_FRESH_S = 0.001
"""How old the last reading of the CPU time may be when a step begins, in seconds."""

_NOT_COUNTED = ("/tests/", "/voicebot/sandbox/", "/pytest_asyncio/", "/_pytest/", "/bench/")
_START = frozenset({"Server.serve", "LifespanOn.main"})


@dataclass(slots=True)
class LoopWatchdog:
    """Measures the steps of the tasks of one event loop."""

    is_watching: bool = True
    """Whether tasks that begin are watched, to their ends."""
    slow: list[str] = field(default_factory=list)
    """A description of each step that took too long."""
    _read_at: float = 0.0
    _cpu_s: float = 0.0
    _collecting_since: float = 0.0
    _collecting_s: float = 0.0

    def install(self, loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
        """Watch the tasks that the loop starts from now on; returns a function that ends the watch."""

        def factory(
            loop: asyncio.AbstractEventLoop, coroutine: Any, context: Context | None = None
        ) -> asyncio.Task[Any]:
            if self.is_watching and _is_counted(coroutine):
                coroutine = _Watched(coroutine, self)
            return asyncio.Task(coroutine, loop=loop, context=context)

        before = loop.get_task_factory()
        loop.set_task_factory(factory)
        gc.callbacks.append(self._on_collection)

        def uninstall() -> None:
            loop.set_task_factory(before)
            gc.callbacks.remove(self._on_collection)

        return uninstall

    def measure(self, step: Callable[[Any], Any], argument: object, coroutine: Any) -> Any:
        """Run one step of a coroutine: its ``send`` or ``throw``."""
        began = time.perf_counter()
        if began - self._read_at > _FRESH_S:
            self._read_at, self._cpu_s = began, time.thread_time()
        collecting = self._collecting_s
        try:
            return step(argument)
        finally:
            if time.perf_counter() - began > MAX_STEP_S:
                before = self._cpu_s + (began - self._read_at) + (self._collecting_s - collecting)
                code: CodeType = coroutine.cr_code
                if (taken := time.thread_time() - before) > MAX_STEP_S:
                    self.slow.append(
                        f"{taken * 1000:.0f} ms of CPU time in one step of {coroutine.__qualname__} "
                        f"({code.co_filename}:{code.co_firstlineno}), which ended at\n{_place(coroutine)}"
                    )

    def _on_collection(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._collecting_since = time.thread_time()
        else:
            self._collecting_s += time.thread_time() - self._collecting_since


class _Watched(Coroutine[Any, Any, Any]):
    """A coroutine whose steps are measured."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], watchdog: LoopWatchdog) -> None:
        self._coroutine = coroutine
        self._watchdog = watchdog
        self.__name__ = getattr(coroutine, "__name__", "")
        self.__qualname__ = getattr(coroutine, "__qualname__", "")

    def send(self, value: Any) -> Any:
        """Run the next step."""
        return self._watchdog.measure(self._coroutine.send, value, self._coroutine)

    def throw(
        self, kind: Any, value: BaseException | object = None, traceback: TracebackType | None = None
    ) -> Any:
        """Run the next step, which begins with an exception."""
        error: Any = kind if value is None else value
        return self._watchdog.measure(self._coroutine.throw, error, self._coroutine)

    def close(self) -> None:
        """End the coroutine."""
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coroutine.__await__()


def _is_counted(coroutine: Any) -> bool:
    code: CodeType | None = getattr(coroutine, "cr_code", None)
    return code is not None and code.co_qualname not in _START and _is_server(code.co_filename)


@cache
def _is_server(file: str) -> bool:
    return not any(part in file for part in _NOT_COUNTED)


def _place(coroutine: Any) -> str:
    """Where a coroutine is suspended, as the lines of a traceback: it and what it awaits."""
    lines: list[str] = []
    while (frame := getattr(coroutine, "cr_frame", None)) is not None:
        code = frame.f_code
        lines.append(f"  {code.co_filename}:{frame.f_lineno} in {code.co_qualname}")
        coroutine = coroutine.cr_await
    return "\n".join(lines) or "  its end"
