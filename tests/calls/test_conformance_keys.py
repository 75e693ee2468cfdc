"""Keys in both directions, and an operator's audio, on every carrier; see `test_conformance`."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from tests.api.server_fixture import create, new_e164
from tests.calls.harness import BILL, LOW, OPEN, CallHarness, Facts, hear
from tests.calls.takeover_desk import Desk, close_code, strength
from tests.dtmf import keys_in
from voicebot.sandbox.caller import Dtmf, HangUp, Say, Wait, WaitFor, WaitForHangUp
from voicebot.sandbox.exotel import ExotelMisbehaviour
from voicebot.sandbox.speech.scripted import pitch_hz
from voicebot.sandbox.vendors.script import Answer

KEYS = "15#"


@pytest.mark.long
async def test_keys_of_the_agent_are_tones(line: CallHarness) -> None:
    """A receiver at the other end hears them behind the agent's words; the transcript says what they were."""
    wanted = ("send_dtmf", {"digits": KEYS})
    line.sandbox.script.answer(Answer(text="One moment.", calls=[wanted]), user=BILL)
    number = await line.orchestrator(
        line.route("billing", await line.agent()), functions=[{"type": "builtin", "name": "send_dtmf"}]
    )
    call = await line.place(hear(), Say(text=BILL), hear(), Wait(ms=1000), HangUp(), to=number)
    assert call.outcome.ok, call.outcome.failure
    assert keys_in(call.carrier.recording().received) == KEYS
    assert call.words()[-1] == f"[keys sent: {KEYS}]"


def asking(variable: str, **dtmf: Any) -> dict[str, Any]:
    """A flow whose first node asks for a number by the keys."""
    node = {"role_message": "You are the desk.", "task_messages": [{"content": "Ask for the number."}]}
    thanks = {"task_messages": [{"content": "Look it up."}]}
    return {
        "prompt": None,
        "variables": [
            {"name": variable, "type": "string", "source": "call", "description": "Customer number"}
        ],
        "flow": {
            "initial_node": "ask",
            "nodes": {"ask": {**node, "dtmf": {"variable": variable, "transition_to": "thank", **dtmf}},
                      "thank": thanks},
        },
    }  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize(
    ("pressed", "ended_by", "masked"), [("4711#", "terminator", False), ("4711", "timeout", True)]
)
async def test_keys_of_the_caller_are_collected(
    line: CallHarness, pressed: str, ended_by: str, masked: bool
) -> None:
    """They end by the terminator or by time, and are masked in the records where the author says so."""
    number = await create(line.api, "/numbers", {"e164": new_e164(), "carrier": line.carrier_name})
    flow = asking("number", max_digits=8, terminator="#", timeout_ms=2000, masked=masked)
    await line.agent(voice=LOW, number_id=number["id"], greeting={"text": "Your number please."}, **flow)
    call = await line.place(
        hear(), Dtmf(digits=pressed), hear(), Say(text=OPEN), hear(), HangUp(), to=number["e164"]
    )
    assert call.outcome.ok, call.outcome.failure
    assert call.data("dtmf.received") == [
        {"digits": "****" if masked else "4711", "ended_by": ended_by, "variable": "number"}
    ]
    assert [event["node"] for event in call.events("node.entered")] == ["ask", "thank"]
    assert ("4711" in str((call.transcript, call.all_events, call.lead))) is not masked


@pytest.mark.long
@pytest.mark.parametrize("rate", [8000, 24_000])
async def test_an_operator_takes_an_exotel_call_over_in_a_browser(harness: CallHarness, rate: int) -> None:
    """Both hear each other at every rate of the stream, and the agent has the caller again."""
    desk = Desk(harness.on("exotel"))
    speaks, given_back = asyncio.Event(), asyncio.Event()
    number = await desk.harness.orchestrator(desk.harness.route("billing", await desk.harness.agent()))
    first, then = WaitFor(event=speaks, timeout_ms=60_000), WaitFor(event=given_back, timeout_ms=60_000)
    wrong = ExotelMisbehaviour(sample_rate=rate)
    call, person = desk.call(first, Say(text=BILL), then, hear(), HangUp(), to=number, wrong=wrong)
    await desk.claim(call)
    async with desk.browser() as browser:
        await browser.send(mute=False)
        await desk.until("bridged")
        await browser.say_until_heard(call)
        del browser.heard[:]
        speaks.set()
        async with asyncio.timeout(30):
            while len(browser.heard) < 2 * 16_000 * 3:
                await asyncio.sleep(0.05)
        await browser.send(leave="return")
        assert await close_code(browser.socket) == 1000
        given_back.set()
    await call.ended()
    got = await desk.harness.facts(call, person)
    assert got.outcome.ok, got.outcome.failure
    assert got.carrier.complaints == ()
    from_caller = np.frombuffer(bytes(browser.heard), dtype="<i2")
    assert strength(from_caller, pitch_hz(person.voice_id), 16_000) > 0.3
    assert await desk.state() == ("resolved", "returned")


@pytest.mark.long
async def test_ten_exotel_calls_at_once(harness: CallHarness) -> None:
    """Each is routed and hung up, and none has another's keys; keys need no speech, so load is no excuse."""
    exotel = harness.on("exotel")
    node = {"role_message": "You are there.", "task_messages": [{"content": "Wait for keys."}]}
    keys = {"dtmf": {"max_digits": 3, "terminator": None, "timeout_ms": 20_000}}
    flow = {"initial_node": "wait", "nodes": {"wait": {**node, **keys}}}
    functions = [{"type": "builtin", "name": "end_call"}]
    billing = await exotel.agent(prompt=None, flow=flow, functions=functions)
    number = await exotel.orchestrator(exotel.route("billing", billing), prompt=None, flow=flow)
    route = ("route_to_agent", {"agent": "billing", "reason": "The caller has pressed keys."})
    for caller in range(10):
        exotel.sandbox.script.answer(Answer(calls=[route]), user=f"[keys pressed: 10{caller}]")
        goodbye = Answer(text=f"Goodbye {caller}.", calls=[("end_call", {"reason": "done"})])
        exotel.sandbox.script.answer(goodbye, user=f"[keys pressed: 20{caller}]")

    async def call(caller: int) -> Facts:
        entered = asyncio.Event()
        dialled, person = exotel.dial(
            hear(60_000), Dtmf(digits=f"10{caller}"), WaitFor(event=entered, timeout_ms=90_000), hear(60_000),
            Dtmf(digits=f"20{caller}"), WaitForHangUp(timeout_ms=90_000), to=number,
        )  # fmt: skip
        async with asyncio.timeout(90):
            while not await _is_routed(exotel, dialled.sid):
                await asyncio.sleep(0.2)
        entered.set()
        await dialled.ended()
        return await exotel.facts(dialled, person)

    called = await asyncio.gather(*(call(caller) for caller in range(10)))
    for caller, facts in enumerate(called):
        assert facts.outcome.ok, facts.outcome.failure
        assert facts.carrier.complaints == ()
        assert [route["status"] for route in facts.routes] == ["done"]
        assert [data["digits"] for data in facts.data("dtmf.received")] == [f"10{caller}", f"20{caller}"]
        assert facts.words()[-1].endswith(f"Goodbye {caller}.")
        assert facts.record["ended_by"] == "agent"
    assert len({facts.record["id"] for facts in called}) == 10


async def _is_routed(harness: CallHarness, sid: str) -> bool:
    """Whether a call has changed its agent."""
    record = await harness.record(sid)
    if record is None:
        return False
    routes = (await harness.api.get(f"/calls/{record['id']}/routes")).json()["items"]
    return any(route["status"] == "done" for route in routes)
