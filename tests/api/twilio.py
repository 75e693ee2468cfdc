"""Twilio, as far as the HTTP face sees it: signed webhooks, a media socket; and who takes calls."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol
from uuid import UUID
from xml.etree import ElementTree

import httpx
from websockets.asyncio.client import ClientConnection, connect

from db.calls import CallRecord
from db.ids import new_id
from telephony.media import MediaStream
from tests.api.server_fixture import (
    AUTH_TOKEN,
    PUBLIC_URL,
    RunningServer,
    Tenant,
    http_client,
    new_e164,
    signed,
)

Form = dict[str, str]


class Served(Protocol):
    """A server, in this process or another one."""

    @property
    def url(self) -> str:
        """Where it is."""
        ...


@dataclass(slots=True)
class Reply:
    """What a webhook was answered."""

    response: httpx.Response

    @property
    def twiml(self) -> ElementTree.Element:
        """The document."""
        assert self.response.headers["Content-Type"].startswith("text/xml")
        return ElementTree.fromstring(self.response.text)  # noqa: S314 - our own

    @property
    def verbs(self) -> list[str]:
        """The verbs of the TwiML response."""
        return [verb.tag for verb in self.twiml]

    @property
    def token(self) -> str:
        """What opens the media socket."""
        parameter = self.twiml.find("./Connect/Stream/Parameter")
        assert parameter is not None
        assert parameter.get("name") == "token"
        return parameter.get("value", "")


class Twilio:
    """One call to a number, from Twilio's side."""

    def __init__(self, server: Served, to: str) -> None:
        self.server = server
        self.form: Form = {
            "CallSid": f"CA{new_id().hex}",
            "AccountSid": "AC00000000000000000000000000000001",
            "From": new_e164(),
            "To": to,
            "CallStatus": "ringing",
            "Direction": "inbound",
        }

    @property
    def call_sid(self) -> str:
        """Twilio's id of the call."""
        return self.form["CallSid"]

    async def post(
        self, webhook: str, *, origin: str = PUBLIC_URL, headers: Mapping[str, str] | None = None, **more: str
    ) -> Reply:
        """Call a webhook; ``origin`` is the server as Twilio knows it."""
        form = {**self.form, **more}
        signature = signed(f"{origin}/webhooks/twilio/{webhook}", form, AUTH_TOKEN)
        async with http_client() as client:
            url = f"{self.server.url}/webhooks/twilio/{webhook}"
            return Reply(await client.post(url, data=form, headers={**signature, **(headers or {})}))

    @contextlib.asynccontextmanager
    async def media(self, token: str) -> AsyncIterator[ClientConnection]:
        """The media socket, opened as the TwiML said."""
        url = self.server.url.replace("http", "ws", 1) + "/media/twilio"
        async with connect(url, close_timeout=1) as socket:
            await socket.send(json.dumps({"event": "connected", "protocol": "Call", "version": "1.0.0"}))
            await socket.send(json.dumps(start_message(self.call_sid, token)))
            yield socket


async def called(server: RunningServer, tenant: Tenant) -> Twilio:
    """Return a call to a number of the tenant that an orchestrator answers."""
    orchestrator = await tenant.orchestrator()
    number = (await tenant.owner.get(f"/numbers/{orchestrator['number_id']}")).json()
    return Twilio(server, number["e164"])


async def close_code(socket: ClientConnection) -> int:
    """Return the code with which the server closes the socket."""
    async with asyncio.timeout(30):
        await socket.wait_closed()
    code = socket.close_code
    assert code is not None
    return code


def start_message(call_sid: str, token: str) -> dict[str, Any]:
    """Twilio's `start`."""
    stream_sid = f"MZ{new_id().hex}"
    start = {
        "streamSid": stream_sid,
        "accountSid": "AC00000000000000000000000000000001",
        "callSid": call_sid,
        "tracks": ["inbound"],
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        "customParameters": {"token": token},
    }
    return {"event": "start", "sequenceNumber": "1", "start": start, "streamSid": stream_sid}


@dataclass(slots=True)
class StandIn:
    """Takes calls instead of the reception: holds each until it is ended, and says nothing."""

    answered: dict[UUID, CallRecord] = field(default_factory=dict)
    ended: list[tuple[UUID, str, str]] = field(default_factory=list)
    ended_calls: int = 0
    prepared: list[UUID] = field(default_factory=list)
    announced: list[str] = field(default_factory=list)
    """The texts that were to be said by media sockets."""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    takes_answers: bool = False
    hurries: bool = True
    """Whether it ends its calls when the server wants to leave, or waits for them."""
    _over: dict[UUID, asyncio.Event] = field(default_factory=dict)

    async def answer(self, media: MediaStream, call: CallRecord) -> None:
        """Hold the call."""
        self._over[call.id] = asyncio.Event()
        self.answered[call.id] = call
        self.arrived.set()
        try:
            await self._over[call.id].wait()
        finally:
            del self._over[call.id]
            await media.close()

    async def end(
        self, call_id: UUID, *, ended_by: Literal["caller", "operator", "carrier", "system"], reason: str
    ) -> bool:
        """Let go of the call."""
        if call_id not in self._over:
            return False
        self.ended.append((call_id, ended_by, reason))
        self._over[call_id].set()
        return True

    def takeover(self, call_id: UUID) -> None:
        """No other process can take these calls over."""

    @property
    def live(self) -> int:
        """How many calls are held."""
        return len(self._over)

    async def drain(self, timeout_s: float) -> None:
        """Let go of all calls, or wait until they are over."""
        while self._over and not self.hurries:
            await asyncio.sleep(0.01)
        for over in self._over.values():
            over.set()

    async def prepare(self, call: CallRecord) -> None:
        """Load nothing."""

    async def announcement(self, account_id: UUID, template_id: UUID, text: str, sample_rate: int) -> bytes:
        """Note the text; synthesise nothing."""
        self.announced.append(text)
        return b""

    def known(self, call_id: UUID) -> CallRecord | None:
        """No call is known before its stream."""
        return None

    async def close(self, timeout_s: float) -> None:
        """Let go of all calls."""
        for over in self._over.values():
            over.set()

    async def prepare_greetings(self, account_id: UUID, template_id: UUID) -> None:
        """Remember what was to be prepared."""
        self.prepared.append(template_id)
