"""The services of each provider, as a call makes them, against the vendors' protocols in the sandbox."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pipecat.frames.frames import (
    ErrorFrame,
    InputAudioRawFrame,
    InterimTranscriptionFrame,
    InterruptionFrame,
    StartFrame,
    TextFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
    TTSStoppedFrame,
    TTSTextFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.pipeline.pipeline import Pipeline

from templates.model import TemplateContent
from tests.sandbox.test_vendors_pipecat import ServicePipeline
from voicebot.config import Settings
from voicebot.providers.provider import SynthesisFailed
from voicebot.providers.registry import Providers
from voicebot.providers.service_spec import ServiceFailed, ServiceSpec
from voicebot.providers.speech_input import SpeechInput
from voicebot.sandbox.environment import Sandbox
from voicebot.sandbox.speech.scripted import tone_pcm
from voicebot.sandbox.vendors.faults import Fault, Server
from voicebot.sandbox.vendors.latency import Latency

BILL = "I have a question about my bill."
HELLO = "Hello there, caller."
VOICES = {"elevenlabs": "anna", "deepgram": "aura-2-thalia-en"}
VENDORS: tuple[Server, ...] = ("deepgram", "elevenlabs")


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """The vendors, with tones for speech and announced transcripts."""
    latency = Latency(first_token_ms=1, token_ms=0, first_audio_ms=1, audio_ms=0)
    async with Sandbox(scripted_speech=True, latency=latency) as it:
        yield it


def providers(sandbox: Sandbox) -> Providers:
    """The providers of a server in the sandbox."""
    return Providers(Settings(_env_file=None, **sandbox.env))


def content(**members: Any) -> TemplateContent:
    return TemplateContent.model_validate({"name": "Front desk", **members})


def tts_content(provider: str, **settings: Any) -> TemplateContent:
    return content(tts={"provider": provider, "voice_id": VOICES[provider], "settings": settings})


async def ignore(_context_id: str, _text: str) -> None:
    return None


async def pipeline_of(spec: ServiceSpec) -> Pipeline:
    return Pipeline(list(await spec.make()))


async def ready(line: ServicePipeline, spec: ServiceSpec) -> None:
    """Wait until the pipeline is set up and the vendor is connected."""
    await line.after.until(StartFrame)
    await spec.connected()


async def speak(pipeline: Pipeline, pcm: bytes) -> None:
    """Give audio to the service in frames of 20 ms, as a carrier does."""
    speech = next(each for each in pipeline.processors if isinstance(each, SpeechInput))
    for start in range(0, len(pcm), 320):
        speech.write(pcm[start : start + 320])
        await asyncio.sleep(0)


@pytest.mark.parametrize("vendor", VENDORS)
async def test_audio_becomes_interim_and_final_transcripts(sandbox: Sandbox, vendor: Server) -> None:
    """With the vendor's endpointing, speech and silence become one transcript, by the right server."""
    sandbox.transcripts.announce(BILL)
    spec = providers(sandbox).stt(content(stt={"provider": vendor}, turns={"end_silence_ms": 800}))
    pipeline = await pipeline_of(spec)
    async with ServicePipeline(pipeline) as line:
        await ready(line, spec)
        await speak(pipeline, b"\0" * 3200 + tone_pcm(BILL, "caller") + b"\0" * 16_000)
        transcript = await line.after.until(TranscriptionFrame)
        assert line.after.of(InterimTranscriptionFrame)
    assert transcript.text == BILL
    assert sandbox.usage.tally(vendor).opened == 1


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize(("strategy", "passes"), [("stt", False), ("silero", False), ("smart_turn", True)])
async def test_only_a_turn_model_gets_the_audio_beside_the_stt_service(
    sandbox: Sandbox, vendor: Server, strategy: str, passes: bool
) -> None:
    """Audio is no frame of the pipeline, except for a turn model, which takes it as one."""
    spec = providers(sandbox).stt(content(stt={"provider": vendor}, turns={"strategy": strategy}))
    pipeline = await pipeline_of(spec)
    async with ServicePipeline(pipeline) as line:
        await ready(line, spec)
        await speak(pipeline, b"\0" * 6400)
        await asyncio.sleep(0.05)
        await line.send([TextFrame("behind the audio")])
        await line.after.until(TextFrame)
        assert bool(line.after.of(InputAudioRawFrame)) is passes


async def test_elevenlabs_stt_commits_when_a_vad_of_ours_says_so(sandbox: Sandbox) -> None:
    """With a turn strategy that has its own VAD, Scribe waits for the commit, whatever the silence."""
    sandbox.transcripts.announce(BILL)
    template = content(stt={"provider": "elevenlabs"}, turns={"strategy": "silero"})
    spec = providers(sandbox).stt(template)
    pipeline = await pipeline_of(spec)
    async with ServicePipeline(pipeline) as line:
        await ready(line, spec)
        await speak(pipeline, b"\0" * 3200 + tone_pcm(BILL, "caller") + b"\0" * 24_000)
        await line.after.until(InterimTranscriptionFrame)
        assert line.after.of(TranscriptionFrame) == []
        await line.send([VADUserStoppedSpeakingFrame()])
        transcript = await line.after.until(TranscriptionFrame)
    assert (transcript.text, transcript.finalized) == (BILL, True)


async def test_elevenlabs_stt_is_told_language_silence_and_terms(sandbox: Sandbox) -> None:
    """The template's language, half of its closing silence and the author's terms are in the request."""
    template = content(
        language="de-DE",
        stt={"provider": "elevenlabs", "settings": {"keyterms": ["Acme & Co"], "no_verbatim": True}},
        turns={"end_silence_ms": 900},
    )
    spec = providers(sandbox).stt(template)
    async with ServicePipeline(await pipeline_of(spec)) as line:
        await ready(line, spec)
    [connection] = sandbox.usage.connections("elevenlabs", "scribe_v2_realtime")
    for parameter in (
        "language_code=deu",
        "audio_format=pcm_8000",
        "commit_strategy=vad",
        "vad_silence_threshold_secs=0.45",
        "keyterms=Acme+%26+Co",
        "no_verbatim=true",
    ):
        assert parameter in connection.path


@pytest.mark.parametrize("vendor", VENDORS)
async def test_a_text_to_speak_becomes_the_audio_of_the_voice(sandbox: Sandbox, vendor: Server) -> None:
    """The audio is the voice's at 8,000 Hz, the words are reported, and the end is, too."""
    spec = providers(sandbox).tts(tts_content(vendor), ignore)
    async with ServicePipeline(await pipeline_of(spec)) as line:
        await ready(line, spec)
        await line.send([TTSSpeakFrame(HELLO)])
        await line.after.until(TTSStoppedFrame)
        audio = b"".join(frame.audio for frame in line.after.of(TTSAudioRawFrame))
        words = " ".join(frame.text for frame in line.after.of(TTSTextFrame)).split()
    assert audio.startswith(tone_pcm(HELLO, VOICES[vendor]))
    assert words == HELLO.split()
    assert line.before.of(ErrorFrame) == []


async def test_an_interruption_clears_what_deepgram_has_not_said(sandbox: Sandbox) -> None:
    """After an interruption Aura says nothing of the old text, and speaks the next one."""
    sandbox.latency.first_audio_ms = 60_000
    spec = providers(sandbox).tts(tts_content("deepgram"), ignore)
    async with ServicePipeline(await pipeline_of(spec)) as line:
        await ready(line, spec)
        await line.send(
            [
                TTSSpeakFrame("This takes long."),
            ]
        )
        async with asyncio.timeout(30):
            while not sandbox.usage.requests("deepgram"):
                await asyncio.sleep(0.01)
        await line.send([InterruptionFrame()])
        sandbox.latency.first_audio_ms = 1
        await line.send([TTSSpeakFrame(HELLO)])
        await line.after.until(TTSAudioRawFrame)
        await line.after.until(TTSStoppedFrame)
        audio = b"".join(frame.audio for frame in line.after.of(TTSAudioRawFrame))
    assert audio.startswith(tone_pcm(HELLO, VOICES["deepgram"]))


@pytest.mark.parametrize("rate", [8000, 16_000, 24_000])
@pytest.mark.parametrize("vendor", VENDORS)
async def test_a_greeting_is_synthesised_in_the_same_voice(
    sandbox: Sandbox, vendor: Server, rate: int
) -> None:
    """A greeting is the voice's PCM at the rate of the call, by HTTP, with the author's settings."""
    audio = await providers(sandbox).synthesise(tts_content(vendor, speed=1.1), HELLO, rate)
    spoken = tone_pcm(HELLO, VOICES[vendor])
    assert len(audio) == len(spoken) * rate // 8000
    assert rate != 8000 or audio == spoken
    [request] = sandbox.usage.requests(vendor, VOICES[vendor])
    assert request.body == HELLO


@pytest.mark.parametrize("vendor", VENDORS)
async def test_a_refused_greeting_is_named(sandbox: Sandbox, vendor: Server) -> None:
    """A vendor that refuses a greeting raises SynthesisFailed."""
    sandbox.faults.add(Fault(server=vendor, kind="unauthorized"))
    with pytest.raises(SynthesisFailed):
        await providers(sandbox).synthesise(tts_content(vendor), HELLO, 8000)


@pytest.mark.parametrize("kind", ["stt", "tts"])
@pytest.mark.parametrize("vendor", VENDORS)
async def test_a_refused_connection_is_a_failed_service(sandbox: Sandbox, vendor: Server, kind: str) -> None:
    """A vendor that refuses the key at the handshake fails the service."""
    sandbox.faults.add(Fault(server=vendor, kind="unauthorized"))
    one = providers(sandbox)
    spec = (
        one.stt(content(stt={"provider": vendor})) if kind == "stt" else one.tts(tts_content(vendor), ignore)
    )
    async with ServicePipeline(await pipeline_of(spec)) as line:
        await line.before.until(ErrorFrame)
        with pytest.raises(ServiceFailed):
            await spec.connected()
