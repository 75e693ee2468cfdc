"""Recipients of notices: a real SMTP server, and an HTTP server with scripted responses."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import Message
from email.policy import default
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


@dataclass(slots=True)
class Mailbox:
    """The messages that an SMTP server has accepted; `answer` is its response to the next client."""

    messages: list[Message] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    logins: list[tuple[str, str]] = field(default_factory=list)
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
async def mail_server(port: int = 0, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Mailbox]:
    """A real SMTP server on loopback, which offers STARTTLS with ``tls``, and authentication in any case."""
    mailbox = Mailbox()
    loop = asyncio.get_running_loop()

    def authenticate(
        server: SMTP, session: Session, envelope: Envelope, method: str, data: Any
    ) -> AuthResult:
        del server, session, envelope, method
        mailbox.logins.append((data.login.decode(), data.password.decode()))
        return AuthResult(success=True)

    server = await loop.create_server(
        lambda: SMTP(
            mailbox,
            hostname="localhost",
            loop=loop,
            tls_context=tls,
            auth_require_tls=False,
            authenticator=authenticate,
        ),
        "127.0.0.1",
        port,
    )
    mailbox.port = server.sockets[0].getsockname()[1]
    async with server:
        yield mailbox


def server_certificate(directory: Path) -> tuple[Path, ssl.SSLContext]:
    """A certificate for localhost that signs itself: its file, and the TLS settings of its server."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file, key_file = directory / "server.pem", directory / "server.key"
    file.write_bytes(certificate.public_bytes(Encoding.PEM))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(file, key_file)
    return file, tls


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
