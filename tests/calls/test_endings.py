"""Every way a call ends, each once and with its facts."""

from __future__ import annotations

import asyncio

import pytest

from tests.calls.harness import BILL, BYE, LOW, WELCOME, CallHarness, hear
from voicebot.sandbox.caller import HangUp, Say, Wait, WaitForHangUp
from voicebot.sandbox.vendors.faults import Fault


async def test_a_silent_caller_is_prompted_and_then_let_go(harness: CallHarness) -> None:
    """After what was heard come silence, the prompts and the goodbye, heard whole; then we hang up."""
    idle = {"after_ms": 2000, "prompts": ["Are you there?"], "goodbye": "Goodbye then."}
    number = await harness.orchestrator(harness.route("billing", await harness.agent()), idle=idle)
    call = await harness.place(hear(), WaitForHangUp(), to=number)

    assert call.outcome.ok, call.outcome.failure
    assert call.words() == [WELCOME, "Are you there?", "Goodbye then."]
    assert (call.record["ended_by"], call.record["end_reason"]) == ("system", "idle")
    assert call.carrier.ended_by == "rest"
    assert [data["number"] for data in call.data("idle.prompted")] == [1]
    greeting, prompt, goodbye = call.agent_spans
    assert 1950 <= prompt[0] - greeting[1] < 4500
    assert 1950 <= goodbye[0] - prompt[1] < 4500
    assert goodbye[1] - goodbye[0] >= harness.spoken_ms("Goodbye then.", LOW) - 60
    assert len(call.events("call.ended")) == 1
    assert call.lead["status"] == "finished"


async def test_the_agent_ends_the_call_when_its_farewell_was_heard(harness: CallHarness) -> None:
    """end_call hangs up by REST once the last word has been heard, and the record says the agent ended it."""
    number = await harness.orchestrator(harness.route("billing", await harness.agent()))
    call = await harness.place(hear(), Say(text=BYE), WaitForHangUp(), to=number)

    assert call.outcome.ok, call.outcome.failure
    assert call.words() == [WELCOME, "Thank you for calling. Goodbye!"]
    assert call.record["ended_by"] == "agent"
    assert call.carrier.ended_by == "rest"
    spoken = call.agent_spans[-1][1] - call.agent_spans[1][0]
    wanted = sum(harness.spoken_ms(part, LOW) for part in ("Thank you for calling.", "Goodbye!"))
    assert spoken >= wanted - 100
    assert not call.transcript[-1]["interrupted"]


@pytest.mark.long
async def test_a_call_ends_at_its_longest_and_though_the_carriers_rest_is_down(harness: CallHarness) -> None:
    """At max_duration_ms the goodbye is said; with REST down the carrier is led to hang up by TwiML."""
    harness.sandbox.faults.add(Fault(server="twilio", kind="broken"))
    number = await harness.orchestrator(
        harness.route("billing", await harness.agent()),
        limits={"max_duration_ms": 10_000},
        idle={"after_ms": 60_000, "goodbye": "Time is up."},
    )
    longest, down = await asyncio.gather(
        harness.place(hear(), WaitForHangUp(timeout_ms=25_000), to=number),
        harness.place(hear(), Say(text=BYE), WaitForHangUp(timeout_ms=25_000), to=number),
    )
    assert longest.outcome.ok, longest.outcome.failure
    assert longest.words() == [WELCOME, "Time is up."]
    assert (longest.record["ended_by"], longest.record["end_reason"]) == ("system", "max_duration")
    assert longest.record["duration_ms"] >= 10_000
    assert down.outcome.ok, down.outcome.failure
    assert down.record["ended_by"] == "agent"
    assert (longest.carrier.ended_by, down.carrier.ended_by) == ("twiml", "twiml")


@pytest.mark.long
async def test_the_caller_may_hang_up_at_any_moment(harness: CallHarness) -> None:
    """In a greeting, before, during or after a route: the caller ended the call, and all is written."""
    number = await harness.orchestrator(
        harness.route(
            "billing", await harness.agent(says="Billing here. What is it about?"), announce="One moment."
        )
    )
    moments = (250, 450, 900, 1800)
    calls = await asyncio.gather(
        harness.place(Wait(ms=500), HangUp(), to=number),
        *(harness.place(hear(), Say(text=BILL), Wait(ms=ms), HangUp(), to=number) for ms in moments),
    )
    for call in calls:
        assert call.outcome.ok, call.outcome.failure
        assert (call.record["ended_by"], call.record["end_reason"]) == ("caller", "hangup")
        assert call.record["status"] == "ended"
        assert call.lead["status"] == "finished"
        assert len(call.events("call.ended")) == 1
        assert call.carrier.complaints == ()
    await harness.vendors_are_disconnected()


async def test_a_caller_who_hangs_up_while_it_rings_leaves_an_ended_call(harness: CallHarness) -> None:
    """Hanging up about when the call is answered leaves none in progress, whatever the webhook was doing."""
    number = await harness.orchestrator(harness.route("billing", await harness.agent()))
    call, _ = harness.dial(hear(), HangUp(), to=number)
    await asyncio.sleep(0.01)  # any moment will do: the webhook is about to be answered, or was
    call.hang_up()
    assert await call.ended() in ("no-answer", "completed")
    async with asyncio.timeout(30):
        while (known := await harness.record(call.sid)) is not None and known["status"] != "ended":
            await asyncio.sleep(0.2)
    if known is not None:
        assert known["ended_by"] in ("caller", "carrier")


async def test_the_callers_last_words_are_kept(harness: CallHarness) -> None:
    """What the caller said before hanging up is in the transcript although their turn had not ended yet."""
    turns = {"end_silence_ms": 3000}
    number = await harness.orchestrator(harness.route("billing", await harness.agent()), turns=turns)
    call = await harness.place(hear(), Say(text=BILL), Wait(ms=2200), HangUp(), to=number)

    assert call.words("caller") == [BILL]
    assert call.record["ended_by"] == "caller"
