"""Statuses of carriers that arrive together, repeated, or spoilt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import cast

import pytest

from db import carrier_calls
from db.calls import CarrierStatus
from db.errors import ConstraintViolated, NotFound
from db.pool import Database, Row
from tests.api.server_fixture import RunningServer, Tenant
from tests.api.twilio import Twilio, called
from voicebot.api.carriers import status_writer
from voicebot.api.carriers.status_writer import StatusWriter
from voicebot.background import BackgroundTasks


class Counting(Database):
    """The worker's database, which counts the queries that return rows."""

    def __init__(self, database: Database) -> None:
        super().__init__(database.pool, database.dsn)
        self.queries = 0

    async def fetch(self, query: str, *arguments: object) -> Sequence[Row]:
        """Count a query."""
        self.queries += 1
        return await super().fetch(query, *arguments)


@pytest.fixture
def counting(database: Database) -> Counting:
    """The database that the writer of a test uses."""
    return Counting(database)


@pytest.fixture
async def writer(counting: Counting) -> AsyncIterator[StatusWriter]:
    """A writer of its own."""
    background = BackgroundTasks()
    yield StatusWriter(counting, background)
    await background.finish()


async def begun(server: RunningServer, tenant: Tenant, count: int) -> list[str]:
    """The carrier's ids of so many calls that have come in."""
    first = await called(server, tenant)
    placed = [first, *(Twilio(server, first.form["To"]) for _ in range(count - 1))]
    for each in placed:
        await each.post("voice")
    return [each.call_sid for each in placed]


async def stored(database: Database, ids: Sequence[str]) -> list[str | None]:
    """The statuses of calls."""
    return [(await carrier_calls.by_carrier_id(database, "twilio", id_)).carrier_status for id_ in ids]


async def test_what_arrives_together_is_stored_by_two_statements(
    server: RunningServer, tenant: Tenant, writer: StatusWriter, counting: Counting
) -> None:
    """The first begins at once; the others wait for it, and are stored together, repetitions by none."""
    ids = await begun(server, tenant, 6)
    reports = [writer.store("twilio", id_, "in_progress") for id_ in ids * 2]
    answers = await asyncio.gather(*reports)
    assert [None if call is None else call.carrier_status for call in answers] == ["in_progress"] * 6 + [
        None
    ] * 6
    assert await stored(counting, ids) == ["in_progress"] * 6
    assert counting.queries <= 2


async def test_reports_of_one_call_are_stored_in_the_order_of_arrival(
    server: RunningServer, tenant: Tenant, writer: StatusWriter, counting: Counting
) -> None:
    """Of two ends that arrive together the first counts, and the second learns nothing new."""
    (id_,) = await begun(server, tenant, 1)
    statuses: list[CarrierStatus] = ["ringing", "busy", "completed", "in_progress"]
    answers = await asyncio.gather(*(writer.store("twilio", id_, status) for status in statuses))
    assert [None if call is None else call.carrier_status for call in answers] == [
        "ringing",
        "busy",
        None,
        None,
    ]
    assert await stored(counting, [id_]) == ["busy"]


async def test_a_report_that_cannot_be_stored_fails_alone(
    server: RunningServer, tenant: Tenant, writer: StatusWriter, counting: Counting
) -> None:
    """Its neighbours in the statement are stored, and an unknown call is not found."""
    ids = await begun(server, tenant, 4)
    spoilt = cast("CarrierStatus", "spoilt")
    reports = [writer.store("twilio", id_, "busy") for id_ in ids[:3]]
    reports += [writer.store("twilio", ids[3], spoilt), writer.store("twilio", "CA-unknown", "busy")]
    answers = await asyncio.gather(*reports, return_exceptions=True)
    assert isinstance(answers[3], ConstraintViolated)
    assert isinstance(answers[4], NotFound)
    assert await stored(counting, ids[:3]) == ["busy"] * 3


async def test_so_many_calls_are_remembered(
    server: RunningServer,
    tenant: Tenant,
    writer: StatusWriter,
    counting: Counting,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beyond the limit the oldest is forgotten, as is one that could not be ended: the database knows it."""
    monkeypatch.setattr(status_writer, "MOST_KNOWN", 2)
    ids = await begun(server, tenant, 3)
    for id_ in ids:
        await writer.store("twilio", id_, "completed")
    writer.forget("twilio", ids[2])
    counting.queries = 0
    answers = [await writer.store("twilio", id_, "busy") for id_ in (ids[1], ids[0], ids[2])]
    assert [None if call is None else call.carrier_status for call in answers] == [
        None,
        "completed",
        "completed",
    ]
    assert counting.queries == 2
