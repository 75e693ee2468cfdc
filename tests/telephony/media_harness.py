"""The carrier's side of a media socket: a server for the app, and ``FakeTwilio``, which plays our audio."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.asyncio.client import ClientConnection, connect

from voicebot.api.carriers.direct_messages import DirectWebSocketProtocol

protocol: type[WebSocketsSansIOProtocol] | None = None
"""The server's protocol; None: the one with the extension ``DIRECT_MESSAGES``."""

STREAM_SID = "MZ00000000000000000000000000000001"
CALL_SID = "CA00000000000000000000000000000001"
ACCOUNT_SID = "AC00000000000000000000000000000001"


async def until(true: Callable[[], object], timeout_s: float = 30.0) -> None:
    """Wait until something has become true."""
    async with asyncio.timeout(timeout_s):
        while not true():
            await asyncio.sleep(0.005)


class LoopDelay:
    """Measures by how many ms, at most, the event loop was late since the start of the test.

    Both sides of the socket run in one loop. What one side knows later than the other differs by what the
    loop was late, so a bound on such a difference is `allowed_ms` of the bound on a loop that is never late.
    """

    def __init__(self) -> None:
        self._worst_ms = 0.0

    async def run(self) -> None:
        """Measure until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + 0.005
            await asyncio.sleep(0.005)
            self._worst_ms = max(self._worst_ms, (loop.time() - due) * 1000.0)

    def allowed_ms(self, bound_ms: float) -> float:
        """Add three delays to a bound: of the sender's timer, of the sending and of the receiving."""
        return bound_ms + 3 * self._worst_ms


@contextlib.asynccontextmanager
async def loop_delay() -> AsyncIterator[LoopDelay]:
    """Measure the delay of the event loop during a test."""
    delay = LoopDelay()
    task = asyncio.create_task(delay.run())
    try:
        yield delay
    finally:
        task.cancel()


class _QuietServer(uvicorn.Server):
    """uvicorn without its signal handlers, which belong to pytest here."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[str]:
    """Run `app` on a free loopback port and give its `host:port`."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            app,
            ws=protocol or DirectWebSocketProtocol,
            lifespan="off",
            log_level="error",
            timeout_graceful_shutdown=1,
        )
        server = _QuietServer(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        await until(lambda: server.started)
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


def start_message(**changes: Any) -> dict[str, Any]:
    """A `start` as Twilio documents it, with the inner object's fields changed."""
    start = {
        "streamSid": STREAM_SID,
        "accountSid": ACCOUNT_SID,
        "callSid": CALL_SID,
        "tracks": ["inbound"],
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        "customParameters": {"token": "tok-1"},
    }
    return {"event": "start", "sequenceNumber": "1", "start": {**start, **changes}, "streamSid": STREAM_SID}


def media_message(payload: bytes) -> dict[str, Any]:
    """The caller's µ-law audio as Twilio sends it."""
    media = {
        "track": "inbound",
        "chunk": "1",
        "timestamp": "5",
        "payload": base64.b64encode(payload).decode(),
    }
    return {"event": "media", "sequenceNumber": "2", "media": media, "streamSid": STREAM_SID}


@dataclass
class _Audio:
    begins: float
    ends: float
    payload: bytes


@dataclass
class _Mark:
    due: float
    name: str


@dataclass
class FakeTwilio:
    """Plays what it receives in real time from a buffer, returns marks when reached, and honours `clear`."""

    ws: ClientConnection
    ignores_marks: bool = False
    delay_s: float = 0.0
    received: list[dict[str, Any]] = field(default_factory=list)
    heard: bytearray = field(default_factory=bytearray)
    _queue: deque[_Audio | _Mark] = field(default_factory=deque)
    _buffer_ends: float = 0.0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def start_stream(self, **start: Any) -> None:
        """Say `connected` and `start`."""
        await self.say({"event": "connected", "protocol": "Call", "version": "1.0.0"})
        await self.say(start_message(**start))

    async def say(self, message: dict[str, Any]) -> None:
        """Send one message."""
        await self.ws.send(json.dumps(message))

    async def run(self) -> None:
        """Receive and play until the socket closes."""
        player = asyncio.create_task(self._play())
        try:
            async for text in self.ws:
                await self._receive(json.loads(text))
        finally:
            player.cancel()

    async def wait_for(self, event: str, count: int = 1, timeout_s: float = 30.0) -> None:
        """Wait until `count` messages of one kind were received."""
        await until(lambda: len(self.of(event)) >= count, timeout_s)

    def of(self, event: str) -> list[dict[str, Any]]:
        """The messages of one kind received so far."""
        return [message for message in self.received if message["event"] == event]

    def audio(self) -> bytes:
        """All µ-law bytes received so far."""
        return b"".join(base64.b64decode(message["media"]["payload"]) for message in self.of("media"))

    def heard_ms(self) -> float:
        """What has come out of the loudspeaker until now."""
        now = asyncio.get_running_loop().time()
        current = sum(
            min(now, item.ends) - item.begins
            for item in self._queue
            if isinstance(item, _Audio) and item.begins < now
        )
        return len(self.heard) / 8.0 + current * 1000.0

    async def _receive(self, message: dict[str, Any]) -> None:
        self.received.append(message)
        now = asyncio.get_running_loop().time()
        if message["event"] == "media":
            payload = base64.b64decode(message["media"]["payload"])
            begins = max(now + self.delay_s, self._buffer_ends)
            self._buffer_ends = begins + len(payload) / 8000.0
            self._queue.append(_Audio(begins, self._buffer_ends, payload))
        elif message["event"] == "mark":
            self._queue.append(_Mark(max(now + self.delay_s, self._buffer_ends), message["mark"]["name"]))
        elif message["event"] == "clear":
            await self._clear(now)
        self._changed.set()

    async def _clear(self, now: float) -> None:
        dropped, self._queue = self._queue, deque()
        self._buffer_ends = now
        for item in dropped:
            if isinstance(item, _Mark):
                await self._return(item)
            elif item.begins < now:
                self.heard += item.payload[: round((now - item.begins) * 8000)]

    async def _play(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if not self._queue:
                self._changed.clear()
                await self._changed.wait()
                continue
            item = self._queue[0]
            due = item.due if isinstance(item, _Mark) else item.ends
            await asyncio.sleep(max(0.0, min(due - loop.time(), 0.005)))
            if loop.time() < due or not self._queue or self._queue[0] is not item:
                continue
            self._queue.popleft()
            if isinstance(item, _Mark):
                await self._return(item)
            else:
                self.heard += item.payload

    async def _return(self, mark: _Mark) -> None:
        if not self.ignores_marks:
            await self.say({"event": "mark", "streamSid": STREAM_SID, "mark": {"name": mark.name}})


@contextlib.asynccontextmanager
async def fake_twilio(address: str, **options: Any) -> AsyncIterator[FakeTwilio]:
    """Connect to the media socket at `address` and play whatever comes."""
    async with connect(f"ws://{address}/media", compression=None) as ws:
        twilio = FakeTwilio(ws, **options)
        task = asyncio.create_task(twilio.run())
        try:
            yield twilio
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
