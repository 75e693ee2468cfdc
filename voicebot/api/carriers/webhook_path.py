"""Handles carriers' webhooks before FastAPI and its layers.

Carriers send more requests than all other clients, and each needs only three steps: verify, parse, and call
the function of the webhook.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import lru_cache
from time import perf_counter

from fastapi import FastAPI
from loguru import logger
from starlette.datastructures import URL
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from telephony.errors import BadSignature, BadWebhook, TooManyFields
from telephony.webhook import WebhookReply, WebhookRequest
from voicebot.api.app_state import AppState
from voicebot.api.carriers.carrier_request import NO_CONTENT, CarrierRequest, origin_of
from voicebot.api.carriers.settled_requests import FINGERPRINT
from voicebot.api.carriers.webhooks import WEBHOOKS
from voicebot.api.error_handlers import problem_of, response_to, unexpected
from voicebot.api.limits import body_limit, limit_exceeded
from voicebot.api.problems import ApiProblem
from voicebot.api.request_checks import ClientGone, check_head, read_body

PREFIX = "/webhooks/"

_METHODS = ("POST",)
_METHODS_WITH_SECRET = ("GET", "POST")
_SECRET_PARTS = 3
_NO_CONTENT = Response(status_code=NO_CONTENT.status)


class WebhookPath:
    """ASGI middleware that answers ``/webhooks/{carrier}/{webhook}``, and with a secret between the two.

    It wraps the whole application, whose layers cost more than the work on a webhook. Therefore requests are
    limited here, as ``RequestChecks`` does for others, and exceptions become the same problems.
    """

    def __init__(self, app: FastAPI) -> None:
        """Leave other requests to ``app``."""
        self._app = app
        self.state = app.state
        """The state of the application, for the protocols of the server."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        parts = _parts(scope)
        if parts is None:
            await self._app(scope, receive, send)
            return
        scope["app"] = self._app
        request = Request(scope)
        try:
            response = await _answer(request, receive, self.state.app_state, parts)
        except ClientGone:
            return
        except Exception as error:
            problem = problem_of(error)
            if problem is None:
                await unexpected(request, error)(scope, receive, send)
                raise  # the server logs it
            response = response_to(problem, scope)
        await response(scope, receive, send)


def _parts(scope: Scope) -> list[str] | None:
    """The parts of the path of a webhook, without the prefix; None: the request is another one."""
    if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
        return None
    parts: list[str] = scope["path"][len(PREFIX) :].split("/")
    return parts if len(parts) in (_SECRET_PARTS - 1, _SECRET_PARTS) and all(parts) else None


async def _answer(request: Request, receive: Receive, app: AppState, parts: list[str]) -> Response:
    """Verify a webhook, then handle it; a forged one gets the carrier's refusal."""
    check_head(app.limits, request.scope)
    body = await read_body(request, receive, body_limit(app.limits, None))
    methods = _METHODS_WITH_SECRET if len(parts) == _SECRET_PARTS else _METHODS
    if request.method not in methods:
        raise HTTPException(405, headers={"Allow": ", ".join(methods)})
    name, webhook = parts[0], parts[-1]
    if name not in app.carriers or webhook not in app.carriers[name].webhook_names:
        raise ApiProblem("not_found", "There is no such webhook.")
    start = perf_counter()
    carrier_request = _received(request, body, app, name)
    response = await _reply(carrier_request, WEBHOOKS[webhook])
    seconds = app.metrics.webhook_seconds.labels(name, webhook, response.status_code)
    seconds.observe(perf_counter() - start)
    if carrier_request.is_settled and FINGERPRINT in request.scope["state"]:
        app.settled_requests.add(request.scope["state"][FINGERPRINT], seconds)
    return response


def _received(request: Request, body: bytes, app: AppState, name: str) -> CarrierRequest:
    scope = request.scope
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    try:
        webhook = WebhookRequest.received(
            method=request.method,
            url=_url(
                scope["scheme"], scope["server"], scope["path"], scope["query_string"], headers.get("host")
            ),
            headers=headers,
            body=body,
            max_fields=app.limits.webhook_fields,
        )
    except TooManyFields as error:
        raise limit_exceeded("webhook_fields", "payload_too_large", str(error)) from None
    return CarrierRequest(app, name, webhook, origin_of(app, request))


@lru_cache(maxsize=128)
def _url(scheme: str, server: tuple[str, int] | None, path: str, query: bytes, host: str | None) -> str:
    """The URL of a request. Most webhooks have one of few."""
    headers = [] if host is None else [(b"host", host.encode("latin-1"))]
    scope = {"scheme": scheme, "server": server, "path": path, "query_string": query, "headers": headers}
    return str(URL(scope=scope))


async def _reply(
    request: CarrierRequest, handler: Callable[[CarrierRequest], Awaitable[WebhookReply]]
) -> Response:
    try:
        request.carrier.verify(request.webhook)
        reply = await handler(request)
    except BadSignature as error:
        logger.warning("a webhook of {} was refused: {}", request.name, error)
        reply = request.carrier.forbid()
    except BadWebhook as error:
        raise ApiProblem("invalid_webhook", str(error)) from error
    if reply is NO_CONTENT:
        return _NO_CONTENT
    return Response(reply.body, reply.status, media_type=reply.content_type)
