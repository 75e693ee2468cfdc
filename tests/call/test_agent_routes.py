"""Routes from agents to agents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.call.text_calls import ModelAnswer, Request, TextModel, begin
from voicebot.call.resume import path_of
from voicebot.call.text.chat import Chat

DESK: Mapping[str, Any] = {"prompt": "You are the desk."}


def agent(name: str, *routes: str, **more: Any) -> dict[str, Any]:
    """An agent that routes to others."""
    return {
        "prompt": f"You are {name}.",
        "greeting": {"text": f"{name} here."},
        "description": f"Does {name}.",
        "routes": [{"name": each, "template_id": each, "when": f"for {each}"} for each in routes],
        **more,
    }


def obeying() -> TextModel:
    """A model that routes once to the agent that the caller names, and else says what it is told."""
    turns = 0

    def answer(request: Request) -> ModelAnswer | str:
        nonlocal turns
        said = [each["content"] for each in request.messages if each["role"] == "user"]
        is_new, turns = len(said) > turns, len(said)
        if is_new and said[-1].startswith("to "):
            return ModelAnswer(calls=[("route_to_agent", {"agent": said[-1].removeprefix("to ")})])
        return f"Told: {request.newest}"

    return TextModel(answer)


async def called(**more: Any) -> tuple[TextModel, Chat]:
    """A call with a desk that routes to billing, which routes to refunds, which routes to billing."""
    model = obeying()
    chat, _ = await begin(
        model,
        {**DESK, **more},
        {"billing": agent("billing", "refunds")},
        others={"refunds": agent("refunds", "billing")},
    )
    return model, chat


def at(chat: Chat) -> str:
    """Name of the agent who has the call."""
    assert chat.log.at is not None
    return chat.log.at.agent


async def test_an_agent_routes_to_an_agent_and_back_means_who_routed() -> None:
    """`back` leads through the agents who routed, one after another, to the one who answered."""
    _, chat = await called()
    for name, expected in (
        ("billing", "billing"), ("refunds", "refunds"), ("back", "billing"), ("back", "desk"),
    ):  # fmt: skip
        exchange = await chat.say(f"to {name}")
        assert [step.status for step in exchange.routes] == ["done"]
        assert at(chat) == expected
        await chat.say("Hm.")
    await chat.hang_up()


async def test_an_agent_is_shown_its_own_targets() -> None:
    """The model of an agent with routes may choose its targets and `back`, but not targets of others."""
    model, chat = await called()
    await chat.say("to billing")
    await chat.say("Hm.")
    tool = model.requests[-1].tools["route_to_agent"]
    assert tool["parameters"]["properties"]["agent"]["enum"] == ["refunds", "back"]
    assert "does: Does refunds." in tool["description"]
    exchange = await chat.say("to desk")
    assert [step.code for step in exchange.routes] == ["unknown_agent"]
    await chat.hang_up()


async def test_agents_may_route_in_a_circle_within_the_hop_limit() -> None:
    """A circle of routes is allowed; each change of agent counts."""
    _, chat = await called(limits={"max_hops": 4})
    for name in ("billing", "refunds", "billing", "refunds"):
        await chat.say(f"to {name}")
        await chat.say("Hm.")
    exchange = await chat.say("to billing")
    assert [step.code for step in exchange.routes] == ["hop_limit"]
    assert at(chat) == "refunds"
    await chat.hang_up()


async def test_a_circle_without_words_of_the_caller_is_stopped() -> None:
    """No agent is given a caller again who has said nothing since it gave them away."""

    def answer(request: Request) -> ModelAnswer | str:
        for name, target in (("the desk", "billing"), ("billing", "refunds"), ("refunds", "billing")):
            has_call = f"You are {name}" in request.role and len(request.messages) > 1
            if has_call and "came from there" not in request.newest:
                return ModelAnswer(calls=[("route_to_agent", {"agent": target})])
        return "I will help you."

    silent = {"greeting": None}
    chat, _ = await begin(
        TextModel(answer),
        DESK,
        {"billing": agent("billing", "refunds", **silent)},
        others={"refunds": agent("refunds", "billing", **silent)},
    )
    exchange = await chat.say("Go.")
    assert [(step.name, step.status, step.code) for step in exchange.routes][:3] == [
        ("billing", "done", None), ("refunds", "done", None), ("billing", "refused", "ping_pong"),
    ]  # fmt: skip
    assert exchange.replies[-1].text == "I will help you."
    await chat.hang_up()


async def test_a_route_between_agents_asks_for_the_variables_of_its_target() -> None:
    """The refusal says what to ask for, as it does for an orchestrator; the values arrive."""
    order = {"name": "order", "source": "call", "required": True, "description": "Order number"}

    def answer(request: Request) -> ModelAnswer | str:
        if request.newest == "to billing":
            return ModelAnswer(calls=[("route_to_agent", {"agent": "billing"})])
        if request.newest in ("to refunds", "It is 17."):
            given = {"order": "17"} if "17" in request.newest else {}
            return ModelAnswer(calls=[("route_to_agent", {"agent": "refunds", "variables": given})])
        return "Which order?"

    refunds = agent("refunds", variables=[order], greeting={"text": "Order {{ order }}."})
    chat, _ = await begin(
        TextModel(answer), DESK, {"billing": agent("billing", "refunds")}, others={"refunds": refunds}
    )
    await chat.say("to billing")
    exchange = await chat.say("to refunds")
    assert [(step.status, step.code) for step in exchange.routes] == [("refused", "invalid_variables")]
    exchange = await chat.say("It is 17.")
    assert [reply.text for reply in exchange.replies] == ["Order 17."]
    await chat.hang_up()


@pytest.mark.parametrize(
    ("done", "path"),
    [
        ([], []),
        (["billing", "refunds"], ["billing", "refunds"]),
        (["billing", "refunds", "back"], ["billing"]),
        (["billing", "back", "sales", "refunds", "back", "back"], []),
    ],
)
def test_a_resumed_call_knows_the_way_it_has_taken(done: list[str], path: list[str]) -> None:
    """Routes that were gone back on are no part of the way by which `back` leads."""

    class Route:
        def __init__(self, name: str) -> None:
            self.name = name

    assert path_of([Route(name) for name in done]) == path  # type: ignore[misc]


async def test_one_request_to_go_back_leads_back_once() -> None:
    """After `back`, an agent does not interpret the same words as a request to route back again."""

    def answer(request: Request) -> ModelAnswer | str:
        said = [each["content"] for each in request.messages if each["role"] == "user"]
        if said and said[-1].startswith("to ") and "given back to you" not in request.newest:
            return ModelAnswer(calls=[("route_to_agent", {"agent": said[-1].removeprefix("to ")})])
        return "What do you need?"

    chat, _ = await begin(
        TextModel(answer),
        DESK,
        {"billing": agent("billing", "refunds")},
        others={"refunds": agent("refunds")},
    )
    for name in ("billing", "refunds"):
        await chat.say(f"to {name}")
    exchange = await chat.say("to back")
    assert [(step.name, step.code) for step in exchange.routes] == [("back", None), ("back", "ping_pong")]
    assert at(chat) == "billing"
    await chat.hang_up()
