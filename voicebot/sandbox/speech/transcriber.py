"""Transcription of a stream: speech is detected by its energy, words by a recogniser."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from voicebot.sandbox.audio.measurement import loudness
from voicebot.sandbox.speech.recogniser import RATE, Samples, Word

_FRAME = RATE // 100
_FRAME_MS = 10
_LOUD, _ABOVE_FLOOR = 150.0, 3.0
_FLOOR_RISE, _FLOOR_MOST = 1.01, 500.0
_ONSET = 3
_PREROLL = 20
_WITHIN_WORDS_MS = 150
_WITHOUT_ENDPOINTING_MS = 1000
_INTERIM_MS = 300


class UtteranceRecogniser(Protocol):
    """Recognises one utterance at a time."""

    def begin(self) -> None:
        """Start an utterance."""

    def hear(self, samples: Samples) -> None:
        """Take mono samples at 8,000 Hz."""

    def so_far(self) -> tuple[Word, ...]:
        """Return the words recognised until now."""
        ...

    def finish(self) -> tuple[Word, ...]:
        """End the utterance and return its words."""
        ...


_R = TypeVar("_R", bound=UtteranceRecogniser)


class RecogniserSource(Protocol[_R]):
    """Lends recognisers, each for one utterance."""

    @property
    def needs_thread(self) -> bool:
        """Whether a recogniser takes so much CPU time that it must not run in the event loop."""
        ...

    def take(self) -> _R | None:
        """Return a recogniser; None when nothing can be recognised."""
        ...

    def give_back(self, recogniser: _R) -> None:
        """Accept a recogniser that `take` returned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechStarted:
    """Speech began, `at_s` seconds after the stream."""

    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """The words of `duration_s` seconds from `start_s`; times of `words` are seconds since the stream began.

    `final`: the words will not change; `ended`: a pause ended them; `asked`: `finalize` ended them.
    """

    words: tuple[Word, ...]
    start_s: float
    duration_s: float
    final: bool
    ended: bool = False
    asked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UtteranceEnd:
    """The gap after the last word, which ended at `last_word_end_s`, is as long as configured."""

    last_word_end_s: float


Event = SpeechStarted | Heard | UtteranceEnd


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscriberSettings:
    """Options of a transcriber.

    Attributes:
        endpointing_ms: the pause that ends an utterance, at least 150 ms; None: pauses do not end it.
        interim: whether to report words before they are final.
        utterance_end_ms: the gap between words that is reported as `UtteranceEnd`; None: none.
    """

    endpointing_ms: int | None = 10
    interim: bool = False
    utterance_end_ms: int | None = None

    @property
    def pause_ms(self) -> int:
        """The pause after which words are final, in ms."""
        return (
            _WITHOUT_ENDPOINTING_MS
            if self.endpointing_ms is None
            else max(self.endpointing_ms, _WITHIN_WORDS_MS)
        )


class Transcriber:
    """Transcribes one stream of mono samples at 8,000 Hz, in order. Not thread-safe."""

    def __init__(self, recognisers: RecogniserSource[Any], settings: TranscriberSettings) -> None:
        self._recognisers = recognisers
        self._settings = settings
        self._rest = np.zeros(0, np.int16)
        self._frames = 0
        self._controls = _LOUD
        self._before: deque[Samples] = deque(maxlen=_PREROLL)
        self._loud = 0
        self._quiet = 0
        self._utterance: _Utterance | None = None
        self._last_word_end: float | None = None

    @property
    def now_s(self) -> float:
        """The duration of the audio so far, in s."""
        return self._frames * _FRAME_MS / 1000

    async def listen(self, samples: Samples) -> list[Event]:
        """Take samples as `hear` does, in a thread if speech may have to be recognised."""
        may_be_speech = self._utterance is not None or np.abs(samples.astype(np.int32)).max(initial=0) > _LOUD
        if may_be_speech and self._recognisers.needs_thread:
            return await asyncio.to_thread(self.hear, samples)
        return self.hear(samples)

    def hear(self, samples: Samples) -> list[Event]:
        """Take samples and return the events that they cause."""
        together = np.concatenate([self._rest, samples])
        whole = len(together) // _FRAME * _FRAME
        self._rest = together[whole:]
        frames = together[:whole].reshape(-1, _FRAME)
        events: list[Event] = []
        for frame, level in zip(frames, loudness(together, _FRAME), strict=True):
            events.extend(self._frame(frame, level))
        return events

    def finalize(self) -> Heard:
        """End the current utterance; without words if there is no speech."""
        if self._utterance is not None:
            return self._close(asked=True)
        return Heard(words=(), start_s=self.now_s, duration_s=0.0, final=True, asked=True)

    def close(self) -> Heard | None:
        """End the stream; return the current utterance, if there is one."""
        return self._close() if self._utterance is not None else None

    def _frame(self, frame: Samples, level: float) -> list[Event]:
        self._frames += 1
        loud = self._is_loud(level)
        self._loud = self._loud + 1 if loud else 0
        self._quiet = 0 if loud else self._quiet + 1
        if self._utterance is not None:
            return self._go_on(self._utterance, frame)
        self._before.append(frame)
        if self._loud >= _ONSET:
            return self._begin()
        return self._silence()

    def _is_loud(self, level: float) -> bool:
        if level < self._controls:
            self._controls = max(level, 1.0)
        elif self._utterance is None:
            self._controls = min(self._controls * _FLOOR_RISE, _FLOOR_MOST)
        return level > max(_LOUD, _ABOVE_FLOOR * self._controls)

    def _begin(self) -> list[Event]:
        frames = list(self._before)
        self._before.clear()
        start_s = self.now_s - len(frames) * _FRAME_MS / 1000
        self._utterance = _Utterance(self._recognisers.take(), start_s)
        self._utterance.hear(np.concatenate(frames))
        self._last_word_end = None
        return [SpeechStarted(at_s=self.now_s - _ONSET * _FRAME_MS / 1000)]

    def _go_on(self, utterance: _Utterance, frame: Samples) -> list[Event]:
        utterance.hear(frame)
        if self._quiet * _FRAME_MS >= self._settings.pause_ms:
            return [self._close(ended=self._settings.endpointing_ms is not None)]
        if self._settings.interim and utterance.frames % (_INTERIM_MS // _FRAME_MS) == 0:
            words = utterance.so_far()
            if words:
                duration_s = self.now_s - utterance.start_s
                return [Heard(words=words, start_s=utterance.start_s, duration_s=duration_s, final=False)]
        return []

    def _silence(self) -> list[Event]:
        wait = self._settings.utterance_end_ms
        if wait is None or self._last_word_end is None or (self.now_s - self._last_word_end) * 1000 < wait:
            return []
        ended = UtteranceEnd(last_word_end_s=self._last_word_end)
        self._last_word_end = None
        return [ended]

    def _close(self, *, ended: bool = False, asked: bool = False) -> Heard:
        utterance = self._utterance
        if utterance is None:
            raise RuntimeError("there is no utterance")
        self._utterance = None
        self._loud = 0
        words, recogniser = utterance.finish()
        if recogniser is not None:
            self._recognisers.give_back(recogniser)
        self._last_word_end = words[-1].end_s if words else None
        duration_s = self.now_s - utterance.start_s
        return Heard(
            words=words,
            start_s=utterance.start_s,
            duration_s=duration_s,
            final=True,
            ended=ended,
            asked=asked,
        )


class _Utterance:
    """The current utterance, given to a recogniser in parts of 40 ms."""

    def __init__(self, recogniser: UtteranceRecogniser | None, start_s: float) -> None:
        self._recogniser = recogniser
        self.start_s = start_s
        self.frames = 0
        self._waiting: list[Samples] = []
        if recogniser is not None:
            recogniser.begin()

    def hear(self, samples: Samples) -> None:
        self.frames += len(samples) // _FRAME
        self._waiting.append(samples)
        if len(self._waiting) >= 4:
            self._pass_on()

    def so_far(self) -> tuple[Word, ...]:
        self._pass_on()
        return self._placed(self._recogniser.so_far()) if self._recogniser is not None else ()

    def finish(self) -> tuple[tuple[Word, ...], UtteranceRecogniser | None]:
        self._pass_on()
        words = self._placed(self._recogniser.finish()) if self._recogniser is not None else ()
        return words, self._recogniser

    def _pass_on(self) -> None:
        if self._recogniser is not None and self._waiting:
            self._recogniser.hear(np.concatenate(self._waiting))
        self._waiting = []

    def _placed(self, words: tuple[Word, ...]) -> tuple[Word, ...]:
        return tuple(
            Word(
                written=word.written,
                bare=word.bare,
                start_s=round(self.start_s + word.start_s, 3),
                end_s=round(self.start_s + word.end_s, 3),
            )
            for word in words
        )
