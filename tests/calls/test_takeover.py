"""Operators who take a call over through the audio socket, as a browser does."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.api.server_fixture import create
from tests.calls.harness import BILL, CallHarness, hear
from voicebot.call.audio.resampling import DoubleRate, HalfRate
from voicebot.call.takeover import GIVEN_BACK, TAKEN_OVER
from voicebot.sandbox.audio.mulaw import Samples
from voicebot.sandbox.caller import Caller, HangUp, Say, Step, WaitFor, WaitForHangUp
from voicebot.sandbox.carrier import Call
from voicebot.sandbox.speech.scripted import pitch_hz

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

    async def say(self, audio: bytes) -> None:
        """Send audio at its own pace."""
        for start in range(0, len(audio), FRAME):
            await self.socket.send(audio[start : start + FRAME])
            await asyncio.sleep(0.02)

    async def send(self, **control: Any) -> None:
        """Send a text frame."""
        await self.socket.send(json.dumps(control))


@dataclass(slots=True)
class Desk:
    """A caller who has been greeted, and the operator who has claimed their handoff."""

    harness: CallHarness
    greeted: asyncio.Event = field(default_factory=asyncio.Event)
    handoff: dict[str, Any] = field(default_factory=dict)

    def call(self, first: WaitFor, *after: Step, to: str) -> tuple[Call, Caller]:
        """Call, hear the greeting, and do the rest."""

        def on_step(step: Step) -> None:
            if step is first:
                self.greeted.set()

        return self.harness.dial(hear(), first, *after, to=to, on_step=on_step)

    async def claim(self, call: Call) -> None:
        """Ask for a person when the caller has been greeted, and claim the handoff."""
        await self.greeted.wait()
        record = await self.harness.record(call.sid)
        assert record is not None
        request = {"reason": "A refund.", "call_id": record["id"]}
        self.handoff = await create(self.harness.api, "/handoffs", request)
        operator = self.harness.tenant.clients["operator"]
        claim = await operator.post(f"/handoffs/{self.handoff['id']}/claim", json={"dial": False})
        assert claim.status_code == 200, claim.text

    async def url(self, role: str = "operator", token: str | None = None) -> str:
        """The URL of the audio socket with a token of a role's key."""
        client = self.harness.tenant.clients[role]  # type: ignore[index]
        token = token or (await client.post("/handoffs/stream-token")).json()["token"]
        base = self.harness.server.url.replace("http", "ws", 1)
        return f"{base}/api/v1/handoffs/{self.handoff['id']}/audio?token={token}"

    @contextlib.asynccontextmanager
    async def browser(self) -> AsyncIterator[Browser]:
        """The operator's socket; what it hears is kept."""
        async with connect(await self.url(), close_timeout=1) as socket:
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

    async def until(self, state: str) -> None:
        """Wait for a state of the handoff."""
        async with asyncio.timeout(20):
            while (await self.state())[0] != state:
                await asyncio.sleep(0.05)


@pytest.fixture
def desk(harness: CallHarness) -> Desk:
    """An operator and a caller."""
    return Desk(harness)


async def close_code(socket: ClientConnection) -> int | None:
    """The code with which the server closes the socket."""
    async with asyncio.timeout(20):
        await socket.wait_closed()
    return socket.close_code


async def test_listening_then_speaking_then_giving_the_caller_back(desk: Desk) -> None:
    """Muted, the caller hears nothing; then both hear each other and the agent is silent; then it goes on."""
    speaks, given_back = asyncio.Event(), asyncio.Event()
    number = await desk.harness.orchestrator(desk.harness.route("billing", await desk.harness.agent()))
    first, then = WaitFor(event=speaks, timeout_ms=40_000), WaitFor(event=given_back, timeout_ms=40_000)
    call, person = desk.call(first, Say(text=BILL), then, hear(), HangUp(), to=number)
    await desk.claim(call)
    async with desk.browser() as browser:
        await browser.say(sine(TONE_HZ, 16_000, 0.6))
        muted = call.recording().received
        assert (await desk.state())[0] == "claimed"
        await browser.send(mute=False)
        await desk.until("bridged")
        asked = len(desk.harness.asked())
        start = call.line.heard.cursor
        await browser.say(sine(TONE_HZ, 16_000, 1.0))
        await asyncio.sleep(0.6)
        spoken = call.recording().received[start:]
        del browser.heard[:]
        speaks.set()
        async with asyncio.timeout(20):
            while len(browser.heard) < 2 * 16_000 * 3:
                await asyncio.sleep(0.05)
        assert len(desk.harness.asked()) == asked
        await browser.send(leave="return")
        assert await close_code(browser.socket) == 1000
        given_back.set()
    await call.ended()
    got = await desk.harness.facts(call, person)

    assert got.outcome.ok, got.outcome.failure
    assert strength(muted[-4000:], TONE_HZ, 8000) < 0.1
    assert strength(spoken, TONE_HZ, 8000) > 0.8
    from_caller = np.frombuffer(bytes(browser.heard), dtype="<i2")
    assert strength(from_caller, pitch_hz(person.voice_id), 16_000) > 0.3
    assert await desk.state() == ("resolved", "returned")
    assert got.record["resumes"] == 0
    context = str(desk.harness.asked()[-1]["messages"])
    assert TAKEN_OVER in context
    assert GIVEN_BACK in context


async def test_resolving_ends_the_call(desk: Desk) -> None:
    """An operator who has spoken and resolves ends the call, and the end names them."""
    number = await desk.harness.orchestrator(desk.harness.route("billing", await desk.harness.agent()))
    done = asyncio.Event()
    call, person = desk.call(
        WaitFor(event=done, timeout_ms=40_000), WaitForHangUp(timeout_ms=40_000), to=number
    )
    await desk.claim(call)
    async with desk.browser() as browser:
        await browser.send(mute=False)
        await desk.until("bridged")
        done.set()
        await browser.send(leave="resolve")
        assert await close_code(browser.socket) == 1000
    await call.ended()
    got = await desk.harness.facts(call, person)
    assert (await desk.state())[0] == "resolved"
    assert (got.record["ended_by"], got.record["end_reason"]) == ("operator", "handoff_resolved")


async def test_the_socket_closes_with_the_call(desk: Desk) -> None:
    """The caller hangs up: the socket of the operator is closed, and the handoff is resolved."""
    number = await desk.harness.orchestrator(desk.harness.route("billing", await desk.harness.agent()))
    over = asyncio.Event()
    call, _ = desk.call(WaitFor(event=over, timeout_ms=40_000), HangUp(), to=number)
    await desk.claim(call)
    async with desk.browser() as browser:
        await browser.send(mute=False)
        await desk.until("bridged")
        over.set()
        assert await close_code(browser.socket) == 1000
    await call.ended()
    await desk.until("resolved")


async def test_sockets_that_are_refused(desk: Desk) -> None:
    """Other users, false tokens, unreadable control, frames of over a second, and a second listener."""
    number = await desk.harness.orchestrator(desk.harness.route("billing", await desk.harness.agent()))
    over = asyncio.Event()
    call, _ = desk.call(WaitFor(event=over, timeout_ms=60_000), HangUp(), to=number)
    await desk.claim(call)
    for url in (
        await desk.url("admin"),
        await desk.url("viewer"),
        await desk.url(token="vs_false"),
    ):
        async with connect(url, close_timeout=1) as socket:
            assert await close_code(socket) == 1008
    frames: list[tuple[str | bytes, int]] = [
        ("nonsense", 1007),
        ('{"mute":"yes"}', 1007),
        ('{"other":1}', 1007),
        (bytes(32_002), 1009),
    ]
    for frame, code in frames:
        async with connect(await desk.url(), close_timeout=1) as socket:
            await socket.send(frame)
            assert await close_code(socket) == code, frame
    async with desk.browser() as browser:
        async with connect(await desk.url(), close_timeout=1) as second:
            assert await close_code(second) == 1008
        with contextlib.suppress(ConnectionClosed):
            for _ in range(8):
                await browser.socket.send(bytes(32_000))
        assert await close_code(browser.socket) == 1008
    assert (await desk.state())[0] == "claimed"
    over.set()
    await call.ended()


@pytest.mark.parametrize("hz", [300.0, 1000.0, 3000.0])
def test_the_rate_is_doubled_and_halved_without_loss(hz: float) -> None:
    """A tone of speech, in pieces of any length, is the same tone at the other rate."""
    up, down = DoubleRate(), HalfRate()
    audio = sine(hz, 8000, 1.0)
    pieces = [up.process(audio[start : start + 322]) for start in range(0, len(audio), 322)]
    doubled = b"".join(pieces)
    halved = b"".join(down.process(doubled[start : start + 646]) for start in range(0, len(doubled), 646))
    assert len(doubled) == 2 * len(audio)
    assert len(halved) == len(audio)
    assert strength(np.frombuffer(doubled, dtype="<i2"), hz, 16_000) > 0.9
    assert strength(np.frombuffer(halved, dtype="<i2"), hz, 8000) > 0.9
