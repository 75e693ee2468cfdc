"""LISTEN on one dedicated connection per process, which is opened again when it is lost.

A notification only says that an event was committed; the receiver reads the rows. Notifications are lost
while the connection is down, so every receiver also polls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import asyncpg
from loguru import logger

APPLICATION = "voicebot-listener"
"""``application_name`` of the listening connection in ``pg_stat_activity``."""

_CONNECT_S = 5.0
_FIRST_PAUSE_S = 0.2
_LAST_PAUSE_S = 5.0

OnNotify = Callable[[str], None]
"""Called with the payload of a notification."""


async def listen(dsn: str, channel: str, on_notify: OnNotify) -> None:
    """Call ``on_notify`` for every notification that any process commits, until cancelled."""
    pause = _FIRST_PAUSE_S
    while True:
        try:
            connection = await asyncpg.connect(
                dsn, timeout=_CONNECT_S, server_settings={"application_name": APPLICATION}
            )
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            logger.warning(
                "the listener on {} cannot connect to the database: {}", channel, type(error).__name__
            )
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LAST_PAUSE_S)
            continue
        pause = _FIRST_PAUSE_S
        try:
            await _until_lost(connection, channel, on_notify)
        finally:
            connection.terminate()


async def _until_lost(
    connection: asyncpg.Connection[asyncpg.Record], channel: str, on_notify: OnNotify
) -> None:
    lost = asyncio.Event()

    def received(_connection: object, _process: int, _channel: str, payload: object) -> None:
        on_notify(str(payload))

    connection.add_termination_listener(lambda _: lost.set())
    try:
        await connection.add_listener(channel, received)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return
    await lost.wait()
