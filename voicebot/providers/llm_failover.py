"""Sends a request to the next language model when one fails or does not answer.

It takes the place of the client in pipecat's service: the service, its context and its functions stay the
same. A provider that fails after its first words is not replaced within the answer; the call then asks again
(``voicebot.call``), and that request starts with the next provider.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from openai import NOT_GIVEN, AsyncOpenAI

from voicebot.providers.llm_stream import JsonStream, streaming_client

STALLED_S = 2.0
"""An answer that pauses for this long has failed, if another endpoint can be asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmEndpoint:
    """One model of one provider.

    Attributes:
        provider: the provider's name.
        client: asks it; does not repeat a request.
        options: the model and its settings, as parameters of a request.
        developer_role: whether it knows the message role ``developer``.
    """

    provider: str
    client: AsyncOpenAI
    options: Mapping[str, Any]
    developer_role: bool


class LlmWatch(Protocol):
    """Decides which endpoint is asked first, and observes requests. Its methods must return at once."""

    def order(self, endpoints: Sequence[LlmEndpoint]) -> Sequence[LlmEndpoint]:
        """The endpoints in the order in which they are asked."""
        ...

    def llm_failed(self, endpoint: LlmEndpoint, error: BaseException, instead: LlmEndpoint | None) -> None:
        """A request failed; ``instead`` is asked now, if there is another one."""
        ...

    def llm_worked(self, endpoint: LlmEndpoint) -> None:
        """An answer began."""
        ...


class LlmRequests:
    """Has the form of ``AsyncOpenAI`` as far as pipecat's service uses it: ``chat.completions.create``."""

    def __init__(
        self,
        endpoints: Sequence[LlmEndpoint],
        watch: LlmWatch | None,
        *,
        backed_up_timeout_s: float,
        last_timeout_s: float,
    ) -> None:
        """Nothing is asked yet.

        Args:
            endpoints: the template's model and its backups, in order.
            watch: observes the requests.
            backed_up_timeout_s: how long an endpoint may be silent while there is another one, in seconds.
            last_timeout_s: how long the last one may be silent.
        """
        self._endpoints = endpoints
        self._watch = watch
        self._backed_up_timeout_s = backed_up_timeout_s
        self._last_timeout_s = last_timeout_s

    @property
    def chat(self) -> LlmRequests:
        """As the client has it."""
        return self

    @property
    def completions(self) -> LlmRequests:
        """As the client has it."""
        return self

    async def create(self, **parameters: Any) -> Any:
        """Ask for an answer, as a stream or whole.

        Raises:
            Exception: what the client of the last endpoint raised.
        """
        watch, endpoints = self._watch, self._endpoints
        order = watch.order(endpoints) if watch is not None else endpoints
        for endpoint, instead in zip(order, [*order[1:], None], strict=True):
            timeout_s = self._last_timeout_s if instead is None else self._backed_up_timeout_s
            try:
                answer = await self._ask(endpoint, parameters, timeout_s)
            except Exception as error:
                if watch is not None:
                    watch.llm_failed(endpoint, error, instead)
                if instead is None:
                    raise
            else:
                if watch is not None:
                    watch.llm_worked(endpoint)
                return answer
        raise RuntimeError("there is no endpoint")

    async def _ask(self, endpoint: LlmEndpoint, parameters: Mapping[str, Any], timeout_s: float) -> Any:
        unset = dict.fromkeys(self._endpoints[0].options, NOT_GIVEN)
        asked = {**parameters, **unset, **endpoint.options}
        is_alone = len(self._endpoints) == 1
        client = endpoint.client if is_alone else endpoint.client.with_options(max_retries=0)
        async with asyncio.timeout(timeout_s):
            answer = await streaming_client(client).chat.completions.create(**asked)
            return await _begun(answer) if isinstance(answer, JsonStream) and not is_alone else answer


class _Begun:
    """A stream whose first chunks were already read; it fails when nothing more arrives in time."""

    def __init__(self, read: list[Any], rest: AsyncIterator[Any], stream: JsonStream) -> None:
        self._read, self._rest, self._stream = read, rest, stream

    async def __aiter__(self) -> AsyncIterator[Any]:
        for chunk in self._read:
            yield chunk
        while True:
            try:
                async with asyncio.timeout(STALLED_S):
                    chunk = await anext(self._rest)
            except StopAsyncIteration:
                return
            yield chunk

    async def close(self) -> None:
        """Release the connection."""
        await self._stream.close()


async def _begun(stream: JsonStream) -> _Begun:
    """Wait for the first words or function call; until then another endpoint can answer instead."""
    read: list[Any] = []
    rest = aiter(stream)
    try:
        async for chunk in rest:
            read.append(chunk)
            delta = chunk.choices[0].delta if chunk.choices else None
            if delta is not None and (delta.content or delta.tool_calls):
                break
    except BaseException:
        await stream.close()
        raise
    return _Begun(read, rest, stream)
