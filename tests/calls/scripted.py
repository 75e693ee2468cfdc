"""A model that says exactly what a scene wants of it: OpenAI's protocol, answers by a function."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Words, function calls (name, arguments), or both."""

    text: str = ""
    calls: Sequence[tuple[str, Mapping[str, Any]]] = ()


@dataclass(slots=True)
class ScriptedModel:
    """The server; `url` is there while it runs, `asked` are the requests so far."""

    answer: Callable[[Body], Answer]
    url: str = ""
    asked: list[Body] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[ScriptedModel]:
        """Serve on a free port."""
        application = web.Application()
        application.router.add_post("/v1/chat/completions", self._complete)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            host, port = runner.addresses[0][:2]
            self.url = f"http://{host}:{port}/v1"
            yield self
        finally:
            await runner.cleanup()

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append(body)
        answer = self.answer(body)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for delta, finish in _deltas(answer, len(self.asked)):
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            chunk = {
                "id": "x",
                "object": "chat.completion.chunk",
                "created": 0,
                "model": "m",
                "choices": [choice],
            }
            await response.write(f"data: {json.dumps(chunk)}\n\n".encode())
        await response.write(b"data: [DONE]\n\n")
        return response


def _deltas(answer: Answer, turn: int) -> list[tuple[dict[str, Any], str | None]]:
    deltas: list[tuple[dict[str, Any], str | None]] = [({"role": "assistant", "content": ""}, None)]
    deltas += [({"content": f"{word} "}, None) for word in answer.text.split()]
    for index, (name, arguments) in enumerate(answer.calls):
        function = {"name": name, "arguments": json.dumps(arguments)}
        call = {"index": index, "id": f"call_{turn}_{index}", "type": "function", "function": function}
        deltas.append(({"tool_calls": [call]}, None))
    return [*deltas, ({}, "tool_calls" if answer.calls else "stop")]


def system(body: Body) -> str:
    """The instructions of a request."""
    return " ".join(str(m["content"]) for m in body["messages"] if m["role"] in ("system", "developer"))


def last(body: Body) -> Mapping[str, Any]:
    """The last message of a request."""
    message: Mapping[str, Any] = body["messages"][-1]
    return message
