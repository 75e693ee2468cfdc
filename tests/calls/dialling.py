"""Leads that a server dials in tests, over any carrier."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from tests.api.server_fixture import create, new_e164
from tests.calls.harness import CallHarness

ALL_DAY = {"from": "00:00", "to": "24:00"}


async def dialled(line: CallHarness, phone: str, **template: Any) -> tuple[Any, Mapping[str, Any]]:
    """Make a lead and wait until its telephone is rung: return the carrier's call, and the lead."""
    agent = await line.agent(outbound={"window": ALL_DAY, "retry": {"no_answer": 3_600_000}}, **template)
    number = await create(line.api, "/numbers", {"e164": new_e164(), "carrier": line.carrier_name})
    body = {"phone": phone, "number_id": number["id"], "template_id": agent["id"]}
    lead = await create(line.api, "/leads", body)
    async with asyncio.timeout(30):
        while not line.carrier.calls:
            await asyncio.sleep(0.02)
    [call] = line.carrier.calls.values()
    return call, lead


async def over(line: CallHarness, call: Any) -> dict[str, Any]:
    """Return the record of a call, once it has ended at the carrier and here."""
    async with asyncio.timeout(60):
        await call.ended()
        while True:
            record = await line.record(call.sid)
            if record is not None and record["status"] == "ended":
                return record
            await asyncio.sleep(0.05)


async def cancelled_unheard(
    line: CallHarness, call: Any, lead: Mapping[str, Any], picked_up: asyncio.Event
) -> None:
    """Cancel a lead whose telephone rings, and have it answered: the call ends unheard, as cancelled."""
    answer = await line.api.post(f"/leads/{lead['id']}/cancel")
    assert answer.status_code == 200, answer.text
    picked_up.set()
    record = await over(line, call)
    assert (record["status"], record["end_reason"], record["answered_at"]) == ("ended", "canceled", None)
    assert not call.recording().received.any()
    recorded = (await line.api.get(f"/calls/{record['id']}/events")).json()["items"]
    assert [event["data"]["reason"] for event in recorded if event["type"] == "call.ended"] == ["canceled"]
    assert (await line.api.get(f"/leads/{lead['id']}")).json()["status"] == "cancelled"


async def until(line: CallHarness, lead: Mapping[str, Any], **wanted: Any) -> dict[str, Any]:
    """Return a lead, once it has these members."""
    async with asyncio.timeout(40):
        while True:
            now: dict[str, Any] = (await line.api.get(f"/leads/{lead['id']}")).json()
            if all(now[name] == value for name, value in wanted.items()):
                return now
            await asyncio.sleep(0.05)
