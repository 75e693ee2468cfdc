"""A WebSocket that validates a carrier's messages and enforces limits.

It gives all events to an observer, counts malformed messages, and closes with a defined code when a limit is
exceeded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal

from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from telephony.media import DIRECT_MESSAGES, TOO_BIG, UNREADABLE, MediaClosed
from telephony.messages import Event, Malformed, Start, Stop

MAX_MESSAGE_BYTES = 64 * 1024
MAX_MALFORMED = 10

POLICY = 1008


class LimitExceeded(Exception):
    """The socket must be closed with `code`."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class GuardedSocket(WebSocket):
    """A WebSocket, not yet accepted, whose incoming messages are validated."""

    def __init__(self, websocket: WebSocket, parse: Callable[[str], Event]) -> None:
        """Wrap `websocket`; from now on only this object may be used. `parse` reads a carrier's message."""
        # The wrapped socket's methods are its public ASGI channel, and they update its state as well.
        super().__init__(websocket.scope, websocket.receive, websocket.send)
        self.on_event: Callable[[Event], None] = lambda _: None
        self.on_closed: Callable[[MediaClosed], None] = lambda _: None
        self.malformed = 0
        self._parse = parse
        self._stopped = False
        self._closed = False
        self._closing: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether messages can still be sent."""
        return not self._closed and self.application_state is WebSocketState.CONNECTED

    async def start_message(self) -> Start | None:
        """Receive up to the `start` message; None if the socket was closed before it."""
        while (message := await self._next_message()) is not None:
            try:
                event = self._read(message)
            except LimitExceeded as limit:
                await self.close(limit.code, limit.reason)
                return None
            if isinstance(event, Start):
                return event
        return None

    async def listen(self) -> None:
        """Give all further events to `on_event` until the socket is closed."""
        extension: dict[str, Any] = (self.scope.get("extensions") or {}).get(DIRECT_MESSAGES, {})
        if "deliver" in extension:
            extension["deliver"](self._take)
        while (message := await self._next_message()) is not None:
            self._take(message)

    async def send(self, message: Message) -> None:
        """Send a message; after a failure the socket counts as disconnected.

        Raises:
            WebSocketDisconnect: the carrier has closed the connection.
        """
        try:
            await super().send(message)
        except WebSocketDisconnect:
            self.application_state = WebSocketState.DISCONNECTED
            raise

    async def write(self, text: str) -> None:
        """Send a text message; no effect if the socket is closed."""
        if not self.is_open:
            return
        try:
            await self.send({"type": "websocket.send", "text": text})
        except WebSocketDisconnect:
            return  # the receiving side notices the disconnect and ends all waits

    async def close(self, code: int = 1000, reason: str | None = None) -> None:
        """Close from our side; no effect if the socket is closed."""
        if not self.is_open:
            return
        self._report_closed("us", code, reason or "")
        try:
            await super().close(code, reason)
        except WebSocketDisconnect:
            return  # the carrier closed it first

    async def _next_message(self) -> Message | None:
        """The next message; None if the socket is closed."""
        if self._closed:
            return None
        message = await super().receive()
        if message["type"] == "websocket.disconnect":
            self._report_closed("carrier", message.get("code") or 1005, message.get("reason") or "")
            return None
        return message

    def _take(self, message: Message) -> None:
        """Read a message, unless the socket is being closed for a limit."""
        if self._closing is not None:
            return
        try:
            self._read(message)
        except LimitExceeded as limit:
            self._closing = asyncio.create_task(self.close(limit.code, limit.reason))

    def _read(self, message: Message) -> Event | None:
        """Give a message's event to `on_event` and return it; None if it is malformed.

        Raises:
            LimitExceeded: the message is too big, or one malformed message too many.
        """
        if _is_too_big(message):
            raise LimitExceeded(TOO_BIG, "message over 64 KiB")
        try:
            event = self._parse(message.get("text") or "")
        except Malformed:
            self.malformed += 1
            if self.malformed >= MAX_MALFORMED:
                raise LimitExceeded(UNREADABLE, "too many malformed messages") from None
            return None
        if isinstance(event, Stop):
            self._stopped = event.call_left
        self.on_event(event)
        return event

    def _report_closed(self, by: Literal["carrier", "us"], code: int, reason: str) -> None:
        if self._closed:
            return
        self._closed = True
        self.on_closed(MediaClosed(by=by, code=code, reason=reason, announced=self._stopped))


def _is_too_big(message: Message) -> bool:
    if message.get("bytes") is not None:
        return len(message["bytes"]) > MAX_MESSAGE_BYTES
    text: str = message.get("text") or ""
    if len(text) * 4 <= MAX_MESSAGE_BYTES:  # no UTF-8 character is longer than four bytes
        return False
    return len(text.encode()) > MAX_MESSAGE_BYTES
