"""A model that repeats itself, or says nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from loguru import logger

from tests.call.text_calls import ModelAnswer, Request, TextModel, begin
from voicebot.call.failure_texts import failure_texts

DESK: Mapping[str, Any] = {"prompt": "You are the desk."}
BILLING: Mapping[str, Any] = {"prompt": "You are billing."}
SORRY = failure_texts("en-US")


@pytest.fixture(autouse=True)
def quiet_pipecat() -> Iterator[None]:
    logger.disable("pipecat")
    yield
    logger.enable("pipecat")


def route(agent: str) -> ModelAnswer:
    """A route to an agent."""
    return ModelAnswer(calls=[("route_to_agent", {"agent": agent})])


async def test_row_7_a_route_refused_three_times_is_no_longer_offered() -> None:
    """After three refusals of one kind the model has no route, is told why, and helps the caller itself."""

    def answer(request: Request) -> ModelAnswer | str:
        return route("accounting") if "route_to_agent" in request.tools else "I can help you."

    model = TextModel(answer)
    chat, _ = await begin(model, DESK, {"billing": BILLING})
    exchange = await chat.say("My bill, please.")
    assert [(step.status, step.code) for step in exchange.routes] == [("refused", "unknown_agent")] * 3
    assert [reply.text for reply in exchange.replies] == ["I can help you."]
    assert "Do not ask for a route again" in model.requests[-1].newest
    await chat.hang_up()


async def test_row_7_the_route_is_offered_again_in_the_next_turn() -> None:
    """A turn of the caller ends the refusals of the last one: the model may route then."""
    asked: list[str] = []

    def answer(request: Request) -> ModelAnswer | str:
        if "You are billing" in request.role:
            return "Billing here."
        if request.newest == "Billing, I said.":
            asked.append(str(request.tools["route_to_agent"]["description"]))
            return route("billing")
        return route("accounting") if "route_to_agent" in request.tools else "I can help you."

    chat, _ = await begin(TextModel(answer), DESK, {"billing": BILLING})
    await chat.say("My bill, please.")
    exchange = await chat.say("Billing, I said.")
    assert [step.status for step in exchange.routes] == ["done"]
    assert "billing: billing" in asked[0]
    await chat.hang_up()


async def test_row_7_a_model_that_goes_on_asking_ends_the_call_with_a_goodbye() -> None:
    """A model that asks for routes although none is offered is asked no more: an honest goodbye follows."""
    model = TextModel(lambda _: route("accounting"))
    chat, _ = await begin(model, DESK, {"billing": BILLING})
    exchange = await chat.say("My bill, please.")
    assert len(exchange.routes) == 3
    assert len(model.requests) <= 7
    assert [reply.text for reply in exchange.replies] == [SORRY.goodbye]
    assert chat.is_over


async def test_row_12_an_answer_without_content_is_asked_for_again() -> None:
    """The caller hears the answer that follows an empty one, and no apology."""
    model = TextModel(lambda _: ModelAnswer() if len(model.requests) < 3 else "Here I am.")
    chat, _ = await begin(model, DESK, {})
    exchange = await chat.say("Hello?")
    assert [reply.text for reply in exchange.replies] == ["Here I am."]
    assert len(model.requests) == 3
    await chat.hang_up()


async def test_row_12_a_model_that_stays_empty_ends_the_call_with_a_goodbye() -> None:
    """After two more attempts the caller hears an honest goodbye."""
    model = TextModel(lambda _: ModelAnswer())
    chat, _ = await begin(model, DESK, {})
    exchange = await chat.say("Hello?")
    assert [reply.text for reply in exchange.replies] == [SORRY.goodbye]
    assert len(model.requests) == 3
    assert chat.is_over


async def test_an_empty_answer_after_words_is_no_failure() -> None:
    """A model that spoke and then has nothing to add to the result of a function waits for the caller."""

    def answer(request: Request) -> ModelAnswer:
        if request.messages[-1]["role"] == "tool":
            return ModelAnswer()
        return ModelAnswer(text="Noted.", calls=[("record_outcome", {"outcome": "noted"})])

    functions = [{"type": "builtin", "name": "record_outcome"}]
    model = TextModel(answer)
    chat, _ = await begin(model, {**DESK, "functions": functions}, {})
    exchange = await chat.say("Note this.")
    assert [reply.text for reply in exchange.replies] == ["Noted."]
    assert len(model.requests) == 2
    await chat.hang_up()


async def test_a_model_that_only_calls_functions_is_stopped() -> None:
    """Functions that are called one after another without a word to the caller end in a goodbye."""
    functions = [{"type": "builtin", "name": "record_outcome"}]
    model = TextModel(lambda _: ModelAnswer(calls=[("record_outcome", {"outcome": "noted"})]))
    chat, _ = await begin(model, {**DESK, "functions": functions}, {})
    exchange = await chat.say("Note this.")
    assert [reply.text for reply in exchange.replies] == [SORRY.goodbye]
    assert len(model.requests) <= 10
    assert chat.is_over
