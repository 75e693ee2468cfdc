"""A WebSocket whose messages reach a function at once: the server's side of ``DIRECT_MESSAGES``.

uvicorn puts each message into a queue, stops reading, wakes the application's task and starts reading again.
A call receives 50 messages a second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from telephony.media import DIRECT_MESSAGES

SWITCHING_PROTOCOLS = 101

Consumer = Callable[[Any], None]


class DirectWebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's protocol, which offers the extension ``DIRECT_MESSAGES``."""

    def handle_connect(self, event: Request) -> None:
        """Take the handshake, and offer the extension to the application."""
        self._consumer: Consumer | None = None
        super().handle_connect(event)
        if self.response.status_code == SWITCHING_PROTOCOLS:
            self.scope["extensions"][DIRECT_MESSAGES] = {"deliver": self._deliver}

    def send_receive_event_to_app(self) -> None:
        """Give a message to the consumer, if there is one, otherwise to the application's ``receive``."""
        if self._consumer is None or self.close_sent:
            super().send_receive_event_to_app()
            return
        data = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
        try:
            content = {"text": str(data, "utf-8")} if self.curr_msg_data_type == "text" else {"bytes": data}
        except UnicodeDecodeError:
            super().send_receive_event_to_app()  # closes with 1007
            return
        self.frames = []
        self._consumer({"type": "websocket.receive", **content})

    def _deliver(self, consumer: Consumer) -> None:
        """From now on call ``consumer`` with all messages, those that wait first."""
        waiting = [self.queue.get_nowait() for _ in range(self.queue.qsize())]
        self._consumer = consumer
        for message in waiting:
            if message["type"] == "websocket.receive":
                consumer(message)
            else:
                self.queue.put_nowait(message)
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
