"""What the tests of the database share."""

from __future__ import annotations

import pytest

from db.pool import Database
from tests.db.world import World, build


@pytest.fixture
async def world(database: Database) -> World:
    """One account with a ringing call."""
    return await build(database)
