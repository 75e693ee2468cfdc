"""A server that stops: what it still answers, and when it is gone."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator

import httpx
import pytest
from websockets.asyncio.client import connect

from tests.api.server_fixture import RunningServer, http_client, serving
from tests.api.twilio import StandIn, Twilio, close_code
from voicebot.config import Settings


@pytest.fixture
async def server(settings: Settings) -> AsyncIterator[RunningServer]:
    """A server of the test's own."""
    async with serving(settings) as running:
        yield running


async def test_a_draining_server_accepts_no_stream(twilio: Twilio, server: RunningServer) -> None:
    """While draining /readyz says 503 and media sockets are refused; webhooks are still answered."""
    await twilio.post("voice")
    server.app_state.draining = True
    async with http_client() as client:
        assert (await client.get(f"{server.url}/readyz")).status_code == 503
        assert (await client.get(f"{server.url}/healthz")).status_code == 200
    url = server.url.replace("http", "ws", 1) + "/media/twilio"
    async with connect(url) as socket:
        assert await close_code(socket) == 1012
    assert (await twilio.post("resume")).token


async def test_a_server_that_takes_the_answers_of_people_takes_no_callers(
    twilio: Twilio, server: RunningServer, call_registry: StandIn
) -> None:
    """Alone, it waits for people whom it has called; the stream of somebody who calls is refused."""
    reply = await twilio.post("voice")
    server.app_state.draining = call_registry.takes_answers = True
    async with twilio.media(reply.token) as socket:
        assert await close_code(socket) == 1012
    assert not call_registry.answered


async def test_calls_end_before_the_server_stops(
    server: RunningServer, twilio: Twilio, call_registry: StandIn
) -> None:
    """After SIGTERM the call continues and webhooks are answered; the server exits when the call ends."""
    reply = await twilio.post("voice")
    call_registry.hurries = False
    async with twilio.media(reply.token) as socket:
        async with asyncio.timeout(30):
            await call_registry.arrived.wait()
        (call_id,) = call_registry.answered
        server.call_server.handle_exit(signal.SIGTERM, None)
        async with asyncio.timeout(30):
            while not server.app_state.draining:
                await asyncio.sleep(0.01)
        assert (await twilio.post("resume")).token
        assert socket.close_code is None
        await call_registry.end(call_id, ended_by="caller", reason="hangup")
        assert await close_code(socket) == 1000
        async with asyncio.timeout(30):
            while server.call_server.servers[0].is_serving():
                await asyncio.sleep(0.01)
    with pytest.raises(httpx.ConnectError):
        await twilio.post("resume")
