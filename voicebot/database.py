"""The database of this process: found or started, brought up to date, opened."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from db.embedded import EmbeddedServer
from db.migrate import migrate
from db.pool import Database
from voicebot.config import Settings

MAX_CONNECTIONS = 20
"""Per process: with three replicas still below PostgreSQL's usual 100."""


@contextlib.asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Database]:
    """The database with its schema up to date: the embedded server where `DATABASE_URL` names no other.

    Raises:
        DatabaseUnavailable: it cannot be reached; try again.
        DatabaseError: it refuses us, or its schema cannot be brought up to date.
    """
    async with contextlib.AsyncExitStack() as stack:
        dsn = settings.database_url
        if dsn is None:
            dsn = await stack.enter_async_context(EmbeddedServer(settings.data_dir))
        await migrate(dsn)
        database = await Database.connect(dsn, max_size=MAX_CONNECTIONS)
        stack.push_async_callback(database.close)
        yield database
