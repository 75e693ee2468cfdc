"""A third carrier is a package and a line in the registry: numbers, webhooks and media know it then."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest
from websockets.asyncio.client import connect

from tests.api.server_fixture import PUBLIC_URL, RunningServer, Tenant, create, http_client, new_e164, serving
from tests.api.twilio import StandIn, close_code
from tests.telephony.third_carrier import ACME
from voicebot.api.app_state import EndGrace
from voicebot.carriers import CARRIERS
from voicebot.config import Settings

SECRET = "a secret of Acme"


@pytest.fixture
async def server(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RunningServer]:
    """A server with an account at a third carrier."""
    monkeypatch.setitem(CARRIERS, ACME.name, ACME)  # the line in the registry
    grace = EndGrace(own_s=0.01, others_s=0.05)
    async with serving(settings.replace({"ACME_SECRET": SECRET}), grace=grace) as running:
        yield running


async def test_a_third_carrier_is_a_package_and_a_line(server: RunningServer, tenant: Tenant) -> None:
    """A number of it is created and called; the call's stream begins, and its end is known."""
    server.app_state.call_registry = registry = StandIn()
    agent = await tenant.agent()
    number = await create(tenant.owner, "/numbers", {"e164": new_e164(), "carrier": "acme"})
    desk = {"name": "Desk", "kind": "orchestrator", "status": "active", "number_id": number["id"]}
    route = {"name": "billing", "template_id": agent["id"], "when": "The caller asks about money."}
    await create(tenant.owner, "/templates", {**desk, "prompt": "You answer.", "routes": [route]})

    async def webhook(name: str, secret: str = SECRET, **fields: object) -> httpx.Response:
        async with http_client(headers={"X-Acme-Secret": secret}) as carrier:
            return await carrier.post(f"{server.url}/webhooks/acme/{name}", json={"call": "A1", **fields})

    told = {"from": new_e164(), "to": number["e164"]}
    assert (await webhook("voice", "guessed", **told)).status_code == 401
    answer = (await webhook("voice", **told)).json()
    assert answer["connect"] == PUBLIC_URL.replace("https", "wss") + "/media/acme"
    start = {"stream_sid": "s", "call_sid": "A1", "custom_parameters": {"token": answer["token"]}}
    async with connect(server.url.replace("http", "ws", 1) + "/media/acme") as socket:
        await socket.send(json.dumps({"event": "start", "start": start}))
        async with asyncio.timeout(30):
            await registry.arrived.wait()
        await webhook("status", hung_up=True)
        assert await close_code(socket) == 1000
    (call,) = (await tenant.owner.get("/calls")).json()["items"]
    assert (call["carrier"], call["carrier_call_id"], call["number_id"]) == ("acme", "A1", number["id"])
    listed = (await tenant.owner.get("/numbers", params={"carrier": "acme"})).json()["items"]
    assert [each["id"] for each in listed] == [number["id"]]
