"""Fixtures for the whole suite: a real PostgreSQL, and a fresh database in it for each test that asks.

All workers of a session share one embedded server. Its directory is made and removed by the session's first
process (the controller under xdist), so nothing is left behind.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from hypothesis import settings

from db.embedded import EmbeddedServer
from db.ids import new_id
from db.migrate import migrate
from db.pool import Database

_DIRECTORY = "VOICEBOT_TEST_SERVER_DIR"
_MIGRATED = "migrated"
# Durability is of no use to a test; connections are, since many tests race for one row.
_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "300",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "autovacuum": "off",
    "max_wal_size": "128MB",
    "dynamic_shared_memory_type": "mmap",
}


# The time of an example depends on what else the machine does, so that there is no deadline.
settings.register_profile("short", deadline=None, max_examples=25)
settings.register_profile("long", deadline=None, max_examples=100)
settings.load_profile("short")


def pytest_xdist_auto_num_workers() -> int:
    """Half as many workers again as cores: a call in real time mostly waits."""
    return (os.cpu_count() or 1) * 3 // 2


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that say they are long come first: one that begins last keeps everybody waiting."""
    items.sort(key=lambda item: item.get_closest_marker("timeout") is None)


def pytest_configure(config: pytest.Config) -> None:
    """Name one directory for the server of all workers, which inherit the environment."""
    if not hasattr(config, "workerinput"):
        # Made by the first test that needs it: many runs do without.
        os.environ[_DIRECTORY] = str(Path(in_memory() or tempfile.gettempdir(), f"voicebot-tests-{new_id()}"))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove it when the last worker is done."""
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ.pop(_DIRECTORY), ignore_errors=True)


@pytest.fixture(scope="session")
def server_dsn() -> Iterator[str]:
    """The DSN of the session's server, with a migrated database in it to clone."""
    server = EmbeddedServer(os.environ[_DIRECTORY], settings=_SETTINGS)
    with asyncio.Runner() as runner:
        dsn = runner.run(server.__aenter__())
        try:
            runner.run(_make_migrated(dsn))
            yield dsn
        finally:
            runner.run(server.__aexit__(None, None, None))


@pytest.fixture
async def dsn(server_dsn: str) -> AsyncIterator[str]:
    """The DSN of a fresh, migrated database, gone after the test."""
    name = f"test_{new_id().hex}"
    server = await asyncpg.connect(server_dsn)
    try:
        await server.execute(f"CREATE DATABASE {name} TEMPLATE {_MIGRATED} STRATEGY FILE_COPY")
        try:
            yield _database(server_dsn, name)
        finally:
            await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await server.close()


@pytest.fixture
def database_url(dsn: str) -> str:
    """The same DSN under the name of the environment variable, for programs that a test starts."""
    return dsn


@pytest.fixture
async def database(dsn: str) -> AsyncIterator[Database]:
    """A pool on a fresh, migrated database."""
    opened = await Database.connect(dsn)
    try:
        yield opened
    finally:
        await opened.close()


def in_memory() -> str | None:
    """A directory in memory when there is room: a clone is 300 files, ten times slower on a disk."""
    shared = Path("/dev/shm")  # noqa: S108
    if os.access(shared, os.W_OK) and shutil.disk_usage(shared).free > 2**30:
        return str(shared)
    return None


async def _make_migrated(server_dsn: str) -> None:
    """Make the database that tests clone, once for all workers."""
    server = await asyncpg.connect(server_dsn)
    try:
        await server.execute("SELECT pg_advisory_lock(1)")
        if not await server.fetchval("SELECT true FROM pg_database WHERE datname = $1", _MIGRATED):
            building = f"building_{new_id().hex}"
            await server.execute(f"CREATE DATABASE {building}")
            await migrate(_database(server_dsn, building))
            await server.execute(f"ALTER DATABASE {building} RENAME TO {_MIGRATED}")
    finally:
        await server.close()


def _database(server_dsn: str, name: str) -> str:
    return urlsplit(server_dsn)._replace(path=f"/{name}").geturl()
