"""Opens the database of this process, and migrates it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from uuid import UUID

from db import accounts
from db.embedded import EmbeddedServer
from db.migrate import migrate
from db.pool import Database
from voicebot.config import Settings

MAX_CONNECTIONS = 20
"""Per process; with three replicas this is below PostgreSQL's default of 100."""


class AccountNotUnique(LookupError):
    """There is not exactly one account: name one, or create one."""

    def __init__(self, *, several: bool) -> None:
        super().__init__(
            "There are several accounts; name one with --account."
            if several
            else "There is no account; create one with `voicebot accounts create`."
        )


def has_database(settings: Settings) -> bool:
    """Whether there is a database to open: ``open_database`` would create the embedded one."""
    return settings.database_url is not None or settings.postgres_dir.is_dir()


@contextlib.asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Database]:
    """Open the database with its schema up to date: at ``DATABASE_URL``, or else the embedded server.

    Raises:
        DatabaseUnavailable: it cannot be reached; try again.
        DatabaseError: it refuses the connection, or cannot be migrated.
    """
    async with contextlib.AsyncExitStack() as stack:
        dsn = settings.database_url
        if dsn is None:
            dsn = await stack.enter_async_context(EmbeddedServer(settings.data_dir))
        await migrate(dsn)
        database = await Database.connect(dsn, max_size=MAX_CONNECTIONS)
        stack.push_async_callback(database.close)
        yield database


async def only_account(database: Database) -> UUID:
    """The only account.

    Raises:
        AccountNotUnique: there are several accounts, or none.
    """
    found = await accounts.oldest(database, 2)
    if len(found) != 1:
        raise AccountNotUnique(several=bool(found))
    return found[0].id
