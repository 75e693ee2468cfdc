"""The OpenAI server, through OpenAI's own client."""

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionChunk

from voicebot.sandbox.environment import Sandbox
from voicebot.sandbox.vendors.faults import Fault

TOOL: Any = {
    "type": "function",
    "function": {
        "name": "check_invoice",
        "description": "Look an invoice up.",
        "parameters": {
            "type": "object",
            "properties": {"invoice_number": {"type": "string"}},
            "required": ["invoice_number"],
        },
    },
}
INVOICE: Any = [{"role": "user", "content": "Please check invoice four two seven one"}]
HELLO: Any = [{"role": "system", "content": 'Say "Good day to you."'}, {"role": "user", "content": "Hello"}]


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        api_key=sandbox.env["OPENAI_API_KEY"], base_url=sandbox.urls.openai, max_retries=0
    ) as it:
        yield it


async def _stream(client: openai.AsyncOpenAI, messages: Any, **more: Any) -> list[ChatCompletionChunk]:
    stream = await client.chat.completions.create(model="any", messages=messages, stream=True, **more)
    return [chunk async for chunk in stream]


async def test_a_streamed_answer_arrives_in_words(client: openai.AsyncOpenAI) -> None:
    """Content comes a word at a time, and adds up to the whole; the last choice says why it stops."""
    chunks = await _stream(client, HELLO)
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices[0].delta.content]
    assert pieces == ["Good", " day", " to", " you."]
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert len({chunk.id for chunk in chunks}) == 1


async def test_usage_comes_last_and_only_when_asked_for(client: openai.AsyncOpenAI) -> None:
    """With include_usage a chunk without choices ends the stream; without it no chunk has usage."""
    asked = await _stream(client, HELLO, stream_options={"include_usage": True})
    assert asked[-1].choices == []
    assert asked[-1].usage is not None
    assert asked[-1].usage.total_tokens == asked[-1].usage.prompt_tokens + asked[-1].usage.completion_tokens
    assert all(chunk.usage is None for chunk in await _stream(client, HELLO))


async def test_a_tool_call_streams_its_name_before_fragments_of_its_arguments(
    client: openai.AsyncOpenAI,
) -> None:
    """The first fragment has id and name and no argument; the rest adds up to JSON."""
    chunks = await _stream(client, INVOICE, tools=[TOOL])
    deltas = [chunk.choices[0].delta.tool_calls for chunk in chunks]
    calls = [call for delta in deltas if delta for call in delta]
    assert calls[0].id
    assert calls[0].function is not None
    assert (calls[0].function.name, calls[0].function.arguments) == ("check_invoice", "")
    fragments = [call.function.arguments or "" for call in calls[1:] if call.function]
    assert len(fragments) > 1
    assert json.loads("".join(fragments)) == {"invoice_number": "4271"}
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


async def test_whole_and_streamed_answers_are_the_same(client: openai.AsyncOpenAI) -> None:
    """Without stream, the same words and the same call come in one piece."""
    said = await client.chat.completions.create(model="any", messages=HELLO)
    called = await client.chat.completions.create(model="any", messages=INVOICE, tools=[TOOL])
    assert said.choices[0].message.content == "Good day to you."
    assert called.choices[0].message.tool_calls is not None
    function = called.choices[0].message.tool_calls[0].function  # type: ignore[union-attr]
    assert (function.name, json.loads(function.arguments)) == ("check_invoice", {"invoice_number": "4271"})


async def test_the_first_token_takes_as_long_as_told(sandbox: Sandbox, client: openai.AsyncOpenAI) -> None:
    """The delay of the first token can be changed while the server runs."""
    sandbox.latency.first_token_ms = 150
    started = time.monotonic()
    stream = await client.chat.completions.create(model="any", messages=HELLO, stream=True)
    await anext(aiter(stream))
    assert time.monotonic() - started >= 0.15
    await stream.close()


async def test_models_are_listed(client: openai.AsyncOpenAI, sandbox: Sandbox) -> None:
    """The model that OPENAI_MODEL names exists."""
    assert [model.id async for model in client.models.list()] == [sandbox.env["OPENAI_MODEL"]]


async def test_a_wrong_key_is_refused(sandbox: Sandbox) -> None:
    """Another key gets OpenAI's 401."""
    async with openai.AsyncOpenAI(api_key="wrong", base_url=sandbox.urls.openai, max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError, match="Incorrect API key"):
            await client.chat.completions.create(model="any", messages=HELLO)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[]",
        "{}",
        '{"model":"m"}',
        '{"model":"m","messages":[]}',
        '{"model":"m","messages":[1]}',
        '{"model":"m","messages":[{"role":"user","content":"x"}],"tools":[{"type":"function"}]}',
    ],
)
async def test_what_is_no_request_is_refused(sandbox: Sandbox, body: str) -> None:
    """A body without model and messages gets 400 with OpenAI's error object."""
    headers = {"Authorization": f"Bearer {sandbox.env['OPENAI_API_KEY']}"}
    async with httpx.AsyncClient(headers=headers) as client:
        response = await client.post(f"{sandbox.urls.openai}/chat/completions", content=body)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


async def test_rate_limiting_is_obeyed_by_the_client(sandbox: Sandbox) -> None:
    """429 with Retry-After is retried by OpenAI's client after the given time, and then succeeds."""
    sandbox.faults.add(Fault(server="openai", kind="rate_limited", count=1, retry_after_s=0.3))
    started = time.monotonic()
    async with openai.AsyncOpenAI(
        api_key=sandbox.env["OPENAI_API_KEY"], base_url=sandbox.urls.openai, max_retries=1
    ) as client:
        answer = await client.chat.completions.create(model="any", messages=HELLO)
    assert answer.choices[0].message.content
    assert time.monotonic() - started >= 0.3


async def test_an_error_on_the_server_strikes_where_it_is_told_to(
    sandbox: Sandbox, client: openai.AsyncOpenAI
) -> None:
    """A fault that matches some words of a request leaves all others alone."""
    sandbox.faults.add(Fault(server="openai", kind="broken", match="invoice"))
    with pytest.raises(openai.InternalServerError):
        await client.chat.completions.create(model="any", messages=INVOICE)
    assert (await client.chat.completions.create(model="any", messages=HELLO)).choices


async def test_a_hanging_server_never_answers(sandbox: Sandbox) -> None:
    """A fault of the kind `hang` runs into the client's own timeout, and a cleared one is gone."""
    sandbox.faults.add(Fault(server="openai", kind="hang"))
    async with openai.AsyncOpenAI(
        api_key=sandbox.env["OPENAI_API_KEY"], base_url=sandbox.urls.openai, max_retries=0, timeout=0.3
    ) as client:
        with pytest.raises(openai.APITimeoutError):
            await client.chat.completions.create(model="any", messages=HELLO)
        sandbox.faults.clear("openai")
        assert (await client.chat.completions.create(model="any", messages=HELLO, timeout=5)).choices


async def test_a_stream_can_break_off(sandbox: Sandbox, client: openai.AsyncOpenAI) -> None:
    """A fault of the kind `drop` at stage `message` cuts the connection after the first words."""
    sandbox.faults.add(Fault(server="openai", kind="drop", stage="message"))
    words: list[str] = []

    async def collect() -> None:
        stream = await client.chat.completions.create(model="any", messages=HELLO, stream=True)
        async for chunk in stream:
            words.append(chunk.choices[0].delta.content or "")

    with pytest.raises((httpx.HTTPError, openai.APIConnectionError)):
        await collect()
    assert "".join(words) == "Good"


async def test_requests_are_kept_as_evidence(sandbox: Sandbox, client: openai.AsyncOpenAI) -> None:
    """What was asked can be read afterwards, by model, with messages and tools."""
    await client.chat.completions.create(model="one", messages=INVOICE, tools=[TOOL])
    await client.chat.completions.create(model="other", messages=HELLO)
    [request] = sandbox.usage.requests("openai", "one")
    assert request.body["messages"] == INVOICE
    assert request.body["tools"] == [TOOL]
    assert sandbox.usage.tally("openai").requests == 2
