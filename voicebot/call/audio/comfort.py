"""Audio for a caller who waits: a soft tone, or a recording, between what the agent says.

It is sent in real time in short pieces, so that it stops at once when somebody speaks. It is not speech: it
is not in the transcript, and it does not interrupt the agent.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from pipecat.frames.frames import OutputAudioRawFrame

from voicebot.call.audio.pipeline import CallPipeline
from voicebot.clock import Clock
from voicebot.providers.pcm import bytes_per_ms

PIECE_MS = 80
"""A multiple of the 40 ms that the output sends at once, so that the output keeps no rest."""
AHEAD_MS = 160.0
"""How much is sent ahead of playout: the event loop may be late by this much without a gap."""

TONE_MS = 600
PERIOD_MS = 1600
"""One tone in each period; the pause is too short to sound like a dead line."""
_CHORD_HZ = (440.0, 554.4)
_PEAK = 1100.0
_FADE_MS = 120


@cache
def tone(sample_rate: int) -> bytes:
    """One period of the tone: 16-bit mono PCM at a rate in Hz."""
    time_s = np.arange(TONE_MS * sample_rate // 1000) / sample_rate
    chord = sum(np.sin(2 * np.pi * hz * time_s) for hz in _CHORD_HZ) / len(_CHORD_HZ)
    position_ms = time_s * 1000
    envelope = np.clip(np.minimum(position_ms, TONE_MS - position_ms) / _FADE_MS, 0.0, 1.0)
    samples = (chord * envelope * _PEAK).astype("<i2")
    return bytes(samples.tobytes().ljust(PERIOD_MS * bytes_per_ms(sample_rate), b"\0"))


class ComfortAudio:
    """Plays one sound again and again on a call; ``play`` must be called every 60 ms or so."""

    def __init__(self, pipeline: CallPipeline, clock: Clock) -> None:
        """Play on the call of ``pipeline``."""
        self._pipeline = pipeline
        self._clock = clock
        self._sound = b""
        self._position = 0
        self._sent_until_ms: float | None = None

    def stop(self) -> None:
        """Send nothing more; the next ``play`` begins the sound again."""
        self._sent_until_ms = None

    async def play(self, sound: bytes) -> None:
        """Send as much of ``sound`` as is due now, unless speech is on its way to the carrier.

        Args:
            sound: 16-bit mono PCM at the call's rate, of one piece at least.
        """
        now = self._clock.monotonic_ms()
        if self._sent_until_ms is None or sound is not self._sound:
            self._sound, self._position = sound, 0
            self._sent_until_ms = now
        self._sent_until_ms = max(self._sent_until_ms, now)
        while self._sent_until_ms < now + AHEAD_MS:
            if self._pipeline.marks.is_speaking:
                self.stop()
                return
            frame = OutputAudioRawFrame(self._piece(), self._pipeline.sample_rate, 1)
            await self._pipeline.tts.push_frame(frame)
            self._sent_until_ms += PIECE_MS

    def _piece(self) -> bytes:
        size, sound = PIECE_MS * bytes_per_ms(self._pipeline.sample_rate), self._sound
        piece = sound[self._position : self._position + size]
        self._position += size
        if len(piece) < size:
            self._position = size - len(piece)
            piece += sound[: self._position]
        return piece
