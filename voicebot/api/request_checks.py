"""The first checks of a request: its size, then its API key, then its body."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from db.errors import DatabaseError
from templates.problem import pointer
from voicebot.api.access import authenticate
from voicebot.api.app_state import AppState
from voicebot.api.error_handlers import of_database, response_to
from voicebot.api.json_size import JsonSize
from voicebot.api.limits import BodyLimit, Limits, body_limit, limit_exceeded
from voicebot.api.media_types import is_yaml
from voicebot.api.problems import ApiProblem, FieldError
from voicebot.api.validation import not_json

_MEASURED_AT_ONCE = 32 * 1024
"""A body up to this size is measured on the event loop, within 1 ms; a larger one in a thread."""

_ALWAYS_SERVED = ("/webhooks/", "/media/", "/healthz", "/readyz")
"""The paths of carriers and load balancers."""


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


class RequestChecks:
    """ASGI middleware that reads the body only of permitted requests, and no more than its limit.

    A request for a path under ``api_prefix`` is authenticated first; ``open_paths`` are left to their
    routes, which take their own token or need none.
    """

    def __init__(self, app: ASGIApp, *, limits: Limits, api_prefix: str, open_paths: Collection[str]) -> None:
        """Check the requests to ``app``."""
        self._app = app
        self._limits = limits
        self._api_prefix = f"{api_prefix}/"
        self._open_paths = frozenset(open_paths)
        # One thread: measuring takes the interpreter lock for a few ms at most, but calls need the cores.
        self._measuring = ThreadPoolExecutor(1, thread_name_prefix="body sizes")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        try:
            check_head(self._limits, scope)
            if scope["type"] == "http":
                receive = await self._check_request(scope, receive)
        except ApiProblem as problem:
            await _refuse(problem, scope, receive, send)
        except ClientGone:
            return
        else:
            await self._app(scope, receive, send)

    async def _check_request(self, scope: Scope, receive: Receive) -> Receive:
        """Authenticate if the path needs it, then read the body; returns the channel of what was read."""
        request, path = HTTPConnection(scope), scope["path"]
        is_api = path.startswith(self._api_prefix)
        if not path.startswith(_ALWAYS_SERVED) and _app_state(scope).connections.only_carriers:
            detail = "The server has too many connections."
            raise limit_exceeded("connections", "overloaded", detail, retry_after_s=1)
        if is_api and path not in self._open_paths:
            app_state = _app_state(scope)
            try:
                principal = await authenticate(app_state, request.headers.get("authorization"))
            except DatabaseError as error:
                raise of_database(error) from error
            scope.setdefault("state", {})["principal"] = principal
        route = path.removeprefix(self._api_prefix) if is_api else None
        if route == "leads/upload":
            return receive  # its route bounds what it reads
        limit = body_limit(self._limits, route)
        body = await read_body(request, receive, limit)
        if is_api and not is_yaml(request):
            await self._check_json(body, limit)
            is_template = path.startswith(f"{self._api_prefix}templates")
            if b"\\u0000" in body and len(body) <= _MEASURED_AT_ONCE and not is_template:
                _refuse_nul(body)
        return _replayed(body, receive)

    async def _check_json(self, body: bytes, limit: BodyLimit) -> None:
        if b"\0" in body:
            line = body[: body.index(b"\0")].count(b"\n") + 1
            raise not_json(f"Line {line}: a NUL character, which JSON does not allow.")
        if len(body) <= _MEASURED_AT_ONCE:
            size = JsonSize.of(body)
        else:
            size = await asyncio.get_running_loop().run_in_executor(self._measuring, JsonSize.of, body)
        if size.depth > self._limits.json_depth:
            raise _too_deep(body, self._limits.json_depth)
        if size.values > limit.values:
            detail = f"The JSON body of this request may have at most {limit.values} values."
            raise limit_exceeded("json_values", "payload_too_large", detail)


def check_head(limits: Limits, scope: Scope) -> None:
    """Check the size of a request's path, query and headers.

    Raises:
        ApiProblem: they are too large.
    """
    if len(scope["raw_path"]) + len(scope["query_string"]) > limits.target_bytes:
        detail = f"Path and query may have at most {limits.target_bytes} bytes."
        raise limit_exceeded("target", "uri_too_long", detail)
    headers = scope["headers"]
    size = sum(len(name) + len(value) for name, value in headers)
    if len(headers) > limits.headers or size > limits.header_bytes:
        detail = f"A request may have at most {limits.headers} headers of {limits.header_bytes} bytes."
        raise limit_exceeded("headers", "headers_too_large", detail)


async def read_body(request: HTTPConnection, receive: Receive, limit: BodyLimit) -> bytes:
    """Read the body.

    Raises:
        ApiProblem: it is larger than the limit; the rest is not read.
        ClientGone: the client closed the connection.
    """
    declared = request.headers.get("content-length", "0")
    chunks, size = [], int(declared) if declared.isascii() and declared.isdigit() else 0
    if size <= limit.size:
        size, more = 0, True
        while more and size <= limit.size:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            more = message.get("more_body", False)
    if size > limit.size:
        detail = f"The body of this request may have at most {limit.size} bytes."
        raise limit_exceeded(limit.name, "payload_too_large", detail)
    return b"".join(chunks)


def _too_deep(body: bytes, most: int) -> ApiProblem:
    """The problem of a JSON body with too many levels; it names the place if the body is small."""
    message = f"A JSON body may have at most {most} levels."
    problem = limit_exceeded("json_depth", "payload_too_large", message)
    if len(body) <= _MEASURED_AT_ONCE:
        try:
            place = _deep_place(json.loads(body), most)
        except (ValueError, RecursionError):
            place = ()
        remedy = "Send a document with fewer levels."
        problem.errors = [
            FieldError(pointer=pointer(*place), code="too_deep", message=message, remedy=remedy)
        ]
    return problem


def _refuse_nul(body: bytes) -> None:
    """Refuse a string with a NUL character, which the database cannot store, with its place.

    Templates are checked later, with all their other problems.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return  # refused where it is read
    pending: list[tuple[tuple[str | int, ...], Any]] = [((), document)]
    while pending:
        path, value = pending.pop()
        if isinstance(value, str) and "\0" in value:
            fault = FieldError(
                pointer=pointer(*path),
                code="unstorable",
                message="The text contains a NUL character (\\u0000).",
                remedy="Remove the character: it cannot be stored.",
            )
            raise ApiProblem("invalid_request", "The request body is not valid.", errors=[fault])
        if isinstance(value, dict | list):
            inner = value.items() if isinstance(value, dict) else enumerate(value)
            pending += [((*path, name), each) for name, each in inner]


def _deep_place(document: Any, most: int) -> tuple[str | int, ...]:
    """The first place that is deeper than ``most`` levels."""
    pending: list[tuple[tuple[str | int, ...], Any]] = [((), document)]
    while pending:
        path, value = pending.pop()
        if isinstance(value, dict | list):
            if len(path) >= most:
                return path
            inner = value.items() if isinstance(value, dict) else enumerate(value)
            pending += [((*path, name), each) for name, each in inner]
    return ()


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A channel that gives the body first, then what else comes: the disconnect."""
    unread = [body]

    async def replayed() -> Message:
        if unread:
            return {"type": "http.request", "body": unread.pop(), "more_body": False}
        return await receive()

    return replayed


async def _refuse(problem: ApiProblem, scope: Scope, receive: Receive, send: Send) -> None:
    response = response_to(problem, scope)
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": problem.detail})
        return
    await response(scope, receive, send)


def _app_state(scope: Scope) -> AppState:
    app_state: AppState = scope["app"].state.app_state
    return app_state
