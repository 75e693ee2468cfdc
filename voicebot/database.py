"""Opens the database of this process, and migrates it."""

from __future__ import annotations

import asyncio
import contextlib
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

from loguru import logger

from db import accounts
from db.embedded import EmbeddedServer
from db.migrate import migrate
from db.pool import Database
from voicebot.config import PRIVATE_DIRECTORY, PRIVATE_FILE, Settings

MAX_CONNECTIONS = 20
"""Connections of a server; with three replicas this is below PostgreSQL's default of 100."""

MIN_CONNECTIONS = 4
"""The least connections of one of its worker processes."""


_FOR_OTHERS = stat.S_IRWXO | stat.S_IRGRP | stat.S_IWGRP


class NoDatabase(LookupError):
    """There is no embedded database in the data directory, and this command does not make one."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(
            f"There is no database in {data_dir.resolve()}. Run the command in the directory where `voicebot "
            "serve` runs, or set VOICEBOT_DATA_DIR or DATABASE_URL. `voicebot serve`, `demo` and `accounts "
            "create` make a new database."
        )


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


def make_private(data_dir: Path) -> None:
    """Make the data directory of an earlier version, and its key, unreadable for other users.

    A directory without voicebot's files is not changed. The group keeps the permission to pass through, which
    the embedded server needs if this process runs as root.
    """
    ours = [data_dir / name for name in ("secret.key", "journal", "postgres")]
    if not any(path.exists() for path in ours):
        return
    try:
        if data_dir.stat().st_mode & _FOR_OTHERS:
            data_dir.chmod(PRIVATE_DIRECTORY)
        if ours[0].exists() and ours[0].stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            ours[0].chmod(PRIVATE_FILE)
    except PermissionError:
        logger.warning("{} is not private, and belongs to another user: change its mode to 0700", data_dir)


@contextlib.asynccontextmanager
async def open_database(
    settings: Settings, *, create: bool = False, processes: int = 1
) -> AsyncIterator[Database]:
    """Open the database with its schema up to date: at ``DATABASE_URL``, or else the embedded server.

    Args:
        settings: of this process.
        create: whether the embedded server's database is made if there is none.
        processes: how many processes share the connections that a server may have.

    Raises:
        NoDatabase: there is none, and it may not be made.
        DatabaseUnavailable: it cannot be reached; try again.
        DatabaseError: it refuses the connection, or cannot be migrated.
    """
    if not create and not has_database(settings):
        raise NoDatabase(settings.data_dir)
    await asyncio.to_thread(make_private, settings.data_dir)
    async with contextlib.AsyncExitStack() as stack:
        dsn = settings.database_url
        if dsn is None:
            dsn = await stack.enter_async_context(EmbeddedServer(settings.data_dir))
        await migrate(dsn)
        database = await Database.connect(dsn, max_size=max(MIN_CONNECTIONS, MAX_CONNECTIONS // processes))
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
