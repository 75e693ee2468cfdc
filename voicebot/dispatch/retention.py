"""Deletes transcripts and payloads when their account's time is over (``GET /account``)."""

from __future__ import annotations

import asyncio

from loguru import logger

from db import retention
from db.errors import DatabaseError
from db.pool import Database
from voicebot.clock import Clock

EVERY_S = 600.0
BATCH = 200
"""Rows of one statement, so that none of them locks many."""

_STATEMENTS = (
    retention.delete_transcripts,
    retention.delete_handoff_texts,
    retention.delete_payloads,
    retention.delete_notices,
)


class Retention:
    """Deletes for all accounts; several processes may do so at once."""

    def __init__(self, database: Database, clock: Clock) -> None:
        """Delete in ``database``."""
        self._db = database
        self._clock = clock

    async def run(self) -> None:
        """Delete every ten minutes until cancelled."""
        while True:
            try:
                await self.delete_all()
            except DatabaseError as error:
                logger.warning("old transcripts are deleted later: {}", type(error).__name__)
            await asyncio.sleep(EVERY_S)

    async def delete_all(self) -> None:
        """Delete everything whose time is over, in batches.

        Raises:
            DatabaseError: the rest is deleted the next time.
        """
        for statement in _STATEMENTS:
            while deleted := await statement(self._db, self._clock.now(), BATCH):
                logger.info("{}: {} rows", statement.__name__, deleted)
