"""Recognising one utterance at a time with pocketsphinx, and a stock of recognisers that are warm.

pocketsphinx's model wants 16,000 Hz and a room that is never wholly silent; a telephone offers neither. What
was measured (12 voices by 20 phrases, µ-law, 8,000 Hz): digital silence costs 60 % of the utterances, faint
noise under them 4 %, and hearing those that fit no phrase once more, with their own mean, brings it to 2 %.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pocketsphinx import Decoder, get_model_path, set_loglevel

from voicebot.sandbox.speech.grammar import PhraseGrammar, bare

RATE = 8000
"""Hz of the audio that a recogniser takes."""

_MODEL_RATE = 16000
_FRAME_RATE = 100
_BEAMS = {"beam": 1e-80, "pbeam": 1e-80, "wbeam": 1e-60}
_NOISE, _FURTHER_NOISES = 200.0, (300.0, 100.0)
_LOUD, _QUIETEST = 20000.0, 0.1
"""The peak of speech to which those levels of noise belong; quieter speech is made louder, up to tenfold."""
_PART = RATE // 25
# The cepstral mean of espeak-ng's voices through µ-law with that noise: where an unknown voice begins.
_MEAN = "63.2,-7.6,-3.7,15.5,-6.1,0.36,-13.5,-2.9,-10.3,1.4,-3.6,-3.5,-4.2"

Samples = NDArray[np.int16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """One word as written (with punctuation) and bare; its times are seconds since the utterance began."""

    written: str
    bare: str
    start_s: float
    end_s: float


class Recogniser:
    """Hears one utterance at a time: `begin`, `hear`, `finish`. Not for two threads at once."""

    def __init__(self, book: PhraseGrammar) -> None:
        """Load the model and the grammar: about 15 ms and 6 MB."""
        self.book = book
        self._random = np.random.default_rng(0)
        with tempfile.TemporaryDirectory() as folder:
            dictionary = Path(folder) / "phrases.dict"
            dictionary.write_text(book.dictionary(), encoding="utf-8")
            self._decoder = Decoder(
                hmm=get_model_path("en-us/en-us"),
                dict=str(dictionary),
                lm=None,
                samprate=_MODEL_RATE,
                **_BEAMS,
            )
        self._decoder.add_jsgf_string("phrases", book.grammar())
        self._decoder.activate_search("phrases")
        self._said: list[Samples] = []
        self._last = 0.0
        self._loudness = 0.0

    def begin(self) -> None:
        """Start an utterance."""
        self._said, self._loudness = [], 0.0
        self._start(_MEAN)

    def hear(self, samples: Samples) -> None:
        """Take in mono samples at 8,000 Hz."""
        self._said.append(samples)
        self._loudness = max(self._loudness, float(np.abs(samples.astype(np.int32)).max(initial=0)) / _LOUD)
        self._process(samples, _NOISE)

    def so_far(self) -> tuple[Word, ...]:
        """Return what it has been taken for until now."""
        return self._words()

    def finish(self) -> tuple[Word, ...]:
        """End the utterance and return it: whole clauses or, when it was cut off, as far as it went."""
        so_far = self._words()
        self._decoder.end_utt()
        said = np.concatenate(self._said) if self._said else np.zeros(0, np.int16)
        for noise in _FURTHER_NOISES:
            if self.book.whole(self._names()):
                return self._words()
            self._start(self._decoder.get_cmn(True))
            for start in range(0, len(said), _PART):  # in parts: the interpreter is not released meanwhile
                self._process(said[start : start + _PART], noise)
            self._decoder.end_utt()
        return self._words() if self.book.whole(self._names()) else so_far

    def _start(self, mean: str) -> None:
        self._decoder.set_cmn(mean)
        self._decoder.start_utt()
        self._last = 0.0

    def _process(self, samples: Samples, noise: float) -> None:
        if not len(samples):
            return
        gain = 1 / min(1.0, max(_QUIETEST, self._loudness))
        loud = gain * samples + self._random.normal(0.0, noise, len(samples))
        between = (loud + np.concatenate([[self._last], loud[:-1]])) / 2
        self._last = float(loud[-1])
        doubled = np.stack([between, loud], axis=1).ravel()
        self._decoder.process_raw(np.clip(doubled, -32768, 32767).astype("<i2").tobytes(), False, False)

    def _names(self) -> tuple[str, ...]:
        return tuple(segment.word for segment in self._segments())

    def _words(self) -> tuple[Word, ...]:
        return tuple(
            Word(
                written=self.book.written[segment.word],
                bare=bare(self.book.written[segment.word]),
                start_s=segment.start_frame / _FRAME_RATE,
                end_s=(segment.end_frame + 1) / _FRAME_RATE,
            )
            for segment in self._segments()
        )

    def _segments(self) -> Iterator[_Segment]:
        for segment in self._decoder.seg() or ():
            word = segment.word.partition("(")[0]
            if word in self.book.written:
                yield _Segment(word=word, start_frame=segment.start_frame, end_frame=segment.end_frame)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Segment:
    word: str
    start_frame: int
    end_frame: int


class RecogniserPool:
    """A stock of recognisers, lent for an utterance each, as many as people speak at once. Thread-safe."""

    def __init__(self, book: PhraseGrammar, warm: int = 2) -> None:
        """Prepare `warm` of them."""
        set_loglevel("FATAL")
        self._lock = threading.Lock()
        self._book = book
        self._idle: list[Recogniser] = []
        self.teach(book, warm)

    @property
    def phrases(self) -> tuple[str, ...]:
        """What they listen for."""
        return self._book.phrases

    def teach(self, book: PhraseGrammar, warm: int = 2) -> None:
        """Listen for other phrases from the next utterance on."""
        fresh = [Recogniser(book) for _ in range(warm)] if book.alternatives else []
        with self._lock:
            self._book, self._idle = book, fresh

    def take(self) -> Recogniser | None:
        """Borrow a recogniser; None when there is no phrase to listen for."""
        with self._lock:
            if self._idle:
                return self._idle.pop()
            book = self._book
        return Recogniser(book) if book.alternatives else None

    def give_back(self, recogniser: Recogniser) -> None:
        """Return one; what listens for yesterday's phrases is thrown away."""
        with self._lock:
            if recogniser.book is self._book:
                self._idle.append(recogniser)
