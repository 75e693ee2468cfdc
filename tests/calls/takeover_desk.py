"""An operator with a browser, and a caller who asks for a person: helpers of the tests of takeovers."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.api.server_fixture import create
from tests.calls.harness import CallHarness, hear
from voicebot.call.person.takeover import OPERATOR_RATE
from voicebot.sandbox.audio.mulaw import Samples
from voicebot.sandbox.caller import Caller, Step, WaitFor
from voicebot.sandbox.carrier import Call
from voicebot.sandbox.exotel import ExotelMisbehaviour

TONE_HZ = 1000.0
FRAME = 640  # bytes: 20 ms at 16,000 Hz


def sine(hz: float, rate: int, seconds: float) -> bytes:
    """A tone: 16-bit mono PCM."""
    time_s = np.arange(round(rate * seconds)) / rate
    return bytes((np.sin(2 * np.pi * hz * time_s) * 8000).astype("<i2").tobytes())


def strength(samples: Samples, hz: float, rate: int) -> float:
    """How much of the sound's power is within 20 Hz of a frequency, from 0 to 1."""
    if not len(samples):
        return 0.0
    spectrum = np.abs(np.fft.rfft(samples.astype(float))) ** 2
    frequency = np.fft.rfftfreq(len(samples), 1 / rate)
    return float(spectrum[np.abs(frequency - hz) < 20].sum() / max(1.0, spectrum.sum()))


def sounds(samples: Samples, hz: float, rate: int) -> bool:
    """Whether a tenth of a second of the sound is a tone, however often a busy machine has interrupted it."""
    frames = np.reshape(samples[: len(samples) // (rate // 50) * (rate // 50)], (-1, rate // 50))
    return sum(strength(frame, hz, rate) > 0.8 for frame in frames) >= 5


@dataclass(slots=True)
class Browser:
    """One operator's socket, which keeps what it hears."""

    socket: ClientConnection
    heard: bytearray = field(default_factory=bytearray)

    async def listen(self) -> None:
        """Keep what comes, until the socket is closed."""
        with contextlib.suppress(ConnectionClosed):
            async for frame in self.socket:
                assert isinstance(frame, bytes)
                self.heard += frame

    def samples(self) -> Samples:
        """Return what it has heard, in samples."""
        return np.frombuffer(bytes(self.heard), dtype="<i2")

    async def say(self, audio: bytes) -> None:
        """Send audio at its own pace."""
        for start in range(0, len(audio), FRAME):
            await self.socket.send(audio[start : start + FRAME])
            await asyncio.sleep(0.02)

    async def say_until_heard(self, call: Call) -> None:
        """Say a tone until the caller has heard a part of it."""
        start = call.line.heard.cursor
        async with asyncio.timeout(30):
            while not sounds(call.recording().received[start:], TONE_HZ, 8000):
                await self.say(sine(TONE_HZ, OPERATOR_RATE, 0.2))

    async def send(self, **control: Any) -> None:
        """Send a text frame."""
        await self.socket.send(json.dumps(control))


@dataclass(slots=True)
class Desk:
    """A caller who has been greeted, and the operator who has claimed their handoff."""

    harness: CallHarness
    greeted: asyncio.Event = field(default_factory=asyncio.Event)
    handoff: dict[str, Any] = field(default_factory=dict)

    def call(
        self, first: WaitFor, *after: Step, to: str, wrong: ExotelMisbehaviour | None = None
    ) -> tuple[Call, Caller]:
        """Call, hear the greeting, and do the rest."""

        def on_step(step: Step) -> None:
            if step is first:
                self.greeted.set()

        return self.harness.dial(hear(), first, *after, to=to, wrong=wrong, on_step=on_step)

    async def ask(self, call: Call) -> None:
        """Ask for a person when the caller has been greeted."""
        await self.greeted.wait()
        record = await self.harness.record(call.sid)
        assert record is not None
        request = {"reason": "A refund.", "call_id": record["id"]}
        self.handoff = await create(self.harness.api, "/handoffs", request)

    async def claim(self, call: Call) -> None:
        """Ask for a person when the caller has been greeted, and claim the handoff."""
        await self.ask(call)
        operator = self.harness.tenant.clients["operator"]
        claim = await operator.post(f"/handoffs/{self.handoff['id']}/claim", json={"dial": False})
        assert claim.status_code == 200, claim.text

    async def url(self, role: str = "operator", token: str | None = None, server: str = "") -> str:
        """The URL of the audio socket with a token of a role's key; ``server``: at another one."""
        client = self.harness.tenant.clients[role]  # type: ignore[index]
        token = token or (await client.post("/handoffs/stream-token")).json()["token"]
        base = (server or self.harness.server.url).replace("http", "ws", 1)
        return f"{base}/api/v1/handoffs/{self.handoff['id']}/audio?token={token}"

    @contextlib.asynccontextmanager
    async def browser(self, server: str = "") -> AsyncIterator[Browser]:
        """The operator's socket, perhaps at another server; what it hears is kept."""
        async with connect(await self.url(server=server), close_timeout=1) as socket:
            browser = Browser(socket)
            listening = asyncio.create_task(browser.listen())
            try:
                yield browser
            finally:
                await socket.close()
                await listening

    async def state(self) -> tuple[str, str | None]:
        """State and cause of the handoff."""
        now = (await self.harness.api.get(f"/handoffs/{self.handoff['id']}")).json()
        return now["state"], now["cause"]

    async def until_said(self, call: Call, speaker: str, text: str) -> None:
        """Wait until the transcript of a call has an utterance."""
        record = await self.harness.record(call.sid)
        assert record is not None
        async with asyncio.timeout(60):
            while True:
                rows = (await self.harness.api.get(f"/calls/{record['id']}/transcript")).json()["items"]
                if any((row["speaker"], row["text"]) == (speaker, text) for row in rows):
                    return
                await asyncio.sleep(0.05)

    async def until(self, state: str) -> None:
        """Wait for a state of the handoff."""
        async with asyncio.timeout(60):
            while (await self.state())[0] != state:
                await asyncio.sleep(0.05)


async def close_code(socket: ClientConnection) -> int | None:
    """The code with which the server closes the socket."""
    async with asyncio.timeout(60):
        await socket.wait_closed()
    return socket.close_code
