"""The database of this process: found or started, brought up to date, opened."""

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
"""Per process: with three replicas still below PostgreSQL's usual 100."""


class WhichAccount(LookupError):
    """There is not exactly one account: name one, or make one first."""

    def __init__(self, how_many: str) -> None:
        remedy = "name one with --account" if how_many == "several" else "make one: voicebot accounts create"
        super().__init__(
            f"There are {how_many} accounts here; {remedy}.".replace("none accounts", "no accounts")
        )


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


async def only_account(database: Database) -> UUID:
    """The account, where there is no choice.

    Raises:
        WhichAccount: there are several, or none.
    """
    found = await accounts.some(database, 2)
    if len(found) != 1:
        raise WhichAccount("several" if found else "none")
    return found[0].id
