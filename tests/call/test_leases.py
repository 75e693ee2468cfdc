"""When a process may end calls with an expired lease: voicebot.call.leases."""

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


async def test_no_call_is_ended_before_every_process_could_renew(database: Database) -> None:
    """A process ends expired calls only after the database was reachable for a lease, and each call once."""
    world = await seed_account(database)
    await call_leases.renew(database, [world.call.id], timedelta(seconds=-1))
    clock, ended = HandClock(), list[CallRecord]()
    reaper = LeaseReaper(database, clock, lambda: set[UUID](), ended.append, LEASE)

    await reaper.run_once()
    clock.ms = 89_000
    await reaper.run_once()
    assert ended == []
    clock.ms = 90_000
    await reaper.run_once()
    await reaper.run_once()
    assert [call.id for call in ended] == [world.call.id]
    [event] = await events.of_call(database, world.id, world.call.id)
    assert (event.type, event.data["reason"]) == ("call.ended", "never_connected")


async def test_a_process_renews_its_own_leases_first(database: Database) -> None:
    """A process that was stopped for longer than a lease renews its own expired leases and ends no call."""
    world = await seed_account(database)
    await call_leases.renew(database, [world.call.id], timedelta(seconds=-1))
    clock, ended = HandClock(), list[CallRecord]()
    reaper = LeaseReaper(database, clock, lambda: {world.call.id}, ended.append, LEASE)
    await reaper.run_once()
    clock.ms = 1_000_000
    await call_leases.renew(database, [world.call.id], timedelta(seconds=-1))
    await reaper.run_once()

    assert ended == []
    assert (await calls.get(database, world.id, world.call.id)).status == "ringing"
