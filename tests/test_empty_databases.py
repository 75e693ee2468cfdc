"""The empty databases that tests use one after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from db import accounts
from db.errors import DatabaseUnavailable
from db.pool import Database
from tests.empty_databases import EmptyDatabases, NewDatabase


@pytest.fixture
async def databases(new_database: NewDatabase) -> AsyncIterator[EmptyDatabases]:
    """Databases of this test."""
    it = EmptyDatabases(new_database)
    yield it
    await it.close()


async def _counts(database: Database) -> tuple[int, int]:
    query = "SELECT (SELECT count(*) FROM accounts) AS accounts, (SELECT count(*) FROM lead_moves) AS moves"
    [row] = await database.fetch(query)
    return row["accounts"], row["moves"]


async def test_what_a_test_has_written_is_gone(databases: EmptyDatabases) -> None:
    """The next test has the same database without rows, except those of migrations."""
    async with databases.lend() as first:
        none, moves = await _counts(first)
        await accounts.create(first, "Acme")
        assert (await _counts(first))[0] == 1
    async with databases.lend() as second:
        assert second.dsn == first.dsn
        assert await _counts(second) == (none, moves)
    assert (none, moves > 0) == (0, True)


async def test_what_a_test_has_left_running_cannot_write_into_the_next(databases: EmptyDatabases) -> None:
    """A test's pool is closed at its end, although its connections are not."""
    async with databases.lend() as first:
        await first.ping()
    async with databases.lend():
        with pytest.raises(DatabaseUnavailable):
            await first.ping()


async def test_a_database_to_which_something_is_connected_is_dropped(databases: EmptyDatabases) -> None:
    """A connection that a test has left is cut, and the next test has another database."""
    async with databases.lend() as first:
        left = await asyncpg.connect(first.dsn)
    async with databases.lend() as second:
        assert second.dsn != first.dsn
    with pytest.raises((asyncpg.PostgresConnectionError, asyncpg.InterfaceError)):
        await left.execute("SELECT 1")


async def test_a_database_whose_connections_were_cut_is_dropped(databases: EmptyDatabases) -> None:
    """A test may cut every connection to its database; the next test has another one."""
    async with databases.lend() as first:
        other = await asyncpg.connect(first.dsn)
        await other.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await other.close()
    async with databases.lend() as second:
        assert second.dsn != first.dsn
        await second.ping()


async def test_a_database_with_a_large_table_is_dropped(databases: EmptyDatabases) -> None:
    """Deleted rows take space until a table is vacuumed; the next test has another database."""
    async with databases.lend() as first:
        await first.execute(
            "INSERT INTO accounts (id, name) SELECT gen_random_uuid(), 'Acme' FROM generate_series(1, 5000)"
        )
    async with databases.lend() as second:
        assert second.dsn != first.dsn
