"""Recipients of notices: a real SMTP server, and an HTTP server with scripted responses."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message
from email.policy import default
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session


@dataclass(slots=True)
class Mailbox:
    """The messages that an SMTP server has accepted; `answer` is its response to the next client."""

    messages: list[Message] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    answer: str = "250 OK"
    port: int = 0

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """aiosmtpd's hook."""
        del server, session
        if self.answer.startswith("250"):
            content = envelope.content
            assert isinstance(content, bytes)
            self.messages.append(message_from_bytes(content, policy=default))
            self.recipients += envelope.rcpt_tos
        return self.answer


@contextlib.asynccontextmanager
async def mail_server(port: int = 0) -> AsyncIterator[Mailbox]:
    """A real SMTP server on loopback."""
    mailbox = Mailbox()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(mailbox, hostname="localhost", loop=loop), "127.0.0.1", port
    )
    mailbox.port = server.sockets[0].getsockname()[1]
    async with server:
        yield mailbox


@dataclass(slots=True)
class Posted:
    """A received request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(slots=True)
class Answer:
    """A response."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"{}"
    after_s: float = 0.0


@dataclass(slots=True)
class Receiver:
    """An HTTP server; `answer` makes the response to each request."""

    answer: Callable[[Posted], Answer] = lambda _: Answer()
    posted: list[Posted] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self.port}/hook"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one request of a connection."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            posted = Posted(first.split(" ")[1], headers, body)
            self.posted.append(posted)
            answer = self.answer(posted)
            await asyncio.sleep(answer.after_s)
            more = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
            head = (
                f"HTTP/1.1 {answer.status} X\r\nContent-Length: {len(answer.body)}\r\nConnection: close\r\n"
            )
            writer.write(f"{head}{more}\r\n".encode() + answer.body)
            await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    """A real HTTP server on loopback."""
    made = Receiver()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    async with server:
        yield made
