from datetime import timedelta

from db import processes
from db.ids import new_id
from db.pool import Database

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


async def test_processes_that_were_killed_are_forgotten(database: Database) -> None:
    """The row of a process that was not seen for a day is deleted by the others."""
    killed, running = new_id(), new_id()
    await processes.seen(database, killed, draining=False)
    await database.execute("UPDATE processes SET seen_at = now() - interval '25 hours'")
    await processes.seen(database, running, draining=False)

    rows = await database.fetch("SELECT id FROM processes")
    assert [row["id"] for row in rows] == [running]
