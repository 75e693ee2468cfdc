"""Slow and idle connections: deadlines, limits, and what is kept for carriers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from loguru import logger

from db.pool import Database
from tests.api.server_fixture import RunningServer, create_tenant, http_client, serving
from voicebot.api.connections import Connections, client_group
from voicebot.api.limits import Limits
from voicebot.config import Settings

PATIENT_S = 60.0
Serve = Callable[..., Awaitable[RunningServer]]
REQUEST = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
HALF_A_BODY = b"POST /webhooks/twilio/voice HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nTo=%2B"
STRANGER = "127.0.0.2"
"""A loopback address that is no trusted proxy."""


class Client:
    """A client that sends bytes, in its own time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, content: bytes) -> None:
        """Send bytes."""
        self.writer.write(content)
        await self.writer.drain()

    async def status(self) -> int:
        """Read the headers of the next response, and return its status."""
        async with asyncio.timeout(10):
            head = await self.reader.readuntil(b"\r\n\r\n")
        return int(head.split()[1])

    async def is_closed(self) -> bool:
        """Wait until the server closes the connection."""
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(10):
                await self.reader.read()
        return True


@pytest.fixture
async def serve(settings: Settings) -> AsyncIterator[Serve]:
    """Start servers with limits of their own."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(**limits: Any) -> RunningServer:
            return await stack.enter_async_context(serving(settings, limits=Limits(**limits)))

        yield start


@pytest.fixture
async def open_client() -> AsyncIterator[Callable[..., Awaitable[Client]]]:
    """Open connections that are closed after the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def connect(server: RunningServer, address: str = "127.0.0.1") -> Client:
            host, _, port = server.url.removeprefix("http://").partition(":")
            reader, writer = await asyncio.open_connection(host, int(port), local_addr=(address, 0))
            stack.callback(writer.close)
            return Client(reader, writer)

        yield connect


def reached(server: RunningServer, limit: str) -> float:
    """How often a limit was reached; not asked by HTTP, whose requests have the limits of the test too."""
    registry = server.app_state.metrics.registry
    return registry.get_sample_value("voicebot_limit_reached_total", {"limit": limit}) or 0.0


OpenClient = Callable[..., Awaitable[Client]]


# ------------------------------------------------------------------------------------------------ deadlines


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\nHost: "])
async def test_idle_sockets_and_half_a_header_are_closed(
    serve: Serve, open_client: OpenClient, sent: bytes
) -> None:
    """A client that has not sent the headers before their deadline is answered 408 and disconnected."""
    server = await serve(header_deadline_s=0.05)
    client = await open_client(server)
    await client.send(sent)
    assert await client.status() == 408
    assert await client.is_closed()
    assert reached(server, "header_deadline") >= 1


async def test_the_deadline_for_headers_is_not_moved_by_sending_slowly(
    serve: Serve, open_client: OpenClient
) -> None:
    """A header that arrives byte by byte is cut off at the deadline of the whole."""
    server = await serve(header_deadline_s=0.3)
    client = await open_client(server)
    answered = asyncio.create_task(client.status())
    with contextlib.suppress(ConnectionError):
        while not answered.done():
            await client.send(b"G")
            await asyncio.sleep(0.01)
    assert await answered in (400, 408)


async def test_half_a_body_is_cut_off(serve: Serve, open_client: OpenClient) -> None:
    """A client that has not sent the body before its deadline is answered 408 and disconnected."""
    server = await serve(body_deadline_s=0.05)
    client = await open_client(server)
    await client.send(HALF_A_BODY)
    assert await client.status() == 408
    assert await client.is_closed()
    assert reached(server, "body_deadline") == 1


async def test_a_refused_body_is_cut_off_too(serve: Serve, open_client: OpenClient) -> None:
    """A client that was refused before its body cannot keep the connection by sending it slowly."""
    server = await serve(body_deadline_s=0.2)
    client = await open_client(server)
    await client.send(b"POST /api/v1/templates HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n{")
    assert await client.status() == 401
    assert await client.is_closed()
    assert reached(server, "body_deadline") == 1


async def test_requests_in_time_are_answered_on_one_connection(serve: Serve, open_client: OpenClient) -> None:
    """Deadlines start anew with each request: a connection that is used is kept."""
    server = await serve(header_deadline_s=PATIENT_S, body_deadline_s=PATIENT_S)
    client = await open_client(server)
    for _ in range(3):
        await client.send(REQUEST)
        assert await client.status() == 200
        await client.reader.readexactly(len('{"status":"ok"}'))
    await client.send(REQUEST * 2)
    assert await client.status() == 200
    await client.reader.readexactly(len('{"status":"ok"}'))
    assert await client.status() == 200


async def test_headers_over_the_limit_are_answered_431(serve: Serve, open_client: OpenClient) -> None:
    """Headers that do not end within their limit are refused before they are complete."""
    server = await serve()
    client = await open_client(server)
    await client.send(b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000)
    assert await client.status() == 431
    assert reached(server, "headers") == 1


async def test_headers_that_come_piece_by_piece_are_counted(
    server: RunningServer, open_client: OpenClient
) -> None:
    """The limit is that of the whole, and begins anew with each request of a connection."""
    client = await open_client(server)
    size = server.app_state.limits.webhook_body_bytes
    head = f"POST /webhooks/twilio/voice HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n"
    await client.send(head.encode() + b"x" * size + b"GET /healthz HTTP/1.1\r\n")
    assert await client.status() == 403
    await client.send(b"Host: x\r\nX: " + b"x" * 9_000)
    await client.send(b"\r\n\r\n")
    assert await client.status() == 200
    await client.reader.readexactly(len('{"status":"ok"}'))
    for part in (b"GET / HTTP/1.1\r\nX: ", *[b"x" * 9_000] * 3):
        await client.send(part)
        await asyncio.sleep(0)
    assert await client.status() == 431
    assert await client.is_closed()


CHUNKED = b"POST /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "sent",
    [CHUNKED + b"0\r\nX: " + b"x" * 300_000, CHUNKED + b"2;" + b"x" * 300_000],
    ids=["trailer", "chunk extension"],
)
async def test_what_frames_a_body_is_limited(
    server: RunningServer, open_client: OpenClient, sent: bytes
) -> None:
    """A trailer, or an extension of a chunk, that does not end is not read for as long as a body may take."""
    before = reached(server, "headers")
    client = await open_client(server)
    with contextlib.suppress(ConnectionError):
        await client.send(sent)
    assert await client.is_closed()
    assert reached(server, "headers") == before + 1


async def test_trailers_are_no_headers(server: RunningServer, open_client: OpenClient) -> None:
    """What follows a body in chunks is ignored, and the next request is answered."""
    client = await open_client(server)
    await client.send(CHUNKED + b"2\r\nxx\r\n0\r\nHost: y\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n" + REQUEST)
    assert await client.status() == 405
    async with asyncio.timeout(10):
        await client.reader.readuntil(b"}")
    assert await client.status() == 200


async def test_an_endless_header_behind_a_request_that_goes_on_ends_the_connection(
    server: RunningServer, open_client: OpenClient, database: Database
) -> None:
    """While an event stream is sent there is no deadline, but no more is buffered than for one request."""
    before = reached(server, "headers")
    async with create_tenant(server.url, database) as tenant:
        client = await open_client(server)
        head = (
            f"GET /api/v1/handoffs/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {tenant.keys['owner']}"
        )
        await client.send(head.encode() + b"\r\n\r\n")
        assert await client.status() == 200
        with contextlib.suppress(ConnectionError):
            await client.send(b"GET / HTTP/1.1\r\nX: " + b"x" * 300_000)
        assert await client.is_closed()
    assert reached(server, "headers") == before + 1


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.0\r\n\r\n", 200),
        (b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Length: 9\r\n\r\n") + b"0\r\n\r\n", 400),
        (b"GET  HTTP/1.1\r\nHost : x\r\n\r\n", 400),
    ],
    ids=["no host", "two hosts", "1.0 without host", "two lengths", "length and chunks", "no target"],
)
async def test_ambiguous_requests_are_refused(
    server: RunningServer, open_client: OpenClient, head: bytes, status: int
) -> None:
    """A request that a proxy could read in another way is answered 400 (RFC 9112, sections 3.2 and 6)."""
    client = await open_client(server)
    await client.send(head)
    assert await client.status() == status
    assert await client.is_closed()


@pytest.mark.parametrize("method", [b"FOO", b"get", b"CONNECT", b"PROPFIND", b"TRACE", b"X" * 40])
async def test_any_method_is_answered_with_what_the_path_allows(
    server: RunningServer, open_client: OpenClient, method: bytes
) -> None:
    """Also one that the HTTP parser does not know, with a body; the next request is read as usual."""
    client = await open_client(server)
    await client.send(method + b" /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nxx")
    async with asyncio.timeout(10):
        head = await client.reader.readuntil(b"\r\n\r\n")
        await client.reader.readuntil(b"}")
    assert head.startswith(b"HTTP/1.1 405 ")
    assert b"\r\nallow: GET\r\n" in head
    await client.send(REQUEST)
    assert await client.status() == 200


async def test_a_request_is_answered_although_the_next_one_is_malformed(
    server: RunningServer, open_client: OpenClient
) -> None:
    """The connection ends with the answer to the first."""
    client = await open_client(server)
    await client.send(REQUEST + b"\x00\x01 nothing\r\n\r\n")
    assert await client.status() == 200
    async with asyncio.timeout(10):
        assert await client.reader.read() == b'{"status":"ok"}'


async def test_an_upgrade_to_another_protocol_is_ignored(
    server: RunningServer, open_client: OpenClient
) -> None:
    """Clients that offer HTTP/2 in this way are answered in HTTP/1.1, also if their request has a body."""
    client = await open_client(server)
    offer = b"Host: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    for request, status in (
        (b"GET /healthz HTTP/1.1\r\n" + offer + b"\r\n", 200),
        (b"POST /healthz HTTP/1.1\r\n" + offer + b"Content-Length: 2\r\n\r\nxx", 405),
        (REQUEST, 200),
    ):
        await client.send(request)
        assert await client.status() == status
        async with asyncio.timeout(10):
            await client.reader.readuntil(b"}")


# --------------------------------------------------------------------------------------------------- limits


async def test_idle_sockets_make_room_for_a_webhook(serve: Serve, open_client: OpenClient) -> None:
    """At the limit, the connection whose request has been pending for the longest time is closed."""
    server = await serve(connections=10, header_deadline_s=PATIENT_S, body_deadline_s=PATIENT_S)
    idle = [await open_client(server, STRANGER) for _ in range(5)]
    for client in idle:
        await client.send(HALF_A_BODY)
    more = [await open_client(server) for _ in range(20)]
    carrier = await open_client(server)
    await carrier.send(b"POST /webhooks/twilio/voice HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    assert await carrier.status() == 403
    assert all([await client.is_closed() for client in idle])
    assert len(server.app_state.connections) <= 10
    assert reached(server, "connections") >= 15
    assert len(more) == 20


async def test_an_address_may_have_so_many_connections(serve: Serve, open_client: OpenClient) -> None:
    """Beyond the limit of its address a client is answered 429; a trusted proxy has no such limit."""
    server = await serve(connections_per_address=3, header_deadline_s=PATIENT_S)
    held = [await open_client(server, STRANGER) for _ in range(3)]
    refused = await open_client(server, STRANGER)
    assert await refused.status() == 429
    assert await refused.is_closed()
    other = await open_client(server, "127.0.0.3")
    proxied = [await open_client(server) for _ in range(5)]
    for client in (*held, other, *proxied):
        await client.send(REQUEST)
        assert await client.status() == 200
    held[0].writer.close()
    async with asyncio.timeout(60):
        while len(server.app_state.connections) > 8:
            await asyncio.sleep(0.01)
    again = await open_client(server, STRANGER)
    await again.send(REQUEST)
    assert await again.status() == 200


class Held:
    """A connection that can be dropped."""

    def __init__(self) -> None:
        self.dropped = False

    def drop(self) -> None:
        """Note it."""
        self.dropped = True


def connections(reached: list[str], *, most: int = 20, descriptors: int = 1000) -> Connections:
    """Connections with a limit."""
    limits = Limits(connections=most)
    return Connections(limits, reached.append, lambda: 0.0, lambda: descriptors)


async def test_carriers_keep_a_reserve(serve: Serve) -> None:
    """When nine tenths of the connections are busy, only webhooks and health checks are answered."""
    server = await serve(connections=20)
    for _ in range(19):
        server.app_state.connections.opened(Held(), None)
    async with http_client(base_url=server.url) as client:
        refused = await client.get("/openapi.json")
        assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
        assert (refused.headers["Retry-After"], refused.headers["Connection"]) == ("1", "close")
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.post("/webhooks/twilio/voice")).status_code == 403


def test_busy_connections_are_not_closed_for_new_ones() -> None:
    """A connection without a pending request is kept; the new one is refused if there is no other."""
    reached: list[str] = []
    held = connections(reached, most=2)
    first, second, third = Held(), Held(), Held()
    assert held.opened(first, None) is None
    assert held.opened(second, None) is None
    held.request_pending(first)
    held.request_received(first)
    problem = held.opened(third, None)
    assert problem is not None
    assert (problem.code, problem.headers["Retry-After"]) == ("overloaded", "1")
    held.request_pending(second)
    assert held.opened(third, None) is None
    assert (first.dropped, second.dropped, len(held)) == (False, True, 2)
    assert reached == ["connections"] * 2


def test_connections_take_half_of_the_descriptors() -> None:
    """A process with few descriptors has fewer connections than its setting allows."""
    held = connections([], most=1000, descriptors=8)
    assert [held.opened(Held(), None) is None for _ in range(5)] == [True] * 4 + [False]


@pytest.mark.parametrize(
    ("host", "proxies", "group"),
    [
        ("203.0.113.9", "127.0.0.1,::1", "203.0.113.9"),
        ("2001:db8:1:2:3::4", "127.0.0.1", "2001:db8:1:2::/64"),
        ("127.0.0.1", "127.0.0.1,::1", None),
        ("10.1.2.3", "lb.internal, 10.0.0.0/8", None),
        ("203.0.113.9", "*", None),
        ("", "127.0.0.1", None),
    ],
)
def test_connections_are_counted_by_address(host: str, proxies: str, group: str | None) -> None:
    """IPv6 clients are counted by network; the proxies of FORWARDED_ALLOW_IPS are not counted."""
    assert client_group(host, proxies) == group


def test_exhausted_descriptors_are_an_alarm() -> None:
    """When nine tenths of the descriptors are in use, the alarm is logged once and counted each time."""
    logged: list[str] = []
    handler = logger.add(lambda message: logged.append(str(message)), format="{message}")
    pipes = [os.pipe() for _ in range(20)]
    reached: list[str] = []
    try:
        connections(reached, descriptors=1000).check_descriptors()
        assert reached == []
        alarmed = connections(reached, descriptors=40)
        alarmed.check_descriptors()
        alarmed.check_descriptors()
    finally:
        logger.remove(handler)
        for descriptor in (each for pair in pipes for each in pair):
            os.close(descriptor)
    assert reached == ["descriptors"] * 2
    assert sum("descriptors" in line for line in logged) == 1


async def test_a_server_without_free_descriptors_raises_the_alarm(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The running server checks its descriptors every second."""
    server = await serve()

    def exhausted(_: int) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "dup", exhausted)
    async with asyncio.timeout(60):
        while reached(server, "descriptors") == 0:
            await asyncio.sleep(0.05)


def test_the_clients_of_this_file_have_addresses_of_their_own() -> None:
    """The stranger's address is a loopback address, which this machine can bind."""
    with socket.socket() as bound:
        bound.bind((STRANGER, 0))
