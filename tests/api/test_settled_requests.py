"""Status callbacks that a carrier repeats."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import pytest
from prometheus_client import Histogram

from db import carrier_calls
from telephony.webhook import WebhookRequest
from tests.api.server_fixture import PUBLIC_URL, RunningServer, Tenant, metric, signed
from tests.api.twilio import Twilio, called
from voicebot.api import protocols
from voicebot.api.carriers import settled_requests, webhook_path
from voicebot.api.carriers.settled_requests import SettledRequests, fingerprint

SCOPE: dict[str, Any] = {
    "method": "POST",
    "scheme": "https",
    "root_path": "",
    "raw_path": b"/webhooks/twilio/status",
    "query_string": b"call=1",
    "headers": [(b"host", b"x"), (b"x-twilio-signature", b"abc")],
}


@pytest.mark.parametrize(
    "other",
    [
        {"method": "GET"},
        {"scheme": "http"},
        {"root_path": "/bot"},
        {"raw_path": b"/webhooks/twilio/stream"},
        {"query_string": b"call=2"},
        {"headers": [(b"host", b"x"), (b"x-twilio-signature", b"abd")]},
        {"headers": [(b"host", b"x")]},
        {"headers": [(b"x-twilio-signature", b"abc"), (b"host", b"x")]},
    ],
)
def test_any_difference_is_another_request(other: dict[str, Any]) -> None:
    """Method, URL, credentials and body are what a signature covers, so all of them count."""
    assert fingerprint(SCOPE, b"a=1") == fingerprint(dict(SCOPE), b"a=1")
    assert fingerprint(SCOPE | other, b"a=1") != fingerprint(SCOPE, b"a=1")
    assert fingerprint(SCOPE, b"a=2") != fingerprint(SCOPE, b"a=1")


def test_the_oldest_request_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many are remembered."""
    monkeypatch.setattr(settled_requests, "MOST", 2)
    settled, seconds = SettledRequests(), Histogram("seconds", "", registry=None)
    for request in (b"1", b"2", b"3"):
        settled.add(request, seconds)
    assert [settled.seconds(request) for request in (b"1", b"2", b"3")] == [None, seconds, seconds]
    settled.clear()
    assert settled.seconds(b"3") is None


async def test_a_repetition_is_not_verified_again(
    server: RunningServer, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is answered like the first one; with another signature or status it is another request."""
    parsed: list[str] = []

    class Counting(WebhookRequest):
        @classmethod
        def received(cls, **request: Any) -> WebhookRequest:
            parsed.append(request["body"].decode())
            return WebhookRequest.received(**request)

    call = await called(server, tenant)
    await call.post("voice")
    monkeypatch.setattr(webhook_path, "WebhookRequest", Counting)
    first, again = [await call.post("status", CallStatus="ringing") for _ in range(2)]
    assert len(parsed) == 1
    assert again.response.status_code == first.response.status_code == 204
    assert again.response.content == b""
    for response in (first.response, again.response):
        del response.headers["date"]  # a second may have passed
    assert again.response.headers == first.response.headers
    forged = await call.post("status", CallStatus="ringing", headers={"X-Twilio-Signature": "abc"})
    assert forged.response.status_code == 403
    await call.post("status", CallStatus="in-progress")
    assert len(parsed) == 3


async def test_news_of_a_call_that_comes_later_is_not_settled(server: RunningServer, tenant: Tenant) -> None:
    """A status of an unknown call is answered, and stored when it is repeated after the call is known."""
    call = await called(server, tenant)
    await call.post("status", CallStatus="in-progress")
    await call.post("voice")
    await call.post("status", CallStatus="in-progress")
    known = await carrier_calls.by_carrier_id(server.app_state.database, "twilio", call.call_sid)
    assert known.carrier_status == "in_progress"


COUNT = 'voicebot_webhook_seconds_count{carrier="twilio",status="204",webhook="status"}'
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n"


def raw(call: Twilio, status: str, *headers: str) -> bytes:
    """A status callback as Twilio sends it."""
    form = {**call.form, "CallStatus": status}
    body = urlencode(form)
    lines = [
        "POST /webhooks/twilio/status HTTP/1.1",
        "Host: voicebot",
        f"X-Twilio-Signature: {signed(f'{PUBLIC_URL}/webhooks/twilio/status', form)['X-Twilio-Signature']}",
        "Content-Type: application/x-www-form-urlencoded",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join([*lines, "", body]).encode()


@contextlib.asynccontextmanager
async def connection(
    server: RunningServer,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to the server; nothing on it takes longer than 60 s."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    async with asyncio.timeout(60):
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            yield reader, writer
        finally:
            writer.close()


async def heads(reader: asyncio.StreamReader, count: int) -> list[bytes]:
    """The heads of so many answers without a body."""
    return [await reader.readuntil(b"\r\n\r\n") for _ in range(count)]


async def test_repetitions_in_the_same_data_are_answered_in_order(
    server: RunningServer, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The application is started for what is new, each is counted, and the connection stays open."""
    call = await called(server, tenant)
    await call.post("voice")
    known, new = raw(call, "ringing"), raw(call, "in-progress")
    async with connection(server) as (reader, writer):
        writer.write(known)
        await heads(reader, 1)
        before = await metric(server.url, COUNT)
        writer.write(known + known + new + known)
        answers = await heads(reader, 4)
        assert all(answer.startswith(NO_CONTENT) and b"date: " in answer for answer in answers)
        assert await metric(server.url, COUNT) == before + 4
        monkeypatch.setattr(server.app_state.status_writer, "store", None)
        for part in (known[:40], known[40:-10], known[-10:]):
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        assert (await heads(reader, 1))[0].startswith(NO_CONTENT)


async def test_a_repetition_that_closes_its_connection(server: RunningServer, tenant: Tenant) -> None:
    """It is answered, with the same header as by the application."""
    call = await called(server, tenant)
    await call.post("voice")
    answers = []
    for _ in range(2):
        async with connection(server) as (reader, writer):
            writer.write(raw(call, "ringing", "Connection: close"))
            answers.append(await reader.read())
    assert all(answer.startswith(NO_CONTENT) for answer in answers)
    assert all(b"connection: close\r\n" in answer for answer in answers)


async def test_a_client_that_waits_to_send_the_body_is_told_to(server: RunningServer, tenant: Tenant) -> None:
    """`Expect: 100-continue` is answered before the body, also of a request that repeats a settled one."""
    call = await called(server, tenant)
    await call.post("voice")
    head, _, body = raw(call, "ringing", "Expect: 100-continue").partition(b"\r\n\r\n")
    for _ in range(2):
        async with connection(server) as (reader, writer):
            writer.write(head + b"\r\n\r\n")
            assert (await heads(reader, 1))[0].startswith(b"HTTP/1.1 100 Continue")
            writer.write(body)
            assert (await heads(reader, 1))[0].startswith(NO_CONTENT)


async def test_a_large_body_is_refused_before_it_is_complete(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a small one is waited for."""
    size = server.app_state.limits.webhook_body_bytes + 1
    monkeypatch.setattr(protocols, "HELD_BYTES", 1024)
    async with connection(server) as (reader, writer):
        head = "POST /webhooks/twilio/status HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head.encode() + b"%x\r\n" % (2 * size) + b"x" * size)
        assert (await heads(reader, 1))[0].startswith(b"HTTP/1.1 413 ")
