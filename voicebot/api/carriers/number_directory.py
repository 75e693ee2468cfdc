"""A copy of the active numbers in memory, for calls that arrive while the database is down."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from db import number_fallbacks
from db.number_fallbacks import NumberFallback
from db.pool import Database

CHECK_S = 2.0
"""How old the copy may be, in seconds, while the database answers."""


class NumberDirectory:
    """The fallback, patience and language of each active number, in memory."""

    def __init__(self, database: Database) -> None:
        """The copy is empty until ``refresh``."""
        self._database = database
        self._known: Mapping[tuple[str, str], NumberFallback] = {}
        self._version = ""
        self._changed = asyncio.Event()

    def get(self, carrier: str, e164: str) -> NumberFallback:
        """The entry of a number; a number that is not in the copy has no fallback."""
        return self._known.get((carrier, e164)) or NumberFallback(carrier=carrier, e164=e164)

    def changed(self) -> None:
        """This process has changed a number: have it copied at once."""
        self._changed.set()

    async def refresh(self) -> None:
        """Read all active numbers, if any has changed.

        Raises:
            DatabaseError: they cannot be read; the copy stays as it is.
        """
        # Read before the numbers: a change in between is read again the next time.
        version = await number_fallbacks.version(self._database)
        if version != self._version:
            found = await number_fallbacks.fallbacks(self._database)
            self._known = {(number.carrier, number.e164): number for number in found}
            self._version = version

    async def run(self) -> None:
        """Refresh the copy until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(CHECK_S):
                    await self._changed.wait()
            self._changed.clear()
            await self.refresh()
