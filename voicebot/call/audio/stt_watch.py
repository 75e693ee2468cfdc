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

LEAST_AUDIBLE_MS = 100.0
"""Less than this of a transcript may be something else than the words, which then were too quiet."""
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
"""Speech that another service has not transcribed either within so long is not waited for any more."""


class SttWatch:
    """Watches the active STT service of one call."""

    def __init__(self, sample_rate: int = SAMPLE_RATE) -> None:
        """Nothing was heard yet. ``sample_rate`` is that of the audio, in Hz."""
        self._bytes_per_ms = bytes_per_ms(sample_rate)
        self.spoken_ms = 0.0
        """How much speech was heard since the service last said something, or was judged."""
        self.quiet_ms = 0.0
        """How long the caller has not been audible, in ms of their audio."""
        self._waited_ms = 0.0
        """How long a service has listened since the caller was audible or the service said something."""
        self._noise = 0.0
        self._has_interims = self._owes_final = False
        self._patience = 1
        self._since_judged_ms = FORGOTTEN_AFTER_MS
        self.judged = 0
        """How often a service was judged since one made a transcript final."""
        self._audible_ms = 0.0
        self._was_audible = False
        self._was_forgotten = False
        self.is_unheard = False
        """Whether no service has said what the caller seems to have spoken, and none is given it any more."""

    @property
    def has_speech(self) -> bool:
        """Whether the caller seems to have spoken, and no transcript says what."""
        return self._is_unanswered or self._since_judged_ms < FORGOTTEN_AFTER_MS

    @property
    def _is_unanswered(self) -> bool:
        return self._owes_final or self.spoken_ms >= LEAST_SPEECH_MS

    @property
    def transcribed_quiet_ms(self) -> float:
        """``quiet_ms`` if what was transcribed last was audible, otherwise 0: when it ended is not known."""
        return self.quiet_ms if self._was_audible else 0.0

    def hear(self, audio: bytes, silence_ms: float | None) -> bool:
        """Take what the service is given.

        Args:
            audio: 16-bit mono PCM.
            silence_ms: the silence after which the service makes a transcript final; None: no service is
                connected, so that none can be judged and the caller is owed words for as long as that lasts.

        Returns:
            Whether the service must have said something by now. That is said once for the same speech.
        """
        ms = len(audio) / self._bytes_per_ms
        if self._is_audible(audio, ms):
            self.spoken_ms, self.quiet_ms, self._waited_ms = self.spoken_ms + ms, 0.0, 0.0
            self._audible_ms += ms
            self._was_forgotten = False
        else:
            self.quiet_ms += ms
            self._waited_ms += 0.0 if silence_ms is None else ms
        if silence_ms is None:
            return False
        self._count_judged(ms)
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
        Several words that the final transcript does not have were spoken, and are unheard.
        """
        self.spoken_ms = self._waited_ms = 0.0
        self._since_judged_ms = FORGOTTEN_AFTER_MS
        self.is_unheard = final and not words and self._owes_final and not self._was_forgotten
        if final:
            self._patience, self.judged = 1, 0
            self._was_audible, self._audible_ms = self._audible_ms >= LEAST_AUDIBLE_MS, 0.0
        self._has_interims = self._has_interims or not final
        self._owes_final = not final and (self._owes_final or words >= LEAST_INTERIM_WORDS)

    def forget(self) -> None:
        """What was not transcribed until now is taken for noise, or the caller is asked to say it again."""
        self.is_unheard, self._was_forgotten = False, True

    def replaced(self) -> None:
        """Another service gets the audio from now on; it may work differently and is given time anew."""
        self._has_interims = False
        self._waited_ms = 0.0
        self.spoken_ms = min(self.spoken_ms, LEAST_SPEECH_MS)
        if self._since_judged_ms < FORGOTTEN_AFTER_MS:
            self._since_judged_ms = 0.0

    def _count_judged(self, ms: float) -> None:
        """Count the time in which a service may transcribe what another one has not."""
        was_owed = self._since_judged_ms < FORGOTTEN_AFTER_MS
        self._since_judged_ms += ms
        if was_owed and self._since_judged_ms >= FORGOTTEN_AFTER_MS and not self._is_unanswered:
            self.is_unheard = not self._was_forgotten

    def _is_overdue(self, silence_ms: float) -> bool:
        if not self._is_unanswered:
            return False
        # That there were words is known where an interim transcript said some.
        patience = 1 if self._owes_final else self._patience
        if self._waited_ms >= silence_ms + AFTER_SPEECH_MS * patience:
            return True
        longest = INTERIMS_MS if self._has_interims else LONGEST_SPEECH_MS
        return self.spoken_ms >= longest * self._patience

    def _is_audible(self, audio: bytes, ms: float) -> bool:
        level = peak_to_peak(audio)
        self._noise = min(float(level), (self._noise + 1.0) * NOISE_RISES ** (ms / 20))
        return level > LEAST_RANGE and level > self._noise * OVER_NOISE
