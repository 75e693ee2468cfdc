"""Two sandbox voices that are clearly different."""

from __future__ import annotations

from functools import lru_cache

from voicebot.sandbox.audio.measurement import fingerprint
from voicebot.sandbox.audio.mulaw import samples_of
from voicebot.sandbox.speech.synthesis import synthesize

_SENTENCE = "Thanks for calling, how can I help you today?"


@lru_cache(maxsize=1)
def two_voices() -> tuple[str, str]:
    """Return the ids of a low voice and of one about an octave above it."""
    ids = [f"voice-{number}" for number in range(16)]
    pitches = {voice: fingerprint(samples_of(synthesize(_SENTENCE, voice))).pitch_hz for voice in ids}
    low = min(ids, key=lambda voice: abs(pitches[voice] - 95))
    high = min(ids, key=lambda voice: abs(pitches[voice] - 2.1 * pitches[low]))
    return low, high
