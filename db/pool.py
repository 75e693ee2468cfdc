"""The only place that talks to asyncpg: one pool for any PostgreSQL server, and its errors by our names."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, cast

import asyncpg

from db.errors import (
    ConstraintViolated,
    DatabaseBusy,
    DatabaseError,
    DatabaseUnavailable,
    InvalidValue,
)

__all__ = ["Database", "Executor", "Row", "Transaction"]

Row = Mapping[str, Any]
"""A result row by column name. Values are Python's own: UUID, datetime, str, bytes, and plain JSON values."""

OLDEST_SERVER = 15
"""The oldest major version of PostgreSQL this schema runs on."""

_CONNECT_SECONDS = 5.0
_ACQUIRE_SECONDS = 5.0
_COMMAND_SECONDS = 15.0
_SERVER_SETTINGS = {
    "application_name": "voicebot",
    "timezone": "UTC",
    "statement_timeout": "10000",
    "lock_timeout": "5000",
    "idle_in_transaction_session_timeout": "30000",
}
_UNSTORABLE = dict.fromkeys([0, *range(0xD800, 0xE000)], "\ufffd")


class Executor(Protocol):
    """What a query function needs: a ``Database`` (each statement on its own) or a ``Transaction``."""

    async def execute(self, query: str, *arguments: object) -> int:
        """Run a statement; returns how many rows it touched."""
        ...

    async def fetch(self, query: str, *arguments: object) -> Sequence[Row]:
        """Run a query; returns all rows."""
        ...

    async def fetchrow(self, query: str, *arguments: object) -> Row | None:
        """Run a query; returns its first row, None when there is no row."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """A transaction: committed when the block ends, undone if it raises. Inside another: a savepoint."""
        ...


class Transaction:
    """An open transaction on one connection. Not for use by two tasks at once."""

    def __init__(self, connection: asyncpg.pool.PoolConnectionProxy[asyncpg.Record]) -> None:
        self._connection = connection

    async def execute(self, query: str, *arguments: object) -> int:
        """See ``Executor.execute``."""
        with _named_errors(self._is_lost):
            return _touched(await self._connection.execute(query, *arguments))

    async def fetch(self, query: str, *arguments: object) -> Sequence[Row]:
        """See ``Executor.fetch``."""
        with _named_errors(self._is_lost):
            return cast("Sequence[Row]", await self._connection.fetch(query, *arguments))

    async def fetchrow(self, query: str, *arguments: object) -> Row | None:
        """See ``Executor.fetchrow``."""
        with _named_errors(self._is_lost):
            return cast("Row | None", await self._connection.fetchrow(query, *arguments))

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """A savepoint: an error inside undoes only the block."""
        with _named_errors(self._is_lost):
            block = self._connection.transaction()
            await block.start()
        try:
            yield self
        except BaseException:
            # A lost connection has rolled back by itself.
            with contextlib.suppress(*_BROKEN):
                await block.rollback()
            raise
        with _named_errors(self._is_lost):
            await block.commit()

    def _is_lost(self) -> bool:
        try:
            return self._connection.is_closed()
        except asyncpg.InterfaceError:
            # The pool takes a connection away when it breaks.
            return True


class Database:
    """A pool of connections to one PostgreSQL database."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], dsn: str) -> None:
        """Use ``connect``."""
        self._pool = pool
        self._dsn = dsn

    @classmethod
    async def connect(cls, dsn: str, *, min_size: int = 1, max_size: int = 10) -> Database:
        """Open a pool.

        Args:
            dsn: ``postgresql://user:password@host:port/database``; of the embedded server or any other one.
            min_size: connections opened now and kept.
            max_size: connections at most; statements beyond wait up to 5 s for one.

        Raises:
            DatabaseUnavailable: no server answers, or it takes no connections now; try again.
            DatabaseError: the server refuses us (password, database name, version); a retry does not help.
        """
        with _named_errors(lambda: False):
            pool = await asyncpg.create_pool(
                dsn,
                min_size=min_size,
                max_size=max_size,
                timeout=_CONNECT_SECONDS,
                command_timeout=_COMMAND_SECONDS,
                server_settings=_SERVER_SETTINGS,
                init=_set_codecs,
                reset=_leave_as_is,
            )
        database = cls(pool, dsn)
        try:
            await database._check_version()
        except BaseException:
            await database.close()
            raise
        return database

    @property
    def dsn(self) -> str:
        """The DSN this pool was opened with; it may hold a password."""
        return self._dsn

    @property
    def pool(self) -> asyncpg.Pool[asyncpg.Record]:
        """asyncpg's own pool, for a library that brings its own SQL (the queue); nothing else may want it."""
        return self._pool

    async def close(self) -> None:
        """Close every connection; a statement still running after 5 s is cut off."""
        try:
            async with asyncio.timeout(5):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    async def ping(self) -> None:
        """Ask the server for a sign of life.

        Raises:
            DatabaseUnavailable: there is none.
        """
        await self.fetchrow("SELECT 1")

    async def execute(self, query: str, *arguments: object) -> int:
        """See ``Executor.execute``."""
        async with self._connection() as connection:
            return await connection.execute(query, *arguments)

    async def fetch(self, query: str, *arguments: object) -> Sequence[Row]:
        """See ``Executor.fetch``."""
        async with self._connection() as connection:
            return await connection.fetch(query, *arguments)

    async def fetchrow(self, query: str, *arguments: object) -> Row | None:
        """See ``Executor.fetchrow``."""
        async with self._connection() as connection:
            return await connection.fetchrow(query, *arguments)

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """A transaction on a connection of its own."""
        async with self._connection() as connection, connection.transaction() as opened:
            yield opened

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[Transaction]:
        with _named_errors(self._pool.is_closing):
            connection = await self._pool.acquire(timeout=_ACQUIRE_SECONDS)
        try:
            yield Transaction(connection)
        finally:
            # A connection that cannot be reset is closed by the pool; what the block raised matters more.
            with contextlib.suppress(*_BROKEN):
                await self._pool.release(connection)

    async def _check_version(self) -> None:
        async with self._connection() as connection:
            row = await connection.fetchrow("SELECT current_setting('server_version_num')::int AS version")
        if row is None or row["version"] < OLDEST_SERVER * 10_000:
            raise DatabaseError(f"PostgreSQL {OLDEST_SERVER} or newer is needed.")


async def _set_codecs(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    for name in ("json", "jsonb"):
        await connection.set_type_codec(name, schema="pg_catalog", encoder=_to_json, decoder=json.loads)
    await connection.set_type_codec("text", schema="pg_catalog", encoder=_storable, decoder=str)


async def _leave_as_is(_: object) -> None:
    """Spare every statement a second trip: nothing here sets what outlives its transaction.

    What a transaction left open is rolled back by asyncpg all the same.
    """


def _storable(value: object) -> str:
    """PostgreSQL stores no NUL and no lone surrogate; a model or a payload may send either."""
    if not isinstance(value, str):
        raise TypeError(f"a str is wanted, not {type(value).__name__}")
    return value if value.isascii() and "\0" not in value else value.translate(_UNSTORABLE)


def _to_json(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if "\\u0000" in text:
        text = json.dumps(_without_nul(value), ensure_ascii=False, allow_nan=False)
    return _storable(text)


def _without_nul(value: object) -> object:
    if isinstance(value, str):
        return _storable(value)
    if isinstance(value, Mapping):
        return {_storable(str(key)): _without_nul(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nul(item) for item in value]
    return value


def _touched(status: str) -> int:
    """The count at the end of a command tag such as ``UPDATE 3``."""
    count = status.rpartition(" ")[2]
    return int(count) if count.isdigit() else 0


_BROKEN = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
_UNAVAILABLE = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.InsufficientResourcesError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,
    # What a connection says that the server ended in the middle of something.
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
_BUSY = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
)


@contextlib.contextmanager
def _named_errors(closed: Callable[[], bool]) -> Iterator[None]:
    """Translate asyncpg's errors. ``from None`` throughout: their texts quote values, ours do not."""
    try:
        yield
    except asyncpg.IntegrityConstraintViolationError as error:
        raise ConstraintViolated(error.constraint_name or error.column_name or "") from None
    except _BUSY as error:
        raise DatabaseBusy(f"The statement was given up ({type(error).__name__}); try again.") from None
    except _UNAVAILABLE as error:
        raise DatabaseUnavailable(
            f"The database cannot be used now ({_summary(error)}); try again."
        ) from None
    except asyncpg.DataError as error:
        raise _misfit(error) from None
    except asyncpg.InterfaceError as error:
        if isinstance(error, ValueError):
            raise _misfit(error) from None
        if closed():
            raise DatabaseUnavailable("The connection was closed; try again.") from None
        raise
    except asyncpg.PostgresError as error:
        raise DatabaseError(f"{error.sqlstate}: {error.args[0] if error.args else ''}") from None


def _summary(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if isinstance(error, OSError) else type(error).__name__


def _misfit(error: Exception) -> InvalidValue:
    # A TypeError names types only ("UUID is not JSON serializable"); the others quote the value.
    reason = error.__cause__ if isinstance(error.__cause__, TypeError) else type(error).__name__
    return InvalidValue(f"A value does not fit its column ({reason}).")
