"""Writes the journal until it is killed: ``python -m tests.escalation.journalist DSN DIRECTORY``."""

import asyncio
import sys
from pathlib import Path

from db.pool import Database
from voicebot.clock import SystemClock
from voicebot.escalation.journal import Journal


async def main(dsn: str, directory: str) -> None:
    """Write, in files that are soon full."""
    database = await Database.connect(dsn, max_size=3)
    print("ready", flush=True)
    await Journal(database, SystemClock(), Path(directory), full_bytes=20_000).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
