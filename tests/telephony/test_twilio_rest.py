"""Twilio's REST API against a scripted local server."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from urllib.parse import parse_qs

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from telephony.bridge import ConferenceJoin
from telephony.carrier import DialRequest, TransferRequest
from telephony.errors import CallIsOver, CarrierError
from telephony.twilio.bridge import join_twiml
from telephony.twilio.rest import TwilioRest
from tests.telephony.media_harness import serving

DIAL = DialRequest(
    to="+14155550100",
    from_="+14155550199",
    answer_url="https://x/voice",
    status_url="https://x/status",
    ring_timeout_s=25,
)
OK = JSONResponse({"sid": "CA77", "status": "queued"}, status_code=201)


def refusal(status: int, code: int, **headers: str) -> Response:
    return JSONResponse(
        {"code": code, "message": "no", "status": status}, status_code=status, headers=headers
    )


@dataclass
class Twilio:
    """Answers each request with the next of `answers`, the last one repeatedly; a number is a delay in s."""

    answers: list[Response | float] = field(default_factory=lambda: [OK])
    seen: list[tuple[str, dict[str, list[str]], str]] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    rest: TwilioRest = field(init=False)

    async def answer(self, request: Request) -> Response:
        fields = parse_qs((await request.body()).decode())
        path: bytes = request.scope["raw_path"]
        self.seen.append(
            (f"{request.method} {path.decode()}", fields, request.headers.get("authorization", ""))
        )
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, float):
            await asyncio.sleep(answer)
            return OK
        return answer

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)


@pytest.fixture
async def twilio() -> AsyncIterator[Twilio]:
    fake = Twilio()
    app = Starlette(routes=[Route("/{path:path}", fake.answer, methods=["GET", "POST", "DELETE"])])
    async with serving(app) as address:
        fake.rest = TwilioRest("AC1", "secret", api_url=f"http://{address}/", timeout_s=1.5, sleep=fake.sleep)
        yield fake
        await fake.rest.aclose()


async def test_hang_up_completes_the_call(twilio: Twilio) -> None:
    """A hang-up is one POST with Status=completed, authenticated as the account."""
    await twilio.rest.hang_up("CA1")
    auth = "Basic " + base64.b64encode(b"AC1:secret").decode()
    assert twilio.seen == [("POST /2010-04-01/Accounts/AC1/Calls/CA1.json", {"Status": ["completed"]}, auth)]


@pytest.mark.parametrize("answer", [(404, 20404), (404, 0), (400, 21220)])
async def test_a_call_that_is_gone_counts_as_hung_up(twilio: Twilio, answer: tuple[int, int]) -> None:
    """Hanging up a call that has ended succeeds."""
    twilio.answers = [refusal(*answer)]
    await twilio.rest.hang_up("CA1")
    assert len(twilio.seen) == 1


async def test_dial_sends_what_twilio_needs_and_returns_the_call_sid(twilio: Twilio) -> None:
    """A dial request contains the webhooks with their methods and all progress events."""
    assert await twilio.rest.dial(DIAL) == "CA77"
    (path, fields, _), *others = twilio.seen
    assert not others
    assert path == "POST /2010-04-01/Accounts/AC1/Calls.json"
    assert fields == {
        "To": ["+14155550100"],
        "From": ["+14155550199"],
        "Url": ["https://x/voice"],
        "Method": ["POST"],
        "StatusCallback": ["https://x/status"],
        "StatusCallbackMethod": ["POST"],
        "StatusCallbackEvent": ["initiated", "ringing", "answered", "completed"],
        "Timeout": ["25"],
    }


async def test_transfer_gives_the_call_new_twiml(twilio: Twilio) -> None:
    """A transfer updates the live call with a Dial of the destination."""
    await twilio.rest.transfer("CA1", TransferRequest(to="+14155550111"))
    assert "<Number>+14155550111</Number>" in twilio.seen[0][1]["Twiml"][0]


async def test_a_transfer_of_a_call_that_is_gone_is_an_error(twilio: Twilio) -> None:
    """A transfer of a call that has ended raises an error."""
    twilio.answers = [refusal(404, 20404)]
    with pytest.raises(CarrierError) as caught:
        await twilio.rest.transfer("CA1", TransferRequest(to="+14155550111"))
    assert (caught.value.status, caught.value.code, caught.value.retryable) == (404, "20404", False)


async def test_429_is_retried_after_retry_after(twilio: Twilio) -> None:
    """Every request, including a dial, is retried after a 429 response when Retry-After has passed."""
    twilio.answers = [refusal(429, 20429, **{"Retry-After": "3"}), refusal(429, 20429), OK]
    assert await twilio.rest.dial(DIAL) == "CA77"
    assert len(twilio.seen) == 3
    assert twilio.waits[0] == 3.0
    assert 0.4 < twilio.waits[1] < 0.6


@pytest.mark.parametrize(
    ("status", "code", "is_refused"),
    [(401, 20003, True), (403, 20005, True), (400, 21211, False), (404, 20404, False)],
)
async def test_a_refused_account_is_told_from_a_refused_request(
    twilio: Twilio, status: int, code: int, is_refused: bool
) -> None:
    """Credentials and the state of the account concern every request, a number only its own."""
    twilio.answers = [refusal(status, code)]
    with pytest.raises(CarrierError) as caught:
        await twilio.rest.dial(DIAL)
    assert (caught.value.account_refused, caught.value.retryable) == (is_refused, False)


async def test_long_retry_after_is_raised(twilio: Twilio) -> None:
    """A Retry-After above the limit is raised at once, with its duration."""
    twilio.answers = [refusal(429, 20429, **{"Retry-After": "60"})]
    with pytest.raises(CarrierError) as caught:
        await twilio.rest.hang_up("CA1")
    assert (caught.value.retryable, caught.value.retry_after_s, twilio.waits) == (True, 60.0, [])


async def test_hang_up_is_retried(twilio: Twilio) -> None:
    """5xx responses and timeouts of a hang-up are retried with increasing waits."""
    twilio.answers = [refusal(503, 0), 6.0, refusal(500, 20500), OK]
    await twilio.rest.hang_up("CA1")
    assert len(twilio.seen) == 4
    assert twilio.waits == sorted(twilio.waits)


async def test_attempts_are_bounded(twilio: Twilio) -> None:
    """After four attempts the last error is raised as retryable."""
    twilio.answers = [refusal(503, 20503)]
    with pytest.raises(CarrierError) as caught:
        await twilio.rest.hang_up("CA1")
    assert len(twilio.seen) == 4
    assert (caught.value.status, caught.value.retryable) == (503, True)


@pytest.mark.parametrize("answer", [refusal(500, 20500), 2.0])
async def test_a_dial_that_may_have_worked_is_not_repeated(twilio: Twilio, answer: Response | float) -> None:
    """After a 5xx response or a timeout a dial is not retried, and the error is uncertain."""
    twilio.answers = [answer, OK]
    with pytest.raises(CarrierError) as caught:
        await twilio.rest.dial(DIAL)
    assert len(twilio.seen) == 1
    assert caught.value.uncertain


async def test_a_refusal_is_final_and_keeps_twilios_code(twilio: Twilio) -> None:
    """An invalid number is an error with Twilio's code that is not retryable."""
    twilio.answers = [refusal(400, 21211)]
    with pytest.raises(CarrierError, match="21211") as caught:
        await twilio.rest.dial(DIAL)
    assert (len(twilio.seen), caught.value.code, caught.value.retryable) == (1, "21211", False)
    assert not caught.value.uncertain


async def test_response_that_is_not_json_is_an_error(twilio: Twilio) -> None:
    """A response with status 200 that is not JSON is an error."""
    twilio.answers = [Response("<html>", status_code=201)]
    with pytest.raises(CarrierError) as caught:
        await twilio.rest.dial(DIAL)
    assert caught.value.uncertain


async def test_a_refused_connection_is_tried_again_even_for_a_dial() -> None:
    """A refused connection is retried also for a dial, and the error is not uncertain."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    with contextlib.closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))
        rest = TwilioRest("AC1", "secret", api_url=f"http://127.0.0.1:{unused.getsockname()[1]}", sleep=sleep)
        with pytest.raises(CarrierError) as caught:
            await rest.dial(DIAL)
        await rest.aclose()
    assert (caught.value.status, caught.value.uncertain, len(waits)) == (0, False, 3)
    assert "secret" not in str(caught.value)


async def test_call_id_is_one_path_segment(twilio: Twilio) -> None:
    """A call id with path characters is sent as one path segment."""
    await twilio.rest.hang_up("../AC2/x")
    assert twilio.seen[0][0] == "POST /2010-04-01/Accounts/AC1/Calls/..%2FAC2%2Fx.json"


JOIN = ConferenceJoin(
    name="handoff-1", party="caller", then_url="https://x/resume?leg=1", events_url="https://x/conference"
)


async def test_a_caller_is_led_into_a_conference(twilio: Twilio) -> None:
    """The live call gets TwiML with the conference, the action, and the redirect behind it."""
    await twilio.rest.join("CA77", JOIN)
    path, fields, _ = twilio.seen[0]
    assert path == "POST /2010-04-01/Accounts/AC1/Calls/CA77.json"
    assert fields["Twiml"] == [join_twiml(JOIN)]


async def test_a_call_that_is_over_cannot_be_led(twilio: Twilio) -> None:
    """The refusal says that the call has ended; a lost answer does not, and is not repeated."""
    twilio.answers = [refusal(400, 21220)]
    with pytest.raises(CallIsOver):
        await twilio.rest.join("CA77", JOIN)
    with pytest.raises(CallIsOver):
        await twilio.rest.redirect("CA77", "https://x/resume")
    assert not await twilio.rest.is_live("CA77")
    twilio.answers = [refusal(500, 20500)]
    twilio.seen.clear()
    with pytest.raises(CarrierError) as refused:
        await twilio.rest.join("CA77", JOIN)
    assert refused.value.uncertain
    assert len(twilio.seen) == 1


async def test_calls_between_two_numbers(twilio: Twilio) -> None:
    """Calls that were made before are left out; a call may be over already."""
    calls = [
        {"sid": "CA1", "status": "ringing", "date_created": "Sat, 28 Nov 2026 12:00:01 +0000"},
        {"sid": "CA2", "status": "completed", "date_created": "Sat, 28 Nov 2026 12:00:02 +0000"},
        {"sid": "CA3", "status": "ringing", "date_created": "Sat, 28 Nov 2026 11:00:00 +0000"},
        {"sid": "CA4", "status": "queued", "date_created": None},
    ]
    twilio.answers = [JSONResponse({"calls": calls, "next_page_uri": None})]
    since = datetime(2026, 11, 28, 12, 0, 0, 500_000, tzinfo=UTC)
    found = await twilio.rest.find_calls(from_="+14155550199", to="+14155550100", since=since)
    assert found == ["CA1", "CA2", "CA4"]
    assert "From=%2B14155550199" in twilio.seen[0][0] or twilio.seen[0][0].startswith("GET")


async def test_answering_machines_are_detected_where_asked(twilio: Twilio) -> None:
    """Only a dial request that asks for it has Twilio find out who answers."""
    await twilio.rest.dial(DIAL)
    await twilio.rest.dial(replace(DIAL, detect_machine=True))
    assert [fields.get("MachineDetection") for _, fields, _ in twilio.seen] == [None, ["Enable"]]
