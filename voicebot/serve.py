"""The command ``voicebot serve``: starts the embedded database while the server is imported, then runs it.

This module imports little, so that PostgreSQL starts at once.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, NoReturn

import typer

from db.embedded import EmbeddedServer
from voicebot import startup
from voicebot.config import Settings
from voicebot.imports import load
from voicebot.supervisor import cores, supervise

SERVER = "voicebot.server"


def main(
    workers: Annotated[
        str | None,
        typer.Option(
            metavar="N|auto",
            help="How many processes take calls on the port, one for each core: VOICEBOT_WORKERS, or 1.",
        ),
    ] = None,
) -> None:
    """Take calls until stopped by SIGTERM or SIGINT."""
    settings = startup.settings(values={} if workers is None else {"VOICEBOT_WORKERS": workers})
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    count = cores() if settings.workers == "auto" else settings.workers
    with _database(settings) as with_database:
        if count > 1:
            raise typer.Exit(_supervise(settings, count, with_database))
        server = load(SERVER)
        server.run(with_database())


def _supervise(settings: Settings, count: int, with_database: Callable[[], Settings]) -> int:
    """Run several workers; returns the exit status."""
    settings.fernet_keys()  # So that the workers do not each create a key.

    def embedded_url() -> str | None:
        opened = with_database()
        return None if opened is settings else opened.database_url

    return supervise(count, settings.host, settings.port, embedded_url)


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
