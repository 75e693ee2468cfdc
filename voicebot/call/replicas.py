"""Reports this process to the others, so that they can hand over calls and forward requests to it."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from loguru import logger

from db import processes
from db.errors import DatabaseError
from db.ids import new_id
from db.pool import Database

BEAT_S = 2.0
READY_WITHIN = timedelta(seconds=6)
"""A process that has not reported for longer does not count."""


class Replicas:
    """Reports this process to the others, and says whether there is another one that takes calls."""

    def __init__(self, database: Database, address: str | None = None) -> None:
        """This process takes calls; ``address`` is the URL at which other servers reach it."""
        self._database = database
        self._address = address
        self.process_id = new_id()
        self._draining = False

    async def run(self) -> None:
        """Report this process until cancelled."""
        while True:
            try:
                await processes.seen(
                    self._database, self.process_id, draining=self._draining, address=self._address
                )
            except DatabaseError as error:
                logger.warning("this process could not be reported: {}", type(error).__name__)
            await asyncio.sleep(BEAT_S)

    async def leave(self) -> None:
        """This process takes no more calls."""
        self._draining = True
        try:
            await processes.seen(self._database, self.process_id, draining=True, address=self._address)
        except DatabaseError as error:
            logger.warning("this process could not be reported: {}", type(error).__name__)

    async def stopped(self) -> None:
        """This process has stopped."""
        try:
            await processes.stopped(self._database, self.process_id)
        except DatabaseError as error:
            logger.warning("this process could not be reported: {}", type(error).__name__)

    async def has_other(self) -> bool:
        """Whether another process takes calls; False if the database does not answer."""
        try:
            return await processes.has_other(self._database, self.process_id, within=READY_WITHIN)
        except DatabaseError:
            return False
