"""Twilio's media socket with its limits kept, in the shape that pipecat's transport expects of a WebSocket.

pipecat's transport reads whatever comes and stops at the first message that it cannot digest. Standing
between the two, this socket lets through only what is well formed, tells an observer of the events that
pipecat drops (marks, stop), and closes with the code that interface.md promises when a limit is exceeded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from telephony.media import MediaClosed
from telephony.twilio.messages import Dtmf, Event, Malformed, Media, Stop, parse

MAX_MESSAGE_BYTES = 64 * 1024
MAX_MALFORMED = 10

UNREADABLE = 1007  # RFC 6455 section 7.4.1: data not consistent with the type of message
POLICY = 1008
TOO_BIG = 1009


class GuardedSocket(WebSocket):
    """A WebSocket, not yet accepted, whose incoming messages are checked before anyone sees them."""

    def __init__(self, websocket: WebSocket) -> None:
        """Stand before `websocket`; from now on only this object may be used."""
        # The ASGI channel is public through the other's own methods, which keep its state as well.
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
        """The next message of use to pipecat (audio, a key, or the end); others go to `on_event` alone."""
        if self.client_state is WebSocketState.CONNECTING:
            return await super().receive()
        while True:
            message, event = await self.next_event()
            if event is None or isinstance(event, Media | Dtmf):
                return message

    async def next_event(self) -> tuple[Message, Event | None]:
        """The next well-formed message; no event with it means that the socket is closed."""
        while True:
            message = await super().receive()
            if message["type"] == "websocket.disconnect":
                self._note_closed("carrier", message.get("code") or 1005, message.get("reason") or "")
                return message, None
            if self._is_too_big(message):
                return await self._give_up(TOO_BIG, "message over 64 KiB"), None
            try:
                event = parse(message.get("text") or "")
            except Malformed:
                self.malformed += 1
                if self.malformed >= MAX_MALFORMED:
                    return await self._give_up(UNREADABLE, "too many malformed messages"), None
                continue
            self._stopped = self._stopped or isinstance(event, Stop)
            self.on_event(event)
            return message, event

    async def send(self, message: Message) -> None:
        """Send, and know from a failure that nothing more can be sent.

        Raises:
            WebSocketDisconnect: the other side is gone.
        """
        try:
            await super().send(message)
        except WebSocketDisconnect:
            self.application_state = WebSocketState.DISCONNECTED
            raise

    async def close(self, code: int = 1000, reason: str | None = None) -> None:
        """Close from our side; harmless if the socket is already closed."""
        if not self.is_open:
            return
        self._note_closed("us", code, reason or "")
        try:
            await super().close(code, reason)
        except WebSocketDisconnect:
            return  # the other side was faster

    async def _give_up(self, code: int, reason: str) -> Message:
        await self.close(code, reason)
        self.client_state = WebSocketState.DISCONNECTED
        return {"type": "websocket.disconnect", "code": code, "reason": reason}

    def _note_closed(self, by: Literal["carrier", "us"], code: int, reason: str) -> None:
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
