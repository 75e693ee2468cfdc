"""HTTP functions with prepared answers, so that an author's test makes no real request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from handlers.context import CallContext
from handlers.http import HttpRequest, HttpResponse
from handlers.http.errors import InvalidDeclaration, NoAnswer, Unreachable
from handlers.http.function import HttpFunctions
from templates.compile import Function, FunctionResult
from templates.model import HttpFunction, Variable

_arguments: ContextVar[Mapping[str, Any]] = ContextVar("arguments of the HTTP function that is being called")


class Answer(BaseModel):
    """A prepared answer to an HTTP function."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    when: dict[str, Any] = Field(
        default_factory=dict,
        description="The arguments it is for; others may have any value. Left out: all calls.",
        examples=[{"order_number": "4471"}],
    )
    status: Annotated[int, Field(ge=100, le=599)] = Field(default=200, description="HTTP status.")
    body: Any = Field(
        default=None,
        description="The answer: any JSON. Left out: nothing.",
        examples=[{"status": "shipped", "day": "Friday"}],
    )
    fails: Literal["timeout", "unreachable"] | None = Field(
        default=None, description="The server does not answer in time, or is not there."
    )
    after_ms: Annotated[int, Field(ge=0, le=30_000)] = Field(
        default=0, description="How long the answer takes; from 600 ms on, `wait_text` is spoken."
    )

    def fits(self, arguments: Mapping[str, Any]) -> bool:
        """Whether this answers a call with these arguments."""
        return all(name in arguments and arguments[name] == value for name, value in self.when.items())


Answers = Mapping[str, Sequence[Answer]]
"""The prepared answers by function name; the first that fits is used."""

Unanswered = Callable[[str, Mapping[str, Any]], None]


class PreparedHttp:
    """Implements ``HttpBinder``: everything but the request itself is done as on a telephone call."""

    def __init__(self, answers: Answers, unanswered: Unanswered) -> None:
        """``unanswered`` is called with the name and arguments of every call that no prepared answer fits."""
        self._answers = answers
        self._unanswered = unanswered

    def bind(self, declaration: HttpFunction, variables: Sequence[Variable], call: CallContext) -> Function:
        """The function of a declaration for one call."""

        async def send(request: HttpRequest) -> HttpResponse:
            return await self._answer(declaration.name, request)

        function = HttpFunctions(send, _no_secret).bind(declaration, variables, call)

        async def run(arguments: Mapping[str, Any]) -> FunctionResult:
            _arguments.set(arguments)
            return await function.run(arguments)

        return replace(function, run=run)

    async def _answer(self, name: str, request: HttpRequest) -> HttpResponse:
        arguments = _arguments.get()
        answer = next((each for each in self._answers.get(name, ()) if each.fits(arguments)), None)
        if answer is None:
            self._unanswered(name, arguments)
            raise InvalidDeclaration("Not done: no answer is prepared for this.")
        await asyncio.sleep(answer.after_ms / 1000)
        if answer.fails == "timeout":
            raise NoAnswer(request.method, request.timeout_ms)
        if answer.fails == "unreachable":
            raise Unreachable(request.method, sent=False)
        body = b"" if answer.body is None else json.dumps(answer.body).encode()
        return HttpResponse(status=answer.status, content_type="application/json", body=body)


def _no_secret(_: str) -> str:
    """No request is sent, so no secret is decrypted."""
    return "secret"
