"""What the errors of vendors' clients say about a provider: voicebot.providers.faults."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import openai
import pytest
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response

from voicebot.providers.faults import refusal

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def handshake(status: int, body: bytes = b"", **headers: str) -> InvalidStatus:
    """A websocket handshake that was answered with an HTTP status."""
    fields = Headers({name.replace("_", "-"): value for name, value in headers.items()})
    return InvalidStatus(Response(status, "", fields, body))


def answer(status: int, code: str | None, **headers: str) -> openai.APIStatusError:
    """An error of OpenAI's client."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    response: Any = httpx.Response(status, headers=fields, request=httpx.Request("POST", "https://x"))
    return openai.APIStatusError("refused", response=response, body={"code": code})


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (handshake(401), "unauthorized"),
        (handshake(403), "unauthorized"),
        (handshake(402), "billing"),
        (handshake(401, b'{"detail":{"status":"quota_exceeded"}}'), "billing"),
        (handshake(429), "rate_limited"),
        (handshake(500), "outage"),
        (answer(401, "invalid_api_key"), "unauthorized"),
        (answer(429, "rate_limit_exceeded"), "rate_limited"),
        (answer(429, "insufficient_quota"), "billing"),
        (TimeoutError(), "outage"),
        (ConnectionRefusedError(), "outage"),
        (None, "outage"),
    ],
    ids=repr,
)
def test_the_fault_of_an_error(error: BaseException | None, fault: str) -> None:
    """The status and the vendor's code decide; what names no cause is an outage."""
    assert refusal(error, NOW).fault == fault


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [("7", 7), ("0.5", 0.5), ("-3", 0), ("999999999", 86400), ("nan", None), ("soon", None), ("", None)],
)
def test_the_end_of_a_rate_limit(retry_after: str, seconds: float | None) -> None:
    """`Retry-After` in seconds counts, within a day; what cannot be read does not."""
    until = refusal(handshake(429, Retry_After=retry_after), NOW).until
    assert until == (None if seconds is None else NOW + timedelta(seconds=seconds))


def test_the_end_of_a_rate_limit_as_a_date() -> None:
    """`Retry-After` may be a date."""
    found = refusal(answer(429, None, Retry_After="Sun, 01 Mar 2026 12:00:30 GMT"), NOW)
    assert found.until == NOW + timedelta(seconds=30)


def test_a_reason_has_no_text_of_the_vendor() -> None:
    """The status or the class of the error is shown."""
    assert refusal(handshake(401, b"key sk-123 is wrong"), NOW).reason == "HTTP 401"
    assert refusal(TimeoutError("sk-123"), NOW).reason == "TimeoutError"
