"""The command ``voicebot serve``: starts the embedded database while the server is imported, then runs it.

This module imports little, so that PostgreSQL starts at once.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

from db.embedded import EmbeddedServer
from voicebot import startup
from voicebot.config import Settings
from voicebot.loading import load

SERVER = "voicebot.server"


def main() -> None:
    """Take calls until stopped by SIGTERM or SIGINT."""
    settings = startup.settings()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    with _database(settings) as with_database:
        server = load(SERVER)
        server.run(with_database())


@contextlib.contextmanager
def _database(settings: Settings) -> Iterator[Callable[[], Settings]]:
    """Start the embedded database in a thread, if it is used, and release it at the end.

    What is yielded waits for the database and returns settings with its address.
    """
    if settings.database_url is not None:
        yield lambda: settings
        return
    embedded = EmbeddedServer(settings.data_dir)
    with ThreadPoolExecutor(1) as thread:
        opening = thread.submit(embedded.open)
        try:
            yield lambda: settings.replace({"DATABASE_URL": opening.result()})
        finally:
            if opening.exception() is None:
                embedded.close()


def _stop(*_: object) -> NoReturn:
    """End a process that is not yet ready; the server replaces this handler."""
    raise SystemExit(0)
