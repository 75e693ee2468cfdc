"""Estimates when words are spoken, for vendors that do not report it, from the audio that arrived."""

from __future__ import annotations

from collections import deque

CHARACTERS_PER_MS = 0.015
"""The usual rate of speech, until a voice has spoken a text to its end."""
_BOUNDS = (0.005, 0.04)


class EstimatedWords:
    """Spreads the words of a TTS context over its audio, by their length.

    The rate of speech is measured on each complete context.
    """

    def __init__(self) -> None:
        """Nothing is spoken yet."""
        self._rate = CHARACTERS_PER_MS
        self._waiting: deque[str] = deque()
        self._spoken = 0
        self._total = 0
        self._audio_ms = 0.0

    def asked(self, text: str) -> None:
        """A text is to be spoken, behind the others."""
        words = text.split()
        self._waiting.extend(words)
        self._total += sum(len(word) + 1 for word in words)

    def heard(self, audio_ms: float) -> list[tuple[str, float]]:
        """More audio has arrived; return the words that began in it, each with its time in seconds."""
        self._audio_ms += audio_ms
        begun: list[tuple[str, float]] = []
        while self._waiting and self._spoken / self._rate < self._audio_ms:
            begun.append(self._next())
        return begun

    def ended(self) -> list[tuple[str, float]]:
        """The context has been spoken; return the words that are left, and be ready for the next one."""
        left = [self._next() for _ in range(len(self._waiting))]
        if self._audio_ms and self._total:
            self._rate = min(max(self._total / self._audio_ms, _BOUNDS[0]), _BOUNDS[1])
        self.forget()
        return left

    def forget(self) -> None:
        """The context was interrupted."""
        self._waiting.clear()
        self._spoken = self._total = 0
        self._audio_ms = 0.0

    def _next(self) -> tuple[str, float]:
        word = self._waiting.popleft()
        begins_ms = min(self._spoken / self._rate, self._audio_ms)
        self._spoken += len(word) + 1
        return word, begins_ms / 1000
