"""Leases of calls, and the end of calls whose lease expired."""

import asyncio
from datetime import timedelta

from db import call_leases, calls, events, inbound, leads
from db.calls import CallEnd
from db.pool import Database
from tests.db.seed import NOON, SeededAccount, webhook

MINUTE = timedelta(minutes=1)
PAST = timedelta(seconds=-1)


async def test_new_call_has_a_lease(database: Database, seeded: SeededAccount) -> None:
    """A call that has just come in is not ended before its stream can arrive."""
    assert await call_leases.end_expired(database, limit=9) == []
    assert (await calls.get(database, seeded.id, seeded.call.id)).status == "ringing"


async def test_call_with_an_expired_lease_is_ended(database: Database, seeded: SeededAccount) -> None:
    """A call whose lease has expired is ended once, by the system, and its lead is finished."""
    other = await inbound.begin(database, webhook(seeded.number.e164, "CA-ringing"))
    await calls.answered(database, seeded.id, seeded.call.id, NOON)
    await call_leases.renew(database, [seeded.call.id, other.call.id], PAST)

    ended = await call_leases.end_expired(database, limit=9)
    assert {call.id: (call.status, call.ended_by, call.end_reason) for call in ended} == {
        seeded.call.id: ("ended", "system", "process_lost"),
        other.call.id: ("ended", "system", "never_connected"),
    }
    assert await calls.get(database, seeded.id, seeded.call.id) in ended
    assert (await leads.get(database, seeded.id, seeded.call.lead_id)).status == "finished"
    assert await call_leases.end_expired(database, limit=9) == []


async def test_expired_call_is_ended_by_one_replica(
    database: Database, dsn: str, seeded: SeededAccount
) -> None:
    """Each of several concurrent replicas ends other calls."""
    others = [await inbound.begin(database, webhook(seeded.number.e164, f"CA-{n}")) for n in range(20)]
    await call_leases.renew(database, [other.call.id for other in others], PAST)
    replica = await Database.connect(dsn)
    found = await asyncio.gather(*(call_leases.end_expired(db, limit=7) for db in [database, replica] * 6))
    await replica.close()

    assert sorted(call.id for calls_ in found for call in calls_) == [other.call.id for other in others]


async def test_renewed_lease_keeps_the_call(database: Database, seeded: SeededAccount) -> None:
    """A renewed lease keeps the call, also if it had expired."""
    await calls.answered(database, seeded.id, seeded.call.id, NOON)
    await call_leases.renew(database, [seeded.call.id], PAST)
    await call_leases.renew(database, [seeded.call.id], MINUTE)

    assert await call_leases.end_expired(database, limit=9) == []


async def test_expected_stream_extends_the_lease(database: Database, seeded: SeededAccount) -> None:
    """A call that the carrier reconnects gets time for the new stream."""
    await calls.answered(database, seeded.id, seeded.call.id, NOON)
    await call_leases.renew(database, [seeded.call.id], PAST)
    await calls.resumed(database, seeded.id, seeded.call.id, 1)

    assert await call_leases.end_expired(database, limit=9) == []


async def test_transferred_call_is_not_ended(database: Database, seeded: SeededAccount) -> None:
    """A call that is being transferred has no lease and is not ended."""
    await calls.set_status(database, seeded.id, seeded.call.id, "transferring")
    await call_leases.renew(database, [seeded.call.id], PAST)

    assert await call_leases.end_expired(database, limit=9) == []


async def test_the_first_end_stays(database: Database, seeded: SeededAccount) -> None:
    """A call that has ended keeps its end and gets no lease."""
    end = CallEnd(ended_by="caller", end_reason="hangup", outcome=None, ended_at=NOON)
    await calls.finish(database, seeded.id, seeded.call.id, end)
    await call_leases.renew(database, [seeded.call.id], PAST)

    assert await call_leases.end_expired(database, limit=9) == []
    assert (await calls.get(database, seeded.id, seeded.call.id)).end_reason == "hangup"
    assert await events.of_call(database, seeded.id, seeded.call.id) == []


async def test_variables_are_stored_by_agent(database: Database, seeded: SeededAccount) -> None:
    """New variables of one agent replace its old ones and leave other agents' variables unchanged."""
    await calls.keep_variables(database, seeded.id, seeded.call.id, "desk", {"name": "Ada"})
    await calls.keep_variables(database, seeded.id, seeded.call.id, "billing", {"due": 12})
    call = await calls.keep_variables(
        database, seeded.id, seeded.call.id, "desk", {"name": "Ada", "town": "Linz"}
    )

    assert call.variables == {"desk": {"name": "Ada", "town": "Linz"}, "billing": {"due": 12}}
