"""In what pieces a vendor gets the caller's audio: voicebot.providers.speech_input."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import numpy as np
import pytest
from pipecat.frames.frames import (
    ErrorFrame,
    Frame,
    InterimTranscriptionFrame,
    StartFrame,
    TranscriptionFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.services.settings import STTSettings
from pipecat.services.stt_service import STTService

from templates.model import Turns
from tests.sandbox.test_vendors_pipecat import ServicePipeline
from voicebot.providers import speech_input
from voicebot.providers.speech_input import MAX_UNSENT, PIECE_MS, LastingTranscripts, SpeechInput
from voicebot.providers.turns import with_turns
from voicebot.providers.voice_activity import VoiceActivity
from voicebot.sandbox.speech.scripted import tone_pcm
from voicebot.sandbox.speech.synthesis import synthesize

FRAME = 320
SPEECH = tone_pcm("a question", "caller")[: FRAME * 30]
SILENCE = bytes(FRAME)
FAINT = np.tile(np.array([900, -900], "<i2"), FRAME // 4).tobytes()
"""Noise on the line, 20 dB below the speech."""


class Stt(STTService):
    """Keeps the audio it is given; an item of `fails` makes one piece fail."""

    def __init__(self) -> None:
        super().__init__(
            sample_rate=8000, ttfs_p99_latency=0.1, settings=STTSettings(model="", language=None)
        )
        self.pieces: list[bytes] = []
        self.fails = 0

    async def run_stt(self, audio: bytes) -> AsyncGenerator[Frame | None, None]:
        if self.fails:
            self.fails -= 1
            raise OSError("the vendor is gone")
        self.pieces.append(audio)
        yield None

    def sizes(self) -> list[int]:
        """The number of 20 ms frames in each piece."""
        return [len(piece) // FRAME for piece in self.pieces]


async def write(speech: SpeechInput, audio: bytes) -> None:
    """Give audio in frames, and let the task send what it can."""
    for at in range(0, len(audio), FRAME):
        speech.write(audio[at : at + FRAME])
        for _ in range(5):
            await asyncio.sleep(0)


async def test_audio_is_sent_in_pieces_of_60_ms() -> None:
    """Long silence and speech are sent in pieces of 60 ms, nothing is lost and the order is kept."""
    stt = Stt()
    speech = SpeechInput(stt, endpointing_ms=300)
    async with ServicePipeline(Pipeline([speech, stt])) as line:
        await line.after.until(StartFrame)
        await write(speech, SILENCE * 30 + SPEECH)
    assert stt.sizes() == [PIECE_MS // 20] * 20
    assert b"".join(stt.pieces) == SILENCE * 30 + SPEECH


@pytest.mark.parametrize("noise", [SILENCE, FAINT])
async def test_the_silence_that_ends_a_turn_is_sent_at_once(noise: bytes) -> None:
    """After speech every frame is sent on its own, until the vendor has heard its silence and a margin."""
    stt = Stt()
    speech = SpeechInput(stt, endpointing_ms=300)
    async with ServicePipeline(Pipeline([speech, stt])) as line:
        await line.after.until(StartFrame)
        await write(speech, SPEECH + SPEECH[:FRAME])
        await write(speech, noise * 60)
    sizes = stt.sizes()
    at_once = sizes[10:].index(3) if 3 in sizes[10:] else len(sizes)
    assert sizes[:10] == [3] * 10
    assert sizes[10] == 2  # the frame that was waiting, and the first silent one
    assert sizes[11:35] == [1] * 24
    assert at_once == 25


async def test_steady_noise_does_not_count_as_the_end_of_speech() -> None:
    """Noise as loud as itself is sent in pieces: only a fall of the level is the end of speech."""
    stt = Stt()
    speech = SpeechInput(stt, endpointing_ms=300)
    hum = tone_pcm("hum", "caller")[FRAME * 2 : FRAME * 3]
    async with ServicePipeline(Pipeline([speech, stt])) as line:
        await line.after.until(StartFrame)
        await write(speech, hum * 300)
    assert set(stt.sizes()) == {3}


async def test_our_vad_reports_speech_behind_the_audio() -> None:
    """With a VAD, begin and end of speech are reported in both directions, after the audio before them."""
    stt, vad = Stt(), VoiceActivity(0.6)
    speech = SpeechInput(stt, endpointing_ms=300, vad=vad)
    audio = bytes(16_000) + synthesize("I have a question about my bill.", "caller-1") + bytes(16_000)
    async with ServicePipeline(Pipeline([speech, stt])) as line:
        await line.after.until(StartFrame)
        await write(speech, audio)
        stopped = await line.after.until(VADUserStoppedSpeakingFrame)
        assert stopped.stop_secs == 0.6
        assert len(line.after.of(VADUserStartedSpeakingFrame)) == 1
        assert len(line.before.of(VADUserStoppedSpeakingFrame)) == 1
    assert b"".join(stt.pieces) == audio[: len(b"".join(stt.pieces))]
    assert len(audio) - len(b"".join(stt.pieces)) < PIECE_MS * 16


async def test_speech_ends_when_no_audio_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller whose audio stops while they speak is reported as silent."""
    monkeypatch.setattr(speech_input, "AUDIO_IDLE_S", 0.05)
    stt, vad = Stt(), VoiceActivity(0.6)
    speech = SpeechInput(stt, endpointing_ms=300, vad=vad)
    async with ServicePipeline(Pipeline([speech, stt])) as line:
        await line.after.until(StartFrame)
        await write(speech, bytes(16_000) + synthesize("I have a question about my bill.", "caller-1"))
        await line.after.until(VADUserStoppedSpeakingFrame)
        async with asyncio.timeout(60):
            while vad.is_speaking:  # on a busy machine the audio was interrupted, too
                await asyncio.sleep(0.01)


async def test_a_piece_that_cannot_be_sent_is_an_error_of_the_service() -> None:
    """A failure is reported as the service's error, and the next piece is sent."""
    stt = Stt()
    stt.fails = 1
    speech = SpeechInput(stt, endpointing_ms=300)
    async with ServicePipeline(Pipeline([speech, stt])) as line:
        await line.after.until(StartFrame)
        await write(speech, SPEECH[: FRAME * 6])
        error = await line.before.until(ErrorFrame)
    assert error.processor is stt
    assert stt.sizes() == [3]


async def test_audio_for_a_vendor_that_does_not_read_is_bounded() -> None:
    """What waits to be sent is limited, so that a vendor that hangs does not fill the memory."""
    stt = Stt()
    speech = SpeechInput(stt, endpointing_ms=300)
    for _ in range((MAX_UNSENT + 100) * 3):
        speech.write(SPEECH[FRAME * 5 : FRAME * 6])
    async with ServicePipeline(Pipeline([speech, stt])) as line:
        await line.after.until(StartFrame)
        async with asyncio.timeout(60):
            while len(stt.pieces) < MAX_UNSENT:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
    assert len(stt.pieces) == MAX_UNSENT


class Replayed(LastingTranscripts):
    """Transcribes the audio that it is given within one moment."""

    def __init__(self) -> None:
        super().__init__(
            sample_rate=8000, ttfs_p99_latency=0.1, settings=STTSettings(model="", language=None)
        )

    async def run_stt(self, audio: bytes) -> AsyncGenerator[Frame | None, None]:
        yield InterimTranscriptionFrame("when are", "", "now")
        yield TranscriptionFrame("When are you open?", "", "now")


async def test_a_transcript_outlasts_the_interruption_of_its_interim_transcript() -> None:
    """Words that are final in the moment in which their first ones interrupt the agent are not lost."""
    branch = with_turns(Replayed(), Turns(strategy="stt", end_silence_ms=300), 100)
    async with ServicePipeline(Pipeline(branch)) as line:
        await line.after.until(StartFrame)
        [speech] = [each for each in branch if isinstance(each, SpeechInput)]
        await write(speech, SPEECH[: 3 * FRAME])
        await line.after.until(UserStoppedSpeakingFrame)
    assert [each.text for each in line.after.of(TranscriptionFrame)] == ["When are you open?"]
