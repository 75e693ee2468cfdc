"""Exotel, as far as the HTTP face sees it: the applets of a flow, and a media socket."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect

from db import calls, carrier_calls
from db.calls import CallEnd, CallRecord
from db.ids import new_id
from tests.api.server_fixture import PUBLIC_URL, RunningServer, Tenant, create, http_client

SECRET = "the secret of the flow"
PATH = "the%20secret%20of%20the%20flow"


class Exotel:
    """One call to a number, from Exotel's side."""

    def __init__(self, server: RunningServer, to: str) -> None:
        self.server = server
        self.call_sid = new_id().hex
        self.to = to
        self.fields = {"CallSid": self.call_sid, "CallFrom": "09876543210", "CallTo": to}

    async def ask(
        self, webhook: str, *, secret: str = PATH, method: str = "GET", **more: str
    ) -> httpx.Response:
        """Have an applet ask."""
        url = f"{self.server.url}/webhooks/exotel/{secret}/{webhook}"
        fields = {**self.fields, **more}
        async with http_client() as client:
            if method == "GET":
                return await client.get(url, params=fields)
            return await client.post(url, json=fields)

    async def branches(self, **more: str) -> tuple[int, int]:
        """What the two Passthru applets are answered."""
        return (await self.ask("to-person", **more)).status_code, (
            await self.ask("again", **more)
        ).status_code

    async def url(self) -> str:
        """The address of the media socket, as this test reaches it."""
        answer = await self.ask("voice")
        assert answer.status_code == 200, answer.text
        public = str(answer.json()["url"])
        assert public.startswith(PUBLIC_URL.replace("https", "wss") + "/media/exotel/")
        assert public.endswith("?sample-rate=8000")
        return self.server.url.replace("http", "ws", 1) + public.removeprefix(
            PUBLIC_URL.replace("https", "wss")
        )

    @contextlib.asynccontextmanager
    async def media(self, url: str, call_sid: str | None = None) -> AsyncIterator[ClientConnection]:
        """The media socket, introduced."""
        async with connect(url, close_timeout=1) as socket:
            await socket.send(json.dumps({"event": "connected"}))
            start = {
                "stream_sid": "s-1",
                "call_sid": call_sid or self.call_sid,
                "account_sid": "exo",
                "media_format": {"encoding": "raw/slin", "sample_rate": "8000"},
            }
            await socket.send(json.dumps({"event": "start", "stream_sid": "s-1", "start": start}))
            yield socket

    async def record(self) -> CallRecord:
        """The row of the call."""
        return await carrier_calls.by_carrier_id(self.server.app_state.database, "exotel", self.call_sid)

    async def answered(self) -> CallRecord:
        """A call whose media stream has begun, and the row of it."""
        await self.ask("voice")
        call = await self.record()
        app = self.server.app_state
        return await calls.answered(app.database, call.account_id, call.id, app.clock.now())

    async def ended(self, reason: str = "goodbye") -> None:
        """End the call as an agent does."""
        call, app = await self.record(), self.server.app_state
        end = CallEnd(ended_by="agent", end_reason=reason, outcome=None, ended_at=app.clock.now())
        await calls.finish(app.database, call.account_id, call.id, end)


async def called(server: RunningServer, tenant: Tenant, *, template: bool = True, **number: Any) -> Exotel:
    """A call to a number of the tenant; `template`: whether an orchestrator answers it."""
    e164 = f"+91{new_id().int % 9_000_000_000 + 1_000_000_000}"
    made = await create(tenant.owner, "/numbers", {"e164": e164, "carrier": "exotel", **number})
    if template:
        agent = await tenant.agent(f"Billing {e164}")
        desk = {"name": f"Desk {e164}", "kind": "orchestrator", "status": "active", "number_id": made["id"]}
        route = {"name": "billing", "template_id": agent["id"], "when": "The caller asks about money."}
        await create(tenant.owner, "/templates", {**desk, "prompt": "You answer.", "routes": [route]})
    if number.get("fallback_number"):
        await server.app_state.number_directory.refresh()
    return Exotel(server, "0" + e164.removeprefix("+91"))
