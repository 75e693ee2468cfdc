"""A server that speaks its side of Twilio's protocol as documented: what the carrier's tests call."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import uvicorn
from aiohttp import web
from fastapi import FastAPI, Request, Response, WebSocket, WebSocketDisconnect
from twilio.request_validator import RequestValidator

from voicebot.sandbox.audio.mulaw import Samples, decode, encode
from voicebot.sandbox.carrier import CarrierSettings

ACCOUNT_SID = "AC" + "1" * 32
AUTH_TOKEN = "a token only tests know"


def tone(ms: float, hertz: float = 440.0, amplitude: float = 8000.0) -> Samples:
    """Make a sine."""
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(round(ms * 8)) / 8000)).astype(np.int16)


class Peer:
    """The server's end of one media stream."""

    def __init__(self, websocket: WebSocket) -> None:
        self.websocket = websocket
        self.stream_sid = ""
        self.start: dict[str, Any] = {}
        self.messages: list[dict[str, Any]] = []
        self.marks: list[tuple[str, float]] = []
        self.heard: list[Samples] = []
        self.arrived: list[float] = []
        self.nonsense: list[str] = []
        self.close_code: int | None = None
        self.over = asyncio.Event()
        self._news = asyncio.Condition()

    async def read(self) -> None:
        """Take everything the carrier sends."""
        with suppress(WebSocketDisconnect, RuntimeError):
            while True:
                await self._take(await self.websocket.receive_text())
        self.over.set()

    async def _take(self, raw: str) -> None:
        try:
            message = json.loads(raw)
            message["event"]
        except (ValueError, KeyError):
            self.nonsense.append(raw)
            return
        self.messages.append(message)
        if message["event"] == "start":
            self.start, self.stream_sid = message["start"], message["streamSid"]
        elif message["event"] == "media":
            self.arrived.append(asyncio.get_running_loop().time())
            self.heard.append(decode(base64.b64decode(message["media"]["payload"])))
        elif message["event"] == "mark":
            self.marks.append((message["mark"]["name"], asyncio.get_running_loop().time()))
        async with self._news:
            self._news.notify_all()

    async def until(self, condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
        """Wait until the messages so far satisfy a condition."""
        async with asyncio.timeout(timeout_s), self._news:
            await self._news.wait_for(condition)

    async def play(self, samples: Samples) -> None:
        await self.send("media", {"payload": base64.b64encode(encode(samples)).decode()})

    async def mark(self, name: str) -> None:
        await self.send("mark", {"name": name})

    async def clear(self) -> None:
        await self.websocket.send_json({"event": "clear", "streamSid": self.stream_sid})

    async def send(self, event: str, content: dict[str, Any]) -> None:
        await self.websocket.send_json({"event": event, "streamSid": self.stream_sid, event: content})

    def events(self, name: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["event"] == name]


Talk = Callable[[Peer], Awaitable[None]]


async def silent(peer: Peer) -> None:
    """Say nothing until the carrier ends the stream."""
    await peer.over.wait()


@dataclass
class StandIn:
    """The server: what it answers, how it talks, and what it was sent."""

    url: str = ""
    talk: Talk = silent
    voice: str | None = None
    resume: str = "<Response><Hangup/></Response>"
    status_code: int = 200
    requests: list[tuple[str, dict[str, str], bool]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    peers: list[Peer] = field(default_factory=list)

    def twiml(self) -> str:
        """Answer a call with a stream and a way back."""
        hooks = f"{self.url}/webhooks/twilio"
        media = self.url.replace("http", "ws", 1) + "/media/twilio"
        return self.voice or (
            f'<Response><Connect><Stream url="{media}" statusCallback="{hooks}/stream">'
            '<Parameter name="token" value="t1"/></Stream></Connect>'
            f'<Redirect method="POST">{hooks}/resume</Redirect></Response>'
        )

    def sent(self, path: str) -> list[dict[str, str]]:
        return [params for where, params, _ in self.requests if where.endswith(path)]


def settings(server: StandIn) -> CarrierSettings:
    """The carrier's account whose numbers point to a server."""
    return CarrierSettings(public_url=server.url, account_sid=ACCOUNT_SID, auth_token=AUTH_TOKEN)


def _app(server: StandIn) -> FastAPI:
    app = FastAPI()
    validator = RequestValidator(AUTH_TOKEN)

    @app.post("/webhooks/twilio/{kind}")
    async def webhook(kind: str, request: Request) -> Response:
        params = dict(parse_qsl((await request.body()).decode(), keep_blank_values=True))
        proto = request.headers.get("x-forwarded-proto", request.url.scheme)
        host = request.headers.get("x-forwarded-host", request.url.netloc)
        signed = validator.validate(
            f"{proto}://{host}{request.url.path}", params, request.headers["x-twilio-signature"]
        )
        server.requests.append((kind, params, signed))
        server.headers.append(dict(request.headers))
        if not signed:
            return Response(status_code=403)
        body = {"voice": server.twiml(), "resume": server.resume}.get(kind, "")
        return Response(body, media_type="text/xml", status_code=server.status_code)

    @app.websocket("/media/twilio")
    async def media(websocket: WebSocket) -> None:
        await websocket.accept()
        peer = Peer(websocket)
        server.peers.append(peer)
        server.headers.append(dict(websocket.headers))
        reading = asyncio.create_task(peer.read())
        with suppress(WebSocketDisconnect, RuntimeError, TimeoutError):
            await peer.until(lambda: bool(peer.start), 2.0)
            await server.talk(peer)
        with suppress(WebSocketDisconnect, RuntimeError):
            await websocket.close()
        await reading

    return app


@asynccontextmanager
async def running_app(app: Any) -> AsyncIterator[str]:
    """Run an application on a free port of this machine, and yield its address."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="error", ws_max_size=65536, timeout_graceful_shutdown=1)
    running = uvicorn.Server(config)
    task = asyncio.create_task(running.serve(sockets=[listener]))
    while not running.started:
        await asyncio.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        running.should_exit = True
        await task
        listener.close()


@asynccontextmanager
async def running_vendor(application: web.Application) -> AsyncIterator[str]:
    """Run an aiohttp application on a free port of this machine, and yield its address."""
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def stand_in(talk: Talk = silent) -> AsyncIterator[StandIn]:
    """Run the server."""
    server = StandIn(talk=talk)
    async with running_app(_app(server)) as server.url:
        yield server
