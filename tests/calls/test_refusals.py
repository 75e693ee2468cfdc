"""Routes that are asked for wrongly."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.calls.scripted import Answer, Body, ScriptedModel, last, system
from tests.calls.server import BACK, BILL, HIGHEST, WELCOME, World, hear, moved_in
from voicebot.sandbox.caller import HangUp, Say

Scripted = Callable[[Callable[[Body], Answer]], contextlib.AbstractAsyncContextManager[World]]


@pytest.fixture
def scripted(database_url: str, tmp_path: Path) -> Scripted:
    """Makes a world whose model answers by a function."""

    @contextlib.asynccontextmanager
    async def make(answer: Callable[[Body], Answer]) -> AsyncIterator[World]:
        async with (
            ScriptedModel(answer).running() as model,
            moved_in(database_url, tmp_path, OPENAI_BASE_URL=model.url) as world,
        ):
            yield world

    return make


def _route(agent: str) -> tuple[str, dict[str, str]]:
    return "route_to_agent", {"agent": agent, "reason": "as asked"}


async def test_an_unknown_agent_is_refused_with_words_that_correct_the_model(scripted: Scripted) -> None:
    """A model that names an agent who does not exist is told which ones do, and routes right then."""

    def answer(body: Body) -> Answer:
        if "You are billing" in system(body):
            return Answer(text="Billing here.")
        if last(body)["role"] == "tool":
            refused = str(last(body)["content"])
            return Answer(
                calls=[_route("billing")] if "unknown_agent" in refused and "billing" in refused else []
            )
        return Answer(calls=[_route("accounting")])

    async with scripted(answer) as world:
        desk = await world.desk(world.route("billing", await world.agent()))
        call = await world.place(hear(), Say(text=BILL), hear(), HangUp(), to=desk)

    assert call.words() == [WELCOME, "Billing here."]
    assert [(r["name"], r["status"], r["error_code"]) for r in call.routes] == [
        ("accounting", "refused", "unknown_agent"),
        ("billing", "done", None),
    ]
    assert call.data("route.refused")[0]["code"] == "unknown_agent"


async def test_an_agent_cannot_hand_the_caller_back_unheard(scripted: Scripted) -> None:
    """An agent who sends the caller back before the caller has said a word is refused, and speaks instead."""

    def answer(body: Body) -> Answer:
        if "You are billing" not in system(body):
            return Answer(calls=[_route("billing")])
        refused = last(body)["role"] == "tool" and "ping_pong" in str(last(body)["content"])
        return Answer(text="What is it about?") if refused else Answer(calls=[_route("back")])

    async with scripted(answer) as world:
        desk = await world.desk(world.route("billing", await world.agent()))
        call = await world.place(hear(), Say(text=BILL), hear(), HangUp(), to=desk)

    assert call.words() == [WELCOME, "What is it about?"]
    assert [(r["name"], r["status"], r["error_code"]) for r in call.routes] == [
        ("billing", "done", None),
        ("back", "refused", "ping_pong"),
    ]


async def test_of_two_routes_at_once_the_first_is_taken(scripted: Scripted) -> None:
    """A model that routes twice in one answer routes once: the second is refused as already_routing."""

    def answer(body: Body) -> Answer:
        if "You are billing" in system(body):
            return Answer(text="Billing here.")
        return Answer(calls=[_route("billing"), _route("workshop")])

    async with scripted(answer) as world:
        factory = await world.agent("Workshop", voice=HIGHEST)
        desk = await world.desk(world.route("billing", await world.agent()), world.route("workshop", factory))
        call = await world.place(hear(), Say(text=BILL), hear(), HangUp(), to=desk)

    assert call.words() == [WELCOME, "Billing here."]
    assert sorted((r["name"], r["status"]) for r in call.routes) == [
        ("billing", "done"),
        ("workshop", "refused"),
    ]
    assert [data["code"] for data in call.data("route.refused")] == ["already_routing"]


async def test_what_a_model_hands_over_is_never_a_template(scripted: Scripted) -> None:
    """A value that looks like a placeholder reaches the next agent's prompt as it is, and the call lives."""
    hostile = "{{ x }} {% y %} {{ system }}"

    def answer(body: Body) -> Answer:
        if "You are billing" in system(body):
            return Answer(text="Billing here.")
        name, arguments = _route("billing")
        return Answer(calls=[(name, {**arguments, "variables": {"customer": hostile}})])

    async with scripted(answer) as world:
        billing = await world.agent(
            prompt="You are billing for {{ customer }}.",
            variables=[{"name": "customer", "source": "call", "default": "nobody"}],
        )
        desk = await world.desk(world.route("billing", billing))
        call = await world.place(hear(), Say(text=BILL), hear(), Say(text=BILL), hear(), HangUp(), to=desk)

    assert call.words()[:2] == [WELCOME, "Billing here."]
    assert call.outcome.ok, call.outcome.failure


async def test_the_hop_limit_keeps_the_caller_where_they_are(world: World) -> None:
    """After as many changes as the orchestrator allows, the next is refused and the agent goes on."""
    desk = await world.desk(world.route("billing", await world.agent()), limits={"max_hops": 1})
    call = await world.place(hear(), Say(text=BILL), hear(), Say(text=BACK), hear(), HangUp(), to=desk)

    assert call.outcome.ok, call.outcome.failure
    assert [(r["name"], r["status"], r["error_code"]) for r in call.routes] == [
        ("billing", "done", None),
        ("back", "refused", "hop_limit"),
    ]
    assert len(call.words()) == 3
