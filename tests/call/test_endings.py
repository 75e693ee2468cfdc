"""Ends of a call that meet other things that happen at the same time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from loguru import logger

from tests.call.text_calls import ModelAnswer, Request, TextModel, begin
from tests.call.virtual_call import VirtualCall
from tests.call.virtual_time import VirtualLoop

ROUTE = ("route_to_agent", {"agent": "billing"})
END: tuple[str, Mapping[str, Any]] = ("end_call", {"reason": "done"})
DESK: Mapping[str, Any] = {
    "prompt": "You are the desk.",
    "functions": [{"type": "builtin", "name": "end_call"}],
    "idle": {"goodbye": "I will hang up now."},
}


@pytest.fixture(autouse=True)
def quiet_pipecat() -> Iterator[None]:
    logger.disable("pipecat")
    yield
    logger.enable("pipecat")


def answering(text: str, *calls: tuple[str, Mapping[str, Any]]) -> TextModel:
    """A desk that says and calls this in one answer, and a billing agent that says where it is."""

    def answer(request: Request) -> ModelAnswer | str:
        if "You are billing" in request.role:
            return "Billing here."
        return ModelAnswer(text=text, calls=calls)

    return TextModel(answer)


@pytest.mark.parametrize("text", ["", "Goodbye."])
@pytest.mark.parametrize("calls", [(ROUTE, END), (END, ROUTE)])
async def test_row_17_a_route_prevails_over_an_end_in_the_same_answer(calls: Any, text: str) -> None:
    """An answer that routes and ends the call routes it: the target speaks, and the call does not end."""
    chat, _ = await begin(answering(text, *calls), DESK, {"billing": {"prompt": "You are billing."}})
    exchange = await chat.say("My bill, please.")
    assert [step.status for step in exchange.routes] == ["done"]
    assert exchange.replies[-1].text == "Billing here."
    assert not chat.is_over
    await chat.hang_up()


async def test_row_17_nobody_is_hung_up_on_without_a_word() -> None:
    """When the model ends the call and says nothing, the agent's goodbye is spoken first."""
    chat, _ = await begin(answering("", END), DESK, {"billing": {"prompt": "You are billing."}})
    exchange = await chat.say("That was all.")
    assert [reply.text for reply in exchange.replies] == ["I will hang up now."]
    assert chat.is_over


async def test_a_farewell_of_the_model_is_the_only_goodbye() -> None:
    """When the model says goodbye itself, nothing is added to it."""
    chat, _ = await begin(answering("Goodbye.", END), DESK, {"billing": {"prompt": "You are billing."}})
    exchange = await chat.say("That was all.")
    assert [reply.text for reply in exchange.replies] == ["Goodbye."]
    assert chat.is_over


@pytest.mark.parametrize("code", [1007, 1009])
def test_a_stream_that_is_closed_for_a_limit_is_lost(loop: VirtualLoop, code: int) -> None:
    """If the carrier's messages cannot be read, the stream is lost and the call may be resumed."""
    call = VirtualCall(loop, desk={})
    call.run(5)
    call.media.close_by("us", code)
    call.run(1)
    assert call.end is not None
    assert (call.end.ended_by, call.end.reason, call.end.resumable) == ("carrier", "stream_lost", True)
