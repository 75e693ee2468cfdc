"""Reading a recording: when the answer to a question began, and in whose voice."""

from __future__ import annotations

from collections.abc import Sequence

from bench.scene import ANNOUNCED, DESK, FAREWELL, VOICES, Turn
from voicebot.sandbox.carrier import Call, Recording
from voicebot.sandbox.hearing import Fingerprint, Span, TooShort, distance, fingerprint, spans
from voicebot.sandbox.mulaw import samples_of
from voicebot.sandbox.speech import synthesize

_PAUSE_MS = 20.0
_NEAR_MS = 400.0


class Missing(Exception):
    """What a figure is taken from was not heard; the message says what."""


class Heard:
    """One call's recording, and what the caller said when."""

    def __init__(self, call: Call) -> None:
        self._recording: Recording = call.recording()
        self._spans = spans(self._recording.received, pause_ms=_PAUSE_MS)
        self._asked = [
            float(str(event.data["start_ms"])) + float(str(event.data["duration_ms"]))
            for event in call.events
            if event.name == "caller.says"
        ]

    def wait_ms(self, turn: Turn, questions: Sequence[str]) -> float:
        """From the end of the caller's speech to the first sound of the answer.

        Raises:
            Missing: no answer, or in another voice.
        """
        asked_ms, answer = self._answer(turn.asked, questions)
        self._check(answer, turn.voice, turn.answer)
        return answer.start_ms - asked_ms

    def announced_ms(self, questions: Sequence[str]) -> float:
        """From the last sound of the farewell in the old voice to the first of the target.

        Where not even a tick between them is silent it is a tick, which is more than it can be.

        Raises:
            Missing: one of the two was not heard.
        """
        _, farewell = self._answer(ANNOUNCED.asked, questions)
        self._check(farewell, DESK, FAREWELL)
        expected_ms = farewell.start_ms + len(synthesize(FAREWELL, DESK)) / 16
        ends = [
            (one, two)
            for one, two in zip(self._spans, self._spans[1:], strict=False)
            if abs(one.end_ms - expected_ms) < _NEAR_MS
        ]
        if not ends:
            raise Missing("the farewell has no end")
        one, two = min(ends, key=lambda pair: abs(pair[0].end_ms - expected_ms))
        self._check(two, ANNOUNCED.voice, ANNOUNCED.answer)
        return max(two.start_ms - one.end_ms, _PAUSE_MS)

    def _answer(self, asked: str, questions: Sequence[str]) -> tuple[float, Span]:
        if len(self._asked) != len(questions):
            raise Missing(f"{len(questions) - len(self._asked)} of the caller's questions")
        index = questions.index(asked)
        asked_ms = self._asked[index]
        until_ms = self._asked[index + 1] if index + 1 < len(self._asked) else self._recording.duration_ms
        answer = next((s for s in self._spans if asked_ms <= s.start_ms < until_ms), None)
        if answer is None:
            raise Missing(f"an answer to {asked!r}")
        return asked_ms, answer

    def _check(self, answer: Span, voice: str, words: str) -> None:
        """The voice at a place must be nearer to the right one than to any other of the call."""
        length = len(synthesize(words, voice)) // 2
        sound = self._recording.received[answer.start : answer.start + length]
        try:
            heard = fingerprint(sound)
        except TooShort as error:
            raise Missing(f"{words!r}: {error}") from error
        nearest = min(VOICES, key=lambda known: distance(heard, _known(known, words)))
        if nearest != voice:
            raise Missing(f"{words!r} in {voice}: it was heard in {nearest}")


def _known(voice: str, words: str) -> Fingerprint:
    return fingerprint(samples_of(synthesize(words, voice)))
