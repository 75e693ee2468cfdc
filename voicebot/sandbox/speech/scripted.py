"""Speech without synthesis and recognition: announced transcripts, and one tone for each voice.

`Sandbox(scripted_speech=True)` uses both: Deepgram's stand-in then returns the texts that a test announces,
and ElevenLabs' stand-in sounds tones. Neither uses espeak-ng or pocketsphinx; both take little CPU time.

    person = Caller(script=..., synthesise=tone_pcm, announce=sandbox.transcripts.announce)

Detection of speech stays real: an utterance begins and ends where the energy of the audio does.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import numpy as np

from voicebot.sandbox.speech.grammar import bare
from voicebot.sandbox.speech.recogniser import RATE, Samples, Word
from voicebot.sandbox.speech.synthesis import SAMPLE_RATE, Utterance, voice_of

CHARACTER_MS = 65.0
"""Duration of one character, in ms: about 170 words a minute."""

_LOWEST_HZ, _OCTAVES = 70.0, 2.0
_HARMONICS = 6
_PEAK = 0.5 * 32767
_FADE_MS = 10.0
_CHOICE = 1600  # samples by which the voice of an utterance is known: 200 ms with what preceded it


class ScriptedTranscripts:
    """Announced utterances: the stand-in for a stock of recognisers. Thread-safe.

    Speech on any stream takes one announced text: of those whose voice is nearest to its pitch, the oldest.
    Texts that were announced without a voice match every pitch. Speech without an announced text is
    recognised as no words.
    """

    needs_thread = False

    def __init__(self) -> None:
        self._texts: deque[tuple[str, float | None]] = deque()

    def announce(self, *texts: str, voice_id: str | None = None) -> None:
        """Add what will be said next, an utterance a text, in a voice of `tone_pcm`."""
        pitch = None if voice_id is None else pitch_hz(voice_id)
        self._texts.extend((text, pitch) for text in texts)

    @property
    def remaining(self) -> int:
        """How many announced utterances have not begun."""
        return len(self._texts)

    def clear(self) -> None:
        """Forget announced speech that has not begun."""
        self._texts.clear()

    def take(self) -> ScriptedRecogniser:
        """Return a recogniser for an utterance that begins now."""
        return ScriptedRecogniser(self._next)

    def give_back(self, recogniser: ScriptedRecogniser) -> None:
        """Accept a recogniser that is no longer used."""

    def _next(self, samples: Samples) -> str:
        """Remove and return the text that speech with these first samples takes."""
        announced = list(self._texts)
        if not announced:
            return ""
        heard = _measured_pitch_hz(samples)
        nearest = min(announced, key=lambda each: 0.0 if each[1] is None else abs(np.log2(each[1] / heard)))
        with suppress(ValueError):  # another stream took it meanwhile
            self._texts.remove(nearest)
        return nearest[0]


class ScriptedRecogniser:
    """Recognises one known text: its words appear at the pace of `CHARACTER_MS` while audio arrives."""

    def __init__(self, choose: Callable[[Samples], str]) -> None:
        """``choose`` returns the text for the first `_CHOICE` samples of the utterance."""
        self._choose = choose
        self._beginning = np.empty(0, dtype=np.int16)
        self._words: list[str] | None = None
        self._ends_ms: list[float] = []
        self._samples = 0

    def begin(self) -> None:
        """Start the utterance."""

    def hear(self, samples: Samples) -> None:
        """Take mono samples at 8,000 Hz."""
        self._samples += len(samples)
        if self._words is None:
            self._beginning = np.concatenate([self._beginning, samples])
            if len(self._beginning) >= _CHOICE:
                self._set_text()

    def _set_text(self) -> list[str]:
        self._words = self._choose(self._beginning).split()
        self._ends_ms = [match.end() * CHARACTER_MS for match in re.finditer(r"\S+", " ".join(self._words))]
        return self._words

    def so_far(self) -> tuple[Word, ...]:
        """Return the words that have ended."""
        heard_ms = self._samples * 1000 / RATE
        return self._timed(self._words or [], sum(end <= heard_ms for end in self._ends_ms))

    def finish(self) -> tuple[Word, ...]:
        """Return all words; their times are stretched or compressed to the length of the audio."""
        heard_ms = self._samples * 1000 / RATE
        words = self._set_text() if self._words is None else self._words
        return self._timed(words, len(words), heard_ms / self._ends_ms[-1] if words else 1.0)

    def _timed(self, words: list[str], count: int, scale: float = 1.0) -> tuple[Word, ...]:
        starts = [0.0, *self._ends_ms]
        return tuple(
            Word(
                written=word,
                bare=bare(word),
                start_s=round(start * scale / 1000, 3),
                end_s=round(end * scale / 1000, 3),
            )
            for word, start, end in zip(words[:count], starts, self._ends_ms, strict=False)
        )


def tone(text: str, voice_id: str) -> Utterance:
    """Return a tone in place of speech: `CHARACTER_MS` for each character, in the pitch of the voice.

    Text without a letter or a digit is silent: its PCM is empty.
    """
    text = " ".join(text.split())
    if not any(character.isalnum() for character in text):
        return Utterance(pcm=b"", text=text, marks=())
    length = round(len(text) * CHARACTER_MS * SAMPLE_RATE / 1000)
    phase = 2 * np.pi * pitch_hz(voice_id) * np.arange(length) / SAMPLE_RATE
    wave = np.sum([np.sin(phase * number) / number for number in range(1, _HARMONICS + 1)], axis=0)
    fade = np.minimum(1.0, np.arange(length) / (_FADE_MS * SAMPLE_RATE / 1000))
    samples = wave / np.abs(wave).max() * _PEAK * fade * fade[::-1]
    marks = tuple((match.start(), match.start() * CHARACTER_MS) for match in re.finditer(r"\S+", text))
    return Utterance(pcm=samples.astype("<i2").tobytes(), text=text, marks=marks)


def tone_pcm(text: str, voice_id: str) -> bytes:
    """Return the PCM of `tone`: mono, 16-bit little-endian, 8,000 Hz."""
    return tone(text, voice_id).pcm


def _measured_pitch_hz(samples: Samples) -> float:
    """Return the pitch of a tone, from its strongest frequency between 60 and 300 Hz."""
    spectrum = np.abs(np.fft.rfft(samples, n=RATE))  # a bin a Hz
    return float(60 + spectrum[60:301].argmax())


def pitch_hz(voice_id: str) -> float:
    """Return the pitch of a voice, 70 to 280 Hz: higher where the synthesised voice is higher."""
    return float(_LOWEST_HZ * 2 ** (_OCTAVES * (voice_of(voice_id).pitch - 5) / 90))
