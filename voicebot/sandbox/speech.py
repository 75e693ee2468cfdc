"""Speech without a vendor: espeak-ng, one audibly and measurably different voice for every voice id.

espeak-ng comes in a wheel (espeakng-loader) and is driven through ctypes; the constants below are those of
its public header, ``speak_lib.h``. It keeps global state, so one lock serialises it; ctypes releases the
interpreter while it works.
"""

import ctypes
import hashlib
import threading
from dataclasses import dataclass
from functools import lru_cache

import espeakng_loader
import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 8000
"""Hz of everything that `synthesize` returns."""

_AUDIO_OUTPUT_SYNCHRONOUS = 2
_RATE, _PITCH, _RANGE = 1, 3, 4
_POS_CHARACTER = 1
_CHARS_UTF8 = 1
_IPA = 0x02

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

_speaking = threading.Lock()
_said: dict[tuple[str, str], bytes] = {}


class SpeechEngineMissing(RuntimeError):
    """espeak-ng could not be loaded; install the `sandbox` extra. Trying again does not help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """How one voice id sounds.

    `variant` is an espeak-ng variant; `pitch` and `range` are espeak-ng's 0 to 100; `words_per_minute` is the
    pace that is heard; `tract` scales every frequency, as a longer or shorter throat does (1.0 is
    espeak-ng's own).
    """

    variant: str
    pitch: int
    range: int
    words_per_minute: int
    tract: float


def voice_of(voice_id: str) -> Voice:
    """Choose a voice from nothing but its id: it is the same on every machine."""
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
    """Say `text` in the voice of `voice_id`.

    Returns mono 16-bit little-endian PCM at 8,000 Hz, without leading or trailing silence; empty when nothing
    in `text` can be pronounced. Safe to call from any thread; equal calls are answered from a bounded cache.

    Raises:
        SpeechEngineMissing: espeak-ng could not be loaded.
    """
    key = (" ".join(text.split()), voice_id)
    known = _said.get(key)
    if known is not None:
        return known
    with _speaking:
        if key not in _said:
            # espeak-ng's noise differs from run to run, so what was said first is what is always said.
            _said[key] = _say(*key)
            if len(_said) > _REMEMBERED:
                del _said[next(iter(_said))]
        return _said[key]


def _say(text: str, voice_id: str) -> bytes:
    """Synthesise anew; only the holder of `_speaking` may."""
    if not text:
        return b""
    voice = voice_of(voice_id)
    spoken, rate = _engine().speak(text, voice)
    trimmed = _trim(_resample(spoken, SAMPLE_RATE / (rate * voice.tract)))
    peak = float(np.abs(trimmed).max(initial=0.0))
    if peak == 0.0:
        return b""
    return (trimmed * (_PEAK * 32767 / peak)).astype("<i2").tobytes()


def _resample(samples: NDArray[np.float32], ratio: float) -> NDArray[np.float32]:
    """Change the rate by cutting the spectrum: exact, and without an edge where both ends are silent."""
    length = round(len(samples) * ratio)
    if not length:
        return samples[:0]
    spectrum = np.fft.rfft(samples)[: length // 2 + 1]
    return (np.fft.irfft(spectrum, n=length) * ratio).astype(np.float32)


def _trim(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cut silent frames of 10 ms from both ends."""
    frames = len(samples) // _FRAME
    if not frames:
        return samples
    loudness = np.sqrt((samples[: frames * _FRAME].reshape(frames, _FRAME) ** 2).mean(axis=1))
    (loud,) = np.nonzero(loudness > _SILENCE * max(1e-6, float(loudness.max())))
    return samples[loud[0] * _FRAME : (loud[-1] + 1) * _FRAME] if loud.size else samples[:0]


class _Espeak:
    """The one espeak-ng of this process; only the holder of `_speaking` may use it."""

    def __init__(self) -> None:
        library = espeakng_loader.load_library()
        if library is None:
            raise SpeechEngineMissing("espeak-ng could not be loaded: is the `sandbox` extra installed?")
        callback_type = ctypes.CFUNCTYPE(
            ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
        )
        self._library = library
        self._pieces: list[bytes] = []
        self._callback = callback_type(self._take)
        data = espeakng_loader.get_data_path().encode()
        self._rate: int = library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, data, 0)
        if self._rate <= 0:
            raise SpeechEngineMissing(f"espeak-ng refused to start (code {self._rate})")
        library.espeak_SetSynthCallback(self._callback)
        library.espeak_TextToPhonemes.restype = ctypes.c_char_p

    def _take(self, samples: "ctypes._Pointer[ctypes.c_short]", count: int, _events: int | None) -> int:
        if count > 0 and samples:
            self._pieces.append(ctypes.string_at(samples, count * 2))
        return 0

    def speak(self, text: str, voice: Voice) -> tuple[NDArray[np.float32], int]:
        """Return samples between -1 and 1 and their rate in Hz, before `voice.tract` is applied."""
        encoded = _encode(text)
        library = self._library
        self._pieces = []
        library.espeak_SetVoiceByName(f"en-us+{voice.variant}".encode())
        library.espeak_SetParameter(_RATE, round(voice.words_per_minute / voice.tract), 0)
        library.espeak_SetParameter(_PITCH, voice.pitch, 0)
        library.espeak_SetParameter(_RANGE, voice.range, 0)
        size = ctypes.c_size_t(len(encoded))
        library.espeak_Synth(encoded, size, 0, _POS_CHARACTER, 0, _CHARS_UTF8, None, None)
        pcm = b"".join(self._pieces)
        return np.frombuffer(pcm, dtype="<i2").astype(np.float32) / 32768.0, self._rate

    def phonemes(self, text: str) -> str:
        """Return IPA, a clause at a time as the library gives it."""
        self._library.espeak_SetVoiceByName(b"en-us")
        rest = ctypes.c_char_p(_encode(text))
        spoken = []
        while rest.value:
            clause = self._library.espeak_TextToPhonemes(ctypes.byref(rest), _CHARS_UTF8, _IPA)
            spoken.append((clause or b"").decode("utf-8"))
        return " ".join(spoken).strip()


def _encode(text: str) -> bytes:
    return text.encode("utf-8", errors="ignore").replace(b"\0", b" ") + b"\0"


def pronounce(text: str) -> str:
    """Return how `text` is pronounced, in IPA: "4 cats" gives "fˈɔːɹ kˈæts". Safe to call from any thread.

    Raises:
        SpeechEngineMissing: espeak-ng could not be loaded.
    """
    with _speaking:
        return _engine().phonemes(text)


@lru_cache(maxsize=1)
def _engine() -> _Espeak:
    """espeak-ng may be initialised only once a process."""
    return _Espeak()
