"""Sound laid on a line of time, which is at once the playout buffer and the recording.

Time is counted in samples of 8,000 Hz since the call was answered. What lies ahead of `cursor` is still to
sound and may be cleared; what lies behind it has sounded and stays.
"""

from __future__ import annotations

import numpy as np

from voicebot.sandbox.audio.mulaw import Samples

SAMPLE_RATE = 8000
"""Hz."""
TICK_MS = 20
"""How long a frame of telephone audio lasts."""
TICK = SAMPLE_RATE * TICK_MS // 1000
"""Samples in a frame."""
HICCUP = SAMPLE_RATE // 10
"""A hole shorter than this (samples) between two pieces is a stutter, not a pause."""

_ROOM = SAMPLE_RATE * 30


class Timeline:
    """An append-only line of samples; silence lies where nothing was put."""

    def __init__(self) -> None:
        self._samples: Samples = np.zeros(_ROOM, dtype=np.int16)
        self.cursor = 0
        """How far the line has sounded, in samples."""
        self.end = 0
        """Where the next piece would begin at the earliest, in samples."""
        self.hiccups = 0
        """How often a piece came too late to join the one before it, by less than 100 ms."""

    def append(self, samples: Samples, at: int) -> int:
        """Add a piece after the earlier ones, not before `at`; return where it begins, in samples."""
        if 0 < at - self.end < HICCUP and self.end > 0:
            self.hiccups += 1
        start = max(self.end, at, self.cursor)
        self._make_room(start + len(samples))
        self._samples[start : start + len(samples)] = samples
        self.end = start + len(samples)
        return start

    def clear(self, at: int) -> int:
        """Take back everything from `at` on that has not sounded, and return how many samples that were."""
        at = max(at, self.cursor)
        dropped = max(0, self.end - at)
        if dropped:
            self._samples[at : self.end] = 0
            self.end = at
        return dropped

    def advance(self, count: int) -> Samples:
        """Let the next `count` samples sound, and return them."""
        start, self.cursor = self.cursor, self.cursor + count
        self._make_room(self.cursor)
        return self._samples[start : self.cursor]

    def sounded(self, start: int = 0) -> Samples:
        """Return a copy of what has sounded since `start` (in samples)."""
        return self._samples[start : self.cursor].copy()

    def _make_room(self, needed: int) -> None:
        if needed > len(self._samples):
            grown = np.zeros(max(needed, 2 * len(self._samples)), dtype=np.int16)
            grown[: len(self._samples)] = self._samples
            self._samples = grown
