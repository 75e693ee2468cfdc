"""What the tests of the desk share: an account with a call, people, and a clock that stands still."""

from __future__ import annotations

import pytest

from db.pool import Database
from tests.db.seed import SeededAccount, seed_account
from tests.handoffs.fixtures import HandClock, Staff


@pytest.fixture
async def world(database: Database) -> SeededAccount:
    """One account with a ringing call."""
    return await seed_account(database)


@pytest.fixture
def clock() -> HandClock:
    """A clock that moves when told."""
    return HandClock()


@pytest.fixture
def staff(database: Database, world: SeededAccount, clock: HandClock) -> Staff:
    """The desk of the account, and the people at it."""
    return Staff(database, world.id, clock)
