"""Thirty callers and the operators who are called for them, over real sockets, with random endings."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.api.server_fixture import client, create, new_e164
from tests.calls.harness import HIGHEST, CallHarness, hear
from voicebot.sandbox.caller import Caller, Dtmf, HangUp, Step, WaitFor, WaitForHangUp
from voicebot.sandbox.carrier import Call, Phone

CALLS = 30
AT_ONCE = 3
PATIENCE_MS = 120_000
WITHIN_S = 150

ENDINGS = ("returns", "hangs_up", "caller_hangs_up", "declines", "busy", "voicemail")
CONNECTED = ("returns", "hangs_up", "caller_hangs_up")
"""Those in which both are connected first."""


@dataclass(slots=True, kw_only=True)
class Course:
    """One call, what its operator does, and what has become of it."""

    ending: str
    key: str
    phone: str
    joined: asyncio.Event


async def new_course(harness: CallHarness, ending: str) -> Course:
    """An operator of their own with a telephone, who ends the course so."""
    phone = new_e164()
    user = await create(harness.api, "/users", {"name": "Op", "phone": phone, "role": "operator"})
    key = await create(harness.api, "/keys", {"role": "operator", "user_id": user["id"], "label": "op"})
    joined = asyncio.Event()
    met = WaitFor(event=joined, timeout_ms=PATIENCE_MS)
    scripts: dict[str, tuple[Step, ...]] = {
        "returns": (hear(), Dtmf(digits="1"), met, Dtmf(digits="*"), WaitForHangUp(timeout_ms=PATIENCE_MS)),
        "hangs_up": (hear(), Dtmf(digits="1"), met, HangUp()),
        "caller_hangs_up": (hear(), Dtmf(digits="1"), WaitForHangUp(timeout_ms=PATIENCE_MS)),
        "declines": (hear(), Dtmf(digits="2"), WaitForHangUp(timeout_ms=PATIENCE_MS)),
        "voicemail": (WaitForHangUp(timeout_ms=PATIENCE_MS),),
    }
    if ending == "busy":
        harness.carrier.phones[phone] = Phone(outcome="busy", after_ms=200)
    else:
        person = Caller(
            script=scripts[ending], voice_id=HIGHEST, attentive=False, synthesise=harness.synthesise
        )
        is_machine = ending == "voicemail"
        harness.carrier.phones[phone] = Phone(after_ms=200, person=person, is_machine=is_machine)
    return Course(ending=ending, key=key["key"], phone=phone, joined=joined)


async def play(harness: CallHarness, number: str, course: Course) -> Call:
    """Call, ask for a person, have the operator claim, and let the course come to its end."""
    leaves, greeted = asyncio.Event(), asyncio.Event()
    waits = WaitFor(event=leaves, timeout_ms=PATIENCE_MS)
    last: Step = WaitForHangUp(timeout_ms=PATIENCE_MS) if course.ending == "hangs_up" else HangUp()

    def on_step(step: Step) -> None:
        if step is waits:
            greeted.set()

    call: Call
    call, person = harness.dial(hear(PATIENCE_MS), waits, last, to=number, on_step=on_step)
    await greeted.wait()
    record = await harness.record(call.sid)
    assert record is not None
    handoff = await create(harness.api, "/handoffs", {"reason": "A refund.", "call_id": record["id"]})
    path = f"/handoffs/{handoff['id']}"
    async with client(harness.server.url, course.key) as operator:
        assert (await operator.post(f"{path}/claim")).status_code == 200
        if course.ending in CONNECTED:
            await until(lambda: call.room is not None and len(call.room.participants) == 2)
            course.joined.set()
        if course.ending in ("caller_hangs_up", "hangs_up"):
            leaves.set()
        while not has_come_to(course.ending, (await operator.get(path)).json()):
            await asyncio.sleep(0.1)
        if course.ending == "returns":
            await until(lambda: len(call.streams) == 2)
        leaves.set()
    await call.ended()
    assert person.outcome.ok, (course.ending, person.outcome.failure)
    return call


def has_come_to(ending: str, handoff: dict[str, Any]) -> bool:
    """Whether a handoff is as it must be after an ending; one that was declined may be offered to others."""
    if ending == "declines":
        return handoff["claimed_by"] is None
    if ending in ("busy", "voicemail"):
        return (handoff["state"], handoff["cause"]) == ("claimed", ending)
    was_returned = handoff["cause"] == "returned"
    return bool(handoff["state"] == "resolved" and was_returned == (ending == "returns"))


async def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    while not condition():
        await asyncio.sleep(0.02)


async def ended(harness: CallHarness, call: Call) -> dict[str, Any]:
    """The record of a call, once it has ended."""
    async with asyncio.timeout(WITHIN_S):
        while (record := await harness.record(call.sid)) is None or record["status"] != "ended":
            await asyncio.sleep(0.1)
    return record


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_thirty_callers_with_operators(harness: CallHarness) -> None:
    """Each call ends as its operator decided; no conference and no operator's call is left."""
    number = await harness.orchestrator(
        harness.route("billing", await harness.agent()), idle={"after_ms": PATIENCE_MS}
    )
    courses = [await new_course(harness, ENDINGS[number % len(ENDINGS)]) for number in range(CALLS)]
    random.Random(12).shuffle(courses)
    calls: list[Call] = []
    for start in range(0, CALLS, AT_ONCE):
        wave = courses[start : start + AT_ONCE]
        played = [asyncio.create_task(play(harness, number, each), name=each.ending) for each in wave]
        _, late = await asyncio.wait(played, timeout=WITHIN_S)
        for task in late:
            task.cancel()
        assert not late, [task.get_name() for task in late]
        calls += [task.result() for task in played]
    for course, call in zip(courses, calls, strict=True):
        legs = [leg for leg in harness.carrier.calls.values() if leg.leg.to == course.phone]
        async with asyncio.timeout(WITHIN_S):
            await asyncio.gather(*(leg.ended() for leg in legs))
        assert len(legs) == 1, course.ending
        assert [each.complaints for each in (call, *legs)] == [(), ()], course.ending
        assert len(call.streams) == (2 if course.ending == "returns" else 1), course.ending
        record = await ended(harness, call)
        ended_by = "operator" if course.ending == "hangs_up" else "caller"
        assert record["ended_by"] == ended_by, course.ending
    assert not [room for room in harness.carrier.conferences.rooms.values() if room.participants]
