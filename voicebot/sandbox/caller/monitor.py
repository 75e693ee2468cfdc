"""Monitors a live line: speech by its energy, every 20 ms, and voices by their fingerprints."""

from __future__ import annotations

import asyncio

from voicebot.sandbox.audio.measurement import LOUD, loudness
from voicebot.sandbox.audio.speakers import UNKNOWN, Voices, segments
from voicebot.sandbox.carrier.line import Line
from voicebot.sandbox.carrier.timeline import TICK

_BREATH = 12 * TICK
"""The longest pause within an utterance, in samples (240 ms)."""
_STALL = 50 * TICK
"""How much of a silence may be the machine's, in samples (1 s)."""


class LineMonitor:
    """Monitors the audio that a caller hears; call `catch_up` after each frame."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._heard = 0
        self._first_sound = 0
        self.last_sound = -1
        """Where the last loud tick ended, in samples; -1 before any."""
        self._quiet_since = 0
        """`Line.waited` when that tick was processed."""
        self._voices = Voices()
        self.recognised = 0
        """How far voices have been recognised, in samples."""
        self._voice: str | None = None

    def catch_up(self) -> None:
        """Process the audio since the last call."""
        start, self._heard = self._heard, self._line.heard.cursor
        if self._line.heard.end <= start:
            return  # silence, as most of the time
        for index, level in enumerate(loudness(self._line.heard.sounded(start))):
            if level >= LOUD:
                at = start + index * TICK
                if self.last_sound < 0 or at - self.last_sound > _BREATH:
                    self._first_sound = at
                self.last_sound = at + TICK
                self._quiet_since = self._line.waited

    def spoke_since(self, sample: int) -> bool:
        """Whether there was sound after a moment, given in samples."""
        return self.last_sound > sample

    @property
    def quiet_ms(self) -> float:
        """The duration of the current silence in ms, less up to `_STALL` in which this process did not run.

        An agent that runs in the same process, or on the same busy machine, could not speak then.
        """
        silence = self._heard - max(0, self.last_sound)
        return max(self._line.waited - self._quiet_since, silence - _STALL) / 8

    @property
    def speaking_ms(self) -> float:
        """The duration of the current utterance, in ms; 0 during silence."""
        if self.last_sound < 0 or self._heard - self.last_sound > _BREATH:
            return 0.0
        return (self.last_sound - self._first_sound) / 8

    async def last_voice(self, until: int | None = None) -> str | None:
        """Recognise what has sounded since the last time, and return whose voice came last (None: nobody's).

        `until` is a moment in samples; None means now.
        """
        fresh = self._line.heard.sounded(self.recognised)[
            : None if until is None else until - self.recognised
        ]
        self.recognised += len(fresh)
        parts = await asyncio.to_thread(segments, fresh, self._voices)
        known = [part.voice for part in parts if part.voice != UNKNOWN]
        self._voice = known[-1] if known else self._voice
        return self._voice
