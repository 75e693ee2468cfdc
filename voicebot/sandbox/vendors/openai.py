"""OpenAI: chat completions, whole and streamed, answered by a test's script or the stand-in model.

Wire formats are those of https://platform.openai.com/docs/api-reference/chat: a streamed answer is
server-sent events of ``chat.completion.chunk``, a tool call's name before fragments of its arguments, usage
in a last chunk without choices when ``stream_options.include_usage`` asks for it, then ``[DONE]``.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from aiohttp import web

from voicebot.sandbox.model import Call, Reply, reply
from voicebot.sandbox.vendors.faults import Fault, Stage
from voicebot.sandbox.vendors.latency import Latency
from voicebot.sandbox.vendors.script import Answer, LlmScript
from voicebot.sandbox.vendors.vendor import Cut, Refusal, Vendor, apply_fault, parse_object

_ARGUMENT_FRAGMENT = 12
_PATH = "/v1/chat/completions"


def error(status: int) -> dict[str, Any]:
    """Return the body of an error, as OpenAI's."""
    code, kind, message = {
        400: ("invalid_request", "invalid_request_error", "The request could not be read."),
        401: ("invalid_api_key", "invalid_request_error", "Incorrect API key provided."),
        404: ("model_not_found", "invalid_request_error", "The model does not exist."),
        429: ("rate_limit_exceeded", "requests", "Rate limit reached."),
    }.get(status, ("server_error", "server_error", "The server had an error."))
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def presented(headers: Mapping[str, str]) -> str:
    """Read the key of a request."""
    return headers.get("Authorization", "").removeprefix("Bearer ").strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAI:
    """The server.

    Attributes:
        script: answers given by a test; a request that it does not answer goes to the stand-in model.
        model: the name that the server lists; requests may name any model.
    """

    vendor: Vendor
    latency: Latency
    script: LlmScript = field(default_factory=LlmScript)
    model: str = "sandbox"

    def application(self) -> web.Application:
        """Return the server as an application."""
        application = self.vendor.application()
        application.router.add_post(_PATH, self._complete)
        application.router.add_get("/v1/models", self._list)
        application.router.add_get("/v1/models/{model}", self._describe)
        return application

    async def _list(self, _request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [_model(self.model)]})

    async def _describe(self, request: web.Request) -> web.Response:
        return web.json_response(_model(request.match_info["model"]))

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = _read(await request.text())
        size = len(json.dumps(body["messages"], ensure_ascii=False))
        self.vendor.usage.request("openai", str(body["model"]), _PATH, body, size)
        started = time.monotonic()
        scripted = self.script.next(body)
        answer = _ask_model(body) if scripted is None else _reply(scripted)
        scripted = scripted or Answer()
        wait_ms = self.latency.first_token_ms + scripted.delay_ms
        await asyncio.sleep(max(0.0, wait_ms / 1000 - (time.monotonic() - started)))
        await _apply(scripted, "connect", request)
        if body.get("stream"):
            return await self._stream(request, body, answer, scripted)
        await self._interrupt(request, body, answer, scripted)
        return web.json_response(_completion(body, answer))

    async def _interrupt(
        self, request: web.Request, body: Mapping[str, Any], answer: Reply, scripted: Answer
    ) -> None:
        await self.vendor.interrupt(request, f'"{body["model"]}" {answer.text}')
        await _apply(scripted, "message", request)

    async def _stream(
        self, request: web.Request, body: Mapping[str, Any], answer: Reply, scripted: Answer
    ) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
        )
        await response.prepare(request)
        try:
            for index, chunk in enumerate(_chunks(body, answer)):
                if index == 2:  # the first has only the role: a fault comes after the first words
                    await self._interrupt(request, body, answer, scripted)
                await _send(response, json.dumps(chunk, ensure_ascii=False))
                await asyncio.sleep(self.latency.token_ms / 1000 if index else 0)
            await _send(response, "[DONE]")
        except Refusal as refusal:
            await _send(response, json.dumps(error(refusal.status)))
        except (Cut, ConnectionError):
            return response
        await response.write_eof()
        return response


def _read(text: str) -> dict[str, Any]:
    try:
        body = parse_object(text)
    except ValueError:
        raise Refusal(400) from None
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not body.get("model"):
        raise Refusal(400)
    if not all(isinstance(message, dict) and message.get("role") for message in messages):
        raise Refusal(400)
    return body


async def _apply(scripted: Answer, stage: Stage, request: web.Request) -> None:
    """Apply the fault of a scripted answer, if it has one at this stage."""
    if scripted.fault is not None and scripted.fault_stage == stage:
        await apply_fault(Fault(server="openai", kind=scripted.fault, stage=stage), request)


def _reply(scripted: Answer) -> Reply:
    calls = (
        Call(id=f"call_{uuid4().hex[:24]}", name=name, arguments=arguments)
        for name, arguments in scripted.calls
    )
    return Reply(text=scripted.text, calls=tuple(calls))


def _ask_model(body: Mapping[str, Any]) -> Reply:
    try:
        return reply(
            body["messages"], body.get("tools") or (), body.get("tool_choice"), body.get("response_format")
        )
    except (KeyError, TypeError):  # a tool without a function, a format without a schema
        raise Refusal(400) from None


async def _send(response: web.StreamResponse, data: str) -> None:
    await response.write(f"data: {data}\n\n".encode())


def _chunks(body: Mapping[str, Any], answer: Reply) -> Iterator[dict[str, Any]]:
    """Make the chunks of a streamed answer, in order."""
    head = {
        "id": f"chatcmpl-{uuid4().hex}",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": body["model"],
        "service_tier": "default",
        "system_fingerprint": None,
    }
    with_usage = bool((body.get("stream_options") or {}).get("include_usage"))
    if with_usage:
        head["usage"] = None
    for delta in _deltas(answer):
        yield {**head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}]}
    last = {"index": 0, "delta": {}, "logprobs": None, "finish_reason": _finish_reason(answer)}
    yield {**head, "choices": [last]}
    if with_usage:
        yield {**head, "choices": [], "usage": _usage(body, answer)}


def _deltas(answer: Reply) -> Iterator[dict[str, Any]]:
    yield {"role": "assistant", "content": None if answer.calls else "", "refusal": None}
    for word in re.findall(r"\s*\S+", answer.text):
        yield {"content": word}
    for index, call in enumerate(answer.calls):
        function = {"name": call.name, "arguments": ""}
        yield {"tool_calls": [{"index": index, "id": call.id, "type": "function", "function": function}]}
        arguments = json.dumps(call.arguments, ensure_ascii=False)
        for start in range(0, len(arguments), _ARGUMENT_FRAGMENT):
            fragment = {"arguments": arguments[start : start + _ARGUMENT_FRAGMENT]}
            yield {"tool_calls": [{"index": index, "function": fragment}]}


def _completion(body: Mapping[str, Any], answer: Reply) -> dict[str, Any]:
    calls = [
        {
            "id": call.id,
            "type": "function",
            "function": {
                "name": call.name,
                "arguments": json.dumps(call.arguments, ensure_ascii=False),
            },
        }
        for call in answer.calls
    ]
    message: dict[str, Any] = {
        "role": "assistant",
        "content": answer.text or None,
        "refusal": None,
        "annotations": [],
    }
    if calls:
        message["tool_calls"] = calls
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish_reason(answer)}
    return {
        "id": f"chatcmpl-{uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": body["model"],
        "choices": [choice],
        "usage": _usage(body, answer),
        "service_tier": "default",
        "system_fingerprint": None,
    }


def _finish_reason(answer: Reply) -> str:
    return "tool_calls" if answer.calls else "stop"


def _usage(body: Mapping[str, Any], answer: Reply) -> dict[str, Any]:
    """Return the usage; four characters count as a token."""
    asked = len(json.dumps([body["messages"], body.get("tools") or []])) // 4
    answered = (len(answer.text) + sum(len(json.dumps(c.arguments)) for c in answer.calls)) // 4 + 1
    return {
        "prompt_tokens": asked,
        "completion_tokens": answered,
        "total_tokens": asked + answered,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 1735689600, "owned_by": "sandbox"}
