"""Who may judge that a call is nobody's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from db import call_leases, calls, events
from db.calls import CallRecord
from db.pool import Database
from tests.db.seed import seed_account
from voicebot.call.leases import Lease, LeaseReaper

LEASE = Lease(length=timedelta(seconds=90))


class HandClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.ms = 0.0

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic_ms(self) -> float:
        return self.ms


async def test_nobody_is_judged_before_everybody_could_have_renewed(database: Database) -> None:
    """A keeper that has seen the database for less than a lease ends no call; after that it does, once."""
    world = await seed_account(database)
    await call_leases.renew(database, [world.call.id], timedelta(seconds=-1))
    clock, told = HandClock(), list[CallRecord]()
    reaper = LeaseReaper(database, clock, lambda: set[UUID](), told.append, LEASE)

    await reaper.run_once()
    clock.ms = 89_000
    await reaper.run_once()
    assert told == []
    clock.ms = 90_000
    await reaper.run_once()
    await reaper.run_once()
    assert [call.id for call in told] == [world.call.id]
    [event] = await events.of_call(database, world.id, world.call.id)
    assert (event.type, event.data["reason"]) == ("call.ended", "never_connected")


async def test_a_scheduler_holds_its_own_before_it_looks(database: Database) -> None:
    """A process that was stopped for longer than a lease finds its own calls unheld, and keeps them."""
    world = await seed_account(database)
    await call_leases.renew(database, [world.call.id], timedelta(seconds=-1))
    clock, told = HandClock(), list[CallRecord]()
    reaper = LeaseReaper(database, clock, lambda: {world.call.id}, told.append, LEASE)
    await reaper.run_once()
    clock.ms = 1_000_000
    await call_leases.renew(database, [world.call.id], timedelta(seconds=-1))
    await reaper.run_once()

    assert told == []
    assert (await calls.get(database, world.id, world.call.id)).status == "ringing"
