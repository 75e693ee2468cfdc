"""A database whose process dies at a statement: that statement and all later ones are never sent."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

from db.pool import Database, Executor, Row, Transaction


class DyingDatabase:
    """Counts the statements, and raises ``CancelledError`` at number ``dies_at`` (from 1)."""

    def __init__(self, database: Executor, dies_at: int, count: list[int] | None = None) -> None:
        self._database = database
        self._dies_at = dies_at
        self._count = [0] if count is None else count

    @property
    def has_died(self) -> bool:
        """Whether the statement was reached."""
        return self._count[0] >= self._dies_at

    def as_database(self) -> Database:
        """This object, for who needs a database."""
        return cast(Database, self)

    def _next(self) -> None:
        self._count[0] += 1
        if self.has_died:
            raise asyncio.CancelledError

    async def execute(self, query: str, *arguments: object) -> int:
        """See ``Executor.execute``."""
        self._next()
        return await self._database.execute(query, *arguments)

    async def fetch(self, query: str, *arguments: object) -> Sequence[Row]:
        """See ``Executor.fetch``."""
        self._next()
        return await self._database.fetch(query, *arguments)

    async def fetchrow(self, query: str, *arguments: object) -> Row | None:
        """See ``Executor.fetchrow``."""
        self._next()
        return await self._database.fetchrow(query, *arguments)

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """A transaction whose statements, and whose commit, are counted too."""
        async with self._database.transaction() as opened:
            yield cast(Any, DyingDatabase(opened, self._dies_at, self._count))
            self._next()
