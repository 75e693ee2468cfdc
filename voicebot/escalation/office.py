"""The parts of the desk of one process, and what runs in the background."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from loguru import logger

from db import wakes
from db.pool import Database
from voicebot.clock import Clock
from voicebot.escalation.desk import Desk
from voicebot.escalation.keeper import Keeper
from voicebot.escalation.presence import PresenceBook
from voicebot.escalation.stream import Hub


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    """What the outside may ask the desk of this process."""

    desk: Desk
    presence: PresenceBook
    keeper: Keeper
    hub: Hub


def furnish(database: Database, clock: Clock, *, assess: bool) -> Office:
    """The desk's parts on a database.

    Args:
        assess: whether a model is at hand to look at handoffs.
    """
    hub = Hub(database)
    stirring = asyncio.Event()
    desk = Desk(database, clock, assess=assess, stir=stirring.set)
    presence = PresenceBook(database, clock, stir=stirring.set)
    return Office(
        desk=desk, presence=presence, keeper=Keeper(database, clock, desk, presence, stirring), hub=hub
    )


@contextlib.asynccontextmanager
async def staffed(
    office: Office, database: Database, leaving: Callable[[], bool], more: Sequence[Callable[[], Background]]
) -> AsyncIterator[None]:
    """Run what the desk does by itself while the block runs: keeper, listener, stream, and ``more``."""
    jobs: list[Callable[[], Background]] = [
        office.keeper.run,
        lambda: wakes.listen(database.dsn, office.hub.wake),
        lambda: office.hub.run(leaving),
        *more,
    ]
    tasks = [asyncio.create_task(_again_and_again(job)) for job in jobs]
    try:
        yield
    finally:
        office.hub.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


Background = Coroutine[Any, Any, None]


async def _again_and_again(job: Callable[[], Background]) -> None:
    """The edge of a background job: what it did not foresee is logged, and it begins anew."""
    while True:
        try:
            await job()
        except Exception as error:
            logger.opt(exception=error).error("a job of the desk failed and begins anew")
        await asyncio.sleep(1.0)
