"""What every carrier's webhooks and tokens do: answer once whatever repeats, one stream a token, statuses.

Whole calls on every carrier are in `tests/calls/test_conformance*.py`. What only one carrier has (signatures,
applets, the shapes of its requests) is in `test_webhooks`, `test_media` and `test_exotel`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Protocol

import pytest
from websockets.asyncio.client import ClientConnection

from db import calls, carrier_calls
from db.calls import CallRecord
from db.pool import Database
from tests.api import exotel, twilio
from tests.api.server_fixture import RunningServer, Tenant, serving
from tests.api.twilio import StandIn, close_code
from voicebot.api.app_state import EndGrace
from voicebot.config import Settings


class Line(Protocol):
    """One call to a number, from its carrier's side."""

    carrier: str

    @property
    def call_sid(self) -> str:
        """The carrier's id of the call."""
        ...

    async def voice(self) -> str:
        """Ask what to do with the call; return the token of its stream."""
        ...

    def media(self, token: str) -> AbstractAsyncContextManager[ClientConnection]:
        """The media socket, introduced with a token."""
        ...

    async def status(self, word: str) -> int:
        """Report a status; return the answer's HTTP status."""
        ...

    def another(self) -> Line:
        """Another call to the same number."""
        ...


class TwilioLine:
    """A call over Twilio."""

    carrier = "twilio"

    def __init__(self, call: twilio.Twilio) -> None:
        self._call = call
        self.call_sid = call.call_sid
        self.media = call.media

    async def voice(self) -> str:
        """The token of the TwiML."""
        return (await self._call.post("voice")).token

    async def status(self, word: str) -> int:
        """A status callback."""
        return (await self._call.post("status", CallStatus=word)).response.status_code

    def another(self) -> Line:
        """Another call to the same number."""
        return TwilioLine(twilio.Twilio(self._call.server, self._call.form["To"]))


class ExotelLine:
    """A call over Exotel."""

    carrier = "exotel"

    def __init__(self, call: exotel.Exotel) -> None:
        self._call = call
        self.call_sid = call.call_sid

    async def voice(self) -> str:
        """The token in the address of the socket."""
        return (await self._call.url()).rpartition("/")[2].partition("?")[0]

    def media(self, token: str) -> AbstractAsyncContextManager[ClientConnection]:
        """The media socket at the address with a token."""
        address = self._call.server.url.replace("http", "ws", 1)
        return self._call.media(f"{address}/media/exotel/{token}?sample-rate=8000")

    async def status(self, word: str) -> int:
        """A status callback with the event that belongs to the status."""
        event = {"ringing": "ringing", "in-progress": "answered"}.get(word, "terminal")
        answer = await self._call.ask("status", method="POST", Status=word, EventType=event)
        return answer.status_code

    def another(self) -> Line:
        """Another call to the same number."""
        return ExotelLine(exotel.Exotel(self._call.server, self._call.to))


@pytest.fixture(scope="module")
async def server(shared_settings: Settings) -> AsyncIterator[RunningServer]:
    """A server with both carriers, which waits only briefly for a better source of how a call ended."""
    settings = shared_settings.replace({"EXOTEL_WEBHOOK_SECRET": exotel.SECRET, "VOICEBOT_DISPATCH": "off"})
    async with serving(settings, grace=EndGrace(own_s=0.01, others_s=0.05)) as running:
        yield running


@pytest.fixture(params=["twilio", "exotel"])
async def line(
    request: pytest.FixtureRequest,
    server: RunningServer,
    tenant: Tenant,
    call_registry: StandIn,  # noqa: ARG001 -- in place before the call
) -> Line:
    """A call to a number that an orchestrator answers."""
    if request.param == "twilio":
        return TwilioLine(await twilio.called(server, tenant))
    return ExotelLine(await exotel.called(server, tenant))


async def record(line: Line, database: Database) -> CallRecord:
    """The call's record."""
    return await carrier_calls.by_carrier_id(database, line.carrier, line.call_sid)


async def ended(line: Line, database: Database) -> CallRecord:
    """The call's record as soon as it has ended and was finalised, which derives its outcome."""
    async with asyncio.timeout(60):
        while (call := await record(line, database)).status != "ended" or call.outcome is None:
            await asyncio.sleep(0.01)
    return call


async def started(registry: StandIn) -> CallRecord:
    """The call whose stream has begun."""
    async with asyncio.timeout(60):
        await registry.arrived.wait()
    (call,) = registry.answered.values()
    return call


async def test_whatever_repeats_makes_one_call_and_one_lead(line: Line, tenant: Tenant) -> None:
    """Repeated, even at once, the webhook makes one call, and every answer has a fresh token."""
    tokens = await asyncio.gather(*(line.voice() for _ in range(8)))
    assert len(set(tokens)) == 8
    [call] = (await tenant.owner.get("/calls")).json()["items"]
    [lead] = (await tenant.owner.get("/leads")).json()["items"]
    assert (call["carrier"], call["carrier_call_id"]) == (line.carrier, line.call_sid)
    assert (lead["id"], lead["call_ids"]) == (call["lead_id"], [call["id"]])


async def test_the_token_of_each_answer_opens_the_stream(line: Line, call_registry: StandIn) -> None:
    """Whichever answer the carrier follows, its token opens the stream, which is over when the call is."""
    for token in [await line.voice() for _ in range(3)]:
        async with line.media(token) as socket:
            call = await started(call_registry)
            assert (call.carrier_call_id, call_registry.live) == (line.call_sid, 1)
            await call_registry.end(call.id, ended_by="system", reason="test")
            assert await close_code(socket) == 1000
        call_registry.arrived.clear()


async def test_a_token_opens_one_stream(line: Line, call_registry: StandIn) -> None:
    """Another socket with the same token, at the same moment or later, is closed with 1008."""
    token = await line.voice()
    async with line.media(token) as first, line.media(token) as second:
        codes = [asyncio.create_task(close_code(each)) for each in (first, second)]
        done, _ = await asyncio.wait(codes, return_when=asyncio.FIRST_COMPLETED, timeout=60)
        assert [each.result() for each in done] == [1008]
        await started(call_registry)
        assert call_registry.live == 1
        await call_registry.drain(0)
        await asyncio.gather(*codes)
    async with line.media(token) as later:
        assert await close_code(later) == 1008
    assert call_registry.live == 0


async def test_a_token_belongs_to_its_call(line: Line, call_registry: StandIn) -> None:
    """Another call's socket is not opened by it, and it is not used up by the attempt."""
    token, other = await line.voice(), line.another()
    await other.voice()
    async with other.media(token) as socket:
        assert await close_code(socket) == 1008
    assert call_registry.answered == {}


@pytest.mark.parametrize("token", ["guessed", "x" * 4000])
async def test_a_wrong_token_is_refused(line: Line, call_registry: StandIn, token: str) -> None:
    """A guessed one, a long one: 1008, and no call."""
    await line.voice()
    async with line.media(token) as socket:
        assert await close_code(socket) == 1008
    assert call_registry.answered == {}


@pytest.mark.parametrize(
    ("word", "ended_by", "reason"),
    [
        ("completed", "caller", "hangup"),
        ("canceled", "caller", "canceled"),
        ("no-answer", "caller", "no_answer"),
        ("busy", "carrier", "busy"),
        ("failed", "carrier", "failed"),
    ],
)
async def test_a_terminal_status_ends_the_call(
    line: Line, database: Database, word: str, ended_by: str, reason: str
) -> None:
    """A call that no process holds is ended by the carrier's word, and its lead with it."""
    await line.voice()
    assert await line.status(word) == 204
    call = await ended(line, database)
    assert (call.ended_by, call.end_reason) == (ended_by, reason)


@pytest.mark.parametrize(
    "order",
    [
        ("ringing", "in-progress", "completed"),
        ("completed", "in-progress", "ringing"),
        ("in-progress", "completed", "in-progress"),
        ("completed", "completed", "ringing"),
        ("busy", "completed", "failed"),
    ],
)
async def test_statuses_in_any_order(line: Line, database: Database, order: tuple[str, ...]) -> None:
    """The first terminal status ends the call once; later and repeated callbacks change nothing."""
    await line.voice()
    new = await record(line, database)
    await calls.answered(database, new.account_id, new.id, datetime.now(UTC))
    for word in order:
        assert await line.status(word) == 204
    call = await ended(line, database)
    first = next(word for word in order if word in ("completed", "busy"))
    assert (call.carrier_status, call.ended_by) == (first, {"busy": "carrier"}.get(first, "caller"))
    for word in (*order, "failed"):
        assert await line.status(word) == 204
    assert await record(line, database) == call


async def test_a_live_call_is_ended_by_its_carriers_word(line: Line, call_registry: StandIn) -> None:
    """A call is over when the carrier says so, although its socket is open: its process ends it."""
    async with line.media(await line.voice()) as socket:
        call = await started(call_registry)
        assert await line.status("completed") == 204
        assert await close_code(socket) == 1000
    assert call_registry.ended == [(call.id, "caller", "hangup")]


async def test_the_status_of_an_unknown_call_is_ignored(line: Line, tenant: Tenant) -> None:
    """It is taken note of, and makes no call."""
    assert await line.status("completed") == 204
    assert (await tenant.owner.get("/calls")).json()["items"] == []
