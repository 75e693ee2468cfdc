"""Finalises ended calls until killed, and waits while it fills output fields:
``python -m tests.dispatch.finalising_process DSN``.
"""

import asyncio
import sys
from collections.abc import Mapping
from typing import Any

from db.pool import Database
from db.utterances import UtteranceRecord
from templates.outbound import OutputField
from voicebot.clock import SystemClock
from voicebot.dispatch.breaker import Breakers
from voicebot.dispatch.finaliser import Finaliser


class Waiting:
    """Says that it was asked, and never answers."""

    async def fill(
        self, fields: Mapping[str, OutputField], transcript: list[UtteranceRecord]
    ) -> dict[str, Any] | None:
        """See ``voicebot.dispatch.finaliser.FillsOutput``."""
        print(*fields, len(transcript), flush=True)
        await asyncio.Event().wait()
        return None


async def main(dsn: str) -> None:
    """Finalise until killed."""
    database, clock = await Database.connect(dsn, max_size=3), SystemClock()
    await Finaliser(database, clock, {}, Breakers(database, clock, {}), Waiting()).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
