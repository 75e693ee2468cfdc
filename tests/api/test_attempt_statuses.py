"""The carrier's reports of calls that we placed: early, late, repeated and in any order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from db import attempts, calls
from db.attempts import AttemptLimits
from db.calls import CallRecord
from db.dispatch import ClaimedLead
from db.ids import new_id
from db.pool import Database
from tests.api.server_fixture import RunningServer, Tenant, create, new_e164
from tests.api.twilio import Twilio

MINUTE = timedelta(minutes=1)


async def begun(server: RunningServer, tenant: Tenant, carrier: str) -> CallRecord:
    """An attempt whose dial the carrier has not answered yet."""
    database = server.app_state.database
    number = await create(tenant.owner, "/numbers", {"e164": new_e164(), "carrier": carrier})
    agent = await tenant.agent(f"Reminder {new_id()}")
    body = {"phone": new_e164(), "number_id": number["id"], "template_id": agent["id"]}
    lead = await create(tenant.owner, "/leads", body)
    claim = new_id()
    await database.execute("UPDATE leads SET claimed_by = $2 WHERE id = $1", UUID(lead["id"]), claim)
    claimed = ClaimedLead(
        id=UUID(lead["id"]), account_id=tenant.account_id, phone=lead["phone"], number_id=UUID(number["id"]),
        template_id=UUID(agent["id"]), carrier=carrier, time_zone="UTC", earliest_at=None, latest_at=None,
        attempts=0, payload={}, claimed_by=claim, template_status="active", template_revision=1,
        outbound=None, opted_out=False,
    )  # fmt: skip
    limits = AttemptLimits(now=server.app_state.clock.now(), calls=None, period=MINUTE, held_for=MINUTE)
    [call] = await attempts.begin_attempts(database, [(claimed, limits)])
    assert isinstance(call, CallRecord)
    return call


async def attempt(server: RunningServer, tenant: Tenant) -> tuple[CallRecord, Twilio]:
    """An attempt, and the carrier's side of its call."""
    call = await begun(server, tenant, "twilio")
    twilio = Twilio(server, call.to_number)
    twilio.form |= {"From": call.from_number or "", "Direction": "outbound-api"}
    return call, twilio


async def report(twilio: Twilio, call: CallRecord, status: str) -> None:
    """Post a status callback."""
    reply = await twilio.post(f"status?call={call.id}", CallStatus=status)
    assert reply.response.status_code == 204


async def ended(database: Database, call: CallRecord) -> CallRecord:
    """The call, once it has ended."""
    async with asyncio.timeout(60):
        while (now := await calls.get(database, call.account_id, call.id)).status != "ended":
            await asyncio.sleep(0.02)
    return now


async def test_a_status_may_come_before_the_answer_to_the_dial(server: RunningServer, tenant: Tenant) -> None:
    """It tells the carrier's id of the attempt; a report of another call changes nothing."""
    database = server.app_state.database
    call, twilio = await attempt(server, tenant)
    await report(twilio, call, "ringing")
    await report(Twilio(server, twilio.form["To"]), call, "busy")
    now = await calls.get(database, call.account_id, call.id)
    assert (now.carrier_call_id, now.carrier_status, now.status) == (twilio.call_sid, "ringing", "ringing")
    placed = await attempts.placed(database, call.account_id, call.id, twilio.call_sid, MINUTE)
    assert placed is not None
    assert await attempts.placed(database, call.account_id, call.id, "CA-another", MINUTE) is None


@pytest.mark.parametrize("seed", range(2))
async def test_statuses_in_any_order_end_a_call_once(
    server: RunningServer, tenant: Tenant, seed: int
) -> None:
    """Repeated and late reports change nothing: the first terminal status is how the call has ended."""
    database = server.app_state.database
    call, twilio = await attempt(server, tenant)
    statuses = ["initiated", "ringing", "ringing", "busy", "busy", "no-answer", "completed"]
    random.Random(seed).shuffle(statuses)
    for status in statuses:
        await report(twilio, call, status)
    now = await ended(database, call)
    terminal = next(status for status in statuses if status in ("busy", "no-answer", "completed"))
    assert now.carrier_status == terminal.replace("-", "_")
    assert now.end_reason == {"busy": "busy", "no-answer": "no_answer", "completed": "hangup"}[terminal]
    for status in ("completed", "ringing"):
        await report(twilio, call, status)
    after = await calls.get(database, call.account_id, call.id)
    assert (after.ended_at, after.end_reason, after.carrier_status) == (
        now.ended_at, now.end_reason, now.carrier_status,
    )  # fmt: skip
    recorded = (await tenant.owner.get(f"/calls/{call.id}/events")).json()["items"]
    assert [event["data"]["reason"] for event in recorded if event["type"] == "call.ended"] == [
        now.end_reason
    ]


async def test_a_status_costs_one_statement(
    server: RunningServer, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repetition, or a status that comes too late, costs none: a thousand a second are few."""
    call, twilio = await attempt(server, tenant)
    await report(twilio, call, "initiated")
    counted: list[str] = []
    database: Any = server.app_state.database

    def count(original: Callable[..., Any]) -> Callable[..., Any]:
        def counting(query: str, *arguments: object) -> Any:
            if any(named in str(arguments) for named in (twilio.call_sid, str(call.id))):
                counted.append(query)
            return original(query, *arguments)

        return counting

    for name in ("execute", "fetch", "fetchrow"):
        monkeypatch.setattr(database, name, count(getattr(database, name)))
    for status in ("ringing", "ringing", "initiated", "in-progress", "in-progress", "ringing"):
        await report(twilio, call, status)
    assert len(counted) == 1
    now = await calls.get(database, call.account_id, call.id)
    assert now.carrier_status == "in_progress"


@pytest.mark.long
async def test_many_statuses_at_once_end_each_call_once(server: RunningServer, tenant: Tenant) -> None:
    """Reports of four calls, half of them twice, in any order and at once: no deadlock, each is recorded."""
    database = server.app_state.database
    placed = [await attempt(server, tenant) for _ in range(4)]
    reports = [
        (twilio, call, status)
        for call, twilio in placed
        for status in ("initiated", "ringing", "ringing", "in-progress", "in-progress", "completed")
    ]
    random.Random(1).shuffle(reports)
    await asyncio.gather(*(report(*one) for one in reports))
    for call, _ in placed:
        now = await ended(database, call)
        assert (now.carrier_status, now.end_reason) == ("completed", "hangup")
