"""A request to a language model that is asked of the next one: voicebot.providers.llm_failover."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from openai import AsyncOpenAI

from voicebot.providers.llm_failover import LlmEndpoint, LlmRequests
from voicebot.sandbox.environment import KEYS, Sandbox
from voicebot.sandbox.vendors.latency import Latency
from voicebot.sandbox.vendors.script import Answer


class Watch:
    """Notes what it hears."""

    def __init__(self) -> None:
        self.failed: list[tuple[str, str, str | None]] = []
        self.worked: list[str] = []

    def order(self, endpoints: Sequence[LlmEndpoint]) -> Sequence[LlmEndpoint]:
        return endpoints

    def llm_failed(self, endpoint: LlmEndpoint, error: BaseException, instead: LlmEndpoint | None) -> None:
        after = instead.provider if instead else None
        self.failed.append((endpoint.provider, type(error).__name__, after))

    def llm_worked(self, endpoint: LlmEndpoint) -> None:
        self.worked.append(endpoint.provider)


@asynccontextmanager
async def endpoints(*names: str) -> AsyncIterator[tuple[Sandbox, list[LlmEndpoint]]]:
    """Models of one server, by the name of their provider."""
    latency = Latency(first_token_ms=0, token_ms=0)
    async with Sandbox(scripted_speech=True, latency=latency) as sandbox:
        client = AsyncOpenAI(api_key=KEYS["openai"], base_url=sandbox.urls.openai)
        yield (
            sandbox,
            [
                LlmEndpoint(
                    provider=name, client=client, developer_role=True,
                    options={"model": name, **({"temperature": 0.5} if name == "first" else {})},
                )
                for name in names
            ],
        )  # fmt: skip
        await client.close()


async def ask(requests: LlmRequests) -> str:
    """The words of a streamed answer."""
    said = ""
    stream = await requests.create(
        messages=[{"role": "user", "content": "Hello."}], stream=True, model="first", temperature=0.5
    )
    async for chunk in stream:
        said += (chunk.choices[0].delta.content or "") if chunk.choices else ""
    return said


def requests(found: Sequence[LlmEndpoint], watch: Watch, timeout_s: float = 5.0) -> LlmRequests:
    """What stands where pipecat's service has its client."""
    return LlmRequests(found, watch, backed_up_timeout_s=timeout_s, last_timeout_s=5.0)


async def test_the_next_model_is_asked_with_its_own_options() -> None:
    """The settings of a model that answers with an error are not sent to the next one."""
    async with endpoints("first", "second") as (sandbox, found):
        sandbox.script.answer(Answer(fault="broken", fault_stage="connect"), "All is well.")
        watch = Watch()
        assert await ask(requests(found, watch)) == "All is well."
        assert [(failed, after) for failed, _, after in watch.failed] == [("first", "second")]
        assert watch.worked == ["second"]
        first, second = (request.body for request in sandbox.usage.requests("openai"))
        assert (first["model"], first["temperature"]) == ("first", 0.5)
        assert second["model"] == "second"
        assert "temperature" not in second


async def test_the_next_model_is_asked_if_one_does_not_answer_in_time() -> None:
    """A model that accepts the connection and sends nothing counts as failed after its time limit."""
    async with endpoints("first", "second") as (sandbox, found):
        sandbox.script.answer("All is well.")
        watch = Watch()
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
            async with AsyncOpenAI(api_key=KEYS["openai"], base_url=url) as client:
                models = [replace(found[0], client=client), found[1]]
                assert await ask(requests(models, watch, timeout_s=0.2)) == "All is well."
        assert [(failed, after) for failed, _, after in watch.failed] == [("first", "second")]
        assert [request.body["model"] for request in sandbox.usage.requests("openai")] == ["second"]


async def test_a_failure_of_the_last_one_is_raised() -> None:
    """Every one was told of; the service hears the last error."""
    async with endpoints("first", "second") as (sandbox, found):
        sandbox.script.answer(Answer(fault="unauthorized"), Answer(fault="broken"))
        watch = Watch()
        with pytest.raises(Exception, match="500"):
            await ask(requests(found, watch))
        assert [(failed, after) for failed, _, after in watch.failed] == [
            ("first", "second"),
            ("second", None),
        ]


async def test_an_answer_that_has_begun_is_not_asked_of_another_one() -> None:
    """What breaks off after its first words fails: the call decides what follows."""
    async with endpoints("first", "second") as (sandbox, found):
        sandbox.script.answer(Answer(text="One two three.", fault="drop", fault_stage="message"))
        watch = Watch()
        with pytest.raises(Exception, match=r".*"):
            await ask(requests(found, watch))
        assert (watch.failed, watch.worked) == ([], ["first"])


async def test_a_cancelled_request_asks_nobody_else() -> None:
    """A caller who interrupts cancels the request."""
    async with endpoints("first", "second") as (sandbox, found):
        sandbox.script.answer(Answer(fault="hang"), "Not asked.")
        watch = Watch()
        asking = asyncio.create_task(ask(requests(found, watch)))
        async with asyncio.timeout(60):
            while not sandbox.usage.requests("openai"):
                await asyncio.sleep(0.01)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert (watch.failed, len(sandbox.usage.requests("openai"))) == ([], 1)
