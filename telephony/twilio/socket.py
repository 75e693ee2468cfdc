"""A WebSocket for pipecat's transport that validates Twilio's messages and enforces limits.

pipecat's transport stops at the first message that it cannot parse, and ignores marks and stop messages. This
socket passes only keys to it, passes all events to an observer, and closes with a defined code when
a limit is exceeded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from telephony.media import MediaClosed
from telephony.twilio.messages import Dtmf, Event, Malformed, Stop, parse

MAX_MESSAGE_BYTES = 64 * 1024
MAX_MALFORMED = 10

UNREADABLE = 1007  # RFC 6455 section 7.4.1: data not consistent with the type of message
POLICY = 1008
TOO_BIG = 1009


class GuardedSocket(WebSocket):
    """A WebSocket, not yet accepted, whose incoming messages are validated before they are returned."""

    def __init__(self, websocket: WebSocket) -> None:
        """Wrap `websocket`; from now on only this object may be used."""
        # The wrapped socket's methods are its public ASGI channel, and they update its state as well.
        super().__init__(websocket.scope, websocket.receive, websocket.send)
        self.on_event: Callable[[Event], None] = lambda _: None
        self.on_closed: Callable[[MediaClosed], None] = lambda _: None
        self.malformed = 0
        self._stopped = False
        self._closed = False

    @property
    def is_open(self) -> bool:
        """Whether messages can still be sent."""
        return self.application_state is WebSocketState.CONNECTED and not self._closed

    async def receive(self) -> Message:
        """The next message for pipecat: a key, or the disconnect. `on_event` receives all events."""
        if self.client_state is WebSocketState.CONNECTING:
            return await super().receive()
        while True:
            message, event = await self.next_event()
            if event is None or isinstance(event, Dtmf):
                return message

    async def next_event(self) -> tuple[Message, Event | None]:
        """The next valid message and its event; the event is None if the socket is closed."""
        while True:
            message = await super().receive()
            if message["type"] == "websocket.disconnect":
                self._report_closed("carrier", message.get("code") or 1005, message.get("reason") or "")
                return message, None
            if self._is_too_big(message):
                return await self._close_for_limit(TOO_BIG, "message over 64 KiB"), None
            try:
                event = parse(message.get("text") or "")
            except Malformed:
                self.malformed += 1
                if self.malformed >= MAX_MALFORMED:
                    return await self._close_for_limit(UNREADABLE, "too many malformed messages"), None
                continue
            self._stopped = self._stopped or isinstance(event, Stop)
            self.on_event(event)
            return message, event

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

    async def close(self, code: int = 1000, reason: str | None = None) -> None:
        """Close from our side; no effect if the socket is closed."""
        if not self.is_open:
            return
        self._report_closed("us", code, reason or "")
        try:
            await super().close(code, reason)
        except WebSocketDisconnect:
            return  # the carrier closed it first

    async def _close_for_limit(self, code: int, reason: str) -> Message:
        await self.close(code, reason)
        self.client_state = WebSocketState.DISCONNECTED
        return {"type": "websocket.disconnect", "code": code, "reason": reason}

    def _report_closed(self, by: Literal["carrier", "us"], code: int, reason: str) -> None:
        if self._closed:
            return
        self._closed = True
        self.on_closed(MediaClosed(by=by, code=code, reason=reason, announced=self._stopped))

    @staticmethod
    def _is_too_big(message: Message) -> bool:
        if message.get("bytes") is not None:
            return len(message["bytes"]) > MAX_MESSAGE_BYTES
        text: str = message.get("text") or ""
        if len(text) * 4 <= MAX_MESSAGE_BYTES:  # no UTF-8 character is longer than four bytes
            return False
        return len(text.encode()) > MAX_MESSAGE_BYTES
