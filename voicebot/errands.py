"""Work that nobody waits for: kept until it is done, and finished before the process goes."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from loguru import logger


class Errands:
    """Background tasks of one server."""

    def __init__(self) -> None:
        """Begin with none."""
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, errand: Coroutine[Any, Any, None], *, name: str) -> None:
        """Run ``errand`` beside everything else; what it raises is logged under ``name``."""
        task = asyncio.create_task(_guarded(errand, name), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def finish(self, timeout_s: float) -> None:
        """Wait for what is under way, then give up the rest."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=timeout_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)


async def _guarded(errand: Coroutine[Any, Any, None], name: str) -> None:
    try:
        await errand
    except Exception as error:
        # The edge: there is nobody above to tell, and one errand's failure is no other's.
        logger.error("{} failed: {}: {}", name, type(error).__name__, error)
