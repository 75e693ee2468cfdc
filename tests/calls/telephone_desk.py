"""A caller who waits for a person, and an operator with a telephone, on any carrier."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from tests.api.server_fixture import create, new_e164
from tests.calls.harness import HIGHEST, CallHarness, hear
from voicebot.sandbox.caller import Caller, Dtmf, HangUp, Step, Wait, WaitFor, WaitForHangUp
from voicebot.sandbox.carrier import Phone


class TelephoneDesk:
    """An operator whose telephone rings when they claim; the caller continues once they are connected."""

    def __init__(self, harness: CallHarness, phone: str) -> None:
        """Use `with_phone`."""
        self.harness = harness
        self.phone = phone
        self.connected = asyncio.Event()
        self.greeted = asyncio.Event()

    @classmethod
    async def with_phone(cls, harness: CallHarness) -> TelephoneDesk:
        """Return a desk whose operator has a telephone number."""
        phone = new_e164()
        answer = await harness.tenant.clients["operator"].patch("/operators/me", json={"phone": phone})
        assert answer.status_code == 200, answer.text
        return cls(harness, phone)

    def answers(self, *, talk_ms: float | None) -> None:
        """Have the operator answer, talk for a time (None: until the caller hangs up), and then hang up.

        At Twilio they hear a whisper first, and accept by a key.
        """
        person = None
        if self.harness.carrier_name == "twilio":
            leaving: tuple[Step, ...] = (WaitForHangUp(timeout_ms=40_000),)
            if talk_ms is not None:
                connected = WaitFor(event=self.connected, timeout_ms=40_000)
                leaving = (connected, Wait(ms=talk_ms), HangUp())
            script = (hear(), Dtmf(digits="1"), *leaving)
            synthesise = self.harness.synthesise
            person = Caller(script=script, voice_id=HIGHEST, attentive=False, synthesise=synthesise)
        self.harness.carrier.phones[self.phone] = Phone(after_ms=50, talk_ms=talk_ms, person=person)

    async def called(self, *after: Step) -> tuple[Any, Caller, Mapping[str, Any]]:
        """Call, ask for a person, and let the operator claim: return the carrier's call, and the handoff."""
        harness = self.harness
        number = await harness.orchestrator(harness.route("billing", await harness.agent()))
        waits = WaitFor(event=self.connected, timeout_ms=40_000)

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

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds; then let the caller go on."""
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.02)
        self.connected.set()

    async def until_connected(self, call: Any) -> None:
        """Wait until the caller and the operator are connected; then let the caller go on."""

        def connected() -> bool:
            if self.harness.carrier_name == "twilio":
                return call.room is not None and len(call.room.participants) == 2
            return any(event.name == "connected" for event in call.events)

        await self.until(connected)

    async def state(self, handoff: Mapping[str, Any]) -> tuple[str, str | None]:
        """State and cause of the handoff."""
        now = (await self.harness.api.get(f"/handoffs/{handoff['id']}")).json()
        return now["state"], now["cause"]

    async def no_complaints(self, call: Any) -> None:
        """Require that the carrier has nothing to complain of, in the calls to the operator neither."""
        calls = [call]
        if self.harness.carrier_name == "twilio":
            calls += [each for each in self.harness.carrier.calls.values() if each.leg.to == self.phone]
        for each in calls:
            async with asyncio.timeout(60):
                await each.ended()
        assert [each.complaints for each in calls] == [()] * len(calls)
