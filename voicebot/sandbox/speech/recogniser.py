"""Recognition of one utterance at a time with pocketsphinx, and a pool of prepared recognisers.

The model of pocketsphinx needs 16,000 Hz and some background noise; telephone audio has neither. Measured
with 12 voices and 20 phrases (µ-law, 8,000 Hz): with digital silence 60 % of the utterances are missed,
with faint noise added 4 %, and 2 % when those that fit no phrase are decoded again with their own mean.
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
    """One word as written (with punctuation) and bare (without); times are s since the utterance began."""

    written: str
    bare: str
    start_s: float
    end_s: float


class Recogniser:
    """Recognises one utterance at a time: `begin`, `hear`, `finish`. Not thread-safe."""

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
        """Take mono samples at 8,000 Hz."""
        self._said.append(samples)
        self._loudness = max(self._loudness, float(np.abs(samples.astype(np.int32)).max(initial=0)) / _LOUD)
        self._process(samples, _NOISE)

    def so_far(self) -> tuple[Word, ...]:
        """Return the words recognised so far."""
        return self._words()

    def finish(self) -> tuple[Word, ...]:
        """End the utterance and return its words: whole clauses, or the part before it was cut off."""
        so_far = self._words()
        self._decoder.end_utt()
        said = np.concatenate(self._said) if self._said else np.zeros(0, np.int16)
        for noise in _FURTHER_NOISES:
            if self.book.whole(self._names()):
                return self._words()
            self._start(self._decoder.get_cmn(True))
            for start in range(0, len(said), _PART):  # in parts, because the decoder holds the GIL
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
    """A pool of recognisers, each lent for one utterance; it grows with simultaneous callers. Thread-safe."""

    needs_thread = True

    def __init__(self, book: PhraseGrammar, warm: int = 2) -> None:
        """Prepare `warm` of them."""
        set_loglevel("FATAL")
        self._lock = threading.Lock()
        self._book = book
        self._idle: list[Recogniser] = []
        self.teach(book, warm)

    @property
    def phrases(self) -> tuple[str, ...]:
        """The phrases that are recognised."""
        return self._book.phrases

    def teach(self, book: PhraseGrammar, warm: int = 2) -> None:
        """Recognise other phrases from the next utterance on."""
        fresh = [Recogniser(book) for _ in range(warm)] if book.alternatives else []
        with self._lock:
            self._book, self._idle = book, fresh

    def take(self) -> Recogniser | None:
        """Return a recogniser for one utterance; None if there are no phrases."""
        with self._lock:
            if self._idle:
                return self._idle.pop()
            book = self._book
        return Recogniser(book) if book.alternatives else None

    def give_back(self, recogniser: Recogniser) -> None:
        """Put a recogniser back; one with other phrases than the current ones is discarded."""
        with self._lock:
            if recogniser.book is self._book:
                self._idle.append(recogniser)
