"""Calls that a process holds, and what becomes of those that nobody does."""

import asyncio
from datetime import timedelta

from db import call_leases, calls, events, inbound, leads
from db.calls import CallEnd
from db.pool import Database
from tests.db.seed import NOON, SeededAccount, webhook

MINUTE = timedelta(minutes=1)
PAST = timedelta(seconds=-1)


async def test_a_new_call_is_held_as_long_as_a_carrier_takes(
    database: Database, seeded: SeededAccount
) -> None:
    """Nobody ends a call that has just come in, though no process has its stream yet."""
    assert await call_leases.end_unheld(database, limit=9) == []
    assert (await calls.get(database, seeded.id, seeded.call.id)).status == "ringing"


async def test_a_call_that_nobody_holds_ends_with_its_lead(database: Database, seeded: SeededAccount) -> None:
    """Ended once, by the system; the reason says whether its stream had come; its lead is finished."""
    other = await inbound.begin(database, webhook(seeded.number.e164, "CA-ringing"))
    await calls.answered(database, seeded.id, seeded.call.id, NOON)
    await call_leases.hold(database, [seeded.call.id, other.call.id], PAST)

    ended = await call_leases.end_unheld(database, limit=9)
    assert {call.id: (call.status, call.ended_by, call.end_reason) for call in ended} == {
        seeded.call.id: ("ended", "system", "process_lost"),
        other.call.id: ("ended", "system", "never_connected"),
    }
    assert await calls.get(database, seeded.id, seeded.call.id) in ended
    assert (await leads.get(database, seeded.id, seeded.call.lead_id)).status == "finished"
    assert await call_leases.end_unheld(database, limit=9) == []


async def test_of_many_who_look_one_ends_a_call(database: Database, dsn: str, seeded: SeededAccount) -> None:
    """Replicas that look at once are each told of other calls."""
    others = [await inbound.begin(database, webhook(seeded.number.e164, f"CA-{n}")) for n in range(20)]
    await call_leases.hold(database, [other.call.id for other in others], PAST)
    replica = await Database.connect(dsn)
    found = await asyncio.gather(*(call_leases.end_unheld(db, limit=7) for db in [database, replica] * 6))
    await replica.close()

    assert sorted(call.id for calls_ in found for call in calls_) == [other.call.id for other in others]


async def test_a_held_call_goes_on(database: Database, seeded: SeededAccount) -> None:
    """A lease that is renewed in time keeps the call, also when it had run out already."""
    await calls.answered(database, seeded.id, seeded.call.id, NOON)
    await call_leases.hold(database, [seeded.call.id], PAST)
    await call_leases.hold(database, [seeded.call.id], MINUTE)

    assert await call_leases.end_unheld(database, limit=9) == []


async def test_a_stream_that_is_expected_is_waited_for(database: Database, seeded: SeededAccount) -> None:
    """A call that the carrier is connecting again has time for it, whoever had it before."""
    await calls.answered(database, seeded.id, seeded.call.id, NOON)
    await call_leases.hold(database, [seeded.call.id], PAST)
    await calls.resumed(database, seeded.id, seeded.call.id, 1)

    assert await call_leases.end_unheld(database, limit=9) == []


async def test_a_transferred_call_is_left_alone(database: Database, seeded: SeededAccount) -> None:
    """While a call is being transferred no process of ours has it, and that is right."""
    await calls.set_status(database, seeded.id, seeded.call.id, "transferring")
    await call_leases.hold(database, [seeded.call.id], PAST)

    assert await call_leases.end_unheld(database, limit=9) == []


async def test_the_first_end_stays(database: Database, seeded: SeededAccount) -> None:
    """A call that somebody has ended keeps its end, and is not held any more."""
    end = CallEnd(ended_by="caller", end_reason="hangup", outcome=None, ended_at=NOON)
    await calls.finish(database, seeded.id, seeded.call.id, end)
    await call_leases.hold(database, [seeded.call.id], PAST)

    assert await call_leases.end_unheld(database, limit=9) == []
    assert (await calls.get(database, seeded.id, seeded.call.id)).end_reason == "hangup"
    assert await events.of_call(database, seeded.id, seeded.call.id) == []


async def test_agents_variables_are_kept_by_agent(database: Database, seeded: SeededAccount) -> None:
    """What one agent keeps replaces what it kept, and leaves the others' alone."""
    await calls.keep_variables(database, seeded.id, seeded.call.id, "desk", {"name": "Ada"})
    await calls.keep_variables(database, seeded.id, seeded.call.id, "billing", {"due": 12})
    call = await calls.keep_variables(
        database, seeded.id, seeded.call.id, "desk", {"name": "Ada", "town": "Linz"}
    )

    assert call.variables == {"desk": {"name": "Ada", "town": "Linz"}, "billing": {"due": 12}}
