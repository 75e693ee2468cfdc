"""The first checks of a request: its size, its API key, and only then its body, which is bounded."""

from __future__ import annotations

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from db.errors import DatabaseError
from voicebot.api.access import authenticate
from voicebot.api.app_state import AppState
from voicebot.api.error_handlers import of_database
from voicebot.api.json_size import JsonSize
from voicebot.api.limits import Limits, limit_exceeded
from voicebot.api.media_types import is_yaml
from voicebot.api.problems import ApiProblem

_ALWAYS_SERVED = ("/webhooks/", "/media/", "/healthz", "/readyz")
"""Paths of carriers, and of load balancers."""


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


class RequestChecks:
    """ASGI middleware that reads a body only of a request that may be answered, and no more than its limit.

    A request for a path under ``api_prefix`` is authenticated first; ``open_path`` is left to its route,
    which takes a token of its own and no body.
    """

    def __init__(self, app: ASGIApp, *, limits: Limits, api_prefix: str, open_path: str) -> None:
        """Check the requests to ``app``."""
        self._app = app
        self._limits = limits
        self._api_prefix = f"{api_prefix}/"
        self._open_path = open_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        try:
            self._check_head(scope)
            if scope["type"] == "http":
                receive = await self._check_request(scope, receive)
        except ApiProblem as problem:
            await _refuse(problem, scope, receive, send)
        except ClientGone:
            return
        else:
            await self._app(scope, receive, send)

    def _check_head(self, scope: Scope) -> None:
        limits, headers = self._limits, scope["headers"]
        if len(scope["raw_path"]) + len(scope["query_string"]) > limits.target_bytes:
            detail = f"Path and query may have at most {limits.target_bytes} bytes."
            raise limit_exceeded("target", "uri_too_long", detail)
        size = sum(len(name) + len(value) for name, value in headers)
        if len(headers) > limits.headers or size > limits.header_bytes:
            detail = f"A request may have at most {limits.headers} headers of {limits.header_bytes} bytes."
            raise limit_exceeded("headers", "headers_too_large", detail)

    async def _check_request(self, scope: Scope, receive: Receive) -> Receive:
        """Authenticate if the path needs it, then read the body; returns the channel of what was read."""
        request, path = HTTPConnection(scope), scope["path"]
        is_api = path.startswith(self._api_prefix)
        if not path.startswith(_ALWAYS_SERVED) and _app_state(scope).connections.only_carriers:
            detail = "The server has too many connections."
            raise limit_exceeded("connections", "overloaded", detail, retry_after_s=1)
        if is_api and path != self._open_path:
            app_state = _app_state(scope)
            try:
                principal = await authenticate(app_state, request.headers.get("authorization"))
            except DatabaseError as error:
                raise of_database(error) from error
            scope.setdefault("state", {})["principal"] = principal
        body = await self._body(request, receive, is_api=is_api)
        if is_api and not is_yaml(request):
            self._check_json(body)
        return _replayed(body, receive)

    async def _body(self, request: HTTPConnection, receive: Receive, *, is_api: bool) -> bytes:
        limit = self._limits.body_bytes if is_api else self._limits.webhook_body_bytes
        declared = request.headers.get("content-length", "0")
        chunks, size = [], int(declared) if declared.isascii() and declared.isdigit() else 0
        if size <= limit:
            size, more = 0, True
            while more and size <= limit:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                chunks.append(message.get("body", b""))
                size += len(chunks[-1])
                more = message.get("more_body", False)
        if size > limit:
            detail = f"A request body may have at most {limit} bytes."
            raise limit_exceeded("body" if is_api else "webhook_body", "payload_too_large", detail)
        return b"".join(chunks)

    def _check_json(self, body: bytes) -> None:
        if b"\0" in body:
            raise ApiProblem("invalid_json", "The request body is not JSON in UTF-8.")
        size = JsonSize.of(body)
        if size.depth > self._limits.json_depth:
            detail = f"A JSON body may have at most {self._limits.json_depth} levels."
            raise limit_exceeded("json_depth", "payload_too_large", detail)
        if size.values > self._limits.json_values:
            detail = f"A JSON body may have at most {self._limits.json_values} values."
            raise limit_exceeded("json_values", "payload_too_large", detail)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A channel that gives the body first, then what else comes: the disconnect."""
    unread = [body]

    async def replayed() -> Message:
        if unread:
            return {"type": "http.request", "body": unread.pop(), "more_body": False}
        return await receive()

    return replayed


async def _refuse(problem: ApiProblem, scope: Scope, receive: Receive, send: Send) -> None:
    if problem.limit is not None:
        _app_state(scope).metrics.limit_reached.labels(problem.limit).inc()
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": problem.detail})
        return
    await problem.response()(scope, receive, send)


def _app_state(scope: Scope) -> AppState:
    app_state: AppState = scope["app"].state.app_state
    return app_state
