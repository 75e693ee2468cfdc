"""What is prepared before it is needed, and what the caller hears when it is not ready."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import pytest

from tests.calls.harness import BILL, HIGH, HIGHEST, LOW, REPAIR, CallHarness, hear
from voicebot.sandbox.caller import HangUp, Say, Wait
from voicebot.sandbox.vendors.faults import Fault


def _routing(body: dict[str, Any]) -> dict[str, Any] | None:
    """The routing function of a request."""
    offered = [tool["function"] for tool in body.get("tools") or ()]
    return next((tool for tool in offered if tool["name"] == "route_to_agent"), None)


@pytest.mark.long
async def test_the_first_word_never_waits_for_a_target(harness: CallHarness) -> None:
    """With a target whose voice hangs, the greeting comes as early, and the target is not offered."""
    harness.sandbox.faults.add(Fault(server="elevenlabs", kind="hang", match=HIGHEST))
    billing = await harness.agent()
    repairs = await harness.agent("Workshop", voice=HIGHEST)
    patient: dict[str, Any] = {"idle": {"after_ms": 60_000}}
    control = await harness.orchestrator(harness.route("billing", billing), **patient)
    hanging = await harness.orchestrator(
        harness.route("billing", billing), harness.route("workshop", repairs), **patient
    )
    brief = (hear(), HangUp())
    await harness.place(*brief, to=control)  # whatever the first call of a server pays, it has paid
    calls = await asyncio.gather(
        harness.place(*brief, to=control),
        harness.place(hear(), Wait(ms=11_000), Say(text=REPAIR), hear(), HangUp(), to=hanging),
    )
    assert (
        abs(calls[1].first_word_ms - calls[0].first_word_ms) < 2000
    )  # a target that is waited for takes ten seconds
    (unavailable,) = calls[1].data("agent.unavailable")
    assert unavailable["agent"] == "workshop"
    assert "connect" in unavailable["reason"]
    routing = _routing(harness.asked(containing=REPAIR)[-1])
    assert routing is not None
    assert routing["parameters"]["properties"]["agent"]["enum"] == ["billing"]
    assert "workshop" not in routing["description"]
    assert not calls[1].routes


async def test_an_orchestrator_whom_nobody_can_help_says_so(harness: CallHarness) -> None:
    """When no target can be made ready, the model is told so, and no name is offered."""
    harness.sandbox.faults.add(Fault(server="elevenlabs", kind="unauthorized", match=HIGHEST))
    number = await harness.orchestrator(
        harness.route("workshop", await harness.agent("Workshop", voice=HIGHEST)), idle={"after_ms": 60_000}
    )
    call = await harness.place(hear(), Wait(ms=1800), Say(text=REPAIR), hear(), HangUp(), to=number)

    assert [data["agent"] for data in call.data("agent.unavailable")] == ["workshop"]
    asked = harness.asked(containing=REPAIR)[-1]
    routing = _routing(asked)
    assert "can be reached" in str(asked["tools"]) + str(asked["messages"])
    assert routing is None or "enum" not in routing["parameters"]["properties"]["agent"]
    assert not call.routes
    assert len(call.words()) == 2


async def test_sockets_stand_before_the_route_is_asked_for(harness: CallHarness) -> None:
    """A route opens no connection: the target's voice was connected before, and agents alike share theirs."""
    billing = await harness.agent("Billing", voice=HIGH)
    repairs = await harness.agent("Workshop", voice=HIGH)
    number = await harness.orchestrator(harness.route("billing", billing), harness.route("workshop", repairs))
    call = await harness.place(hear(), Say(text=BILL), hear(), HangUp(), to=number)

    asked_at = datetime.fromisoformat(call.events("route.requested")[0]["at"]).timestamp()
    connections = harness.sandbox.usage.connections()
    assert sorted(c.key for c in connections if c.server == "elevenlabs") == sorted([LOW, HIGH])
    assert len([c for c in connections if c.server == "deepgram"]) == 1
    assert all(connection.opened_at < asked_at for connection in connections)
    assert all(connection.closed_at is not None for connection in connections)


@pytest.mark.long
@pytest.mark.parametrize("several", [False, True], ids=["one", "several"])
async def test_the_model_reads_the_routing_table_at_every_node(harness: CallHarness, several: bool) -> None:
    """Names and reasons of all routes are in each request, with one node as with several."""
    billing = await harness.agent()
    flow = {
        "initial_node": "ask",
        "nodes": {
            "ask": {
                "role_message": "You are the desk.",
                "task_messages": [{"role": "developer", "content": "Find out what the caller wants."}],
                "functions": [
                    {
                        "name": "repair_wanted",
                        "transition_only": True,
                        "description": "The caller's bicycle needs a repair.",
                        "transition_to": "tell",
                    }
                ],
            },
            "tell": {"task_messages": [{"role": "developer", "content": 'Say "It will be ready today."'}]},
        },
    }
    more: dict[str, Any] = {"prompt": None, "flow": flow} if several else {}
    number = await harness.orchestrator(harness.route("billing", billing), **more)
    script = (hear(), Say(text=REPAIR), hear(), Say(text=BILL), hear(), HangUp())
    call = await harness.place(*script, to=number)

    if several:
        assert [event["node"] for event in call.events("node.entered")][:2] == ["ask", "tell"]
    assert [route["name"] for route in call.routes] == ["billing"]
    at_desk = [body for body in harness.asked() if "You are billing" not in str(body["messages"])]
    assert len(at_desk) >= 2
    for body in at_desk:
        routing = _routing(body)
        assert routing is not None
        assert "billing: The caller asks about a bill or an invoice." in routing["description"]
        assert routing["parameters"]["properties"]["agent"]["enum"] == ["billing"]
