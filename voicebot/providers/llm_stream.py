"""Streamed answers of OpenAI's protocol as plain JSON.

The vendor's client makes a validated model of each token, which takes longer than all other work on the
token, and copies the parameters of a request by their type hints. Its generic request (``AsyncOpenAI.post``)
does neither; connections, retries and errors are the same.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

from openai import AsyncOpenAI, AsyncStream, NotGiven, Omit


class JsonObject(dict[str, Any]):
    """An object whose members are attributes too; a member that is missing is None."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked for by Python itself
            raise AttributeError(name)
        return _with_attributes(self.get(name))


class JsonStream:
    """The chunks of an answer."""

    def __init__(self, stream: AsyncStream[object]) -> None:
        """``stream`` is an answer that has begun."""
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[Any]:
        """Each chunk, as soon as it arrives.

        Raises:
            openai.APIError: the vendor sent an error, or the connection was lost.
        """
        async for chunk in self._stream:
            yield _with_attributes(chunk)

    async def close(self) -> None:
        """Release the connection."""
        await self._stream.close()


class _Completions:
    def __init__(self, client: AsyncOpenAI) -> None:
        self._client = client

    async def create(self, **params: Any) -> Any:
        if not params.get("stream"):
            return await self._client.chat.completions.create(**params)
        given = {**params, **params.get("extra_body", {})}
        body = {name: value for name, value in given.items() if not isinstance(value, NotGiven | Omit)}
        body.pop("extra_body", None)
        stream = await self._client.post(
            "/chat/completions", body=body, cast_to=object, stream=True, stream_cls=AsyncStream[object]
        )
        return JsonStream(stream)


def streaming_client(client: AsyncOpenAI) -> AsyncOpenAI:
    """The part of a client that pipecat's service uses, with streamed answers as plain JSON."""
    chat = SimpleNamespace(completions=_Completions(client))
    return cast(AsyncOpenAI, SimpleNamespace(chat=chat))


def _with_attributes(value: Any) -> Any:
    if isinstance(value, dict):
        return JsonObject(value)
    return [_with_attributes(item) for item in value] if isinstance(value, list) else value
