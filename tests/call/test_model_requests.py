"""The record of each request to the model."""

from __future__ import annotations

import pytest

from tests.call.text_calls import ModelAnswer, Request, TextModel, begin
from voicebot.call.text.answers import Answer
from voicebot.providers.prices import cost_usd
from voicebot.simulate.report import lines, requests, requests_as_json

FIND = {"type": "http", "name": "find", "description": "Finds it.", "url": "https://example.com/find"}
DESK = {
    "name": "Acme desk",
    "prompt": "You are the desk.",
    "functions": [FIND],
    "llm": {"settings": {"temperature": 0.2}},
}


def answer(request: Request) -> ModelAnswer | str:
    """Call the function on the caller's words, and speak about its result."""
    if request.messages[-1]["role"] == "tool":
        return "It did not work."
    return ModelAnswer(text="Let me look.", calls=[("find", {})])


async def test_a_request_has_messages_tools_settings_and_answer() -> None:
    """The record has what the model was shown, instructions first, and what it said and called."""
    chat, _ = await begin(TextModel(answer), DESK, {}, answers={"find": [Answer(body={"at": "Lisbon"})]})
    exchange = await chat.say("Where is it?")
    first, second = (each.request for each in exchange.requests)
    assert first.messages[0] == {"role": "system", "content": "You are the desk."}
    assert first.messages[-1] == {"role": "user", "content": "Where is it?"}
    assert [tool["function"]["name"] for tool in first.tools or ()] == ["find", "route_to_agent"]
    assert first.settings == {"provider": "openai", "model": None, "temperature": 0.2}
    assert (first.text, first.function_calls) == (
        "Let me look.",
        [{"name": "find", "arguments": {}}],
    )
    assert (first.seq, second.seq, second.shared) == (1, 2, len(first.messages))
    assert second.text == "It did not work."
    assert {first.status, second.status} == {"done"}
    assert first.first_token_ms is not None
    assert first.total_ms >= first.first_token_ms
    text = "\n".join(requests(exchange))
    assert "system  You are the desk." in text
    assert requests_as_json(exchange)[1]["text"] == "It did not work."
    await chat.hang_up()


async def test_a_function_that_failed_says_why() -> None:
    """The report of a failed function has the code and the message, not only how long it took."""
    chat, _ = await begin(TextModel(answer), DESK, {}, answers={"find": [Answer(status=503)]})
    exchange = await chat.say("Where is it?")
    (call,) = exchange.functions
    assert call.status == "failed"
    assert call.failure is not None
    assert call.failure.startswith("http_503: The server answered with status 503.")
    assert any("http_503" in line for line in lines(exchange))
    await chat.hang_up()


@pytest.mark.parametrize(
    ("model", "cost"),
    [("gpt-4.1-mini", 0.00047), ("gpt-4.1-mini-2025-04-14", 0.00047), ("my-own-model", None)],
)
def test_the_cost_is_that_of_the_list_price(model: str, cost: float | None) -> None:
    """Tokens cost the model's list price, cached ones less; an unknown model has no cost."""
    assert cost_usd(model, prompt=1000, cached=100, completion=63) == (
        None if cost is None else pytest.approx(cost, abs=1e-5)
    )
