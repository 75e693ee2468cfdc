"""What the tests of the database share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import count

import pytest

from db.pool import Database
from tests.db.seed import SeededAccount, seed_account
from tests.empty_databases import NewDatabase, opened

_NUMBERS = count(4_156_000_000)  # none that a test names itself


@pytest.fixture(scope="module")
async def module_database(new_database: NewDatabase) -> AsyncIterator[Database]:
    """Pool on a new, migrated database of a module whose tests look at their own accounts."""
    async with opened(new_database) as database:
        yield database


@pytest.fixture
async def seeded(database: Database) -> SeededAccount:
    """One account with a ringing call; no other one has its number."""
    return await seed_account(database, f"+1{next(_NUMBERS)}")
