"""Whatever looks like a placeholder in somebody's words or in an answer reaches every model as it is.

In text, because no recogniser of the sandbox writes braces: what a transcriber brings goes the same way from
there on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.calls.scripted import Answer, Body, ScriptedModel, last, system
from tests.calls.server import moved_in

SPOKEN = "My name is {{ customer }}."
FOUND = {"note": "{{ customer }} has \\{{ x }} and {{ nope }}"}
LINE = "One moment {{ customer }}."


def _looking_up(body: Body) -> Answer:
    """Finds what the caller asks about, goes on a node, and routes with what it was given."""
    if "You are billing" in system(body) or last(body)["role"] == "assistant":
        return Answer(text="Billing here.")
    if "Tell what" in system(body):
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


async def test_braces_of_a_function_and_of_a_variable_stay_what_they_are(
    database_url: str, tmp_path: Path
) -> None:
    """A caller's turn, an agent's words, a function's result and a value handed over are inserted nowhere."""
    async with (
        ScriptedModel(_looking_up).running() as model,
        moved_in(database_url, tmp_path, OPENAI_BASE_URL=model.url) as world,
    ):
        billing = await world.agent(
            prompt="You are billing. Known: {{ note }}",
            variables=[{"name": "note", "source": "call"}],
            greeting={"text": "Billing, {{ note }}."},
        )
        await world.desk(world.route("billing", billing), **_flow())
        listed = (await world.api.get("/templates", params={"kind": "orchestrator"})).json()["items"]
        response = await world.api.post(
            f"/templates/{listed[0]['id']}/chat",
            json={"turns": [SPOKEN, SPOKEN], "answers": {"find": [{"body": FOUND}]}},
        )
        assert response.status_code == 200, response.text

    told = next(body for body in model.asked if "Tell what" in system(body))
    assert _of(told, "user") == [SPOKEN]
    assert [text for text in _of(told, "tool") if "note" in text] == [json.dumps(FOUND)]
    assert LINE in " ".join(_of(told, "assistant"))
    assert "called by Ada." in system(told)
    assert f"Tell what was found: {FOUND['note']}" in system(told)
    at_billing = next(body for body in model.asked if "You are billing" in system(body))
    assert f"Known: {FOUND['note']}" in system(at_billing)
    assert SPOKEN in _of(at_billing, "user")
    assert f"Billing, {FOUND['note']}." in _of(at_billing, "assistant")
