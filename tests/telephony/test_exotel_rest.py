"""Exotel's REST API: the requests, and the meaning of each answer."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from telephony.carrier import DialRequest
from telephony.errors import CarrierError
from telephony.exotel.rest import ExotelRest
from tests.telephony.media_harness import serving

REQUEST = DialRequest(
    to="+919876543210",
    from_="+918045678901",
    answer_url="https://bot.example.com/webhooks/exotel/s/voice?call=1",
    status_url="https://bot.example.com/webhooks/exotel/s/status?call=1",
    ring_timeout_s=25,
    media_url="wss://bot.example.com/media/exotel",
    token="t-1",
)
SINCE = datetime(2026, 11, 28, 18, 30, tzinfo=UTC)


class Api:
    """Answers one request after another as the test says, and keeps what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, list[tuple[str, str]], str]] = []
        self.answer: Callable[[], Response] = lambda: Response("{}", 200)

    async def take(self, request: Request) -> Response:
        """Answer a request."""
        form = parse_qsl((await request.body()).decode())
        path = request.url.path
        fields = form or list(request.query_params.items())
        self.asked.append((request.method, path, fields, request.headers["authorization"]))
        return self.answer()


@contextlib.asynccontextmanager
async def account(api: Api) -> AsyncIterator[ExotelRest]:
    """The client of an account, pointed at an API."""
    app = Starlette(routes=[Route("/{path:path}", api.take, methods=["GET", "POST"])])
    async with serving(app) as address:
        rest = ExotelRest("exo", "key", "token", api_url=f"http://{address}/")
        yield rest
        await rest.aclose()


def call(**more: Any) -> Response:
    """An answer that shows a call."""
    return Response(json.dumps({"Call": {"Sid": "c-1", "Status": "queued", **more}}), 200)


@pytest.mark.parametrize(
    "body", ['{"Call":{"Sid":"c-1"}}', "<TwilioResponse><Call><Sid>c-1</Sid></Call></TwilioResponse>"]
)
async def test_a_call_is_placed_with_our_stream_and_status_callbacks(body: str) -> None:
    """The person is `From`, our number `CallerId`; the id is read from JSON and from XML."""
    api = Api()
    api.answer = lambda: Response(body, 200)
    async with account(api) as rest:
        assert await rest.dial(REQUEST) == "c-1"
    [(method, path, fields, authorization)] = api.asked
    assert (method, path) == ("POST", "/v1/Accounts/exo/Calls/connect")
    assert authorization == "Basic a2V5OnRva2Vu"
    assert fields == [
        ("From", "+919876543210"),
        ("CallerId", "+918045678901"),
        ("StreamUrl", "wss://bot.example.com/media/exotel/t-1?sample-rate=8000"),
        ("StreamType", "bidirectional"),
        ("TimeLimit", "14400"),
        ("TimeOut", "25"),
        ("StatusCallback", REQUEST.status_url),
        ("StatusCallbackEvents[0]", "terminal"),
        ("StatusCallbackEvents[1]", "answered"),
    ]


async def test_a_call_is_placed_into_the_flow() -> None:
    """The flow replaces our stream, and its applets get our id of the call."""
    api = Api()
    api.answer = call
    app = Starlette(routes=[Route("/{path:path}", api.take, methods=["POST"])])
    async with serving(app) as address:
        rest = ExotelRest("exo", "key", "token", api_url=f"http://{address}", flow_id="77")
        assert await rest.dial(replace(REQUEST, reference="our-id")) == "c-1"
        await rest.aclose()
    [(_, _, fields, _)] = api.asked
    form = dict(fields)
    assert form["Url"] == "http://my.exotel.com/exo/exoml/start_voice/77"
    assert (form["CustomField"], form["TimeOut"]) == ("our-id", "25")
    assert not {"StreamUrl", "StreamType"} & form.keys()


@pytest.mark.parametrize(
    ("status", "header", "pause_s", "is_uncertain"),
    [
        (429, None, 60.0, False), (429, "7", 7.0, False), (400, None, None, False), (403, None, None, False),
        (500, None, None, True),
    ],
)  # fmt: skip
async def test_a_refusal_says_whether_and_when_to_try_again(
    status: int, header: str | None, pause_s: float | None, is_uncertain: bool
) -> None:
    """429 is not carried out, and waits as long as Exotel says, or a minute; 5xx may have been."""
    api = Api()
    headers = {} if header is None else {"Retry-After": header}
    body = json.dumps({"RestException": {"Status": status, "Message": "no"}})
    api.answer = lambda: Response(body, status, headers)
    async with account(api) as rest:
        with pytest.raises(CarrierError, match="no") as refused:
            await rest.dial(REQUEST)
    error = refused.value
    assert (error.retry_after_s, error.uncertain) == (pause_s, is_uncertain)
    assert error.retryable is (status not in (400, 403))
    assert error.account_refused is (status == 403)
    assert len(api.asked) == 1


async def test_an_answer_without_an_id_is_uncertain() -> None:
    """The call may ring: it is looked for, not dialled again."""
    async with account(Api()) as rest:
        with pytest.raises(CarrierError) as failed:
            await rest.dial(REQUEST)
    assert failed.value.uncertain


async def test_a_call_whose_id_was_lost_is_found_by_its_numbers() -> None:
    """Calls to the person from our number, since a moment in Exotel's time zone; others are ignored."""
    api = Api()
    calls = [
        {"Sid": "c-1", "From": "09876543210", "PhoneNumber": "08045678901", "Status": "ringing"},
        {"Sid": "c-2", "From": "09876543210", "PhoneNumber": "08045678901", "Status": "completed"},
        {"Sid": "c-3", "From": "09000000000", "PhoneNumber": "08045678901", "Status": "ringing"},
    ]
    api.answer = lambda: Response(json.dumps({"Calls": calls}), 200)
    async with account(api) as rest:
        assert await rest.find_calls(from_=REQUEST.from_, to=REQUEST.to, since=SINCE) == ["c-1", "c-2"]
    assert ("DateCreated", "gte:2026-11-29 00:00:00") in api.asked[0][2]


@pytest.mark.parametrize(
    ("status", "is_live"), [("in-progress", True), ("completed", False), ("no-answer", False), ("", True)]
)
async def test_a_call_is_over_when_exotel_says_so(status: str, is_live: bool) -> None:
    """By Call Details; a status that is not known ends nothing."""
    api = Api()
    api.answer = lambda: call(Status=status)
    async with account(api) as rest:
        assert await rest.is_live("c-1") is is_live
    assert api.asked[0][:2] == ("GET", "/v1/Accounts/exo/Calls/c-1.json")


async def test_a_call_that_exotel_does_not_know_is_not_over() -> None:
    """404 is an error, not the end of a call."""
    api = Api()
    api.answer = lambda: Response("{}", 404)
    async with account(api) as rest:
        with pytest.raises(CarrierError):
            await rest.is_live("c-1")


def legs(*seconds: int) -> dict[str, object]:
    """The legs of a call as Call Details shows them: those of the caller and of the second party."""
    return {
        "Legs": [{"Leg": {"Id": number, "OnCallDuration": each}} for number, each in enumerate(seconds, 1)]
    }


@pytest.mark.parametrize(
    ("details", "outcome"),
    [
        ({}, None),
        (legs(9), None),
        (legs(21, 8) | {"Leg1Status": "completed", "Leg2Status": "completed"}, "completed"),
        (legs(21, 0) | {"Leg1Status": "completed", "Leg2Status": "busy"}, "busy"),
        (legs(21, 0) | {"Leg1Status": "completed", "Leg2Status": "canceled"}, "canceled"),
        (legs(21, 8) | {"Leg1Status": "completed", "Leg2Status": None}, "completed"),
        (legs(21, 0), "no_answer"),
        ({"Legs": [{"OnCallDuration": "9"}, {"OnCallDuration": "0", "Status": "busy"}]}, "busy"),
    ],
)
async def test_how_a_connection_ended_is_asked(details: dict[str, object], outcome: str | None) -> None:
    """By the status of the number's leg, or by its duration; there is no such leg if none was dialled."""
    api = Api()
    api.answer = lambda: call(Details=details)
    async with account(api) as rest:
        assert await rest.connected_outcome("c-1") == outcome
    assert api.asked[0][:3] == ("GET", "/v1/Accounts/exo/Calls/c-1.json", [("details", "true")])


async def test_without_an_account_nothing_is_asked() -> None:
    """The error names the variables."""
    rest = ExotelRest("", "", "")
    with pytest.raises(CarrierError, match="EXOTEL_ACCOUNT_SID"):
        await rest.dial(REQUEST)
