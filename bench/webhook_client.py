"""A client for many webhooks that costs little, because it shares the cores with the server.

Requests are encoded before they are sent, and of an answer only the length and the first bytes are read.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Mapping, Set
from urllib.parse import urlencode, urlsplit

CONNECTIONS = 200
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
    """Sends requests on the first connection that is free, and measures from the time when each was due."""

    def __init__(self, *, answers: Set[str], left: int) -> None:
        """Each of ``left`` answers must contain one of ``answers``."""
        self.took_ms: list[float] = []
        self.done = asyncio.get_running_loop().create_future()
        """Done when all are answered; its exception: an answer that is not as expected."""
        self._answers = [answer.encode() for answer in answers]
        self._left = left
        self._waiting = deque[tuple[bytes, float]]()
        self._free: list[_Connection] = []
        self._connections: list[_Connection] = []

    @classmethod
    async def connect(cls, url: str, *, answers: Set[str], count: int) -> Sender:
        """Open the connections to the server of ``url``, for so many requests."""
        sender, server, loop = cls(answers=answers, left=count), urlsplit(url), asyncio.get_running_loop()
        for _ in range(CONNECTIONS):
            await loop.create_connection(lambda: _Connection(sender), str(server.hostname), server.port or 80)
        return sender

    def connected(self, connection: _Connection) -> None:
        """Use a connection."""
        self._connections.append(connection)
        self._free.append(connection)

    def send(self, request: bytes, due: float) -> None:
        """Send a request, as soon as a connection is free."""
        self._waiting.append((request, due))
        self._send_waiting()

    def answered(self, connection: _Connection, head: bytes, body: bytes, due: float) -> None:
        """Take an answer."""
        self.took_ms.append(1000 * (asyncio.get_running_loop().time() - due))
        if not head.startswith(b"HTTP/1.1 20") or not any(answer in body for answer in self._answers):
            self._fail(f"a webhook was answered {head[:200]!r} {body[:200]!r}")
        self._left -= 1
        if not self._left and not self.done.done():
            self.done.set_result(None)
        self._free.append(connection)
        self._send_waiting()

    def lost(self, connection: _Connection) -> None:
        """The server closed a connection; it does so when it was idle for long."""
        if connection in self._free:
            self._free.remove(connection)
        else:
            self._fail("a connection was lost before the answer")

    def close(self) -> None:
        """Close all connections."""
        self._waiting.clear()
        for connection in self._connections:
            connection.close()

    def _fail(self, reason: str) -> None:
        if not self.done.done():
            self.done.set_exception(RuntimeError(reason))

    def _send_waiting(self) -> None:
        while self._waiting and self._free:
            self._free.pop().send(*self._waiting.popleft())


class _Connection(asyncio.Protocol):
    """A connection that carries one request at a time."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._received = b""
        self._due = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Offer the connection."""
        self._transport = transport
        self._sender.connected(self)

    def send(self, request: bytes, due: float) -> None:
        """Send a request."""
        self._due = due
        self._transport.write(request)

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def connection_lost(self, _: Exception | None) -> None:
        """Offer it no longer."""
        self._sender.lost(self)

    def data_received(self, data: bytes) -> None:
        """Read until an answer is complete."""
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        length = _CONTENT_LENGTH.search(head)
        if end and len(body) >= (int(length[1]) if length else 0):
            self._received = b""
            self._sender.answered(self, head, body, self._due)
