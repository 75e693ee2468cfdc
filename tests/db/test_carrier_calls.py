"""The status of the carrier's leg, stored for one call or for many by one statement."""

from __future__ import annotations

import asyncio
from typing import get_args

from db import carrier_calls, inbound
from db.calls import CarrierStatus
from db.carrier_calls import ReportedCall, StatusReport, advances
from db.pool import Database
from tests.db.seed import SeededAccount, webhook

STATUSES: tuple[CarrierStatus, ...] = get_args(CarrierStatus)


async def begun(database: Database, seeded: SeededAccount, count: int) -> list[str]:
    """The carrier's ids of so many new calls."""
    ids = [f"CA-{number}" for number in range(count)]
    for id_ in ids:
        await inbound.begin(database, webhook(seeded.number.e164, id_))
    return ids


async def test_every_status_after_every_other(database: Database, seeded: SeededAccount) -> None:
    """The statement changes exactly what `advances` says, for all pairs of statuses at once."""
    pairs = [(stored, status) for stored in (None, *STATUSES) for status in STATUSES]
    ids = await begun(database, seeded, len(pairs))
    for id_, (stored, _) in zip(ids, pairs, strict=True):
        query = "UPDATE calls SET carrier_status = $2 WHERE carrier_call_id = $1"
        await database.execute(query, id_, stored)
    reports: list[StatusReport] = [
        ("twilio", id_, status) for id_, (_, status) in zip(ids, pairs, strict=True)
    ]
    kept = await carrier_calls.carrier_statuses(database, reports)
    for (stored, status), call, id_ in zip(pairs, kept, ids, strict=True):
        assert isinstance(call, ReportedCall)
        assert call.carrier_status == (status if advances(status, stored) else stored)
        record = await carrier_calls.by_carrier_id(database, "twilio", id_)
        assert (record.id, record.account_id, record.carrier_status) == (
            call.id, call.account_id, call.carrier_status,
        )  # fmt: skip


async def test_a_locked_call_holds_up_no_other(database: Database, seeded: SeededAccount) -> None:
    """One that another transaction has locked is undecided; the others are stored, if they exist."""
    ids = await begun(database, seeded, 3)
    async with database.transaction() as other:
        await other.execute("SELECT FROM calls WHERE carrier_call_id = $1 FOR UPDATE", ids[1])
        async with asyncio.timeout(4):  # less than the database waits for a lock
            stored = await carrier_calls.carrier_statuses(
                database, [("twilio", id_, "busy") for id_ in (*ids, "CA-unknown")]
            )
    assert [each.carrier_status if isinstance(each, ReportedCall) else each for each in stored] == [
        "busy", "undecided", "busy", "unknown",
    ]  # fmt: skip


async def test_of_two_ends_at_once_both_reports_tell_the_first(
    database: Database, seeded: SeededAccount
) -> None:
    """A status that waited for another one's transaction returns what that one has stored."""
    (id_,) = await begun(database, seeded, 1)
    async with database.transaction() as other:
        assert (await carrier_calls.carrier_status(other, "twilio", id_, "busy")).carrier_status == "busy"
        second = asyncio.create_task(carrier_calls.carrier_status(database, "twilio", id_, "completed"))
        async with asyncio.timeout(30):
            while not await waiting(database):
                await asyncio.sleep(0.01)
    assert (await second).carrier_status == "busy"


async def waiting(database: Database) -> bool:
    """Whether a statement of this database waits for a lock."""
    query = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    return bool(await database.fetch(query))
