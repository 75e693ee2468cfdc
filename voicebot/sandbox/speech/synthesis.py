"""Speech synthesis with espeak-ng: each voice id has its own voice."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass

import numpy as np

from voicebot.sandbox.speech.espeak import Floats, Settings, engine

SAMPLE_RATE = 8000
"""Sample rate of all synthesised speech, in Hz."""

_LOW, _HIGH = (0.96, 1.10), (0.90, 1.01)
_VARIANTS = {
    **dict.fromkeys(("m1", "m2", "m3", "m4", "m7", "ed", "adam"), _LOW),
    **dict.fromkeys(("f1", "f2", "f3", "f4", "f5"), _HIGH),
}
"""espeak-ng's variants and how far their tract may be scaled before a recogniser no longer follows."""
_PEAK = 0.6
_FRAME = SAMPLE_RATE // 100
_SILENCE = 0.01
_REMEMBERED = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """The parameters of a voice.

    `variant` is an espeak-ng variant; `pitch` and `range` are espeak-ng's 0 to 100; `words_per_minute` is the
    pace that is heard; `tract` scales every frequency, as a longer or shorter throat does (1.0 is
    espeak-ng's own).
    """

    variant: str
    pitch: int
    range: int
    words_per_minute: int
    tract: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """Synthesised speech with the times of its words.

    `pcm` is mono 16-bit little-endian at 8,000 Hz. `text` is what was said, with single spaces; `marks` tell
    where words begin in it, as (index of a character, ms from the start of `pcm`), both rising.
    """

    pcm: bytes
    text: str
    marks: tuple[tuple[int, float], ...]

    @property
    def duration_ms(self) -> float:
        """The duration, in ms."""
        return len(self.pcm) / 2 * 1000 / SAMPLE_RATE


_speaking = threading.Lock()
_said: dict[tuple[str, str], Utterance] = {}


def voice_of(voice_id: str) -> Voice:
    """Return the voice of an id; it depends on the id alone, and is the same on every machine."""
    digest = hashlib.sha256(voice_id.encode()).digest()
    variant = sorted(_VARIANTS)[digest[0] % len(_VARIANTS)]
    shortest, longest = _VARIANTS[variant]
    return Voice(
        variant=variant,
        pitch=5 + digest[1] * 90 // 255,
        range=20 + digest[2] % 20,
        words_per_minute=150 + digest[3] % 40,
        tract=shortest + (longest - shortest) * digest[4] / 255,
    )


def synthesize(text: str, voice_id: str) -> bytes:
    """Synthesise `text` in the voice of `voice_id`.

    Returns mono 16-bit little-endian PCM at 8,000 Hz, without leading or trailing silence; empty when nothing
    in `text` can be pronounced. Safe to call from any thread; equal calls are answered from a bounded cache.

    Raises:
        SpeechEngineMissing: espeak-ng could not be loaded.
    """
    return utter(text, voice_id).pcm


def pronounce(text: str) -> str:
    """Return how `text` is pronounced, in IPA: "4 cats" gives "fˈɔːɹ kˈæts". Safe to call from any thread.

    Raises:
        SpeechEngineMissing: espeak-ng could not be loaded.
    """
    with _speaking:
        return engine().phonemes(text)


def utter(text: str, voice_id: str) -> Utterance:
    """Synthesise `text` as `synthesize` does, with the times of its words.

    Raises:
        SpeechEngineMissing: espeak-ng could not be loaded.
    """
    key = (" ".join(text.split()), voice_id)
    known = _said.get(key)
    if known is not None:
        return known
    with _speaking:
        if key not in _said:
            # The noise of espeak-ng differs between runs: the first result is kept.
            _said[key] = _say(*key)
            if len(_said) > _REMEMBERED:
                del _said[next(iter(_said))]
        return _said[key]


def _say(text: str, voice_id: str) -> Utterance:
    """Synthesise anew; only the holder of `_speaking` may."""
    voice = voice_of(voice_id)
    settings = Settings(
        variant=voice.variant,
        pitch=voice.pitch,
        range=voice.range,
        words_per_minute=round(voice.words_per_minute / voice.tract),
    )
    spoken = engine().speak(text, settings)
    samples = resample(spoken.samples, spoken.rate * voice.tract, SAMPLE_RATE)
    first, last = _sounding(samples)
    peak = float(np.abs(samples[first:last]).max(initial=0.0))
    if peak == 0.0:
        return Utterance(pcm=b"", text=text, marks=())
    pcm = (samples[first:last] * (_PEAK * 32767 / peak)).astype("<i2").tobytes()
    skipped_ms = first * 1000 / SAMPLE_RATE
    marks = {at: max(0.0, ms / voice.tract - skipped_ms) for at, ms in spoken.marks}
    return Utterance(pcm=pcm, text=text, marks=tuple(marks.items()))


def resample(samples: Floats, rate: float, wanted: float) -> Floats:
    """Change the rate (Hz) by cutting or padding the spectrum: exact where both ends are silent."""
    ratio = wanted / rate
    length = round(len(samples) * ratio)
    if not length:
        return samples[:0]
    spectrum = np.fft.rfft(samples)[: length // 2 + 1]
    return (np.fft.irfft(spectrum, n=length) * ratio).astype(np.float32)


def _sounding(samples: Floats) -> tuple[int, int]:
    """Find the first and the last frame of 10 ms that sounds, as a range of samples."""
    frames = len(samples) // _FRAME
    if not frames:
        return 0, len(samples)
    loudness = np.sqrt((samples[: frames * _FRAME].reshape(frames, _FRAME) ** 2).mean(axis=1))
    (loud,) = np.nonzero(loudness > _SILENCE * max(1e-6, float(loudness.max())))
    return (int(loud[0]) * _FRAME, (int(loud[-1]) + 1) * _FRAME) if loud.size else (0, 0)
