"""For tests of HTTP functions: a scripted server on loopback, and a call that records."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import httpcore

from handlers.context import Destination, HandoffRequest, Refused, Routed
from handlers.http import CheckedNetwork, HttpClient
from handlers.http.function import HttpFunctions
from templates.functions import HttpFunction
from templates.model import Variable


async def until(true: Callable[[], object]) -> None:
    """Wait until a condition is true."""
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.005)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedRequest:
    """A request as it arrived; header names in lower case, values as UTF-8."""

    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAnswer:
    """What the server does with a request.

    ``after_s`` passes before it answers, and ``may_answer`` must be set; ``drop``: it closes the connection
    instead of answering; ``drip_s`` passes between the chunks of ``body``.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Sequence[bytes] = b"{}"
    after_s: float = 0.0
    may_answer: asyncio.Event | None = None
    drop: bool = False
    drip_s: float = 0.0


class LocalServer:
    """An HTTP/1.1 server on 127.0.0.1; ``answers`` are given one after the other, the last one for ever."""

    def __init__(self, answers: Iterable[ServerAnswer]) -> None:
        self.answers = list(answers)
        self.seen: list[ReceivedRequest] = []
        self.connections = 0
        self.closed = 0
        self.sent_bytes = 0
        self.port = 0

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Its origin."""
        return f"http://{self.address}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        try:
            while (request := await _read(reader)) is not None:
                self.seen.append(request)
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                await asyncio.sleep(answer.after_s)
                if answer.may_answer is not None:
                    await answer.may_answer.wait()
                if answer.drop:
                    break
                await self._write(answer, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.closed += 1
            writer.close()

    async def _write(self, answer: ServerAnswer, writer: asyncio.StreamWriter) -> None:
        chunks = [answer.body] if isinstance(answer.body, bytes) else list(answer.body)
        length = sum(map(len, chunks))
        headers = {"Content-Type": "application/json", "Content-Length": str(length), **answer.headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"HTTP/1.1 {answer.status} X\r\n{head}\r\n".encode())
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()
            self.sent_bytes += len(chunk)
            await asyncio.sleep(answer.drip_s)


async def _read(reader: asyncio.StreamReader) -> ReceivedRequest | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("utf-8").strip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return ReceivedRequest(method=method, target=target, headers=headers, body=body)


@asynccontextmanager
async def running_server(*answers: ServerAnswer, **listening: Any) -> AsyncIterator[LocalServer]:
    """A server for the time of a test; ``listening`` goes to ``asyncio.start_server``, e.g. ``ssl``."""
    server = LocalServer(answers or (ServerAnswer(),))
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, **listening)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()


class RecordingCall:
    """A call that remembers what a handler did to it; implements ``handlers.CallContext``."""

    def __init__(self, **variables: Any) -> None:
        self.values: dict[str, Any] = variables
        self.said: list[str] = []
        self.kept: dict[str, Any] = {}
        self._id = uuid4()

    @property
    def call_id(self) -> UUID:
        return self._id

    @property
    def has_phone(self) -> bool:
        return True

    @property
    def time_zone(self) -> ZoneInfo:
        return ZoneInfo("UTC")

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    def agents_are_coming(self) -> bool:
        return False

    def destinations(self) -> tuple[Destination, ...]:
        return ()

    async def route(self, agent: str, *, reason: str, variables: Mapping[str, Any]) -> Routed | Refused:
        return Refused(code="unknown_agent", message="nobody")

    async def end(self, *, reason: str, outcome: str | None = None) -> None:
        self.said.append(f"ended: {reason}")

    async def record_outcome(self, outcome: str, fields: Mapping[str, Any]) -> None:
        self.kept["outcome"] = outcome

    async def press_keys(self, keys: str) -> None:
        self.said.append(f"keys: {keys}")

    def transfer(self, destination: str) -> Refused | None:
        """No call is transferred."""
        return None

    def hand_off(self, request: HandoffRequest) -> None:
        self.kept[request.intent] = request

    def cancel_hand_off(self) -> bool:
        return self.kept.pop("escalate", None) is not None

    async def say(self, text: str) -> None:
        self.said.append(text)

    async def keep(self, values: Mapping[str, Any]) -> None:
        self.kept.update(values)

    def variables(self) -> Mapping[str, Any]:
        return dict(self.values)


class LoopbackBackend(httpcore.AsyncNetworkBackend):
    """Remembers which addresses were connected to, and connects to loopback instead."""

    def __init__(self) -> None:
        self.addresses: list[str] = []
        self._tcp = httpcore.AnyIOBackend()

    async def connect_tcp(
        self, host: str, port: int, *rest: Any, **named: Any
    ) -> httpcore.AsyncNetworkStream:
        self.addresses.append(host)
        return await self._tcp.connect_tcp("127.0.0.1", port, *rest, **named)

    async def sleep(self, seconds: float) -> None:
        await self._tcp.sleep(seconds)


class ScriptedResolver:
    """A resolver whose answers are given one after the other, the last one for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.asked: list[tuple[str, int]] = []
        self._answers = list(answers)

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append((host, port))
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


@asynccontextmanager
async def functions(*allowed: LocalServer, **decrypted: str) -> AsyncIterator[HttpFunctions]:
    """HTTP functions that may reach the servers; ``decrypted`` are secrets by what is stored for them."""
    http_client = HttpClient(CheckedNetwork(frozenset(server.address for server in allowed)))
    bound = HttpFunctions(http_client.send, decrypted.__getitem__)
    try:
        yield bound
    finally:
        await bound.close()
        await http_client.close()


def http_function(**fields: Any) -> HttpFunction:
    """A declaration; by default a GET of an address that does not exist."""
    return HttpFunction.model_validate(
        {"type": "http", "name": "ask", "description": "Asks.", "method": "GET", "url": "https://x.test/"}
        | fields
    )


def parameters(*required: str, **properties: str) -> dict[str, Any]:
    """A JSON Schema of an object: property → its type."""
    described = {name: {"type": kind, "description": name} for name, kind in properties.items()}
    return {"type": "object", "properties": described, "required": list(required)}


def variable(name: str, kind: str = "string") -> Variable:
    """A variable that a call fills."""
    return Variable.model_validate({"name": name, "type": kind, "source": "call"})
