"""What the tests of the database share."""

from __future__ import annotations

import pytest

from db.pool import Database
from tests.db.seed import SeededAccount, seed_account


@pytest.fixture
async def seeded(database: Database) -> SeededAccount:
    """One account with a ringing call."""
    return await seed_account(database)
