"""Judges an STT service that gets speech and says nothing, by the loudness of what it gets.

Time is the duration of the audio, which a telephone delivers as it passes. A noise without words is speech
to this watch; the service is then replaced once, and each time it says nothing again the watch waits longer.
"""

from __future__ import annotations

from voicebot.providers.pcm import bytes_per_ms, peak_to_peak
from voicebot.providers.service_spec import SAMPLE_RATE

LEAST_RANGE = 600
"""Peak to peak, of 65,536: what is quieter is the noise of a line."""
OVER_NOISE = 3.0
"""Speech is louder than the noise of the call by this factor."""
NOISE_RISES = 1.005
"""How fast the estimate of the noise rises, for each 20 ms; it falls at once."""

LEAST_SPEECH_MS = 600.0
"""Less than this may be a cough or a click."""
AFTER_SPEECH_MS = 1200.0
"""After the silence in which a transcript becomes final, a service has so long to say it."""
INTERIMS_MS = 1500.0
"""A service that sent interim transcripts before sends one within so much speech."""
LEAST_INTERIM_WORDS = 2
LONGEST_SPEECH_MS = 5000.0
"""After so much speech without a pause any service has said something."""
MOST_PATIENCE = 8
FORGOTTEN_AFTER_MS = 3000.0
"""Speech that another service has not transcribed either within so long was none."""


class SttWatch:
    """Watches the active STT service of one call."""

    def __init__(self, sample_rate: int = SAMPLE_RATE) -> None:
        """Nothing was heard yet. ``sample_rate`` is that of the audio, in Hz."""
        self._bytes_per_ms = bytes_per_ms(sample_rate)
        self.spoken_ms = 0.0
        """How much speech was heard since the service last said something, or was judged."""
        self._quiet_ms = 0.0
        """Silence since the caller or the service said something."""
        self._noise = 0.0
        self._has_interims = self._owes_final = False
        self._patience = 1
        self._since_judged_ms = FORGOTTEN_AFTER_MS
        self.judged = 0
        """How often a service was judged since one made a transcript final."""

    @property
    def has_speech(self) -> bool:
        """Whether the caller seems to have spoken, and no transcript says what."""
        return self._is_unanswered or self._since_judged_ms < FORGOTTEN_AFTER_MS

    @property
    def quiet_ms(self) -> float:
        """How long neither the caller nor the service has said anything, in ms of the caller's audio."""
        return self._quiet_ms

    @property
    def _is_unanswered(self) -> bool:
        return self._owes_final or self.spoken_ms >= LEAST_SPEECH_MS

    def hear(self, audio: bytes, silence_ms: float) -> bool:
        """Take what the service is given.

        Args:
            audio: 16-bit mono PCM.
            silence_ms: the silence after which the service makes a transcript final.

        Returns:
            Whether the service must have said something by now. That is said once for the same speech.
        """
        ms = len(audio) / self._bytes_per_ms
        self._since_judged_ms += ms
        if self._is_audible(audio, ms):
            self.spoken_ms, self._quiet_ms = self.spoken_ms + ms, 0.0
        else:
            self._quiet_ms += ms
        if not self._is_overdue(silence_ms):
            return False
        self.spoken_ms, self._owes_final = 0.0, False
        self._since_judged_ms = 0.0
        self.judged += 1
        self._patience = min(self._patience * 2, MOST_PATIENCE)
        return True

    def transcribed(self, words: int, *, final: bool) -> None:
        """The service said something; without words, that there were none.

        An interim transcript of a single word may be noise, of which the final one is empty or missing.
        """
        self.spoken_ms = self._quiet_ms = 0.0
        self._since_judged_ms = FORGOTTEN_AFTER_MS
        if final:
            self._patience, self.judged = 1, 0
        self._has_interims = self._has_interims or not final
        self._owes_final = not final and (self._owes_final or words >= LEAST_INTERIM_WORDS)

    def replaced(self) -> None:
        """Another service gets the audio from now on; it may work differently."""
        self._has_interims = False
        self._quiet_ms = 0.0

    def _is_overdue(self, silence_ms: float) -> bool:
        if not self._is_unanswered:
            return False
        # That there were words is known where an interim transcript said some.
        patience = 1 if self._owes_final else self._patience
        if self._quiet_ms >= silence_ms + AFTER_SPEECH_MS * patience:
            return True
        longest = INTERIMS_MS if self._has_interims else LONGEST_SPEECH_MS
        return self.spoken_ms >= longest * self._patience

    def _is_audible(self, audio: bytes, ms: float) -> bool:
        level = peak_to_peak(audio)
        self._noise = min(float(level), (self._noise + 1.0) * NOISE_RISES ** (ms / 20))
        return level > LEAST_RANGE and level > self._noise * OVER_NOISE
