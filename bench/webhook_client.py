"""A client for many webhooks that costs little, because it shares the cores with the server.

Requests are encoded before they are sent, and of an answer only the length and the first bytes are read.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Mapping
from urllib.parse import urlencode, urlsplit

CONNECTIONS = 50
_Due = tuple[bytes, float]
"""A request, and when it was due."""
_CONTENT_LENGTH = re.compile(rb"(?i)content-length: (\d+)")


def request_bytes(url: str, headers: Mapping[str, str], form: Mapping[str, str]) -> bytes:
    """A request as it is sent: the client must cost little, because it shares the cores with the server."""
    parts, body = urlsplit(url), urlencode(form)
    fields = {
        "Host": parts.netloc,
        **headers,
        "Content-Type": "application/x-www-form-urlencoded",
        "Content-Length": str(len(body)),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {parts.path} HTTP/1.1\r\n{head}\r\n{body}".encode()


class Sender:
    """Sends requests, each on a free or a new connection, and measures from the time when it was due."""

    def __init__(self, url: str, *, answer: str, count: int) -> None:
        """Send ``count`` requests to the server of ``url``; each answer must contain ``answer``."""
        self.took_ms: list[float] = []
        self.done = asyncio.get_running_loop().create_future()
        """Done when all are answered; its exception: an answer that is not as expected."""
        self._server = urlsplit(url)
        self._answer = answer.encode()
        self._left = count
        self._waiting = deque[_Due]()
        self._free: list[_Connection] = []
        self._open = 0
        self._connecting = set[asyncio.Task[object]]()

    def send(self, request: bytes, due: float) -> None:
        """Send a request, as soon as a connection is free."""
        self._waiting.append((request, due))
        self._send_waiting()

    def is_free(self, connection: _Connection) -> None:
        """Use a connection, from now on or again."""
        self._free.append(connection)
        self._send_waiting()

    def answered(self, head: bytes, body: bytes, due: float) -> None:
        """Take an answer."""
        self.took_ms.append(1000 * (asyncio.get_running_loop().time() - due))
        if self.done.done():
            return
        if not head.startswith(b"HTTP/1.1 20") or self._answer not in body:
            self.done.set_exception(RuntimeError(f"answered {head[:200]!r} {body[:200]!r}"))
            return
        self._left -= 1
        if not self._left:
            self.done.set_result(None)

    def lost(self, connection: _Connection, unanswered: _Due | None) -> None:
        """The server has closed a connection, as it does with idle ones."""
        self._open -= 1
        if connection in self._free:
            self._free.remove(connection)
        if unanswered is not None:
            self._waiting.appendleft(unanswered)
            self._send_waiting()

    def close(self) -> None:
        """Close all connections."""
        for connection in self._free:
            connection.close()

    def _send_waiting(self) -> None:
        while self._waiting and self._free:
            self._free.pop().send(self._waiting.popleft())
        if self._waiting and self._open < CONNECTIONS:
            self._open += 1
            connecting = asyncio.create_task(self._connect())
            self._connecting.add(connecting)
            connecting.add_done_callback(self._connecting.discard)

    async def _connect(self) -> None:
        loop, server = asyncio.get_running_loop(), self._server
        await loop.create_connection(lambda: _Connection(self), str(server.hostname), server.port or 80)


class _Connection(asyncio.Protocol):
    """A connection that carries one request at a time."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._received = b""
        self._sent: _Due | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Offer the connection."""
        self._transport = transport
        self._sender.is_free(self)

    def send(self, due: _Due) -> None:
        """Send a request."""
        self._sent = due
        self._transport.write(due[0])

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def connection_lost(self, _: Exception | None) -> None:
        """Repeat requests that are not answered."""
        self._sender.lost(self, self._sent)

    def data_received(self, data: bytes) -> None:
        """Read until an answer is complete; what was not asked for announces that the server closes."""
        if self._sent is None:
            return
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        length = _CONTENT_LENGTH.search(head)
        if end and len(body) >= (int(length[1]) if length else 0):
            _, due = self._sent
            self._received, self._sent = b"", None
            self._sender.answered(head, body, due)
            self._sender.is_free(self)
