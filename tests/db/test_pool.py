import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from db import accounts
from db.errors import (
    ConstraintViolated,
    DatabaseBusy,
    DatabaseError,
    DatabaseUnavailable,
    InvalidValue,
)
from db.pool import Database, Transaction


async def names(database: Database) -> list[str]:
    return [row["name"] for row in await database.fetch("SELECT name FROM accounts ORDER BY name")]


async def test_a_transaction_keeps_all_or_nothing(database: Database) -> None:
    """What was written in a block that raises is undone."""

    async def give_up() -> None:
        async with database.transaction() as transaction:
            await accounts.create(transaction, "gone")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await give_up()
    async with database.transaction() as transaction:
        await accounts.create(transaction, "kept")

    assert await names(database) == ["kept"]


async def test_a_nested_transaction_is_a_savepoint(database: Database) -> None:
    """An error in an inner block undoes the inner block only."""

    async def fail_within(outer: Transaction) -> None:
        async with outer.transaction() as inner:
            await accounts.create(inner, "inner")
            await accounts.create(inner, "")

    async with database.transaction() as outer:
        await accounts.create(outer, "outer")
        with pytest.raises(ConstraintViolated):
            await fail_within(outer)

    assert await names(database) == ["outer"]


@pytest.mark.parametrize(
    "value",
    [{"a": [1, 2.5, None, True]}, [], "text", 0, {"ключ": "значение 😀"}, {"deep": {"er": ["\\u0000"]}}],
)
async def test_json_comes_back_as_it_went(database: Database, value: object) -> None:
    """JSON values survive the way into jsonb and back."""
    row = await database.fetchrow("SELECT $1::jsonb AS value", value)

    assert row is not None
    assert row["value"] == value


@pytest.mark.parametrize(
    ("sent", "kept"), [("a\0b", "a\ufffdb"), ("\ud83d!", "\ufffd!"), ("\\u0000", "\\u0000")]
)
async def test_what_postgres_cannot_store_is_replaced(database: Database, sent: str, kept: str) -> None:
    """NUL and lone surrogates become U+FFFD in text, in JSON and in the keys of JSON."""
    row = await database.fetchrow("SELECT $1::text AS text, $2::jsonb AS json", sent, {sent: [sent]})

    assert row is not None
    assert dict(row) == {"text": kept, "json": {kept: [kept]}}


async def test_a_constraint_is_named_and_the_row_is_not_quoted(database: Database) -> None:
    """An error carries the constraint's name and nothing of the values, in its text or its causes."""
    with pytest.raises(ConstraintViolated) as caught:
        await database.execute(
            "INSERT INTO audit (id, account_id, action, resource, resource_id) VALUES ($1, $1, $2, '', $1)",
            uuid4(),
            "my card is 4111",
        )

    assert caught.value.constraint == "audit_account_id_fkey"
    assert caught.value.__suppress_context__
    assert "4111" not in str(caught.value)


@pytest.mark.parametrize("query", ["SELECT $1::int", "SELECT $1::text::int"])
async def test_a_value_that_does_not_fit_is_refused_without_quoting_it(
    database: Database, query: str
) -> None:
    """A wrong type or form is an InvalidValue, which no retry mends."""
    with pytest.raises(InvalidValue) as caught:
        await database.fetchrow(query, "my card is 4111")

    assert not caught.value.retryable
    assert "4111" not in str(caught.value)


async def test_json_within_a_row_of_a_row_comes_back(database: Database) -> None:
    """Values of arrays of rows are sent in the binary format, in which jsonb has a version."""
    row = await database.fetchrow(
        "SELECT ARRAY(SELECT ROW($1::jsonb, $1::jsonb::json, 'x')) AS rows", {"a": [1]}
    )
    assert row is not None
    assert [tuple(each) for each in row["rows"]] == [({"a": [1]}, {"a": [1]}, "x")]


async def test_what_is_not_json_is_named_by_its_type(database: Database) -> None:
    """A value that JSON cannot hold is refused before it is sent, and the error says of what type it is."""
    with pytest.raises(InvalidValue, match="UUID is not JSON serializable"):
        await database.fetchrow("SELECT $1::jsonb", {"id": uuid4()})
    with pytest.raises(InvalidValue):
        await database.fetchrow("SELECT $1::jsonb", float("nan"))


async def test_lost_connection_is_retryable_and_replaced(database: Database, dsn: str) -> None:
    """A connection that the server drops raises DatabaseUnavailable; the next statement gets a new one."""
    other = await Database.connect(dsn)

    async def lose_the_connection() -> None:
        async with database.transaction() as transaction:
            row = await transaction.fetchrow("SELECT pg_backend_pid() AS pid")
            assert row is not None
            await other.execute("SELECT pg_terminate_backend($1)", row["pid"])
            await transaction.fetchrow("SELECT 1")

    with pytest.raises(DatabaseUnavailable) as caught:
        await lose_the_connection()
    await other.close()

    assert caught.value.retryable
    await database.ping()


async def test_cancelled_statement_is_busy(database: Database) -> None:
    """A statement that exceeds the server's timeout raises DatabaseBusy."""

    async def take_too_long() -> None:
        async with database.transaction() as transaction:
            await transaction.execute("SET LOCAL statement_timeout = 20")
            await transaction.execute("SELECT pg_sleep(5)")

    with pytest.raises(DatabaseBusy) as caught:
        await take_too_long()

    assert caught.value.retryable


async def test_a_deadlock_is_busy_for_one_and_nothing_for_the_other(database: Database) -> None:
    """Of two transactions that wait for each other one gets DatabaseBusy and the other continues."""
    first = await accounts.create(database, "first")
    second = await accounts.create(database, "second")
    both_hold_one = asyncio.Barrier(2)

    async def touch(mine: object, others: object) -> None:
        async with database.transaction() as transaction:
            await transaction.execute("SET LOCAL deadlock_timeout = 10")
            await transaction.execute("UPDATE accounts SET name = name WHERE id = $1", mine)
            await both_hold_one.wait()
            await transaction.execute("UPDATE accounts SET name = name WHERE id = $1", others)

    results = await asyncio.gather(
        touch(first.id, second.id), touch(second.id, first.id), return_exceptions=True
    )

    assert [type(result) for result in results if result is not None] == [DatabaseBusy]


async def test_no_server_is_unavailable(tmp_path: Path) -> None:
    """Connecting to where no server listens can be tried again."""
    with pytest.raises(DatabaseUnavailable):
        await Database.connect(f"postgresql://postgres@/postgres?host={tmp_path}")


async def test_a_wrong_database_name_is_not_retryable(dsn: str) -> None:
    """A permanent refusal by the server is an error that is not retryable."""
    with pytest.raises(DatabaseError) as caught:
        await Database.connect(dsn.replace("/test_", "/absent_"))

    assert not caught.value.retryable


async def test_a_closed_pool_is_unavailable(dsn: str) -> None:
    """A statement after close gives DatabaseUnavailable instead of asyncpg's own error."""
    database = await Database.connect(dsn)
    await database.close()

    with pytest.raises(DatabaseUnavailable):
        await database.ping()


async def test_what_an_array_consists_of_is_asked_once(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second connection of a process uses arrays of built-in types without asking; of others, it asks."""
    # Nothing else tells what was asked.
    asked, ask = list[int](), asyncpg.Connection._introspect_types  # type: ignore[attr-defined] # noqa: SLF001

    async def noted(connection: Any, oids: Iterable[int], timeout_s: float | None) -> Any:
        asked.extend(oids)
        return await ask(connection, oids, timeout_s)

    monkeypatch.setattr(asyncpg.Connection, "_introspect_types", noted)
    key, questions = uuid4(), list[int]()
    for _ in range(2):
        database = await Database.connect(dsn, max_size=1)
        await database.execute(
            "DO $$ BEGIN CREATE TYPE mood AS ENUM ('calm'); EXCEPTION WHEN OTHERS THEN END $$"
        )
        asked.clear()
        row = await database.fetchrow("SELECT $1::uuid[] AS keys, $2::interval[] AS times", [key], [])
        assert row is not None
        assert dict(row) == {"keys": [key], "times": []}
        questions.append(len(asked))
        row = await database.fetchrow("SELECT ARRAY['calm']::mood[] AS moods")
        assert row is not None
        assert row["moods"] == ["calm"]
        await database.close()
    assert questions[1] == 0
    assert len(asked) == 1, "a type of this database has another meaning in the next one"


async def test_execute_returns_the_number_of_rows(database: Database) -> None:
    """The number of affected rows is returned, including 0."""
    await accounts.create(database, "one")
    await accounts.create(database, "two")

    assert await database.execute("UPDATE accounts SET name = 'x'") == 2
    assert await database.execute("UPDATE accounts SET name = 'x' WHERE name = 'y'") == 0


async def test_cancelling_a_query_gives_its_connection_back(dsn: str) -> None:
    """A pool of one connection serves the next statement after a query was cancelled."""
    database = await Database.connect(dsn, max_size=1)
    sleeping = asyncio.create_task(database.execute("SELECT pg_sleep(30)"))
    await asyncio.sleep(0.1)
    sleeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleeping

    async with asyncio.timeout(30):
        await database.ping()
    await database.close()
