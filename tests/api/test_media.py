from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Literal

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from db import calls
from db.calls import CallEnd
from db.pool import Database
from tests.api.server_fixture import AUTH_TOKEN, RunningServer, Tenant, metric, serving, signed
from tests.api.twilio import StandIn, Twilio, close_code, start_message
from voicebot.api.app_state import EndGrace
from voicebot.api.limits import Limits
from voicebot.config import Settings


@pytest.fixture(scope="module")
async def server(shared_settings: Settings) -> AsyncIterator[RunningServer]:
    """A server that waits only briefly for another process to say how a call ended."""
    async with serving(shared_settings, grace=EndGrace(own_s=0.01, others_s=0.05)) as running:
        running.app_state.metrics.watch_live(lambda: running.app_state.call_registry.live)
        yield running


async def test_a_token_leads_to_the_call_registry(twilio: Twilio, call_registry: StandIn) -> None:
    """The socket that brings the webhook's token is that call, and is over when the call is."""
    reply = await twilio.post("voice")
    async with twilio.media(reply.token) as socket:
        async with asyncio.timeout(30):
            await call_registry.arrived.wait()
        (call,) = call_registry.answered.values()
        assert (call.carrier_call_id, call_registry.live) == (twilio.call_sid, 1)
        assert await metric(twilio.server.url, "voicebot_calls_live") == 1
        await call_registry.end(call.id, ended_by="system", reason="test")
        assert await close_code(socket) == 1000


async def test_a_stream_without_a_token_is_refused(twilio: Twilio, call_registry: StandIn) -> None:
    """1008, and no call."""
    await twilio.post("voice")
    async with twilio.media("") as socket:
        assert await close_code(socket) == 1008
    assert call_registry.answered == {}


async def test_a_socket_of_an_unknown_carrier_is_refused(server: RunningServer) -> None:
    """A carrier without credentials has no media socket."""
    with pytest.raises(Exception, match="403"):
        async with connect(server.url.replace("http", "ws", 1) + "/media/exotel"):
            pass


@pytest.mark.parametrize(
    ("ended_by", "reason", "label"), [("caller", "hangup", "hangup"), ("agent", "he was very kind", "agent")]
)
async def test_ended_calls_are_counted_by_reason(
    server: RunningServer,
    twilio: Twilio,
    call_registry: StandIn,
    database: Database,
    ended_by: Literal["caller", "agent"],
    reason: str,
    label: str,
) -> None:
    """An ended call is counted by who ended it and why; a model's own words are not used as a label."""
    counter = f'voicebot_calls_ended_total{{end_reason="{label}",ended_by="{ended_by}"}}'
    before = await metric(twilio.server.url, counter)
    reply = await twilio.post("voice")
    async with twilio.media(reply.token) as socket:
        async with asyncio.timeout(30):
            await call_registry.arrived.wait()
        (call,) = call_registry.answered.values()
        end = CallEnd(
            ended_by=ended_by, end_reason=reason, outcome=None, ended_at=server.app_state.clock.now()
        )
        await calls.finish(database, call.account_id, call.id, end)
        await call_registry.drain(0)
        await close_code(socket)
    async with asyncio.timeout(30):
        while await metric(twilio.server.url, counter) != before + 1:
            await asyncio.sleep(0.05)


async def test_an_operator_ends_a_live_call(twilio: Twilio, tenant: Tenant, call_registry: StandIn) -> None:
    """POST /calls/{id}/end ends the call as the operator, and is in the audit list."""
    reply = await twilio.post("voice")
    async with twilio.media(reply.token) as socket:
        async with asyncio.timeout(30):
            await call_registry.arrived.wait()
        (call_id,) = call_registry.answered
        response = await tenant.clients["operator"].post(f"/calls/{call_id}/end")
        assert response.status_code == 200
        assert await close_code(socket) == 1000
    assert call_registry.ended == [(call_id, "operator", "ended_by_operator")]


async def test_greetings_of_what_is_active_are_prepared(tenant: Tenant, call_registry: StandIn) -> None:
    """A template that becomes active has its greeting made; a draft does not."""
    agent = await tenant.agent(status="draft")
    assert call_registry.prepared == []
    await tenant.owner.post(f"/templates/{agent['id']}/activate")
    await tenant.owner.patch(
        f"/templates/{agent['id']}", json={"greeting": {"text": "Hi."}}, headers={"If-Match": "*"}
    )
    assert [str(each) for each in call_registry.prepared] == [agent["id"]] * 2


HANDSHAKE = "wss://bot.example.com/media/twilio"


@pytest.mark.parametrize(
    ("url", "token", "accepted"),
    [
        (HANDSHAKE, AUTH_TOKEN, True),
        (f"{HANDSHAKE}/", AUTH_TOKEN, True),
        (HANDSHAKE, "another token", False),
        ("wss://elsewhere.example.com/media/twilio", AUTH_TOKEN, False),
        (HANDSHAKE.replace("wss", "https", 1), AUTH_TOKEN, False),
    ],
)
async def test_the_signature_of_a_media_handshake_is_verified(
    server: RunningServer, url: str, token: str, accepted: bool
) -> None:
    """A handshake with a wrong X-Twilio-Signature is answered 403."""
    address = f"{server.url.replace('http', 'ws', 1)}/media/twilio"
    opening = connect(address, additional_headers=signed(url, {}, token))
    if accepted:
        async with opening:
            pass
    else:
        with pytest.raises(InvalidStatus, match="403"):
            await opening


async def test_a_media_handshake_must_be_signed_if_required(settings: Settings) -> None:
    """With TWILIO_REQUIRE_MEDIA_SIGNATURE, a handshake without a signature is answered 403."""
    required = settings.replace({"TWILIO_REQUIRE_MEDIA_SIGNATURE": "true"})
    async with serving(required) as server:
        address = f"{server.url.replace('http', 'ws', 1)}/media/twilio"
        with pytest.raises(InvalidStatus, match="403"):
            await connect(address)
        async with connect(address, additional_headers=signed(HANDSHAKE, {})):
            pass


async def test_half_open_media_sockets_are_capped(settings: Settings) -> None:
    """At the limit of sockets without a call, the oldest one is closed, and a call gets through."""
    async with serving(settings, limits=Limits(media_handshakes=3)) as server, AsyncExitStack() as stack:
        address = f"{server.url.replace('http', 'ws', 1)}/media/twilio"
        silent = [await stack.enter_async_context(connect(address)) for _ in range(5)]
        assert [await close_code(each) for each in silent[:2]] == [1013] * 2
        assert len(server.app_state.handshakes) == 3
        async with connect(address) as called_one:
            await called_one.send(json.dumps(start_message("CA1", "guessed")))
            assert await close_code(called_one) == 1008
        assert await close_code(silent[2]) == 1013
        assert await metric(server.url, 'voicebot_limit_reached_total{limit="media_handshakes"}') == 3
