from datetime import timedelta

from db import calls, processes
from db.calls import CallEnd
from db.ids import new_id
from db.pool import Database
from tests.db.seed import NOON, SeededAccount

SOON = timedelta(seconds=6)


async def test_another_process_counts_while_it_is_seen_and_takes_calls(database: Database) -> None:
    """One that stops, was not seen for some time, or is the process itself does not count."""
    first, second = new_id(), new_id()
    await processes.seen(database, first, draining=False)
    assert not await processes.has_other(database, first, within=SOON)

    await processes.seen(database, second, draining=False)
    assert await processes.has_other(database, first, within=SOON)
    await processes.seen(database, second, draining=True)
    assert not await processes.has_other(database, first, within=SOON)

    await processes.seen(database, second, draining=False)
    await database.execute("UPDATE processes SET seen_at = now() - interval '7 seconds'")
    assert not await processes.has_other(database, first, within=SOON)
    await processes.seen(database, second, draining=False)
    await processes.stopped(database, second)
    assert not await processes.has_other(database, first, within=SOON)


async def test_the_address_of_the_process_that_has_a_call(database: Database, seeded: SeededAccount) -> None:
    """It is that of the process the stream reached last, while that is running and the call is not over."""
    first, second, account, call = new_id(), new_id(), seeded.id, seeded.call.id

    async def address() -> str | None:
        return await processes.address_of_call(database, account, call, within=SOON)

    await processes.seen(database, first, draining=False, address="http://one:8000")
    await processes.seen(database, second, draining=False)
    assert await address() is None
    await calls.answered(database, account, call, NOON, held_by=first)
    assert await address() == "http://one:8000"
    await calls.answered(database, account, call, NOON, held_by=second)
    assert await address() is None
    await processes.seen(database, second, draining=False, address="http://two:8000")
    assert await address() == "http://two:8000"
    await database.execute("UPDATE processes SET seen_at = now() - interval '7 seconds'")
    assert await address() is None
    await processes.seen(database, second, draining=False, address="http://two:8000")
    end = CallEnd(ended_by="caller", end_reason="hangup", outcome=None, ended_at=NOON)
    await calls.finish(database, account, call, end)
    assert await address() is None


async def test_processes_that_were_killed_are_forgotten(database: Database) -> None:
    """The row of a process that was not seen for a day is deleted by the others."""
    killed, running = new_id(), new_id()
    await processes.seen(database, killed, draining=False)
    await database.execute("UPDATE processes SET seen_at = now() - interval '25 hours'")
    await processes.seen(database, running, draining=False)

    rows = await database.fetch("SELECT id FROM processes")
    assert [row["id"] for row in rows] == [running]
