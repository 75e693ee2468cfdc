"""What an agent's functions return when another agent has the call already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from loguru import logger

from tests.call.text_calls import ModelAnswer, Request, TextModel, begin
from voicebot.call.text.answers import Answer
from voicebot.call.text.chat import Chat
from voicebot.call.text.exchange import Exchange

LATE_MS = 1600
"""Longer than a route waits for the functions of its source."""

LOOKUP: Mapping[str, Any] = {
    "type": "http",
    "name": "look_up",
    "description": "Looks the order up.",
    "url": "https://example.com/look-up",
    "parameters": {"type": "object", "properties": {}},
}
FLOW: Mapping[str, Any] = {
    "initial_node": "ask",
    "nodes": {
        "ask": {
            "role_message": "You are the desk.",
            "task_messages": [{"content": "Ask what the caller needs."}],
            "functions": [{"name": "look_up", "transition_to": "found"}],
        },
        "found": {
            "role_message": "You are the desk after the look-up.",
            "task_messages": [{"content": "Tell what was found."}],
        },
    },
}
BILLING: Mapping[str, Any] = {"prompt": "You are billing."}
ROUTE = ("route_to_agent", {"agent": "billing"})
FOUND: tuple[str, Mapping[str, Any]] = ("look_up", {})


@pytest.fixture(autouse=True)
def quiet_pipecat() -> Iterator[None]:
    logger.disable("pipecat")
    yield
    logger.enable("pipecat")


def answering(*calls: tuple[str, Mapping[str, Any]]) -> TextModel:
    """A desk that calls these functions in one answer, and a billing agent that says where it is."""

    def answer(request: Request) -> ModelAnswer | str:
        if "You are billing" in request.role:
            return "Billing here."
        return ModelAnswer(calls=calls)

    return TextModel(answer)


async def called(model: TextModel, answer: Answer, **desk: Any) -> tuple[Chat, Exchange]:
    """A call in which the caller has asked for billing, and the late result has arrived."""
    chat, _ = await begin(
        model,
        {"functions": [LOOKUP], **desk},
        {"billing": BILLING},
        answers={"look_up": [answer]},
    )
    return chat, await chat.say("My bill, please.")


@pytest.mark.parametrize("calls", [(ROUTE, FOUND), (FOUND, ROUTE)])
async def test_row_5_a_late_result_does_not_move_the_new_agent(calls: Any) -> None:
    """A result with a transition that returns after the route leaves the target in its own node."""
    model = answering(*calls)
    chat, exchange = await called(model, Answer(body={"status": "found"}, after_ms=LATE_MS), flow=FLOW)
    assert [step.status for step in exchange.functions] == ["ok"]
    assert exchange.nodes == ["prompt"]
    assert [reply.text for reply in exchange.replies] == ["Billing here."]
    await chat.say("And now?")
    assert "You are billing" in model.requests[-1].role
    await chat.hang_up()


@pytest.mark.parametrize("answer", [Answer(after_ms=LATE_MS), Answer(status=500, after_ms=LATE_MS)])
@pytest.mark.parametrize("calls", [(ROUTE, FOUND), (FOUND, ROUTE)])
async def test_row_6_a_late_result_does_not_run_the_new_agent(calls: Any, answer: Answer) -> None:
    """The target says its first words once, whatever a function of its predecessor returns later."""
    chat, exchange = await called(answering(*calls), answer, prompt="You are the desk.")
    assert [reply.text for reply in exchange.replies] == ["Billing here."]
    await chat.hang_up()


async def test_a_quick_result_beside_a_route_does_not_run_the_new_agent_twice() -> None:
    """A transition of the source that is taken before the route counts for nothing at the target."""
    chat, exchange = await called(
        answering(FOUND, ROUTE), Answer(), flow=FLOW, greeting={"text": "Acme, hello."}
    )
    assert [reply.text for reply in exchange.replies] == ["Billing here."]
    await chat.hang_up()


async def test_the_wait_text_of_an_agent_that_has_left_is_not_spoken() -> None:
    """A function of the source says nothing in the voice of the target."""
    lookup = {**LOOKUP, "wait_text": "Let me look."}
    chat, exchange = await called(
        answering(ROUTE, FOUND), Answer(after_ms=LATE_MS), functions=[lookup], prompt="You are the desk."
    )
    assert [reply.text for reply in exchange.replies if reply.at.agent == "billing"] == ["Billing here."]
    await chat.hang_up()
