"""Status callbacks that a carrier repeats."""

from __future__ import annotations

from typing import Any

import pytest

from db import carrier_calls
from telephony.webhook import WebhookRequest
from tests.api.server_fixture import RunningServer, Tenant
from tests.api.twilio import called
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
    settled = SettledRequests()
    for request in (b"1", b"2", b"3"):
        settled.add(request)
    assert [request in settled for request in (b"1", b"2", b"3")] == [False, True, True]
    settled.clear()
    assert b"3" not in settled


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
