"""The caller's audio at the switch of the STT services: voicebot.call.audio.stt_switch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from pipecat.frames.frames import Frame
from pipecat.services.settings import STTSettings
from pipecat.services.stt_service import STTService

from tests.call.test_service_switch import no_error, running
from voicebot.call.audio.stt_switch import BACKLOG_MS, SttSwitch
from voicebot.providers.service_spec import ServiceSpec, connected_at_once, made
from voicebot.providers.speech_input import SpeechInput


class Stt(STTService):
    """Keeps the audio it is given."""

    def __init__(self, name: str) -> None:
        settings = STTSettings(model="", language=None)
        super().__init__(name=name, sample_rate=8000, ttfs_p99_latency=0.1, settings=settings)
        self.heard = bytearray()

    async def run_stt(self, audio: bytes) -> AsyncGenerator[Frame | None, None]:
        self.heard += audio
        yield None


def spec(stt: Stt) -> ServiceSpec:
    """A service that is connected at once."""
    speech = SpeechInput(stt, endpointing_ms=300)
    return ServiceSpec(key=stt.name, make=made(speech, stt), connected=connected_at_once)


FRAME_MS = 20


def frame(number: int) -> bytes:
    """20 ms of audio that can be told from others."""
    return bytes([number % 251]) * 320


async def heard(stt: Stt, expected: bytes) -> None:
    """Wait until a service has heard something."""
    async with asyncio.timeout(60):
        while bytes(stt.heard) != expected:
            await asyncio.sleep(0.01)


async def test_audio_from_before_the_connection_is_heard_first() -> None:
    """Audio that arrives while the service connects is given to it in order, before later audio."""
    first = Stt("first")
    switch = SttSwitch(spec(first), on_error=no_error)
    async with running(switch):
        switch.hear(frame(1) + frame(2))
        await switch.prepare(spec(first))
        switch.hear(frame(3))
        await heard(first, frame(1) + frame(2) + frame(3))


async def test_only_the_active_service_hears() -> None:
    """After a switch the new service gets the audio."""
    first, second = Stt("first"), Stt("second")
    switch = SttSwitch(spec(first), on_error=no_error)
    async with running(switch):
        await switch.prepare(spec(first))
        await switch.prepare(spec(second))
        switch.hear(frame(1) * 3)
        await heard(first, frame(1) * 3)
        switch.switch("second")
        switch.hear(frame(2) * 3)
        await heard(second, frame(2) * 3)
    assert bytes(first.heard) == frame(1) * 3


async def test_a_service_that_replaces_a_failed_one_hears_the_audio_in_between() -> None:
    """Audio that arrives until the next service is connected is kept; of too much the oldest is dropped."""
    first, again = Stt("same"), Stt("same")
    switch = SttSwitch(spec(first), on_error=no_error)
    async with running(switch):
        await switch.prepare(spec(first))
        switch.give_up("same")
        for number in range(BACKLOG_MS // FRAME_MS + 10):
            switch.hear(frame(number))
        await switch.prepare(spec(again))
        kept = b"".join(frame(number) for number in range(10, BACKLOG_MS // FRAME_MS + 10))
        async with asyncio.timeout(60):
            while len(again.heard) < len(kept) - 960:
                await asyncio.sleep(0.01)
    assert bytes(again.heard) == kept[: len(again.heard)]
    assert bytes(first.heard) == b""
