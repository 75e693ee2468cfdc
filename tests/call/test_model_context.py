"""What the model of each agent is shown: the agents it can route to, and what happened before."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.call.text_calls import ModelAnswer, Request, TextModel, begin
from voicebot.call.text.answers import Answer

pytestmark = pytest.mark.asyncio

NUMBER = {
    "name": "customer_number",
    "type": "integer",
    "required": True,
    "description": "The caller's customer number, eight digits",
    "source": "call",
}
BILLING: Mapping[str, Any] = {
    "name": "Acme billing",
    "description": "Answers questions about invoices.",
    "prompt": "You are billing. The customer is {{ customer_number }}.",
    "variables": [NUMBER, {"name": "since", "type": "date", "source": "call"}, {"name": "plan"}],
}
VISITS: Mapping[str, Any] = {"name": "Acme visits", "prompt": "You are visits."}
DESK: Mapping[str, Any] = {"name": "Acme desk", "prompt": "You are the desk."}


class Script:
    """A model that answers each of the caller's turns by what is prepared for the words."""

    def __init__(self, **answers: ModelAnswer | str) -> None:
        self.answers = answers
        self.refusals: list[str] = []

    def __call__(self, request: Request) -> ModelAnswer | str:
        newest = request.messages[-1]
        if newest.get("role") == "tool":
            self.refusals.append(str(newest.get("content")))
            return "Let me see."
        said = [str(m.get("content")) for m in request.messages if m.get("role") == "user"]
        return self.answers.get(said[-1] if said else "", "Hello.")


def route(agent: str, **arguments: Any) -> ModelAnswer:
    """A call of route_to_agent."""
    return ModelAnswer(calls=[("route_to_agent", {"agent": agent, **arguments})])


async def test_the_model_is_shown_the_variables_that_each_target_takes() -> None:
    """The tool has name, type, description and need of each target's variables, and what the target does."""
    model = TextModel(Script(hello="Yes?"))
    chat, _ = await begin(model, DESK, {"billing": BILLING, "visits": VISITS})
    await chat.say("hello")
    tool = model.requests[-1].tools["route_to_agent"]
    variables = tool["parameters"]["properties"]["variables"]
    assert variables["additionalProperties"] is False
    assert variables["properties"] == {
        "customer_number": {
            "type": "integer",
            "description": "The caller's customer number, eight digits. Required for: billing.",
        },
        "since": {"type": "string", "format": "date", "description": "Optional for: billing."},
    }
    assert "Answers questions about invoices." in tool["description"]
    assert "customer_number (integer, required): The caller's customer number" in tool["description"]
    await chat.hang_up()


async def test_what_every_target_needs_is_required_in_the_schema() -> None:
    """A variable that all offered agents require is required in the JSON Schema."""
    model = TextModel(Script(hello="Yes?"))
    chat, _ = await begin(model, DESK, {"billing": BILLING})
    await chat.say("hello")
    tool = model.requests[-1].tools["route_to_agent"]
    assert tool["parameters"]["properties"]["variables"]["required"] == ["customer_number"]
    await chat.hang_up()


async def test_a_refusal_says_what_to_ask_the_caller_for() -> None:
    """A route without a required variable is refused with its description and the order to ask for it."""
    script = Script(bill=route("billing"), wrong=route("billing", variables={"customer_number": "many"}))
    chat, _ = await begin(TextModel(script), DESK, {"billing": BILLING})
    missing = await chat.say("bill")
    assert missing.routes[0].code == "invalid_variables"
    refusal = json.loads(script.refusals[-1])["message"]
    assert "customer_number (The caller's customer number, eight digits)" in refusal
    assert "Ask the caller" in refusal
    await chat.say("wrong")
    assert "must be an integer" in json.loads(script.refusals[-1])["message"]
    await chat.hang_up()


@pytest.mark.parametrize("mode", ["full", "summary", "variables"])
async def test_a_target_knows_who_spoke_before_why_and_with_which_values(mode: str) -> None:
    """After a route the target has the names of both agents, the reason, and the variables with values."""
    script = Script(bill=route("billing", reason="an invoice", variables={"customer_number": 17}))
    model = TextModel(script)
    chat, _ = await begin(model, DESK, {"billing": BILLING}, contexts={"billing": mode})
    await chat.say("bill")
    request = model.requests[-1]
    text = json.dumps(request.messages, ensure_ascii=False)
    assert request.role == "You are billing. The customer is 17."
    assert "Acme desk" in text
    assert "Acme billing" in text
    assert "an invoice" in text
    assert 'customer_number\\": 17' in text
    assert "plan" not in text
    assert "since" not in text
    await chat.hang_up()


async def test_a_target_with_context_none_is_told_nothing() -> None:
    """With the context `none` the target learns neither the reason nor who spoke before."""
    script = Script(bill=route("billing", reason="an invoice", variables={"customer_number": 17}))
    model = TextModel(script)
    chat, _ = await begin(model, DESK, {"billing": BILLING}, contexts={"billing": "none"})
    await chat.say("bill")
    assert model.requests[-1].messages == []
    await chat.hang_up()


async def test_after_back_the_orchestrator_knows_what_was_done() -> None:
    """The agent who is returned to is told the functions, their results and the variables of the other."""
    pay = {"type": "http", "name": "pay", "url": "https://example.com/pay", "keep": {"receipt": "/receipt"}}
    billing = {
        "name": "Acme billing",
        "prompt": "You are billing.",
        "functions": [pay],
        "variables": [{"name": "receipt", "source": "call"}],
    }
    script = Script(
        bill=route("billing", reason="an invoice"),
        pay=ModelAnswer(calls=[("pay", {})]),
        thanks=route("back", reason="paid, has another question"),
    )
    model = TextModel(script)
    answers = {"pay": [Answer(body={"receipt": "R-77"})]}
    chat, _ = await begin(model, DESK, {"billing": billing}, answers=answers)
    await chat.say("bill")
    await chat.say("pay")
    await chat.say("thanks")
    request = model.requests[-1]
    assert request.role == "You are the desk."
    notes = [str(m["content"]) for m in request.messages if m["role"] == "developer"]
    assert len(notes) == 2
    assert "has another question" in notes[-1]
    assert '"function": "pay"' in notes[-1]
    assert '"receipt": "R-77"' in notes[-1]
    await chat.hang_up()


async def test_a_kept_value_reaches_a_prompt_at_once() -> None:
    """What an HTTP function keeps is in the one-step prompt of the very next request."""
    find = {"type": "http", "name": "find", "url": "https://example.com/find", "keep": {"bag_place": "/at"}}
    desk = {
        "name": "Baggage",
        "prompt": 'Say "Your bag is in {{ bag_place }}."',
        "functions": [find],
        "variables": [{"name": "bag_place", "source": "call"}],
    }
    model = TextModel(Script(bag=ModelAnswer(calls=[("find", {})])))
    chat, _ = await begin(model, desk, {}, answers={"find": [Answer(body={"at": "Lisbon"})]})
    await chat.say("bag")
    assert model.requests[-1].role == 'Say "Your bag is in Lisbon."'
    assert model.requests[-1].messages[-1]["role"] == "tool"
    await chat.hang_up()
