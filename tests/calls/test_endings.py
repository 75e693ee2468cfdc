"""Every way a call ends, each once and with its facts."""

from __future__ import annotations

import asyncio

from tests.calls.server import BILL, BYE, LOW, WELCOME, World, hear
from voicebot.sandbox.caller import HangUp, Say, Wait, WaitForHangUp
from voicebot.sandbox.speech.synthesis import synthesize
from voicebot.sandbox.vendors.faults import Fault


async def test_a_silent_caller_is_prompted_and_then_let_go(world: World) -> None:
    """After what was heard come silence, the prompts and the goodbye, heard whole; then we hang up."""
    idle = {"after_ms": 2000, "prompts": ["Are you there?"], "goodbye": "Goodbye then."}
    desk = await world.desk(world.route("billing", await world.agent()), idle=idle)
    call = await world.place(hear(), WaitForHangUp(), to=desk)

    assert call.outcome.ok, call.outcome.failure
    assert call.words() == [WELCOME, "Are you there?", "Goodbye then."]
    assert (call.record["ended_by"], call.record["end_reason"]) == ("system", "idle")
    assert call.carrier.ended_by == "rest"
    assert [data["number"] for data in call.data("idle.prompted")] == [1]
    greeting, prompt, goodbye = call.agent_spans
    assert 1950 <= prompt[0] - greeting[1] < 4500
    assert 1950 <= goodbye[0] - prompt[1] < 4500
    assert goodbye[1] - goodbye[0] >= len(synthesize("Goodbye then.", LOW)) / 16 - 60
    assert len(call.events("call.ended")) == 1
    assert call.lead["status"] == "finished"


async def test_the_agent_ends_the_call_when_its_farewell_was_heard(world: World) -> None:
    """end_call hangs up by REST once the last word has been heard, and the record says the agent ended it."""
    desk = await world.desk(world.route("billing", await world.agent()))
    call = await world.place(hear(), Say(text=BYE), WaitForHangUp(), to=desk)

    assert call.outcome.ok, call.outcome.failure
    assert call.words() == [WELCOME, "Thank you for calling. Goodbye!"]
    assert call.record["ended_by"] == "agent"
    assert call.carrier.ended_by == "rest"
    spoken = call.agent_spans[-1][1] - call.agent_spans[1][0]
    wanted = sum(len(synthesize(part, LOW)) / 16 for part in ("Thank you for calling.", "Goodbye!"))
    assert spoken >= wanted - 100
    assert not call.transcript[-1]["interrupted"]


async def test_a_call_ends_at_its_longest_and_though_the_carriers_rest_is_down(world: World) -> None:
    """At max_duration_ms the goodbye is said; with REST down the carrier is led to hang up by TwiML."""
    world.sandbox.faults.add(Fault(server="twilio", kind="broken"))
    desk = await world.desk(
        world.route("billing", await world.agent()),
        limits={"max_duration_ms": 10_000},
        idle={"after_ms": 60_000, "goodbye": "Time is up."},
    )
    longest, down = await asyncio.gather(
        world.place(hear(), WaitForHangUp(timeout_ms=25_000), to=desk),
        world.place(hear(), Say(text=BYE), WaitForHangUp(timeout_ms=25_000), to=desk),
    )
    assert longest.outcome.ok, longest.outcome.failure
    assert longest.words() == [WELCOME, "Time is up."]
    assert (longest.record["ended_by"], longest.record["end_reason"]) == ("system", "max_duration")
    assert longest.record["duration_ms"] >= 10_000
    assert down.outcome.ok, down.outcome.failure
    assert down.record["ended_by"] == "agent"
    assert (longest.carrier.ended_by, down.carrier.ended_by) == ("twiml", "twiml")


async def test_the_caller_may_hang_up_at_any_moment(world: World) -> None:
    """In a greeting, before, during or after a route: the caller ended the call, and all is written."""
    desk = await world.desk(
        world.route(
            "billing", await world.agent(says="Billing here. What is it about?"), announce="One moment."
        )
    )
    moments = (250, 450, 900, 1800)
    calls = await asyncio.gather(
        world.place(Wait(ms=500), HangUp(), to=desk),
        *(world.place(hear(), Say(text=BILL), Wait(ms=ms), HangUp(), to=desk) for ms in moments),
    )
    for call in calls:
        assert call.outcome.ok, call.outcome.failure
        assert (call.record["ended_by"], call.record["end_reason"]) == ("caller", "hangup")
        assert call.record["status"] == "ended"
        assert call.lead["status"] == "finished"
        assert len(call.events("call.ended")) == 1
        assert call.carrier.complaints == ()
    assert world.sandbox.usage.tally().open == 0


async def test_a_caller_who_hangs_up_while_it_rings_leaves_an_ended_call(world: World) -> None:
    """Hanging up before the answer leaves no call in progress, whatever the voice webhook was doing."""
    desk = await world.desk(world.route("billing", await world.agent()))
    call, _ = world.dial(hear(), HangUp(), to=desk)
    await asyncio.sleep(0.01)
    call.hang_up()
    assert await call.ended() == "no-answer"
    async with asyncio.timeout(30):
        while (known := await world.record(call.sid)) is not None and known["status"] != "ended":
            await asyncio.sleep(0.2)
    if known is not None:
        assert known["ended_by"] in ("caller", "carrier")


async def test_the_callers_last_words_are_kept(world: World) -> None:
    """What the caller said before hanging up is in the transcript although their turn had not ended yet."""
    turns = {"end_silence_ms": 3000}
    desk = await world.desk(world.route("billing", await world.agent()), turns=turns)
    call = await world.place(hear(), Say(text=BILL), Wait(ms=2200), HangUp(), to=desk)

    assert call.words("caller") == [BILL]
    assert call.record["ended_by"] == "caller"
