"""Leads that Exotel dials without a flow: their audio is streamed directly, and ends with the stream.

Those that it dials into the flow are in `test_conformance_dialled`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.api.server_fixture import new_e164
from tests.calls.dialling import cancelled_unheard, dialled, over
from tests.calls.harness import BILL, CallHarness, hear, started
from voicebot.sandbox.caller import HangUp, Say, WaitForHangUp
from voicebot.sandbox.carrier import Phone
from voicebot.sandbox.exotel import ExotelMisbehaviour
from voicebot.sandbox.vendors.script import Answer

CONNECTING = "I connect you with the branch."


@pytest.fixture
async def line(dsn: str, tmp_path: Path) -> AsyncIterator[CallHarness]:
    """A server that dials over Exotel, not into the flow."""
    async with started(dsn, tmp_path, VOICEBOT_DISPATCH="on") as it:
        yield it.on("exotel")


@pytest.mark.long
async def test_a_call_that_was_dialled_without_a_flow_stays_with_its_agent(line: CallHarness) -> None:
    """The transfer is refused, and the agent continues with the person."""
    phone, branch = new_e164(), new_e164()
    person = line.person(hear(), Say(text=BILL), hear(), hear(), HangUp())
    line.carrier.phones[phone] = Phone(after_ms=50, person=person)
    line.carrier.phones[branch] = Phone(after_ms=50, talk_ms=300)
    wanted = ("transfer_to_number", {"destination": "branch"})
    line.sandbox.script.answer(Answer(text=CONNECTING, calls=[wanted]), user=BILL)
    call, _ = await dialled(
        line,
        phone,
        greeting={"text": "Hello, this is Acme."},
        functions=[{"type": "builtin", "name": "transfer_to_number"}],
        destinations=[{"name": "branch", "number": branch}],
    )
    record = await over(line, call)
    assert call.asked == ()
    events = (await line.api.get(f"/calls/{record['id']}/events")).json()["items"]
    failed = [event["data"]["outcome"] for event in events if event["type"] == "transfer.failed"]
    assert failed == ["not_possible_at_carrier"]
    assert (record["ended_by"], record["end_reason"]) == ("caller", "hangup")


@pytest.mark.long
async def test_a_stream_that_was_cancelled_while_it_rang_is_closed_unheard(line: CallHarness) -> None:
    """Exotel cannot cancel it: when the person answers, it is ended at once, and recorded as cancelled."""
    phone, picked_up = new_e164(), asyncio.Event()
    line.carrier.phones[phone] = Phone(person=line.person(WaitForHangUp(timeout_ms=20_000)))
    line.carrier.unusual_dialled = ExotelMisbehaviour(picked_up=picked_up)
    call, lead = await dialled(line, phone, greeting={"text": "Hello, this is Acme."})
    await cancelled_unheard(line, call, lead, picked_up)
