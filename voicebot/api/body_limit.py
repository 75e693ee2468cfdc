"""A limit on the size of request bodies: larger ones are refused with 413."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from voicebot.api.problems import ApiProblem

MAX_BODY_BYTES = 2 * 1024 * 1024
"""A template with 200 nodes has less than 200 KiB."""


class BodyLimit:
    """ASGI middleware that counts the bytes it receives, also where Content-Length is absent or wrong."""

    def __init__(self, app: ASGIApp, limit: int = MAX_BODY_BYTES) -> None:
        """Let at most ``limit`` bytes through to ``app``."""
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._declared_length(scope) > self._limit:
            await self._refuse(scope, receive, send)
            return
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._limit:
                # Raised inside the app, where the body is read, so that its error handlers answer.
                raise HTTPException(413, self._detail)
            return message

        await self._app(scope, counted, send)

    @property
    def _detail(self) -> str:
        return f"A request body may have at most {self._limit} bytes."

    def _declared_length(self, scope: Scope) -> int:
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit():
                return int(value)
        return 0

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        problem = ApiProblem("payload_too_large", self._detail)
        await problem.response()(scope, receive, send)
