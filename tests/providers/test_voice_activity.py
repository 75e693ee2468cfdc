"""Voice activity with one model for all calls: voicebot.providers.voice_activity."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.audio.vad.vad_analyzer import VADParams, VADState

from voicebot.providers.pcm import Resampler
from voicebot.providers.voice_activity import VoiceActivity, load_model

FRAME = 320


def speech(name: str) -> bytes:
    """Recorded speech; the speech of the sandbox has other noise each time, which decides where it ends."""
    with wave.open(str(Path(__file__).with_name(f"{name}.wav"))) as recording:
        audio: bytes = recording.readframes(recording.getnframes())
    return audio


def call_audio() -> bytes:
    """Silence, speech, a long silence with faint noise, and speech again."""
    noise = (np.random.default_rng(1).normal(0, 20, 8000 * 6)).astype("<i2").tobytes()
    return bytes(16_000) + speech("question") + noise + speech("yes") + bytes(24_000)


async def pipecat_changes(audio: bytes, stop_s: float, rate: int = 8000) -> list[tuple[int, bool]]:
    """Where pipecat's own analyzer reports the begin and the end of speech: frame number and state."""
    analyzer = SileroVADAnalyzer(sample_rate=rate, params=VADParams(stop_secs=stop_s))
    analyzer.set_sample_rate(rate)
    changes, speaking = [], False
    size = rate // 50 * 2
    for number, at in enumerate(range(0, len(audio), size)):
        state = await analyzer.analyze_audio(audio[at : at + size])
        if state in (VADState.SPEAKING, VADState.QUIET) and (state is VADState.SPEAKING) is not speaking:
            speaking = not speaking
            changes.append((number, speaking))
    await analyzer.cleanup()
    return changes


def our_changes(activity: VoiceActivity, audio: bytes, size: int = FRAME) -> list[tuple[int, bool]]:
    heard = [activity.hear(audio[at : at + size]) for at in range(0, len(audio), size)]
    return [(number, change) for number, change in enumerate(heard) if change is not None]


@pytest.mark.parametrize("stop_s", [0.2, 0.6])
async def test_speech_begins_and_ends_where_pipecat_says_so(stop_s: float) -> None:
    """With the same audio, begin and end of speech are in the same frames as with pipecat's analyzer."""
    audio = call_audio()
    expected = await pipecat_changes(audio, stop_s)
    assert [change for _, change in expected] == [True, False] * (len(expected) // 2)
    assert len(expected) >= 4
    assert our_changes(VoiceActivity(stop_s), audio) == expected


def test_calls_share_the_model_and_not_its_state() -> None:
    """Two calls whose frames alternate are heard as each of them alone; the model is loaded once."""
    audio = call_audio()
    alone = our_changes(VoiceActivity(0.6), audio)
    one, two = VoiceActivity(0.6), VoiceActivity(0.6)
    together: list[tuple[int, bool]] = []
    for number, at in enumerate(range(0, len(audio), FRAME)):
        change = one.hear(audio[at : at + FRAME])
        two.hear(bytes(FRAME))
        if change is not None:
            together.append((number, change))
    assert together == alone
    assert load_model() is load_model()


def test_speech_ends_when_the_audio_does() -> None:
    """After `stop` the caller counts as silent, and speech can begin again."""
    activity = VoiceActivity(0.6)
    audio = bytes(16_000) + speech("question")
    assert [change for _, change in our_changes(activity, audio)] == [True]
    activity.stop()
    assert not activity.is_speaking
    assert [change for _, change in our_changes(activity, audio)] == [True]


@pytest.mark.parametrize(("rate", "model_rate"), [(16_000, 16_000), (24_000, 16_000)])
async def test_audio_at_higher_rates_is_judged_as_pipecat_does(rate: int, model_rate: int) -> None:
    """The model takes 16 kHz unchanged; higher rates are converted to it."""
    audio = Resampler(8000, rate).process(call_audio())
    activity = VoiceActivity(0.6)
    activity.set_sample_rate(rate)
    ours = our_changes(activity, audio, rate // 50 * 2)
    heard = audio if rate == model_rate else Resampler(rate, model_rate).process(audio)
    assert ours == await pipecat_changes(heard, 0.6, model_rate)
    assert len(ours) >= 4
