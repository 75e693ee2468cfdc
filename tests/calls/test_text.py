"""A text call is the telephone call without the telephone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.calls.harness import BACK, BILL, BYE, HIGH, HIGHEST, REPAIR, CallHarness, Facts, hear
from voicebot.sandbox.caller import Say

FLOW = {
    "initial_node": "ask",
    "nodes": {
        "ask": {
            "role_message": "You are the workshop of Acme.",
            "task_messages": [{"content": 'Say "Workshop here." first.'}],
            "functions": [
                {
                    "name": "take_repair",
                    "transition_only": True,
                    "description": "The caller's bicycle needs a repair.",
                    "transition_to": "close",
                }
            ],
        },
        "close": {"task_messages": [{"content": 'Say "We will call you." first.'}]},
    },
}


def of_telephone(call: Facts) -> dict[str, Any]:
    """What an author would want to know of a call."""
    return {
        "said": [
            (said["template_id"], said["node"], said["source"], said["heard_text"])
            for said in call.transcript
            if said["speaker"] == "agent"
        ],
        "nodes": [(event["template_id"], event["node"]) for event in call.events("node.entered")],
        "functions": [
            (event["data"]["name"], event["data"]["arguments"]) for event in call.events("function.called")
        ],
        "routes": [
            (route["name"], route["status"], route["reason"], route["context"], route["to_template_id"])
            for route in call.routes
        ],
        "end": (call.record["ended_by"], call.record["end_reason"]),
        "outcomes": [data["outcome"] for data in call.data("outcome.recorded")],
    }


def of_text(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The same of a text call, as the API tells it."""
    turns = answer["turns"]
    entered = [turn["nodes"] for turn in turns]
    return {
        "said": [
            (reply["at"]["template_id"], reply["at"]["node"], reply["source"], reply["text"])
            for turn in turns
            for reply in turn["replies"]
        ],
        "nodes": [node for nodes in entered for node in nodes],
        "functions": [(call["name"], call["arguments"]) for turn in turns for call in turn["functions"]],
        "routes": [
            (route["name"], route["status"], route["reason"], route["context"], route["to"]["template_id"])
            for turn in turns
            for route in turn["routes"]
        ],
        "end": (answer["ended_by"], answer["end_reason"]),
        "outcomes": [recorded["outcome"] for turn in turns for recorded in turn["outcomes"]],
    }


@pytest.mark.long
async def test_the_same_conversation_by_telephone_and_in_text(any_harness: CallHarness) -> None:
    """Words, nodes, functions, routes and the end are the same, whichever way the caller comes."""
    billing = await any_harness.agent("Billing", "Billing here.", HIGH)
    repairs = await any_harness.agent("Workshop", "Workshop here.", HIGHEST, prompt=None, flow=FLOW)
    number = await any_harness.orchestrator(
        any_harness.route("billing", billing, context="summary"),
        any_harness.route("workshop", repairs, announce="One moment, please."),
    )
    spoken = (BILL, BACK, REPAIR, BYE)
    script = [step for text in spoken for step in (hear(quiet_ms=900), Say(text=text))]
    call = await any_harness.place(*script, hear(), to=number)
    response = await any_harness.api.post(
        f"/templates/{call.lead['initial_template_id']}/chat", json={"turns": list(spoken)}
    )
    assert response.status_code == 200, response.text
    by_telephone, in_text = of_telephone(call), of_text(response.json())
    assert [node for _, node in by_telephone.pop("nodes")] == in_text.pop("nodes")
    assert by_telephone == in_text
    assert len(in_text["routes"]) == 3
    assert in_text["end"][0] == "agent"
