"""Leads that Exotel dials, into the flow of the account or with a stream of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.api.server_fixture import create, new_e164
from tests.calls.harness import BILL, CallHarness, hear, started
from voicebot.sandbox.caller import HangUp, Say, Step, WaitForHangUp
from voicebot.sandbox.carrier import Phone
from voicebot.sandbox.exotel import ExotelCall, ExotelMisbehaviour
from voicebot.sandbox.vendors.script import Answer

ALL_DAY = {"from": "00:00", "to": "24:00"}
CONNECTING = "I connect you with the branch."
MESSAGE = {"destination": "branch"}


@pytest.fixture(params=["flow", "stream"])
async def line(request: pytest.FixtureRequest, dsn: str, tmp_path: Path) -> AsyncIterator[CallHarness]:
    """A server that dials over Exotel, into the flow or not."""
    more: dict[str, Any] = {"EXOTEL_FLOW_ID": "1"} if request.param == "flow" else {}
    async with started(dsn, tmp_path, VOICEBOT_DISPATCH="on", **more) as it:
        yield it.on("exotel")


async def dialled(line: CallHarness, phone: str, **template: Any) -> tuple[ExotelCall, Mapping[str, Any]]:
    """A lead whose telephone rings: the call at Exotel, and the lead."""
    agent = await line.agent(outbound={"window": ALL_DAY, "retry": {"no_answer": 3_600_000}}, **template)
    number = await create(line.api, "/numbers", {"e164": new_e164(), "carrier": "exotel"})
    body = {"phone": phone, "number_id": number["id"], "template_id": agent["id"]}
    lead = await create(line.api, "/leads", body)
    async with asyncio.timeout(30):
        while not line.carrier.calls:
            await asyncio.sleep(0.02)
    [call] = line.carrier.calls.values()
    return call, lead


async def over(line: CallHarness, call: ExotelCall) -> dict[str, Any]:
    """The row of a call, once it has ended at Exotel and here."""
    async with asyncio.timeout(60):
        await call.ended()
        while True:
            record = await line.record(call.sid)
            if record is not None and record["status"] == "ended":
                return record
            await asyncio.sleep(0.05)


async def transferring(line: CallHarness, *steps: Step) -> tuple[ExotelCall, dict[str, Any]]:
    """A person who was dialled asks for the branch, which nobody answers."""
    phone, branch = new_e164(), new_e164()
    line.carrier.phones[phone] = Phone(after_ms=50, person=line.person(*steps))
    line.carrier.phones[branch] = Phone(after_ms=50, talk_ms=300)
    line.sandbox.script.answer(Answer(text=CONNECTING, calls=[("transfer_to_number", MESSAGE)]), user=BILL)
    call, _ = await dialled(
        line,
        phone,
        greeting={"text": "Hello, this is Acme."},
        functions=[{"type": "builtin", "name": "transfer_to_number"}],
        destinations=[{"name": "branch", "number": branch}],
    )
    return call, await over(line, call)


@pytest.mark.long
@pytest.mark.parametrize("line", ["flow"], indirect=True)
async def test_a_call_that_was_dialled_into_the_flow_is_transferred(line: CallHarness) -> None:
    """Its applets connect the person with the number, as those of a call that came in."""
    steps = (hear(), Say(text=BILL), hear(), WaitForHangUp(timeout_ms=40_000))
    call, record = await transferring(line, *steps)
    assert call.asked == ("voice 200", "to-person 200", "connect 200", "again 302")
    assert (record["direction"], record["ended_by"], record["end_reason"]) == (
        "outbound",
        "agent",
        "transferred",
    )
    assert call.complaints == ()


@pytest.mark.long
@pytest.mark.parametrize("line", ["stream"], indirect=True)
async def test_a_call_that_was_dialled_without_a_flow_stays_with_its_agent(line: CallHarness) -> None:
    """The transfer is refused, and the agent goes on with the person."""
    steps = (hear(), Say(text=BILL), hear(), hear(), HangUp())
    call, record = await transferring(line, *steps)
    assert call.asked == ()
    events = (await line.api.get(f"/calls/{record['id']}/events")).json()["items"]
    failed = [event["data"]["outcome"] for event in events if event["type"] == "transfer.failed"]
    assert failed == ["not_possible_at_carrier"]
    assert (record["ended_by"], record["end_reason"]) == ("caller", "hangup")


@pytest.mark.long
@pytest.mark.parametrize("line", ["flow"], indirect=True)
async def test_a_call_that_was_dialled_into_the_flow_is_resumed(line: CallHarness) -> None:
    """A stream that is lost comes back to the same agent by the second Passthru applet."""
    phone = new_e164()
    person = line.person(hear(), hear(), Say(text=BILL), hear(), HangUp())
    line.carrier.phones[phone] = Phone(after_ms=50, person=person)
    line.carrier.unusual_dialled = ExotelMisbehaviour(drop_after_ms=2500)
    call, _ = await dialled(line, phone, greeting={"text": "Hello, this is Acme."})
    record = await over(line, call)
    assert call.asked[:4] == ("voice 200", "to-person 302", "again 200", "voice 200")
    assert (record["resumes"], len(call.streams)) == (1, 2)


@pytest.mark.parametrize("line", ["flow", pytest.param("stream", marks=pytest.mark.long)], indirect=True)
async def test_a_call_that_was_cancelled_while_it_rang_ends_unheard(line: CallHarness) -> None:
    """Exotel cannot cancel it: when the person answers, it is ended at once, and recorded as cancelled."""
    phone, picked_up = new_e164(), asyncio.Event()
    line.carrier.phones[phone] = Phone(person=line.person(WaitForHangUp(timeout_ms=20_000)))
    line.carrier.unusual_dialled = ExotelMisbehaviour(picked_up=picked_up)
    call, lead = await dialled(line, phone, greeting={"text": "Hello, this is Acme."})
    answer = await line.api.post(f"/leads/{lead['id']}/cancel")
    assert answer.status_code == 200, answer.text
    picked_up.set()
    record = await over(line, call)
    assert (record["status"], record["end_reason"], record["answered_at"]) == ("ended", "canceled", None)
    assert not call.recording().received.any()
    recorded = (await line.api.get(f"/calls/{record['id']}/events")).json()["items"]
    assert [event["data"]["reason"] for event in recorded if event["type"] == "call.ended"] == ["canceled"]
    assert (await line.api.get(f"/leads/{lead['id']}")).json()["status"] == "cancelled"
