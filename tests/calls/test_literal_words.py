"""Text that looks like a placeholder, in spoken words or in an answer, reaches every model unchanged.

In text, because no recogniser of the sandbox writes braces: what a transcriber brings goes the same way from
there on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.calls.harness import CallHarness
from voicebot.sandbox.vendors.script import Answer, Body, system_text

SPOKEN = "My name is {{ customer }}."
FOUND = {"note": "{{ customer }} has \\{{ x }} and {{ nope }}"}
LINE = "One moment {{ customer }}."


def _looking_up(body: Body) -> Answer:
    """Finds what the caller asks about, continues to the next node, and routes with the values it got."""
    if "You are billing" in system_text(body) or body["messages"][-1]["role"] == "assistant":
        return Answer(text="Billing here.")
    if "Tell what" in system_text(body):
        arguments = {"agent": "billing", "reason": "asked", "variables": {"note": FOUND["note"]}}
        return Answer(calls=[("route_to_agent", arguments)])
    return Answer(text=LINE, calls=[("find", {})])


def _flow() -> dict[str, Any]:
    find = {
        "type": "http",
        "name": "find",
        "description": "Finds the caller.",
        "url": "https://office.example.com/callers",
        "keep": {"note": "/note"},
    }
    nodes = {
        "look": {
            "role_message": "You are the desk, called by {{ customer }}.",
            "task_messages": [{"content": "Find the caller."}],
            "functions": [{"name": "find", "transition_to": "tell"}],
        },
        "tell": {"task_messages": [{"content": "Tell what was found: {{ note }}"}]},
    }
    return {
        "prompt": None,
        "flow": {"initial_node": "look", "nodes": nodes},
        "variables": [{"name": "customer", "default": "Ada"}, {"name": "note", "source": "call"}],
        "functions": [find],
    }


def _of(body: Body, *roles: str) -> Sequence[str]:
    messages: Sequence[Mapping[str, Any]] = body["messages"]
    return [str(message.get("content")) for message in messages if message["role"] in roles]


async def test_braces_of_a_function_and_of_a_variable_stay_what_they_are(harness: CallHarness) -> None:
    """A caller's turn, an agent's words, a function's result and a value handed over are inserted nowhere."""
    harness.sandbox.script.respond(_looking_up)
    billing = await harness.agent(
        prompt="You are billing. Known: {{ note }}",
        variables=[{"name": "note", "source": "call"}],
        greeting={"text": "Billing, {{ note }}."},
    )
    await harness.orchestrator(harness.route("billing", billing), **_flow())
    listed = (await harness.api.get("/templates", params={"kind": "orchestrator"})).json()["items"]
    response = await harness.api.post(
        f"/templates/{listed[0]['id']}/chat",
        json={"turns": [SPOKEN, SPOKEN], "answers": {"find": [{"body": FOUND}]}},
    )
    assert response.status_code == 200, response.text

    request = next(body for body in harness.asked() if "Tell what" in system_text(body))
    assert _of(request, "user") == [SPOKEN]
    assert [text for text in _of(request, "tool") if "note" in text] == [json.dumps(FOUND)]
    assert LINE in " ".join(_of(request, "assistant"))
    assert "called by Ada." in system_text(request)
    assert f"Tell what was found: {FOUND['note']}" in system_text(request)
    at_billing = next(body for body in harness.asked() if "You are billing" in system_text(body))
    assert f"Known: {FOUND['note']}" in system_text(at_billing)
    assert SPOKEN in _of(at_billing, "user")
    assert f"Billing, {FOUND['note']}." in _of(at_billing, "assistant")
