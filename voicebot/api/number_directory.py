"""A copy of the active numbers in memory, for calls that arrive while the database is down."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from db import number_fallbacks
from db.number_fallbacks import NumberFallback
from db.pool import Database

REFRESH_S = 15.0
"""How old the copy may be, in seconds, while the database answers."""


class NumberDirectory:
    """What is known of each active number without the database."""

    def __init__(self, database: Database) -> None:
        """The copy is empty until ``refresh``."""
        self._database = database
        self._known: Mapping[tuple[str, str], NumberFallback] = {}

    def get(self, carrier: str, e164: str) -> NumberFallback:
        """What applies to calls of a number; a number that is not in the copy has no fallback."""
        return self._known.get((carrier, e164)) or NumberFallback(carrier=carrier, e164=e164)

    async def refresh(self) -> None:
        """Read all active numbers.

        Raises:
            DatabaseError: they cannot be read; the copy stays as it is.
        """
        found = await number_fallbacks.fallbacks(self._database)
        self._known = {(number.carrier, number.e164): number for number in found}

    async def run(self) -> None:
        """Refresh the copy until cancelled."""
        while True:
            await asyncio.sleep(REFRESH_S)
            await self.refresh()
