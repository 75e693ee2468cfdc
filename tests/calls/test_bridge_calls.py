"""Callers who are connected with an operator by telephone, over the carrier's own protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from tests.api.server_fixture import create, new_e164
from tests.calls.harness import BILL, HIGHEST, CallHarness, Facts, hear
from voicebot.call.person.waiting_texts import TEXTS
from voicebot.call.resume import SPOKE_WITH_PERSON
from voicebot.sandbox.caller import Caller, Dtmf, HangUp, Say, Step, WaitFor, WaitForHangUp
from voicebot.sandbox.carrier import Call, Phone
from voicebot.sandbox.vendors.script import Answer

HELLO = "Hello, this is a person."


@dataclass(slots=True, kw_only=True)
class Desk:
    """An operator with a telephone, and a caller who waits for them."""

    harness: CallHarness
    phone: str
    joined: asyncio.Event
    asked: asyncio.Event

    def operator(self, *script: Step, is_machine: bool = False) -> None:
        """Say what the operator does when their telephone rings."""
        person = Caller(script=script, voice_id=HIGHEST, attentive=False, synthesise=self.harness.synthesise)
        self.harness.carrier.phones[self.phone] = Phone(after_ms=50, person=person, is_machine=is_machine)

    def call(self, *after: Step, to: str) -> tuple[Call, Caller]:
        """Call, hear the greeting, and do the rest when connected with the operator."""
        waits = WaitFor(event=self.joined, timeout_ms=40_000)

        def on_step(step: Step) -> None:
            if step is waits:
                self.asked.set()

        return self.harness.dial(hear(), waits, *after, to=to, on_step=on_step)

    async def claim(self, call: Call) -> dict[str, Any]:
        """Ask for a person when the caller has been greeted, and claim the handoff; return it."""
        await self.asked.wait()
        record = await self.harness.record(call.sid)
        assert record is not None
        request = {"reason": "A refund.", "call_id": record["id"]}
        handoff = await create(self.harness.api, "/handoffs", request)
        operator = self.harness.tenant.clients["operator"]
        claim = await operator.post(f"/handoffs/{handoff['id']}/claim")
        assert claim.status_code == 200, claim.text
        return handoff

    async def until_joined(self, call: Call) -> None:
        """Wait until the caller is in a conference, and let them go on."""
        async with asyncio.timeout(30):
            while call.room is None or len(call.room.participants) < 2:
                await asyncio.sleep(0.02)
        self.joined.set()

    async def legs(self, call: Call) -> Sequence[Call]:
        """The calls to the operator when all of them have ended."""
        found = [other for other in self.harness.carrier.calls.values() if other.leg.to == self.phone]
        for leg in found:
            async with asyncio.timeout(60):
                await leg.ended()
        assert [leg.complaints for leg in (call, *found)] == [()] * (len(found) + 1)
        return found

    async def state(self, handoff: dict[str, Any]) -> tuple[str, str | None]:
        """State and cause of the handoff."""
        now = (await self.harness.api.get(f"/handoffs/{handoff['id']}")).json()
        return now["state"], now["cause"]


@pytest.fixture
async def desk(harness: CallHarness) -> Desk:
    """An operator with a telephone."""
    phone = new_e164()
    answer = await harness.tenant.clients["operator"].patch("/operators/me", json={"phone": phone})
    assert answer.status_code == 200, answer.text
    return Desk(harness=harness, phone=phone, joined=asyncio.Event(), asked=asyncio.Event())


async def facts(desk: Desk, call: Call, person: Caller) -> Facts:
    """The records of a call when it has ended."""
    await call.ended()
    return await desk.harness.facts(call, person)


async def test_the_operator_gives_the_caller_back(desk: Desk) -> None:
    """Whisper, key 1, both hear each other, star: the agent continues and knows that a person spoke."""
    number = await desk.harness.orchestrator(desk.harness.route("billing", await desk.harness.agent()))
    desk.operator(hear(), Dtmf(digits="1"), hear(), Say(text=HELLO), Dtmf(digits="*"), WaitForHangUp())
    call, person = desk.call(Say(text=BILL), hear(), hear(), HangUp(), to=number)
    handoff = await desk.claim(call)
    await desk.until_joined(call)
    got = await facts(desk, call, person)
    legs = await desk.legs(call)

    assert got.outcome.ok, got.outcome.failure
    assert await desk.state(handoff) == ("resolved", "returned")
    assert (got.record["ended_by"], got.record["resumes"]) == ("caller", 1)
    assert len(legs) == 1
    assert len(call.streams) == 2
    assert SPOKE_WITH_PERSON.partition("{")[0] in str(desk.harness.asked()[-1]["messages"])
    names = [event.name for event in call.events]
    assert names.index("conference.joined") < names.index("conference.left")


@pytest.mark.long
async def test_a_busy_telephone(desk: Desk) -> None:
    """The caller hears from the agent that nobody was reached, and the agent knows why."""
    number = await desk.harness.orchestrator(desk.harness.route("billing", await desk.harness.agent()))
    desk.harness.carrier.phones[desk.phone] = Phone(outcome="busy", after_ms=3000)
    call, person = desk.call(Say(text=BILL), hear(), HangUp(), to=number)
    handoff = await desk.claim(call)
    async with asyncio.timeout(60):
        while (await desk.state(handoff))[1] != "busy":
            await asyncio.sleep(0.02)
    await until_said(desk, call, TEXTS["en"].not_reached)
    desk.joined.set()
    got = await facts(desk, call, person)

    assert got.outcome.ok, got.outcome.failure
    told = next(row for row in got.transcript if row["text"] == TEXTS["en"].not_reached)
    assert told["source"] == "filler"
    assert desk.harness.asked(containing="(busy)")


@pytest.mark.long
async def test_voicemail_answers(desk: Desk) -> None:
    """The machine is hung up on, the claim says so, and the caller is with the agent all the time."""
    number = await desk.harness.orchestrator(desk.harness.route("billing", await desk.harness.agent()))
    desk.operator(WaitForHangUp(timeout_ms=30_000), is_machine=True)
    call, person = desk.call(Say(text=BILL), hear(), HangUp(), to=number)
    handoff = await desk.claim(call)
    async with asyncio.timeout(60):
        while (await desk.state(handoff))[1] != "voicemail":
            await asyncio.sleep(0.05)
    desk.joined.set()
    got = await facts(desk, call, person)
    await desk.legs(call)

    assert got.outcome.ok, got.outcome.failure
    assert len(call.streams) == 1
    assert "Billing here." in got.words()


FRONT_DESK = "I connect you with the front desk."
DESTINATION = "front_desk"
NOBODY = "Nobody answers there."


async def until_said(desk: Desk, call: Call, text: str) -> None:
    """Wait until an agent has said a text to its end."""
    async with asyncio.timeout(60):
        while True:
            record = await desk.harness.record(call.sid)
            path = f"/calls/{record['id']}/transcript" if record is not None else None
            rows = (await desk.harness.api.get(path)).json()["items"] if path is not None else []
            if any(row["heard_text"] == text for row in rows):
                return
            await asyncio.sleep(0.1)


async def transferring(desk: Desk, mode: str = "cold") -> str:
    """A number whose orchestrator may transfer to the telephone of the desk, and does so when asked."""
    script = desk.harness.sandbox.script
    wanted = ("transfer_to_number", {"destination": DESTINATION})
    script.answer(Answer(text=FRONT_DESK, calls=[wanted]), user=BILL)
    return await desk.harness.orchestrator(
        desk.harness.route("billing", await desk.harness.agent()),
        functions=[{"type": "builtin", "name": "transfer_to_number"}],
        destinations=[{"name": DESTINATION, "number": desk.phone, "mode": mode}],
    )


async def test_a_transfer_to_a_declared_number(desk: Desk) -> None:
    """The caller hears the agent's words, is connected, and the call ends with the number's."""
    number = await transferring(desk)
    desk.harness.carrier.phones[desk.phone] = Phone(after_ms=50, talk_ms=300)
    call, person = desk.harness.dial(hear(), Say(text=BILL), hear(), WaitForHangUp(), to=number)
    got = await facts(desk, call, person)

    assert got.words()[-1] == FRONT_DESK
    assert [event.data["number"] for event in call.events if event.name == "dial.bridged"] == [desk.phone]
    assert (got.record["ended_by"], got.record["end_reason"]) == ("agent", "transferred")
    assert call.complaints == ()


@pytest.mark.long
async def test_a_number_that_does_not_answer(desk: Desk) -> None:
    """The caller is with the agent again, who knows that the number was busy."""
    number = await transferring(desk)
    desk.harness.carrier.phones[desk.phone] = Phone(outcome="busy", after_ms=50)
    async with desk.harness.when_asked("(busy)") as knows:
        call, person = desk.harness.dial(hear(), Say(text=BILL), knows, HangUp(), to=number)
        got = await facts(desk, call, person)

    assert got.outcome.ok, got.outcome.failure
    assert len(call.streams) == 2
    assert "(busy)" in str(desk.harness.asked()[-1]["messages"])


@pytest.mark.long
async def test_an_attended_transfer_that_is_accepted(desk: Desk) -> None:
    """The destination hears what it is about and presses 1; both talk, and its hang-up ends the call."""
    number = await transferring(desk, "attended")
    desk.operator(hear(), Dtmf(digits="1"), hear(), Say(text=HELLO), HangUp())
    call, person = desk.harness.dial(
        hear(), Say(text=BILL), hear(), WaitFor(event=desk.joined, timeout_ms=40_000), Say(text=BILL),
        WaitForHangUp(timeout_ms=40_000), to=number,
    )  # fmt: skip
    await desk.until_joined(call)
    got = await facts(desk, call, person)
    (leg,) = await desk.legs(call)

    assert got.outcome.ok, got.outcome.failure
    whisper = str([event.data["body"] for event in leg.events if event.name == "webhook"])
    assert BILL.rstrip(".") in whisper
    assert (got.record["ended_by"], got.record["end_reason"]) == ("agent", "transferred")
    assert [each["destination"] for each in got.data("transfer.connected")] == [DESTINATION]
    assert len(call.streams) == 1


@pytest.mark.long
async def test_an_attended_transfer_from_which_the_caller_is_given_back(desk: Desk) -> None:
    """The destination presses the star: the agent continues and knows that a person spoke with the caller."""
    number = await transferring(desk, "attended")
    desk.operator(hear(), Dtmf(digits="1"), hear(), Say(text=HELLO), Dtmf(digits="*"), WaitForHangUp())
    call, person = desk.harness.dial(
        hear(), Say(text=BILL), hear(), WaitFor(event=desk.joined, timeout_ms=40_000), Say(text=BILL), hear(),
        hear(), HangUp(), to=number,
    )  # fmt: skip
    await desk.until_joined(call)
    got = await facts(desk, call, person)
    await desk.legs(call)

    assert got.outcome.ok, got.outcome.failure
    assert len(call.streams) == 2
    assert (got.record["ended_by"], got.record["resumes"]) == ("caller", 1)
    assert SPOKE_WITH_PERSON.partition("{")[0] in str(desk.harness.asked()[-1]["messages"])


@pytest.mark.parametrize(
    ("phone", "cause"),
    [
        (Phone(outcome="busy", after_ms=1500), "busy"),
        pytest.param(Phone(after_ms=50, is_machine=True), "voicemail", marks=pytest.mark.long),
    ],
)
async def test_an_attended_transfer_that_nobody_accepts(desk: Desk, phone: Phone, cause: str) -> None:
    """The caller stays with the agent and is never in silence; the agent says why nobody came."""
    number = await transferring(desk, "attended")
    desk.harness.carrier.phones[desk.phone] = phone
    script = desk.harness.sandbox.script
    script.answer(Answer(text=NOBODY), system=f"({cause})")
    told = WaitFor(event=desk.joined, timeout_ms=60_000)
    call, person = desk.harness.dial(hear(), Say(text=BILL), told, HangUp(), to=number)
    await until_said(desk, call, NOBODY)
    desk.joined.set()
    got = await facts(desk, call, person)
    await desk.legs(call)

    assert got.outcome.ok, got.outcome.failure
    assert len(call.streams) == 1
    assert got.data("transfer.failed") == [{"destination": DESTINATION, "outcome": cause}]
    assert got.record["ended_by"] == "caller"
