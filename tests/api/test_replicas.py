"""The guide to scaling, with two replicas on two ports: each request of a call reaches another one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from tests.api.server_fixture import RunningServer, Tenant, client, metric, serving
from tests.api.twilio import StandIn, Twilio, called, close_code
from voicebot.config import Settings

SECRET = {"VOICEBOT_SECRET_KEY": "a secret key that both replicas have"}


@pytest.fixture
async def server(settings: Settings) -> AsyncIterator[RunningServer]:
    """The first replica."""
    async with serving(settings.replace(SECRET)) as running:
        use_stand_in(running)
        yield running


@pytest.fixture
async def other(settings: Settings, tmp_path: Path) -> AsyncIterator[RunningServer]:
    """The second replica, with a data directory of its own."""
    own = {**SECRET, "VOICEBOT_DATA_DIR": str(tmp_path / "other")}
    async with serving(settings.replace(own)) as running:
        use_stand_in(running)
        yield running


@pytest.fixture
async def twilio(server: RunningServer, tenant: Tenant) -> Twilio:
    """A call whose webhooks the first replica receives."""
    return await called(server, tenant)


def use_stand_in(replica: RunningServer) -> None:
    """Have a stand-in take the calls of a replica."""
    replica.app_state.call_registry = stand_in = StandIn()
    replica.app_state.metrics.watch_live(lambda: stand_in.live)


def at(replica: RunningServer, twilio: Twilio) -> Twilio:
    """Return the same call; its next requests reach another replica."""
    same = Twilio(replica, twilio.form["To"])
    same.form = twilio.form
    return same


async def test_webhook_and_stream_of_a_call_reach_different_replicas(
    server: RunningServer, other: RunningServer, twilio: Twilio, tenant: Tenant
) -> None:
    """A token of one replica opens a stream at the other one, once in both; either ends the call."""
    token = (await twilio.post("voice")).token
    async with at(other, twilio).media(token) as socket:
        registry = other.app_state.call_registry
        assert isinstance(registry, StandIn)
        async with asyncio.timeout(60):
            await registry.arrived.wait()
        async with twilio.media(token) as replayed:
            assert await close_code(replayed) == 1008
        live = [await metric(each.url, "voicebot_calls_live") for each in (server, other)]
        assert live == [0, 1]
        (call,) = registry.answered.values()
        async with client(other.url, tenant.keys["owner"]) as api:
            assert (await api.post(f"/calls/{call.id}/end")).status_code == 200
        assert await close_code(socket) == 1000


async def test_the_stream_that_a_draining_replica_refuses_opens_at_the_other(
    server: RunningServer, other: RunningServer, twilio: Twilio
) -> None:
    """A draining replica closes the stream; the resume of the other one leads to a stream there."""
    await twilio.post("voice")
    server.app_state.draining = True
    async with connect(server.url.replace("http", "ws", 1) + "/media/twilio") as socket:
        assert await close_code(socket) == 1012
    again = at(other, twilio)
    async with again.media((await again.post("resume")).token):
        registry = other.app_state.call_registry
        assert isinstance(registry, StandIn)
        async with asyncio.timeout(60):
            await registry.arrived.wait()
        await registry.drain(0)
