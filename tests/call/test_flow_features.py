"""Flows beyond pipecat's: functions at named nodes, values on transitions, conditions, fixed words."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

import pytest

from templates.flow import Condition
from templates.transitions import holds
from tests.call.text_calls import ModelAnswer, Request, TextModel, begin
from voicebot.call.text.chat import Chat

ORDER: dict[str, Any] = {
    "type": "http",
    "name": "place_order",
    "description": "Orders it.",
    "url": "https://example.com/order",
    "nodes": ["confirm"],
}
DESK: dict[str, Any] = {
    "name": "Acme desk",
    "variables": [
        {"name": "count", "type": "integer", "source": "call", "description": "How many"},
        {"name": "colour", "source": "call", "default": "red"},
    ],
    "functions": [ORDER],
    "flow": {
        "initial_node": "ask",
        "nodes": {
            "ask": {
                "role_message": "You are the desk. The caller wants {{ count }}.",
                "task_messages": [{"content": "Ask how many."}],
                "functions": [
                    {
                        "name": "chosen",
                        "transition_only": True,
                        "description": "The caller has said how many.",
                        "parameters": ["count", "colour"],
                        "transition_to": {
                            "conditions": [
                                {"variable": "count", "operator": "greater_than", "value": 100, "to": "large"}
                            ],
                            "default": "confirm",
                        },
                    }
                ],
            },
            "large": {"task_messages": [{"content": "Say that somebody will call about {{ count }}."}]},
            "confirm": {
                "say": "That makes {{ count }}, in {{ colour }}.",
                "respond_immediately": False,
                "task_messages": [{"content": "Confirm the order."}],
            },
        },
    },
}


def answering(**arguments: Any) -> TextModel:
    """A model that calls `chosen` on the caller's words, and then says what it was answered."""

    def answer(request: Request) -> ModelAnswer | str:
        newest = request.messages[-1]
        if newest["role"] == "user" and "chosen" in request.tools:
            return ModelAnswer(calls=[("chosen", arguments)])
        return f"Then: {newest['content']}"

    return TextModel(answer)


async def called(model: TextModel, desk: Mapping[str, Any] = DESK) -> Chat:
    """A call on which the caller has said how many."""
    chat, _ = await begin(model, desk, {})
    await chat.say("As I said.")
    return chat


async def test_a_function_is_offered_at_its_nodes_only() -> None:
    """A function with `nodes` is offered at these, whatever else the model may want."""
    model = answering(count=3)
    chat = await called(model)
    assert "place_order" not in model.requests[0].tools
    await chat.say("Yes.")
    assert "place_order" in model.requests[-1].tools
    await chat.hang_up()


async def test_a_transition_keeps_values_and_speaks_fixed_words() -> None:
    """Values of the model are validated, kept, and in the fixed words of the next node."""
    model = answering(count="3")
    chat, _ = await begin(model, DESK, {})
    exchange = await chat.say("Three.")
    tool = model.requests[0].tools["chosen"]["parameters"]
    assert tool["properties"]["count"] == {"type": "integer", "description": "How many"}
    assert tool["required"] == ["count"]
    assert exchange.nodes == ["confirm"]
    assert [reply.text for reply in exchange.replies] == ["That makes 3, in red."]
    assert chat.variables()["count"] == 3
    await chat.say("Yes.")
    assert model.requests[-1].role == "You are the desk. The caller wants 3."
    await chat.hang_up()


async def test_a_condition_chooses_the_node_without_the_model() -> None:
    """The first condition that holds decides where a transition leads."""
    chat, _ = await begin(answering(count=101), DESK, {})
    exchange = await chat.say("Many.")
    assert exchange.nodes == ["large"]
    await chat.hang_up()


async def test_a_transition_without_its_values_is_refused() -> None:
    """A missing or invalid value keeps the conversation at its node; the model is told what to ask."""
    for arguments, expected in (({}, "count (How many) is missing"), ({"count": "many"}, "an integer")):
        model = answering(**arguments)
        chat, _ = await begin(model, DESK, {})
        exchange = await chat.say("Some.")
        assert exchange.nodes == []
        assert expected in json.loads(str(model.requests[1].messages[-1]["content"]))["message"]
        await chat.hang_up()


@pytest.mark.parametrize("summary", ["The caller wants three red ones.", None])
async def test_a_summary_takes_the_place_of_the_conversation(summary: str | None) -> None:
    """At a node with `reset_with_summary` the model knows a summary of what was said; without one, all."""
    desk = copy.deepcopy(DESK)
    desk["flow"]["nodes"]["confirm"]["context_strategy"] = "reset_with_summary"
    model = answering(count=3)
    model.summary = summary
    chat, _ = await begin(model, desk, {})
    await chat.say("Three of them, the red ones.")
    await chat.say("Yes.")
    told = [str(message.get("content")) for message in model.requests[-1].messages]
    assert any("The caller wants three red ones." in text for text in told) == (summary is not None)
    assert ("Three of them, the red ones." in told) == (summary is None)
    assert told[-1] == "Yes."
    assert "Confirm the order." in told
    await chat.hang_up()


@pytest.mark.parametrize(
    ("operator", "value", "holds_for", "not_for"),
    [
        ("equals", "Gold", "gold", "silver"),
        ("not_equals", 1, 2, 1),
        ("greater_than", 1, 2, 1),
        ("at_least", 1, 1, 0),
        ("less_than", 1, 0, "many"),
        ("at_most", "2026-03-01", "2026-02-01", "2026-04-01"),
        ("contains", "oat", "goat", "cow"),
        ("is_set", None, 0, ""),
        ("is_not_set", None, None, "x"),
    ],
)
def test_operators_compare_variables(operator: Any, value: Any, holds_for: Any, not_for: Any) -> None:
    """Each operator holds for what it names, and never for what cannot be compared."""
    condition = Condition(variable="x", operator=operator, value=value, to="a")
    assert holds(condition, {"x": holds_for})
    assert not holds(condition, {"x": not_for})
