"""A request is carried to its server and the reply brought back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from handlers.http import CheckedNetwork, HttpClient, HttpRequest
from handlers.http.client import MAX_REDIRECTS, READ_LIMIT, redirected
from handlers.http.errors import NoAnswer, RedirectRefused, Unreachable
from handlers.http.request import Origin, build
from tests.handlers.http_harness import LocalServer, ServerAnswer, http_function, running_server


def request_to(server: LocalServer, path: str = "/", **fields: Any) -> HttpRequest:
    return build(
        http_function(url=f"{server.url}{path}", **fields), {"said": "ü"}, {}, lambda stored: f"open {stored}"
    )


@asynccontextmanager
async def a_http_client(*servers: LocalServer) -> AsyncIterator[HttpClient]:
    http_client = HttpClient(CheckedNetwork(frozenset(server.address for server in servers)))
    try:
        yield http_client
    finally:
        await http_client.close()


async def test_what_arrives() -> None:
    """The server gets the method, target, headers, secrets and body that were declared, in UTF-8."""
    async with (
        running_server(ServerAnswer(status=201, body=b'{"ok": true}')) as server,
        a_http_client(server) as http_client,
    ):
        reply = await http_client.send(
            request_to(
                server,
                "/o/{{ said }}?x={{ said }}",
                method="POST",
                headers={"X-Said": "{{ said }}"},
                secret_headers={"Authorization": "stored"},
            )
        )
    assert (reply.status, reply.content_type, reply.body) == (201, "application/json", b'{"ok": true}')
    (seen,) = server.seen
    assert (seen.method, seen.target, seen.body.decode()) == ("POST", "/o/%C3%BC?x=%C3%BC", '{"said": "ü"}')
    assert seen.headers["host"] == server.address
    assert seen.headers["x-said"] == "ü"
    assert seen.headers["authorization"] == "open stored"
    assert seen.headers["accept-encoding"] == "identity"


async def test_connections_are_used_again() -> None:
    """Requests to one server one after the other share a connection, so only the first pays for it."""
    async with running_server() as server, a_http_client(server) as http_client:
        for _ in range(3):
            await http_client.send(request_to(server))
    assert (len(server.seen), server.connections) == (3, 1)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "bad",
    [ServerAnswer(status=502), ServerAnswer(status=503), ServerAnswer(status=504), ServerAnswer(drop=True)],
)
async def test_safe_methods_are_tried_again(method: str, bad: ServerAnswer) -> None:
    """GET and HEAD are tried again as often as declared, after a broken connection or a gateway's error."""
    bodiless = ServerAnswer(status=bad.status, drop=bad.drop, body=b"")
    async with (
        running_server(bodiless, bodiless, ServerAnswer(body=b"")) as server,
        a_http_client(server) as http_client,
    ):
        reply = await http_client.send(request_to(server, method=method, retries=2))
    assert (reply.status, len(server.seen)) == (200, 3)


async def test_tries_have_an_end() -> None:
    """After the last try the failure stands."""
    async with running_server(ServerAnswer(status=503)) as server, a_http_client(server) as http_client:
        assert (await http_client.send(request_to(server, retries=1))).status == 503
        assert len(server.seen) == 2
    async with running_server(ServerAnswer(drop=True)) as server, a_http_client(server) as http_client:
        with pytest.raises(Unreachable) as failure:
            await http_client.send(request_to(server, retries=1))
        assert len(server.seen) == 2
        assert failure.value.retryable


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("bad", [ServerAnswer(status=503), ServerAnswer(status=429), ServerAnswer(drop=True)])
async def test_what_changes_something_is_sent_once(method: str, bad: ServerAnswer) -> None:
    """Other methods are sent once, whatever comes back."""
    async with running_server(bad) as server, a_http_client(server) as http_client:
        request = request_to(server, method=method, retries=3)
        if bad.drop:
            with pytest.raises(Unreachable, match="unknown whether") as failure:
                await http_client.send(request)
            assert not failure.value.retryable
        else:
            assert (await http_client.send(request)).status == bad.status
    assert len(server.seen) == 1


@pytest.mark.parametrize("status", [400, 401, 404, 409, 500, 501])
async def test_answers_that_stand(status: int) -> None:
    """A status that says no is not asked again."""
    async with running_server(ServerAnswer(status=status)) as server, a_http_client(server) as http_client:
        assert (await http_client.send(request_to(server, retries=3))).status == status
    assert len(server.seen) == 1


async def test_nobody_listens() -> None:
    """A closed port is a server that cannot be reached, and nothing was sent."""
    async with running_server() as server:
        pass
    async with a_http_client(server) as http_client:
        with pytest.raises(Unreachable, match="cannot be reached") as failure:
            await http_client.send(request_to(server, method="POST"))
    assert failure.value.retryable


@pytest.mark.parametrize("as_date", [False, True])
async def test_retry_after(as_date: bool) -> None:
    """The server's wish to be left alone for a while is granted."""
    # A date has whole seconds, so two of them are at least one from now.
    wish = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True) if as_date else "1"
    busy = ServerAnswer(status=429, headers={"Retry-After": wish})
    async with running_server(busy, ServerAnswer()) as server, a_http_client(server) as http_client:
        began = time.monotonic()
        assert (await http_client.send(request_to(server))).status == 200
        assert time.monotonic() - began > 0.7
    assert len(server.seen) == 2


@pytest.mark.parametrize("wish", ["60", "Fri, 31 Dec 2099 23:59:59 GMT"])
async def test_no_time_to_try_again(wish: str) -> None:
    """When the wait would outlast the function's time, the caller is not kept waiting for nothing."""
    async with (
        running_server(ServerAnswer(status=503, headers={"Retry-After": wish})) as server,
        a_http_client(server) as http_client,
    ):
        began = time.monotonic()
        assert (await http_client.send(request_to(server))).status == 503
        assert time.monotonic() - began < 2
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    "slow",
    [
        ServerAnswer(after_s=30),
        ServerAnswer(body=[b"x"] * 1000, drip_s=0.05),
        ServerAnswer(status=302, headers={"Location": "/again"}, after_s=0.2),
    ],
)
async def test_time_is_bounded(slow: ServerAnswer) -> None:
    """The declared time holds for everything together: silence, a trickle, a chain of redirects."""
    async with running_server(slow) as server, a_http_client(server) as http_client:
        began = time.monotonic()
        with pytest.raises(NoAnswer, match=r"0\.3 s"):
            await http_client.send(request_to(server, timeout_ms=300, retries=3))
        assert time.monotonic() - began < 2


async def test_huge_answers_are_not_read_to_the_end() -> None:
    """Reading stops at the limit, and the connection with it."""
    megabytes = ServerAnswer(body=[b"x" * 65536] * 800)
    async with running_server(megabytes) as server, a_http_client(server) as http_client:
        reply = await http_client.send(request_to(server))
        assert (len(reply.body), reply.complete) == (READ_LIMIT, False)
        await asyncio.sleep(0.05)
        assert server.sent_bytes < 40 * 1024 * 1024


async def test_an_answer_of_exactly_the_limit() -> None:
    """An answer that just fits is complete."""
    async with (
        running_server(ServerAnswer(body=b"x" * READ_LIMIT)) as server,
        a_http_client(server) as http_client,
    ):
        reply = await http_client.send(request_to(server))
    assert (len(reply.body), reply.complete) == (READ_LIMIT, True)


async def test_redirects_at_home() -> None:
    """A redirect within the same server keeps everything; 303 fetches the result of what was done."""
    moved = ServerAnswer(status=308, headers={"Location": "/new?a=1"})
    done = ServerAnswer(status=303, headers={"Location": "result"})
    async with running_server(moved, done, ServerAnswer()) as server, a_http_client(server) as http_client:
        await http_client.send(
            request_to(server, "/old/x", method="POST", secret_headers={"Authorization": "s"}, body={"a": 1})
        )
    assert [(seen.method, seen.target, seen.body) for seen in server.seen] == [
        ("POST", "/old/x", b'{"a": 1}'),
        ("POST", "/new?a=1", b'{"a": 1}'),
        ("GET", "/result", b""),
    ]
    assert [seen.headers.get("authorization") for seen in server.seen] == ["open s"] * 3
    assert "content-type" not in server.seen[2].headers


async def test_redirects_abroad() -> None:
    """Another server gets none of the author's headers, least of all the secret ones."""
    async with running_server() as other:
        moved = ServerAnswer(status=302, headers={"Location": f"{other.url}/x"})
        async with running_server(moved) as server, a_http_client(server, other) as http_client:
            await http_client.send(
                request_to(server, headers={"X-Mine": "1"}, secret_headers={"Authorization": "s"})
            )
    (seen,) = other.seen
    assert (seen.target, seen.headers["host"]) == ("/x", other.address)
    assert not {"authorization", "x-mine"} & set(seen.headers)


async def test_a_change_does_not_go_abroad() -> None:
    """A request that changes something is not repeated at another server."""
    async with running_server() as other:
        moved = ServerAnswer(status=307, headers={"Location": other.url})
        async with running_server(moved) as server, a_http_client(server, other) as http_client:
            with pytest.raises(RedirectRefused):
                await http_client.send(request_to(server, method="POST"))
    assert other.connections == 0


async def test_redirects_have_an_end() -> None:
    """A circle of redirects is left after the third."""
    async with (
        running_server(ServerAnswer(status=302, headers={"Location": "/again"})) as server,
        a_http_client(server) as http_client,
    ):
        with pytest.raises(RedirectRefused):
            await http_client.send(request_to(server))
    assert len(server.seen) == MAX_REDIRECTS + 1


async def test_what_was_done_before_a_broken_redirect_is_not_forgotten() -> None:
    """When a POST was answered and only its result cannot be fetched, the model must not repeat it."""
    async with running_server() as closed:
        pass
    done = ServerAnswer(status=303, headers={"Location": f"{closed.url}/result"})
    async with running_server(done) as server, a_http_client(server, closed) as http_client:
        with pytest.raises(Unreachable, match="unknown whether") as failure:
            await http_client.send(request_to(server, method="POST"))
    assert not failure.value.retryable


def test_never_from_encrypted_to_plain() -> None:
    """A redirect from https to http is refused."""
    request = build(http_function(url="https://api.test/a"), {}, {}, str)
    with pytest.raises(RedirectRefused, match="from https to http"):
        redirected(request, 302, "http://api.test/a")
    assert redirected(request, 302, "//www.api.test/b c").origin == Origin("https", "www.api.test", 443)
    assert redirected(request, 302, "?é").target == "/a?%C3%A9"


async def test_requests_side_by_side() -> None:
    """Many calls' requests run at the same time."""
    async with running_server(ServerAnswer(after_s=0.3)) as server, a_http_client(server) as http_client:
        began = time.monotonic()
        await asyncio.gather(*(http_client.send(request_to(server)) for _ in range(40)))
        assert time.monotonic() - began < 3
    assert len(server.seen) == 40
