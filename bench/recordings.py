"""Latencies from the recording of a call: when an answer began, and in which voice."""

from __future__ import annotations

from collections.abc import Sequence

from bench.scenario import ANNOUNCED_ROUTE, ANNOUNCEMENT, FRONT_DESK, VOICES, Turn
from voicebot.sandbox.audio.measurement import Fingerprint, Span, TooShort, distance, fingerprint, spans
from voicebot.sandbox.audio.mulaw import samples_of
from voicebot.sandbox.carrier import Call, Recording
from voicebot.sandbox.speech.synthesis import synthesize

_PAUSE_MS = 20.0
_TOLERANCE_MS = 400.0


class MissingSample(Exception):
    """The recording lacks what a figure is taken from; the message says what."""


class CallRecording:
    """The recording of one call, and the times at which the caller spoke."""

    def __init__(self, call: Call) -> None:
        self._recording: Recording = call.recording()
        self._spans = spans(self._recording.received, pause_ms=_PAUSE_MS)
        self._question_ends_ms = [
            float(str(event.data["start_ms"])) + float(str(event.data["duration_ms"]))
            for event in call.events
            if event.name == "caller.says"
        ]

    def response_ms(self, turn: Turn, questions: Sequence[str]) -> float:
        """Time from the end of the caller's speech to the first sound of the answer, in ms.

        Args:
            turn: the turn to measure.
            questions: everything that the caller said, in order.

        Raises:
            MissingSample: there is no answer, or it is in another voice.
        """
        question_end_ms, answer = self._answer(turn.question, questions)
        self._check_voice(answer, turn.voice, turn.answer)
        return answer.start_ms - question_end_ms

    def announced_route_ms(self, questions: Sequence[str]) -> float:
        """Time from the last sound of the announcement to the first sound of the target, in ms.

        The resolution is 20 ms: a shorter pause is reported as 20 ms.

        Raises:
            MissingSample: the announcement or the answer of the target is not in the recording.
        """
        _, announcement = self._answer(ANNOUNCED_ROUTE.question, questions)
        self._check_voice(announcement, FRONT_DESK, ANNOUNCEMENT)
        expected_end_ms = announcement.start_ms + len(synthesize(ANNOUNCEMENT, FRONT_DESK)) / 16
        pairs = [
            (before, after)
            for before, after in zip(self._spans, self._spans[1:], strict=False)
            if abs(before.end_ms - expected_end_ms) < _TOLERANCE_MS
        ]
        if not pairs:
            raise MissingSample("the end of the announcement")
        before, after = min(pairs, key=lambda pair: abs(pair[0].end_ms - expected_end_ms))
        self._check_voice(after, ANNOUNCED_ROUTE.voice, ANNOUNCED_ROUTE.answer)
        return max(after.start_ms - before.end_ms, _PAUSE_MS)

    def _answer(self, question: str, questions: Sequence[str]) -> tuple[float, Span]:
        """The end of a question in ms, and the first sound between it and the next question."""
        ends_ms = self._question_ends_ms
        if len(ends_ms) != len(questions):
            raise MissingSample(f"{len(questions) - len(ends_ms)} of the caller's questions")
        index = questions.index(question)
        end_ms = ends_ms[index]
        until_ms = ends_ms[index + 1] if index + 1 < len(ends_ms) else self._recording.duration_ms
        answer = next((span for span in self._spans if end_ms <= span.start_ms < until_ms), None)
        if answer is None:
            raise MissingSample(f"an answer to {question!r}")
        return end_ms, answer

    def _check_voice(self, answer: Span, voice: str, words: str) -> None:
        """Check that the sound is more similar to the expected voice than to any other voice of the call."""
        length = len(synthesize(words, voice)) // 2
        sound = self._recording.received[answer.start : answer.start + length]
        try:
            measured = fingerprint(sound)
        except TooShort as error:
            raise MissingSample(f"{words!r}: {error}") from error
        nearest = min(VOICES, key=lambda known: distance(measured, _reference(known, words)))
        if nearest != voice:
            raise MissingSample(f"{words!r} in {voice}: the recording has {nearest}")


def _reference(voice: str, words: str) -> Fingerprint:
    return fingerprint(samples_of(synthesize(words, voice)))
