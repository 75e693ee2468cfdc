"""Vendors that fail in the middle of a call: it goes on, or ends with words, and the events say why."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.calls.house import BILL, HIGH, OPEN, WELCOME, World, hear
from voicebot.sandbox.caller import HangUp, Say, Wait, WaitForHangUp
from voicebot.sandbox.vendors.faults import Fault

HOURS = "Acme is open from eight to five."
PATIENT: dict[str, Any] = {"idle": {"after_ms": 2000, "prompts": ["Are you there?"], "goodbye": "Goodbye."}}


@pytest.mark.parametrize("kind", ["broken", "rate_limited", "drop"])
async def test_a_model_that_fails_once_does_not_end_the_call(world: World, kind: Any) -> None:
    """An answer that the model refuses or drops is followed by words, and the next question by its answer."""
    desk = await world.desk(world.route("billing", await world.agent()), **PATIENT)
    await world.place(hear(), HangUp(), to=desk)
    world.sandbox.faults.add(Fault(server="openai", kind=kind, count=4))
    script = (hear(), Say(text=OPEN), hear(), Say(text=OPEN), hear(), HangUp())
    call = await world.place(*script, to=desk)

    assert call.outcome.ok, call.outcome.failure
    assert HOURS in call.words() or "Are you there?" in call.words()
    assert call.record["ended_by"] == "caller"


async def test_a_model_that_hangs_leaves_no_endless_silence(world: World) -> None:
    """While the model hangs the caller is not left in silence: words come, and the call ends with words."""
    desk = await world.desk(world.route("billing", await world.agent()), **PATIENT)
    call_of = asyncio.create_task(
        world.place(hear(), Say(text=OPEN), WaitForHangUp(timeout_ms=40_000), to=desk)
    )
    await asyncio.sleep(1.0)
    world.sandbox.faults.add(Fault(server="openai", kind="hang"))
    call = await call_of
    assert call.outcome.ok, call.outcome.failure
    assert len(call.words()) > 1
    assert call.record["ended_by"] == "system"


async def test_a_voice_that_drops_in_mid_sentence_comes_back(world: World) -> None:
    """After the voice's connection broke in the middle of an answer, later answers are heard again."""
    desk = await world.desk(world.route("billing", await world.agent()), **PATIENT)
    world.sandbox.faults.add(
        Fault(server="elevenlabs", kind="drop", stage="message", match="from eight", count=1)
    )
    script = (hear(), Say(text=OPEN), Wait(ms=2000), Say(text=OPEN), hear(), HangUp())
    call = await world.place(*script, to=desk)

    assert call.outcome.ok, call.outcome.failure
    assert call.words()[-1] == HOURS
    assert call.record["ended_by"] == "caller"


async def test_a_listener_that_drops_hears_again(world: World) -> None:
    """After the transcriber's connection broke on an utterance, the next one is understood."""
    desk = await world.desk(world.route("billing", await world.agent()), idle={"after_ms": 60_000})
    world.sandbox.faults.add(Fault(server="deepgram", kind="drop", stage="message", count=1))
    script = (hear(), Say(text=OPEN), Wait(ms=6000), Say(text=OPEN), hear(), HangUp())
    call = await world.place(*script, to=desk)

    assert call.outcome.ok, call.outcome.failure
    assert call.words()[-1] == HOURS
    assert len(world.sandbox.usage.connections("deepgram")) >= 2


async def test_a_target_that_breaks_after_it_was_ready_does_not_take_the_call_down(world: World) -> None:
    """When the target's voice is lost before the route, the caller is answered all the same."""
    desk = await world.desk(world.route("billing", await world.agent(voice=HIGH)), **PATIENT)
    world.sandbox.faults.add(Fault(server="elevenlabs", kind="drop", stage="message", match=HIGH, count=1))
    script = (hear(), Say(text=BILL), hear(), Say(text=BILL), hear(), HangUp())
    call = await world.place(*script, to=desk)

    assert call.outcome.ok, call.outcome.failure
    assert call.words()[0] == WELCOME
    assert len(call.words()) >= 2
