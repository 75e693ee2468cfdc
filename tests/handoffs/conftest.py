"""Fixtures: an account with a call, its handoff components, and a clock that stands still."""

from __future__ import annotations

import pytest

from db.pool import Database
from tests.db.seed import SeededAccount, seed_account
from tests.handoffs.fixtures import HandoffEnvironment, ManualClock


@pytest.fixture
async def world(database: Database) -> SeededAccount:
    """One account with a ringing call."""
    return await seed_account(database)


@pytest.fixture
def clock() -> ManualClock:
    """A clock that is advanced by hand."""
    return ManualClock()


@pytest.fixture
def env(database: Database, world: SeededAccount, clock: ManualClock) -> HandoffEnvironment:
    """The handoff components of the account."""
    return HandoffEnvironment(database, world.id, clock)
