"""A request is carried to its server and the reply brought back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any

import pytest

from handlers.http import CheckedNetwork, HttpClient, HttpRequest
from handlers.http.client import MAX_REDIRECTS, READ_LIMIT, redirected, retry_after
from handlers.http.errors import NoAnswer, RedirectRefused, Unreachable
from handlers.http.request import Origin, build
from tests.handlers.http_harness import LocalServer, ServerAnswer, http_function, running_server, until


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


async def test_request_is_sent_as_declared() -> None:
    """The server receives the declared method, target, headers, secrets and body, in UTF-8."""
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


async def test_connections_are_reused() -> None:
    """Successive requests to one server share a connection."""
    async with running_server() as server, a_http_client(server) as http_client:
        for _ in range(3):
            await http_client.send(request_to(server))
    assert (len(server.seen), server.connections) == (3, 1)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "bad",
    [ServerAnswer(status=502), ServerAnswer(status=503), ServerAnswer(status=504), ServerAnswer(drop=True)],
)
async def test_safe_methods_are_retried(method: str, bad: ServerAnswer) -> None:
    """GET and HEAD are retried as declared after a broken connection or a gateway error."""
    bodiless = ServerAnswer(status=bad.status, drop=bad.drop, body=b"")
    async with (
        running_server(bodiless, bodiless, ServerAnswer(body=b"")) as server,
        a_http_client(server) as http_client,
    ):
        reply = await http_client.send(request_to(server, method=method, retries=2))
    assert (reply.status, len(server.seen)) == (200, 3)


async def test_retries_are_limited() -> None:
    """After the last retry the failure is raised."""
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
async def test_unsafe_methods_are_sent_once(method: str, bad: ServerAnswer) -> None:
    """Unsafe methods are sent once, whatever the response."""
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
async def test_final_statuses_are_not_retried(status: int) -> None:
    """A final status is not retried."""
    async with running_server(ServerAnswer(status=status)) as server, a_http_client(server) as http_client:
        assert (await http_client.send(request_to(server, retries=3))).status == status
    assert len(server.seen) == 1


async def test_closed_port_is_unreachable() -> None:
    """A closed port raises Unreachable, and nothing was sent."""
    async with running_server() as server:
        pass
    async with a_http_client(server) as http_client:
        with pytest.raises(Unreachable, match="cannot be reached") as failure:
            await http_client.send(request_to(server, method="POST"))
    assert failure.value.retryable


@pytest.mark.parametrize("as_date", [False, True])
async def test_retry_after_is_respected(as_date: bool) -> None:
    """The client waits as long as Retry-After says."""
    wish = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True) if as_date else "1"
    busy = ServerAnswer(status=429, headers={"Retry-After": wish})
    async with running_server(busy, ServerAnswer()) as server, a_http_client(server) as http_client:
        assert (await http_client.send(request_to(server))).status == 200
    first, second = server.seen
    earliest = parsedate_to_datetime(wish) if as_date else first.at + timedelta(seconds=0.99)
    assert second.at >= earliest


NO_TIMES = (
    "\u00b2",
    "",
    "soon",
    "-1",
    "1e999",
    "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
    "Mon, 01 Jan 2026 00:00:00 +99999999999999999999",
    "Mon, \u00b2 Jan 2026 00:00:00 GMT",
)


@pytest.mark.parametrize("value", NO_TIMES)
async def test_retry_after_superscript_two_is_no_time(value: str) -> None:
    """A Retry-After that is neither seconds nor a date counts as absent: the retry follows at once."""
    assert retry_after(value, datetime.now(UTC)) is None
    busy = ServerAnswer(status=429, headers={"Retry-After": value})
    async with running_server(busy, ServerAnswer()) as server, a_http_client(server) as http_client:
        assert (await http_client.send(request_to(server))).status == 200
    assert len(server.seen) == 2


def test_retry_after_of_5000_digits_is_bounded() -> None:
    """Of a number of seconds, nine digits count; a date in the past is now."""
    now = datetime(2026, 11, 28, tzinfo=UTC)
    assert retry_after("9" * 5000, now) == timedelta(seconds=999_999_999)
    assert retry_after("Mon, 01 Jan 2001 00:00:00 -0000", now) == timedelta(0)
    assert retry_after("Sat, 28 Nov 2026 00:01:00 GMT", now) == timedelta(seconds=60)


@pytest.mark.parametrize("wish", ["60", "Fri, 31 Dec 2099 23:59:59 GMT"])
async def test_no_retry_beyond_the_time_limit(wish: str) -> None:
    """If the wait would exceed the time limit, the response is returned at once."""
    async with (
        running_server(ServerAnswer(status=503, headers={"Retry-After": wish})) as server,
        a_http_client(server) as http_client,
    ):
        async with asyncio.timeout(20):
            assert (await http_client.send(request_to(server))).status == 503
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    "slow",
    [
        ServerAnswer(after_s=30),
        ServerAnswer(body=[b"x"] * 1000, drip_s=0.05),
        ServerAnswer(status=302, headers={"Location": "/again"}, after_s=0.2),
    ],
)
async def test_time_limit_covers_the_whole_exchange(slow: ServerAnswer) -> None:
    """The time limit covers silence, slow bodies and redirects together."""
    async with running_server(slow) as server, a_http_client(server) as http_client:
        async with asyncio.timeout(20):
            with pytest.raises(NoAnswer, match=r"0\.3 s"):
                await http_client.send(request_to(server, timeout_ms=300, retries=3))


async def test_reading_stops_at_the_limit() -> None:
    """Reading stops at the limit, and the connection is closed."""
    megabytes = ServerAnswer(body=[b"x" * 65536] * 800)
    async with running_server(megabytes) as server, a_http_client(server) as http_client:
        reply = await http_client.send(request_to(server))
        assert (len(reply.body), reply.complete) == (READ_LIMIT, False)
        await until(lambda: server.closed)
        assert server.sent_bytes < 40 * 1024 * 1024


async def test_body_of_exactly_the_limit_is_complete() -> None:
    """A body of exactly the limit is complete."""
    async with (
        running_server(ServerAnswer(body=b"x" * READ_LIMIT)) as server,
        a_http_client(server) as http_client,
    ):
        reply = await http_client.send(request_to(server))
    assert (len(reply.body), reply.complete) == (READ_LIMIT, True)


async def test_redirect_within_a_server_keeps_the_request() -> None:
    """A redirect within a server keeps headers and body; after 303 the request is a GET."""
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


async def test_redirect_to_another_server_drops_headers() -> None:
    """Another server gets none of the author's headers."""
    async with running_server() as other:
        moved = ServerAnswer(status=302, headers={"Location": f"{other.url}/x"})
        async with running_server(moved) as server, a_http_client(server, other) as http_client:
            await http_client.send(
                request_to(server, headers={"X-Mine": "1"}, secret_headers={"Authorization": "s"})
            )
    (seen,) = other.seen
    assert (seen.target, seen.headers["host"]) == ("/x", other.address)
    assert not {"authorization", "x-mine"} & set(seen.headers)


async def test_unsafe_request_is_not_redirected_to_another_server() -> None:
    """An unsafe request is not sent to another server."""
    async with running_server() as other:
        moved = ServerAnswer(status=307, headers={"Location": other.url})
        async with running_server(moved) as server, a_http_client(server, other) as http_client:
            with pytest.raises(RedirectRefused):
                await http_client.send(request_to(server, method="POST"))
    assert other.connections == 0


async def test_redirects_are_limited() -> None:
    """A redirect loop ends after the third redirect."""
    async with (
        running_server(ServerAnswer(status=302, headers={"Location": "/again"})) as server,
        a_http_client(server) as http_client,
    ):
        with pytest.raises(RedirectRefused):
            await http_client.send(request_to(server))
    assert len(server.seen) == MAX_REDIRECTS + 1


async def test_failure_after_a_redirect_counts_as_sent() -> None:
    """If a POST was answered with a redirect that fails, the failure says that it may have been done."""
    async with running_server() as closed:
        pass
    done = ServerAnswer(status=303, headers={"Location": f"{closed.url}/result"})
    async with running_server(done) as server, a_http_client(server, closed) as http_client:
        with pytest.raises(Unreachable, match="unknown whether") as failure:
            await http_client.send(request_to(server, method="POST"))
    assert not failure.value.retryable


def test_redirect_from_https_to_http_is_refused() -> None:
    """A redirect from https to http is refused."""
    request = build(http_function(url="https://api.test/a"), {}, {}, str)
    with pytest.raises(RedirectRefused, match="from https to http"):
        redirected(request, 302, "http://api.test/a")
    assert redirected(request, 302, "//www.api.test/b c").origin == Origin("https", "www.api.test", 443)
    assert redirected(request, 302, "?é").target == "/a?%C3%A9"


async def test_requests_run_concurrently() -> None:
    """The requests of many calls run at the same time."""
    may_answer = asyncio.Event()
    async with (
        running_server(ServerAnswer(may_answer=may_answer)) as server,
        a_http_client(server) as http_client,
    ):
        sending = asyncio.gather(*(http_client.send(request_to(server)) for _ in range(40)))
        await until(lambda: len(server.seen) == 40)
        may_answer.set()
        assert {reply.status for reply in await sending} == {200}
