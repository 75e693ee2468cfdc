"""Twilio's REST, driven by Twilio's own package, acting on live calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from twilio.base.exceptions import TwilioRestException
from twilio.http.async_http_client import AsyncTwilioHttpClient
from twilio.rest import Client

from tests.sandbox.twilio_server import (
    ACCOUNT_SID,
    AUTH_TOKEN,
    StandIn,
    running_vendor,
    settings,
    stand_in,
    tone,
)
from voicebot.sandbox.carrier import Call, Carrier, Phone, PhoneCall
from voicebot.sandbox.carrier.rest import TwilioRest
from voicebot.sandbox.vendors.faults import Fault, Faults


class _Redirected(AsyncTwilioHttpClient):  # type: ignore[misc]
    """The package's own client, but for the address."""

    def __init__(self, there: str) -> None:
        super().__init__()
        self._there = there

    async def request(self, method: str, url: str, *args: Any, **more: Any) -> Any:
        return await super().request(
            method, url.replace("https://api.twilio.com", self._there), *args, **more
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    server: StandIn
    carrier: Carrier
    rest_url: str
    faults: Faults
    http: list[_Redirected] = field(default_factory=list)

    def client(self, token: str = AUTH_TOKEN) -> Client:
        self.http.append(_Redirected(self.rest_url))
        return Client(ACCOUNT_SID, token, http_client=self.http[-1])

    async def live_call(self) -> Call:
        call = self.carrier.call(from_="+15550100", to="+15550199")
        async with asyncio.timeout(30):
            await call.answered.wait()
            while not (self.server.peers and self.server.peers[-1].heard):
                await call.line.next_frame()
        return call


@pytest.fixture
async def world() -> AsyncIterator[World]:
    faults = Faults()
    async with (
        stand_in() as server,
        Carrier(settings(server)) as carrier,
        running_vendor(TwilioRest(carrier, faults).application()) as rest_url,
    ):
        world = World(server=server, carrier=carrier, rest_url=rest_url, faults=faults)
        yield world
        for client in world.http:
            await client.close()


async def test_live_call_is_hung_up(world: World) -> None:
    """Status=completed ends a live call: its stream is stopped and its final status posted."""
    call = await world.live_call()
    await world.client().calls(call.sid).update_async(status="completed")
    assert await asyncio.wait_for(call.ended(), 30) == "completed"
    assert call.ended_by == "rest"
    assert world.server.peers[0].messages[-1]["event"] == "stop"
    fetched = await world.client().calls(call.sid).fetch_async()
    assert (fetched.status, fetched.direction, fetched.duration) == ("completed", "inbound", "0")
    assert fetched.start_time is not None


async def test_live_call_is_led_to_inline_twiml(world: World) -> None:
    """Twiml= interrupts the stream and is followed at once."""
    call = await world.live_call()
    updated = (
        await world.client().calls(call.sid).update_async(twiml="<Response><Say>One moment.</Say></Response>")
    )
    assert updated.status == "in-progress"
    await asyncio.wait_for(call.ended(), 30)
    assert (call.status, call.ended_by) == ("completed", "twiml")
    assert abs(call.recording().received).max() > 5000


async def test_live_call_is_led_to_another_address(world: World) -> None:
    """Url= interrupts the stream and fetches the document there."""
    call = await world.live_call()
    await world.client().calls(call.sid).update_async(url=f"{world.server.url}/webhooks/twilio/resume")
    await asyncio.wait_for(call.ended(), 30)
    assert len(world.server.sent("resume")) == 1
    assert world.server.sent("resume")[0]["CallStatus"] == "in-progress"


async def test_ended_call_cannot_be_changed(world: World) -> None:
    """A call that is over answers 21220, as Twilio does."""
    call = await world.live_call()
    call.hang_up()
    await call.ended()
    with pytest.raises(TwilioRestException) as error:
        await world.client().calls(call.sid).update_async(status="completed")
    assert (error.value.status, error.value.code) == (400, 21220)


async def test_unknown_call_is_not_found(world: World) -> None:
    """An unknown sid answers 404 with 20404."""
    with pytest.raises(TwilioRestException) as error:
        await world.client().calls("CA" + "0" * 32).fetch_async()
    assert (error.value.status, error.value.code) == (404, 20404)


async def test_wrong_token_is_refused_in_twilios_shape(world: World) -> None:
    """Bad credentials answer 401 with code, message, more_info and status."""
    with pytest.raises(TwilioRestException) as error:
        await world.client("wrong").calls("CA" + "0" * 32).fetch_async()
    assert (error.value.status, error.value.code) == (401, 20003)
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"{world.rest_url}/2010-04-01/Accounts/{ACCOUNT_SID}/Calls/CA0.json")
    assert answer.json() == {
        "code": 20003,
        "message": "Authenticate",
        "more_info": "https://www.twilio.com/docs/errors/20003",
        "status": 401,
    }


async def test_outbound_call_is_rung_answered_and_followed(world: World) -> None:
    """A dialled telephone rings, is answered by its person, and the call follows the given address."""
    spoke = asyncio.Event()

    async def person(call: PhoneCall) -> None:
        await call.line.next_frame()
        call.say(tone(100))
        spoke.set()
        while not (world.server.peers and world.server.peers[0].heard):
            await call.line.next_frame()
        call.hang_up()

    world.carrier.phones["+15550142"] = Phone(after_ms=50, person=person)
    status_url = f"{world.server.url}/webhooks/twilio/status"
    created = await world.client().calls.create_async(
        to="+15550142",
        from_="+15550199",
        url=f"{world.server.url}/webhooks/twilio/voice",
        status_callback=status_url,
        status_callback_event=["initiated", "ringing", "answered", "completed"],
    )
    assert created.status in ("queued", "ringing")
    call = world.carrier.calls[created.sid]
    assert await asyncio.wait_for(call.ended(), 30) == "completed"
    assert spoke.is_set()
    (voice,) = world.server.sent("voice")
    assert (voice["Direction"], voice["CallStatus"], voice["To"]) == (
        "outbound-api",
        "in-progress",
        "+15550142",
    )
    posted = world.server.sent("status")
    assert [params["CallStatus"] for params in posted] == ["queued", "ringing", "in-progress", "completed"]
    assert [params["SequenceNumber"] for params in posted] == ["0", "1", "2", "3"]


@pytest.mark.parametrize("outcome", ["busy", "no-answer", "failed"])
async def test_telephone_that_is_not_answered_reports_why(world: World, outcome: Any) -> None:
    """A dialled telephone that is busy, not answered or unreachable ends with that status, reported once."""
    world.carrier.phones["+15550142"] = Phone(outcome=outcome)
    created = await world.client().calls.create_async(
        to="+15550142",
        from_="+15550199",
        twiml="<Response><Hangup/></Response>",
        status_callback=f"{world.server.url}/webhooks/twilio/status",
    )
    call = world.carrier.calls[created.sid]
    assert await asyncio.wait_for(call.ended(), 30) == outcome
    assert [params["CallStatus"] for params in world.server.sent("status")] == [outcome]


async def test_ringing_call_can_be_cancelled(world: World) -> None:
    """Status=canceled ends a call that still rings."""
    world.carrier.phones["+15550142"] = Phone(after_ms=10_000)
    created = await world.client().calls.create_async(
        to="+15550142", from_="+15550199", twiml="<Response><Hangup/></Response>"
    )
    await world.client().calls(created.sid).update_async(status="canceled")
    assert await asyncio.wait_for(world.carrier.calls[created.sid].ended(), 30) == "canceled"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"to": "0555"}, 21211),
        ({"from_": "nobody"}, 21212),
        ({"url": "nowhere"}, 21205),
        ({"status_callback": "nowhere"}, 21609),
        ({"status_callback_event": ["shouted"]}, 21626),
        ({"twiml": "<Response><Shout/></Response>"}, 12100),
    ],
)
async def test_wrong_parameters_are_refused_with_twilios_codes(
    world: World, change: dict[str, Any], code: int
) -> None:
    """Each wrong parameter of a dial is refused with its own code, and no call is placed."""
    wanted = {"to": "+15550142", "from_": "+15550199", "url": "https://v.example/voice"}
    with pytest.raises(TwilioRestException) as error:
        await world.client().calls.create_async(**(wanted | change))
    assert (error.value.status, error.value.code) == (400, code)
    assert world.carrier.calls == {}


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [("unauthorized", 401, 20003), ("rate_limited", 429, 20429), ("broken", 500, 20500)],
)
async def test_ordered_refusals_come_in_twilios_shape(
    world: World, kind: Any, status: int, code: int
) -> None:
    """A fault that is an answer comes as often as ordered, worded as Twilio's; then all is well."""
    call = await world.live_call()
    world.faults.add(Fault(server="twilio", kind=kind, count=1, retry_after_s=7))
    async with httpx.AsyncClient(auth=(ACCOUNT_SID, AUTH_TOKEN)) as client:
        address = f"{world.rest_url}/2010-04-01/Accounts/{ACCOUNT_SID}/Calls/{call.sid}.json"
        refused = await client.get(address)
        assert (refused.status_code, refused.json()["code"]) == (status, code)
        assert refused.headers.get("Retry-After") == ("7" if kind == "rate_limited" else None)
        assert (await client.get(address)).status_code == 200
    call.hang_up()


async def test_hanging_and_dropped_requests_change_nothing(world: World) -> None:
    """A request that hangs or is cut is never answered, and the call continues."""
    call = await world.live_call()
    address = f"{world.rest_url}/2010-04-01/Accounts/{ACCOUNT_SID}/Calls/{call.sid}.json"
    faults: list[tuple[Any, Any]] = [
        ("hang", httpx.ReadTimeout),
        ("drop", (httpx.RemoteProtocolError, httpx.ReadError)),
    ]
    async with httpx.AsyncClient(auth=(ACCOUNT_SID, AUTH_TOKEN), timeout=0.5) as client:
        for kind, error in faults:
            world.faults.add(Fault(server="twilio", kind=kind, count=1))
            with pytest.raises(error):
                await client.post(address, data={"Status": "completed"})
    assert call.live
    call.hang_up()
