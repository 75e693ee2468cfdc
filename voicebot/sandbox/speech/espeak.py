"""espeak-ng through ctypes, from the wheel espeakng-loader; constants are those of its ``speak_lib.h``.

The library keeps global state: only one thread may call it at a time. ctypes releases the interpreter lock.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import espeakng_loader
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_AUDIO_OUTPUT_SYNCHRONOUS = 2
_RATE, _PITCH, _RANGE = 1, 3, 4
_POS_CHARACTER = 1
_CHARS_UTF8 = 1
_IPA = 0x02
_LAST_EVENT, _WORD_EVENT = 0, 1


class SpeechEngineMissing(RuntimeError):
    """espeak-ng could not be loaded; install the `sandbox` extra. Trying again does not help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`variant` is a name under espeak-ng's ``voices/!v``; `pitch` and `range` go from 0 to 100."""

    variant: str
    pitch: int
    range: int
    words_per_minute: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """Samples between -1 and 1 at `rate` Hz, and where words begin: (index of a character, ms)."""

    samples: Floats
    rate: int
    marks: tuple[tuple[int, float], ...]


class _Event(ctypes.Structure):
    """`espeak_EVENT`; positions count characters from 1, `audio_position` is ms."""

    _fields_: ClassVar = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    ]


class Espeak:
    """The one espeak-ng of this process; not safe to use from two threads at once."""

    def __init__(self) -> None:
        library = espeakng_loader.load_library()
        if library is None:
            raise SpeechEngineMissing("espeak-ng could not be loaded: is the `sandbox` extra installed?")
        callback_type = ctypes.CFUNCTYPE(
            ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
        )
        self._library = library
        self._pieces: list[bytes] = []
        self._marks: list[tuple[int, float]] = []
        self._callback = callback_type(self._take)
        data = espeakng_loader.get_data_path().encode()
        self._rate: int = library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, data, 0)
        if self._rate <= 0:
            raise SpeechEngineMissing(f"espeak-ng refused to start (code {self._rate})")
        library.espeak_SetSynthCallback(self._callback)
        library.espeak_TextToPhonemes.restype = ctypes.c_char_p

    def speak(self, text: str, settings: Settings) -> Spoken:
        """Say `text`; with nothing to pronounce there are no samples."""
        library = self._library
        self._pieces, self._marks = [], []
        library.espeak_SetVoiceByName(f"en-us+{settings.variant}".encode())
        library.espeak_SetParameter(_RATE, settings.words_per_minute, 0)
        library.espeak_SetParameter(_PITCH, settings.pitch, 0)
        library.espeak_SetParameter(_RANGE, settings.range, 0)
        encoded = _encode(text)
        size = ctypes.c_size_t(len(encoded))
        library.espeak_Synth(encoded, size, 0, _POS_CHARACTER, 0, _CHARS_UTF8, None, None)
        samples = np.frombuffer(b"".join(self._pieces), dtype="<i2").astype(np.float32) / 32768.0
        return Spoken(samples=samples, rate=self._rate, marks=tuple(sorted(self._marks)))

    def phonemes(self, text: str) -> str:
        """Return how `text` is pronounced, in IPA."""
        self._library.espeak_SetVoiceByName(b"en-us")
        rest = ctypes.c_char_p(_encode(text))
        clauses = []
        while rest.value:
            clause = self._library.espeak_TextToPhonemes(ctypes.byref(rest), _CHARS_UTF8, _IPA)
            clauses.append((clause or b"").decode("utf-8"))
        return " ".join(clauses).strip()

    def _take(
        self,
        samples: ctypes._Pointer[ctypes.c_short],
        count: int,
        events: ctypes._Pointer[_Event],
    ) -> int:
        if count > 0 and samples:
            self._pieces.append(ctypes.string_at(samples, count * 2))
        index = 0
        while events and events[index].type != _LAST_EVENT:
            event = events[index]
            if event.type == _WORD_EVENT:
                self._marks.append((event.text_position - 1, float(event.audio_position)))
            index += 1
        return 0


def _encode(text: str) -> bytes:
    """Replace control characters by spaces: they are commands for espeak-ng and outlast the text."""
    plain = "".join(character if character.isprintable() else " " for character in text)
    return plain.encode() + b"\0"


@lru_cache(maxsize=1)
def engine() -> Espeak:
    """Return the engine of this process, started at the first call: it may be initialised only once.

    Raises:
        SpeechEngineMissing: espeak-ng could not be loaded.
    """
    return Espeak()
