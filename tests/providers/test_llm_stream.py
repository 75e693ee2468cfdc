"""Streamed answers as plain JSON: voicebot.providers.llm_stream."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from openai import NOT_GIVEN, APIError, AsyncOpenAI, AuthenticationError

from voicebot.providers.llm_stream import JsonObject, streaming_client


class Vendor:
    """Answers every request with `status` and the lines of `chunks`, and keeps the requests."""

    def __init__(self, *chunks: Any, status: int = 200) -> None:
        self._chunks, self._status = chunks, status
        self.requests: list[Any] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append({"key": request.headers.get("Authorization"), **await request.json()})
        if self._status != 200:
            return web.json_response({"error": {"message": "no"}}, status=self._status)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for chunk in (*map(json.dumps, self._chunks), "[DONE]"):
            await response.write(f"data: {chunk}\n\n".encode())
        return response


@asynccontextmanager
async def client_of(vendor: Vendor) -> AsyncIterator[AsyncOpenAI]:
    """A client whose vendor is ours."""
    application = web.Application()
    application.router.add_post("/v1/chat/completions", vendor.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    async with AsyncOpenAI(api_key="k", base_url=f"http://{host}:{port}/v1", max_retries=0) as client:
        yield streaming_client(client)
    await runner.cleanup()


async def chunks_of(client: AsyncOpenAI, **params: Any) -> list[Any]:
    """All chunks of one streamed answer."""
    stream: Any = await client.chat.completions.create(stream=True, **params)
    chunks = [chunk async for chunk in stream]
    await stream.close()
    return chunks


async def test_chunks_have_the_members_that_pipecat_reads() -> None:
    """Text, pieces of a function call and the usage are attributes; a missing member is None."""
    call = {"index": 0, "id": "c1", "function": {"name": "route", "arguments": '{"a":'}}
    usage = {"prompt_tokens": 7, "prompt_tokens_details": None}
    vendor = Vendor(
        {"model": "m", "choices": [{"index": 0, "delta": {"content": "Hello"}}]},
        {"model": "m", "choices": [{"index": 0, "delta": {"tool_calls": [call]}}]},
        {"model": "m", "choices": [], "usage": usage},
    )
    async with client_of(vendor) as client:
        text, function, last = await chunks_of(client, model="m", messages=[])
    assert (text.choices[0].delta.content, text.choices[0].delta.tool_calls, text.usage) == (
        *("Hello", None),
        None,
    )
    named = function.choices[0].delta.tool_calls[0]
    assert (named.index, named.id, named.function.name, named.function.arguments) == (
        0,
        "c1",
        "route",
        '{"a":',
    )
    assert (last.usage.prompt_tokens, last.usage.prompt_tokens_details, last.choices) == (7, None, [])


async def test_the_request_has_the_given_parameters_and_no_others() -> None:
    """Parameters that are not given are left out; those in `extra_body` are merged; the key is sent."""
    vendor = Vendor()
    messages = [{"role": "user", "content": "Hello."}]
    async with client_of(vendor) as client:
        assert (
            await chunks_of(client, model="m", messages=[], seed=NOT_GIVEN, extra_body={"messages": messages})
            == []
        )
    assert vendor.requests == [{"key": "Bearer k", "stream": True, "model": "m", "messages": messages}]


async def test_an_error_in_the_answer_is_raised() -> None:
    """An error that the vendor sends as a chunk ends the answer with an exception."""
    vendor = Vendor({"choices": [{"delta": {"content": "Hel"}}]}, {"error": {"message": "overloaded"}})
    async with client_of(vendor) as client:
        with pytest.raises(APIError, match="overloaded"):
            await chunks_of(client, model="m", messages=[])


async def test_a_refused_key_is_the_exception_of_the_client() -> None:
    """The status of a refusal is raised as by the vendor's client."""
    async with client_of(Vendor(status=401)) as client:
        with pytest.raises(AuthenticationError):
            await chunks_of(client, model="m", messages=[])


def test_an_object_is_a_dictionary_whose_missing_members_are_none() -> None:
    """Members are read by name and by attribute; what Python itself asks for is not a member."""
    value = JsonObject({"a": {"b": [{"c": 1}]}})
    assert value.a.b[0].c == value["a"]["b"][0]["c"] == 1
    assert value.other is None
    assert not hasattr(value, "__other__")
