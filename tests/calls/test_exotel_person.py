"""Callers of Exotel who are connected with an operator by the Connect applet of their flow."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from tests.api.server_fixture import create, new_e164
from tests.calls.harness import BILL, CallHarness, hear
from voicebot.api import flow_sweep
from voicebot.sandbox.caller import HangUp, Say, Step, Wait, WaitFor, WaitForHangUp
from voicebot.sandbox.carrier import Phone
from voicebot.sandbox.exotel import ExotelCall


class Desk:
    """A caller of Exotel who waits for a person, and an operator with a telephone."""

    def __init__(self, harness: CallHarness, phone: str) -> None:
        self.harness = harness
        self.phone = phone
        self.led_out = asyncio.Event()
        self.greeted = asyncio.Event()

    async def called(self, *after: Step) -> tuple[ExotelCall, Any, Mapping[str, Any]]:
        """Call, ask for a person, and let the operator claim; the caller goes on when they were led out."""
        harness = self.harness
        number = await harness.orchestrator(harness.route("billing", await harness.agent()))
        waits = WaitFor(event=self.led_out, timeout_ms=40_000)

        def on_step(step: Step) -> None:
            if step is waits:
                self.greeted.set()

        call, person = harness.dial(hear(), waits, *after, to=number, on_step=on_step)
        await self.greeted.wait()
        record = await harness.record(call.sid)
        assert record is not None
        handoff = await create(harness.api, "/handoffs", {"reason": "A refund.", "call_id": record["id"]})
        operator = harness.tenant.clients["operator"]
        claim = await operator.post(f"/handoffs/{handoff['id']}/claim")
        assert claim.status_code == 200, claim.text
        return call, person, handoff

    async def until(self, call: ExotelCall, asked: str) -> None:
        """Wait until an applet of the call was answered so; then let the caller go on."""
        async with asyncio.timeout(30):
            while asked not in call.asked:
                await asyncio.sleep(0.02)
        self.led_out.set()

    async def state(self, handoff: Mapping[str, Any]) -> tuple[str, str | None]:
        """State and cause of the handoff."""
        now = (await self.harness.api.get(f"/handoffs/{handoff['id']}")).json()
        return now["state"], now["cause"]


@pytest.fixture
async def desk(harness: CallHarness) -> Desk:
    """An operator with a telephone."""
    phone = new_e164()
    answer = await harness.tenant.clients["operator"].patch("/operators/me", json={"phone": phone})
    assert answer.status_code == 200, answer.text
    return Desk(harness.on("exotel"), phone)


@pytest.mark.long
async def test_the_operator_talks_and_hangs_up(desk: Desk) -> None:
    """The claim leads the caller to the operator, and the call ends with the handoff resolved."""
    desk.harness.carrier.phones[desk.phone] = Phone(after_ms=50, talk_ms=500)
    call, person, handoff = await desk.called(WaitForHangUp(timeout_ms=30_000))
    await desk.until(call, "connect 200")
    await call.ended()
    got = await desk.harness.facts(call, person)

    assert call.asked == ("voice 200", "to-person 200", "connect 200", "again 302")
    assert [event.data["to"] for event in call.events if event.name == "connected"] == [desk.phone]
    assert (got.record["ended_by"], got.record["end_reason"]) == ("operator", "handoff_resolved")
    assert (await desk.state(handoff))[0] == "resolved"
    assert call.complaints == ()


@pytest.mark.long
async def test_an_operator_who_does_not_answer_keeps_the_claim(desk: Desk) -> None:
    """The caller is back with the agent, and the operator is told why."""
    desk.harness.carrier.phones[desk.phone] = Phone(outcome="no-answer", after_ms=50)
    call, person, handoff = await desk.called(Wait(ms=1500), Say(text=BILL), hear(), HangUp())
    async with asyncio.timeout(30):
        while len(call.streams) < 2:
            await asyncio.sleep(0.02)
    await desk.until(call, "voice 200")
    state = await desk.state(handoff)
    await call.ended()
    got = await desk.harness.facts(call, person)

    assert got.outcome.ok, got.outcome.failure
    assert call.asked == ("voice 200", "to-person 200", "connect 200", "again 200", "voice 200")
    assert state == ("claimed", "no_answer")
    assert (got.record["ended_by"], got.record["resumes"]) == ("caller", 1)


@pytest.mark.long
async def test_a_caller_who_hangs_up_on_the_operator_is_missed(
    desk: Desk,
) -> None:
    """The flow asks nothing more, so Exotel is asked, and the call and its leg are ended."""
    desk.harness.carrier.phones[desk.phone] = Phone(after_ms=50)
    call, person, _ = await desk.called(HangUp())
    async with asyncio.timeout(30):
        while not any(event.name == "connected" for event in call.events):
            await asyncio.sleep(0.02)
    desk.led_out.set()
    await call.ended()
    await flow_sweep.sweep(desk.harness.server.app_state)
    got = await desk.harness.facts(call, person)

    assert call.asked == ("voice 200", "to-person 200", "connect 200")
    assert (got.record["ended_by"], got.record["end_reason"]) == ("caller", "hangup")
