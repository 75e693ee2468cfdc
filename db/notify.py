"""Being woken by NOTIFY: one connection a process that does nothing but listen, opened again when it is lost.

A wake says that something was committed, never what: whoever is woken reads the rows. Wakes may be lost with
the connection, so nobody relies on them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from uuid import UUID

import asyncpg
from loguru import logger

from db.handoff_events import CHANNEL

APPLICATION = "voicebot-wakes"
"""What the listening connection is called among the server's."""

_CONNECT_S = 5.0
_FIRST_PAUSE_S = 0.2
_LAST_PAUSE_S = 5.0

OnNotify = Callable[[UUID, int], None]
"""(account, the number of an event of it that was committed)."""


async def listen(dsn: str, wake: OnNotify) -> None:
    """Call ``wake`` for every event committed by any process, until cancelled."""
    pause = _FIRST_PAUSE_S
    while True:
        try:
            connection = await asyncpg.connect(
                dsn, timeout=_CONNECT_S, server_settings={"application_name": APPLICATION}
            )
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            logger.warning("the desk's listener cannot connect: {}", type(error).__name__)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LAST_PAUSE_S)
            continue
        pause = _FIRST_PAUSE_S
        try:
            await _until_lost(connection, wake)
        finally:
            connection.terminate()


async def _until_lost(connection: asyncpg.Connection[asyncpg.Record], wake: OnNotify) -> None:
    lost = asyncio.Event()

    def heard(_connection: object, _process: int, _channel: str, payload: object) -> None:
        account, _, seq = str(payload).partition(":")
        with contextlib.suppress(ValueError):
            wake(UUID(account), int(seq))

    connection.add_termination_listener(lambda _: lost.set())
    try:
        await connection.add_listener(CHANNEL, heard)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return
    await lost.wait()
