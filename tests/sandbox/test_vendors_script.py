"""Scripted answers of the OpenAI stand-in, through OpenAI's own client."""

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest

from voicebot.sandbox.environment import Sandbox
from voicebot.sandbox.process import SandboxProcess
from voicebot.sandbox.vendors.script import Answer, LlmScript, newest, system_text


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        api_key=sandbox.env["OPENAI_API_KEY"], base_url=sandbox.urls.openai, max_retries=0
    ) as it:
        yield it


async def _text(client: openai.AsyncOpenAI, *messages: tuple[str, str]) -> str:
    body: Any = [{"role": role, "content": content} for role, content in messages]
    completion = await client.chat.completions.create(model="any", messages=body)
    return completion.choices[0].message.content or ""


async def test_answers_are_given_in_order(sandbox: Sandbox, client: openai.AsyncOpenAI) -> None:
    """A rule gives its answers one a request; after the last one the stand-in model answers."""
    sandbox.script.answer("First.", "Second.")
    said = [await _text(client, ("system", 'Say "Third."'), ("user", "Hello")) for _ in range(3)]
    assert said == ["First.", "Second.", "Third."]
    assert sandbox.script.remaining == 0


async def test_the_last_answer_may_repeat(sandbox: Sandbox, client: openai.AsyncOpenAI) -> None:
    """With `repeat` the last answer of a rule is given for every further request."""
    sandbox.script.answer("First.", "Again.", repeat=True)
    assert [await _text(client, ("user", "Hello")) for _ in range(3)] == ["First.", "Again.", "Again."]
    assert sandbox.script.remaining == 1


async def test_conditions_choose_the_rule(sandbox: Sandbox, client: openai.AsyncOpenAI) -> None:
    """The first rule answers whose conditions all hold."""
    sandbox.script.answer("Billing, about a bill.", system="You are billing", user="bill", repeat=True)
    sandbox.script.answer("Billing here.", system="You are billing", repeat=True)
    sandbox.script.answer("Hello.", repeat=True)
    assert (
        await _text(client, ("system", "You are billing."), ("user", "my bill")) == "Billing, about a bill."
    )
    assert await _text(client, ("developer", "You are billing."), ("user", "Hi")) == "Billing here."
    assert await _text(client, ("user", "my bill")) == "Hello."


def _asked(*messages: dict[str, Any]) -> dict[str, Any]:
    return {"messages": list(messages)}


def test_only_the_newest_message_is_compared() -> None:
    """`user` and `tool` compare the newest message apart from instructions, and its role must be theirs."""
    user = {"role": "user", "content": [{"type": "text", "text": "my bill"}]}
    result = {"role": "tool", "content": '{"code": "unknown_agent"}'}
    step = {"role": "developer", "content": "Ask for the number."}
    script = LlmScript()
    script.answer("user", user="my bill", repeat=True)
    script.answer("tool", tool="unknown_agent", repeat=True)
    answers = [script.next(_asked(*messages)) for messages in ((user, step), (user, result, step), (step,))]
    assert [answer and answer.text for answer in answers] == ["user", "tool", None]


async def test_a_function_answers(sandbox: Sandbox, client: openai.AsyncOpenAI) -> None:
    """A rule may be a function of the request; None leaves the request to the next rule."""

    def respond(body: Any) -> Answer | None:
        return Answer(text=f"{newest(body)['content']}!") if "Echo" in system_text(body) else None

    sandbox.script.respond(respond)
    sandbox.script.answer("Not echoed.")
    assert await _text(client, ("system", "Echo what is said."), ("user", "Hello")) == "Hello!"
    assert await _text(client, ("user", "Hello")) == "Not echoed."


async def test_text_and_calls_come_together(sandbox: Sandbox, client: openai.AsyncOpenAI) -> None:
    """An answer may have text and several calls; each call has its own id and its arguments."""
    calls: list[tuple[str, dict[str, Any]]] = [("note", {"text": "caf\u00e9"}), ("end_call", {})]
    sandbox.script.answer(Answer(text="Good bye.", calls=calls), repeat=True)
    ids = set()
    for _ in range(2):
        completion = await client.chat.completions.create(
            model="any", messages=[{"role": "user", "content": "Bye"}]
        )
        message = completion.choices[0].message.model_dump()
        functions = [
            (call["function"]["name"], json.loads(call["function"]["arguments"]))
            for call in message["tool_calls"]
        ]
        assert (message["content"], functions) == ("Good bye.", calls)
        ids |= {call["id"] for call in message["tool_calls"]}
    assert len(ids) == 4


async def test_an_answer_may_be_empty(sandbox: Sandbox, client: openai.AsyncOpenAI) -> None:
    """An answer without text and calls is given as it is, and does not go to the stand-in model."""
    sandbox.script.answer(Answer())
    assert await _text(client, ("user", "Hello")) == ""


async def test_a_delay_and_a_fault_are_of_one_answer(sandbox: Sandbox, client: openai.AsyncOpenAI) -> None:
    """A scripted delay and a scripted fault apply to their answer and to no other."""
    sandbox.script.answer(
        Answer(text="Late.", delay_ms=200),
        Answer(fault="rate_limited"),
        Answer(text="Half an answer", fault="drop", fault_stage="message"),
        "Well.",
    )
    started = time.monotonic()
    assert await _text(client, ("user", "Hello")) == "Late."
    assert time.monotonic() - started >= 0.2
    with pytest.raises(openai.RateLimitError):
        await _text(client, ("user", "Hello"))
    heard = []
    with pytest.raises(openai.APIConnectionError):  # noqa: PT012
        stream = await client.chat.completions.create(
            model="any", messages=[{"role": "user", "content": "Hello"}], stream=True
        )
        async for chunk in stream:
            heard.append(chunk.choices[0].delta.content)
    assert heard == ["", "Half"]
    assert await _text(client, ("user", "Hello")) == "Well."


async def test_another_process_is_scripted_through_the_control_server() -> None:
    """`SandboxProcess.answer` scripts a sandbox in a process of its own, conditions included."""
    async with (
        SandboxProcess() as sandbox,
        openai.AsyncOpenAI(api_key=sandbox.env["OPENAI_API_KEY"], base_url=sandbox.urls.openai) as client,
    ):
        await sandbox.answer("Hello.", Answer(text="Bye.", calls=[("end_call", {})]), user="Hi", repeat=True)
        assert [await _text(client, ("user", "Hi there")) for _ in range(2)] == ["Hello.", "Bye."]
        async with httpx.AsyncClient(base_url=sandbox.urls.control) as control:
            assert (await control.get("/answers")).json() == {"remaining": 1}
            assert (await control.delete("/answers")).status_code == 204
        assert await _text(client, ("system", 'Say "Mine."'), ("user", "Hi there")) == "Mine."


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"answers": [1]},
        {"answers": [{"words": "Hello"}]},
        {"answers": [{"calls": [{"arguments": {}}]}]},
        {"answers": [{"fault": "rude"}]},
        {"answers": ["Hello."], "nobody": "x"},
        {"answers": ["Hello."], "user": 5},
        {"answers": [{"delay_ms": "long"}]},
        {"answers": "Hello."},
    ],
)
async def test_a_script_that_cannot_be_read_is_refused(sandbox: Sandbox, body: Any) -> None:
    """The control server answers 422 and adds no rule."""
    async with httpx.AsyncClient() as client:
        response = await client.post(f"{sandbox.urls.control}/answers", json=body)
    assert response.status_code == 422
    assert sandbox.script.remaining == 0
