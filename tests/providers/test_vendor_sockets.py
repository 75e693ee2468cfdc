"""What services say on the sockets of vendors, and what they do when a socket is lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from pipecat.frames.frames import (
    StartFrame,
    TranscriptionFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from websockets.asyncio.server import ServerConnection, serve

from templates.model import TemplateContent
from tests.call.test_service_switch import no_error, running
from tests.sandbox.test_vendors_pipecat import ServicePipeline
from voicebot.call.audio.service_switch import ServiceSwitch
from voicebot.config import Settings
from voicebot.providers.registry import Providers
from voicebot.providers.service_spec import ServiceSpec


@dataclass
class Vendor:
    """A server that records what it is sent; `answers` are sent after the first message."""

    url: str = ""
    offers: list[str | None] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    messages: list[str | bytes] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)
    closes: bool = False
    got: asyncio.Event = field(default_factory=asyncio.Event)
    open: int = 0

    async def converse(self, connection: ServerConnection) -> None:
        self.open += 1
        try:
            await self._converse(connection)
        finally:
            self.open -= 1

    async def _converse(self, connection: ServerConnection) -> None:
        request = connection.request
        assert request is not None
        self.offers.append(request.headers.get("Sec-WebSocket-Extensions"))
        self.paths.append(request.path)
        async for message in connection:
            self.messages.append(message)
            self.got.set()
            while self.answers:
                await connection.send(json.dumps(self.answers.pop(0)))
            if self.closes:
                return


@asynccontextmanager
async def vendor(**options: Any) -> AsyncIterator[Vendor]:
    """A vendor on a free port."""
    it = Vendor(**options)
    async with serve(it.converse, "127.0.0.1", 0) as server:
        it.url = f"http://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        yield it


def spec(it: Vendor, kind: str, provider: str, **members: Any) -> ServiceSpec:
    """The service of a template at a vendor."""
    env = {"DEEPGRAM_URL": it.url, "ELEVENLABS_URL": it.url}
    given = {"provider": provider, **({"voice_id": "aura-2-thalia-en"} if kind == "tts" else {})}
    content = TemplateContent.model_validate({"name": "Front desk", kind: given, **members})
    providers = Providers(Settings(_env_file=None, **env))
    return providers.stt(content) if kind == "stt" else providers.tts(content, ignore)


async def ignore(context_id: str, text: str) -> None:
    """No request to speak is expected."""


def results(transcript: str, **more: Any) -> dict[str, Any]:
    """A final result of Deepgram."""
    alternatives = [{"transcript": transcript, "confidence": 0.9, "words": []}]
    return {"type": "Results", "is_final": True, "channel": {"alternatives": alternatives}, **more}


@pytest.mark.parametrize("provider", ["deepgram", "elevenlabs"])
@pytest.mark.parametrize("kind", ["stt", "tts"])
async def test_no_compression_is_offered(kind: str, provider: str) -> None:
    """Services open their sockets without permessage-deflate."""
    async with vendor() as it:
        service = spec(it, kind, provider)
        async with ServicePipeline(Pipeline(list(await service.make()))) as line:
            await line.after.until(StartFrame)
            await service.connected()
        assert it.offers == [None]


@pytest.mark.parametrize("provider", ["deepgram", "elevenlabs"])
@pytest.mark.parametrize("kind", ["stt", "tts"])
async def test_no_socket_is_left_when_the_call_has_ended(kind: str, provider: str) -> None:
    """The end of a call closes the sockets of vendors, those that do not hang up when they are asked too."""
    async with vendor() as it:
        service = spec(it, kind, provider)
        switch = ServiceSwitch(service, on_error=no_error, name=kind)
        async with running(switch):
            await switch.prepare(service)
            assert it.open == 1
        async with asyncio.timeout(60):
            while it.open:
                await asyncio.sleep(0.01)


async def test_deepgram_is_told_the_format_and_the_settings() -> None:
    """The stream's parameters are the audio's format, the defaults, and the author's settings."""
    async with vendor() as it:
        settings = {"keyterm": ["Acme", "Sure Fit"], "smart_format": True}
        content = TemplateContent.model_validate(
            {"name": "Front desk", "language": "de-DE", "stt": {"provider": "deepgram", "settings": settings}}
        )
        service = Providers(Settings(_env_file=None, DEEPGRAM_URL=it.url)).stt(content)
        async with ServicePipeline(Pipeline(list(await service.make()))) as line:
            await line.after.until(StartFrame)
        query = it.paths[0].partition("?")[2].split("&")
        assert {"encoding=linear16", "sample_rate=8000", "channels=1", "interim_results=true"} <= set(query)
        assert {"language=de-DE", "endpointing=300", "smart_format=true", "punctuate=true"} <= set(query)
        assert {"keyterm=Acme", "keyterm=Sure+Fit", "model=nova-3-general"} <= set(query)


async def test_deepgram_finalizes_when_our_vad_hears_the_end_of_speech() -> None:
    """The end of speech sends Finalize; the transcript that answers it is marked as finalized."""
    async with vendor() as it:
        service = spec(it, "stt", "deepgram")
        async with ServicePipeline(Pipeline(list(await service.make()))) as line:
            await line.after.until(StartFrame)
            it.answers.append(results("my bill", from_finalize=True))
            await line.send([VADUserStoppedSpeakingFrame()])
            transcript = await line.after.until(TranscriptionFrame)
    assert (transcript.text, transcript.finalized) == ("my bill", True)
    assert it.messages[0] == '{"type":"Finalize"}'


@pytest.mark.parametrize("answers", [[], [{"type": "Results"}], [{"type": "Results", "channel": None}]])
async def test_a_lost_stream_of_deepgram_makes_the_service_unusable(answers: list[dict[str, Any]]) -> None:
    """When the vendor ends the stream or sends nonsense, the service is unusable, so the call replaces it."""
    async with vendor(answers=answers, closes=not answers) as it:
        service = spec(it, "stt", "deepgram")
        speech, stt, decider = await service.make()
        async with ServicePipeline(Pipeline([speech, stt, decider])) as line:
            await line.after.until(StartFrame)
            await line.send([VADUserStoppedSpeakingFrame()])
            async with asyncio.timeout(60):
                while stt.is_usable:
                    await asyncio.sleep(0.01)
