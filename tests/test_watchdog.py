"""The watchdog over the event loop itself."""

from __future__ import annotations

import asyncio
import time
from types import CodeType, FunctionType

from tests.watchdog import MAX_STEP_S, LoopWatchdog


async def _busy(seconds: float) -> int:
    """Use CPU time between two waits."""
    await asyncio.sleep(0)
    began = time.thread_time()
    while time.thread_time() - began < seconds:
        pass
    await asyncio.sleep(0)
    return 5


def _as_server(function: object, name: str = "/srv/voicebot/work.py") -> object:
    """Return a function as if its code were in a file of the server."""
    assert isinstance(function, FunctionType)
    code: CodeType = function.__code__.replace(co_filename=name)
    return FunctionType(code, function.__globals__)


async def test_slow_step_is_reported_with_its_place() -> None:
    """A task with a step of too much CPU time is reported; short steps, waits and tests are not."""
    watchdog = LoopWatchdog()
    uninstall = watchdog.install(asyncio.get_running_loop())
    try:
        work = _as_server(_busy)
        assert callable(work)
        assert await asyncio.create_task(work(MAX_STEP_S / 10)) == 5
        assert await asyncio.create_task(_busy(MAX_STEP_S * 2)) == 5
        assert watchdog.slow == []
        assert await asyncio.create_task(work(MAX_STEP_S * 2)) == 5
    finally:
        uninstall()
    [slow] = watchdog.slow
    assert "of _busy" in slow
    assert slow.count("/srv/voicebot/work.py:") == 2
