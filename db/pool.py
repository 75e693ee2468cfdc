"""``Database``: a pool of asyncpg connections to any PostgreSQL server, with the errors of ``db.errors``."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, cast

import asyncpg

from db.codecs import Connection, set_codecs
from db.errors import (
    ConstraintViolated,
    DatabaseBusy,
    DatabaseError,
    DatabaseUnavailable,
    InvalidValue,
)

__all__ = ["Database", "Executor", "Row", "Transaction"]

Row = Mapping[str, Any]
"""A result row: column name → value (UUID, datetime, str, bytes, or a JSON value)."""

OLDEST_SERVER = 15
"""The oldest supported major version of PostgreSQL."""

_CONNECT_SECONDS = 5.0
_ACQUIRE_SECONDS = 5.0
_COMMAND_SECONDS = 15.0
_SERVER_SETTINGS = {
    "application_name": "voicebot",
    "timezone": "UTC",
    "statement_timeout": "10000",
    "lock_timeout": "5000",
    "idle_in_transaction_session_timeout": "30000",
    # Every statement takes some ms; compiling one of which the planner expects too much takes longer.
    "jit": "off",
    # A plan is kept while its tables grow: one that was made for an empty table would read the grown one for
    # each row. All that is asked often has an index (tests/db/test_plans.py).
    "enable_seqscan": "off",
}


class Executor(Protocol):
    """Executes statements: a ``Database`` (each statement in its own transaction) or a ``Transaction``."""

    async def execute(self, query: str, *arguments: object) -> int:
        """Run a statement; return the number of affected rows."""
        ...

    async def fetch(self, query: str, *arguments: object) -> Sequence[Row]:
        """Run a query; return all rows."""
        ...

    async def fetchrow(self, query: str, *arguments: object) -> Row | None:
        """Run a query; return its first row, or None."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """A transaction: committed at the end of the block, rolled back if it raises. Nested: a savepoint."""
        ...


class Transaction:
    """An open transaction on one connection. It must not be used by two tasks at once."""

    def __init__(self, connection: asyncpg.pool.PoolConnectionProxy[asyncpg.Record]) -> None:
        self._connection = connection

    async def execute(self, query: str, *arguments: object) -> int:
        """See ``Executor.execute``."""
        with _translated_errors(self._is_lost):
            return _affected_rows(await self._connection.execute(query, *arguments))

    async def fetch(self, query: str, *arguments: object) -> Sequence[Row]:
        """See ``Executor.fetch``."""
        with _translated_errors(self._is_lost):
            return cast("Sequence[Row]", await self._connection.fetch(query, *arguments))

    async def fetchrow(self, query: str, *arguments: object) -> Row | None:
        """See ``Executor.fetchrow``."""
        with _translated_errors(self._is_lost):
            return cast("Row | None", await self._connection.fetchrow(query, *arguments))

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """A savepoint: an error in the block rolls back only the block."""
        with _translated_errors(self._is_lost):
            block = self._connection.transaction()
            await block.start()
        try:
            yield self
        except BaseException:
            # On a lost connection, the server has rolled back already.
            with contextlib.suppress(*_BROKEN):
                await block.rollback()
            raise
        with _translated_errors(self._is_lost):
            await block.commit()

    def _is_lost(self) -> bool:
        try:
            return self._connection.is_closed()
        except asyncpg.InterfaceError:
            # The pool removes a broken connection.
            return True


class Database:
    """A pool of connections to one PostgreSQL database."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], dsn: str) -> None:
        """Use ``connect`` to create an instance."""
        self._pool = pool
        self._dsn = dsn

    @classmethod
    async def connect(cls, dsn: str, *, min_size: int = 1, max_size: int = 10) -> Database:
        """Open a pool.

        Args:
            dsn: ``postgresql://user:password@host:port/database``.
            min_size: number of connections that are opened now and kept.
            max_size: maximum number of connections; further statements wait up to 5 s for one.

        Raises:
            DatabaseUnavailable: the server cannot be reached or accepts no connections; retry later.
            DatabaseError: the server refused the connection (password, database name) or is too old.
        """
        with _translated_errors(lambda: False):
            pool = await asyncpg.create_pool(
                dsn,
                min_size=min_size,
                max_size=max_size,
                timeout=_CONNECT_SECONDS,
                command_timeout=_COMMAND_SECONDS,
                server_settings=_SERVER_SETTINGS,
                init=set_codecs,
                reset=_no_reset,
                connection_class=Connection,
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
        """The DSN of this pool; it may contain a password."""
        return self._dsn

    @property
    def pool(self) -> asyncpg.Pool[asyncpg.Record]:
        """asyncpg's own pool, for a library that brings its own SQL (the queue); nothing else may want it."""
        return self._pool

    async def close(self) -> None:
        """Close all connections; statements that run longer than 5 s are cancelled."""
        try:
            async with asyncio.timeout(5):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    async def ping(self) -> None:
        """Check that the server responds.

        Raises:
            DatabaseUnavailable: it does not.
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
        """A transaction on its own connection."""
        async with self._connection() as connection, connection.transaction() as opened:
            yield opened

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[Transaction]:
        with _translated_errors(self._pool.is_closing):
            connection = await self._pool.acquire(timeout=_ACQUIRE_SECONDS)
        try:
            yield Transaction(connection)
        finally:
            # The pool closes a connection that cannot be reset; the exception of the block is kept.
            with contextlib.suppress(*_BROKEN):
                await self._pool.release(connection)

    async def _check_version(self) -> None:
        async with self._connection() as connection:
            row = await connection.fetchrow("SELECT current_setting('server_version_num')::int AS version")
        if row is None or row["version"] < OLDEST_SERVER * 10_000:
            raise DatabaseError(f"PostgreSQL {OLDEST_SERVER} or newer is required.")


async def _no_reset(_: object) -> None:
    """Do not reset connections, which would cost a round trip: no statement changes session state.

    asyncpg rolls back open transactions in any case.
    """


def _affected_rows(status: str) -> int:
    """The number at the end of a command tag such as ``UPDATE 3``."""
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
    # Raised by a connection that the server closed during a statement.
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
def _translated_errors(closed: Callable[[], bool]) -> Iterator[None]:
    """Translate asyncpg's errors, ``from None`` because their messages contain values."""
    try:
        yield
    except asyncpg.IntegrityConstraintViolationError as error:
        raise ConstraintViolated(error.constraint_name or error.column_name or "") from None
    except _BUSY as error:
        raise DatabaseBusy(f"The statement was cancelled ({type(error).__name__}); retry it.") from None
    except _UNAVAILABLE as error:
        raise DatabaseUnavailable(
            f"The database is not available ({_summary(error)}); retry later."
        ) from None
    except asyncpg.DataError as error:
        raise _invalid_value(error) from None
    except asyncpg.InterfaceError as error:
        if isinstance(error, ValueError):
            raise _invalid_value(error) from None
        if closed():
            raise DatabaseUnavailable("The connection was closed; retry later.") from None
        raise
    except asyncpg.PostgresError as error:
        raise DatabaseError(f"{error.sqlstate}: {error.args[0] if error.args else ''}") from None


def _summary(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if isinstance(error, OSError) else type(error).__name__


def _invalid_value(error: Exception) -> InvalidValue:
    # A TypeError contains types only ("UUID is not JSON serializable"); other messages contain the value.
    reason = error.__cause__ if isinstance(error.__cause__, TypeError) else type(error).__name__
    return InvalidValue(f"A value is not valid for its column ({reason}).")
