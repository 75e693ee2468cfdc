"""Detects an STT service that gets speech and returns no transcript. Speech is recognised by its loudness.

Time is measured by the duration of the audio, which arrives in real time. Loud noise counts as speech: the
service is then replaced once, and the watch waits longer each time that there is no transcript again.
"""

from __future__ import annotations

from voicebot.providers.pcm import bytes_per_ms, peak_to_peak
from voicebot.providers.service_spec import SAMPLE_RATE

LEAST_RANGE = 600
"""Peak to peak, of 65,536: quieter audio is line noise."""
OVER_NOISE = 3.0
"""Speech is louder than the noise of the call by this factor."""
NOISE_RISES = 1.005
"""The factor by which the noise estimate rises in 20 ms; it falls at once."""

LEAST_AUDIBLE_MS = 100.0
"""If less than this was audible of a transcript, its words were too quiet to be measured."""
LEAST_SPEECH_MS = 600.0
"""Shorter sounds may be a cough or a click."""
AFTER_SPEECH_MS = 1200.0
"""How long a service may take for a final transcript, after the silence that makes it final."""
INTERIMS_MS = 1500.0
"""A service that sends interim transcripts sends one within this much speech."""
LEAST_INTERIM_WORDS = 2
LONGEST_SPEECH_MS = 5000.0
"""Any service sends a transcript within this much speech without a pause."""
MAX_TOLERANCE = 8
FORGOTTEN_AFTER_MS = 3000.0
"""After this time, a transcript of speech that a second service has got is no longer expected."""


class SttWatch:
    """Watches the active STT service of one call."""

    def __init__(self, sample_rate: int = SAMPLE_RATE) -> None:
        """Nothing was heard yet. ``sample_rate`` is that of the audio, in Hz."""
        self._bytes_per_ms = bytes_per_ms(sample_rate)
        self.spoken_ms = 0.0
        """Audible speech since the last transcript, or since the service was last reported."""
        self.quiet_ms = 0.0
        """How long the caller has not been audible, in ms of their audio."""
        self._waited_ms = 0.0
        """How long a connected service has got audio since the caller was audible or a transcript arrived."""
        self._noise = 0.0
        self._has_interims = self._awaits_final = False
        self._tolerance = 1
        self._since_judged_ms = FORGOTTEN_AFTER_MS
        self.judged = 0
        """How many times a service was reported since the last final transcript."""
        self._audible_ms = 0.0
        self._was_audible = False
        self._was_forgotten = False
        self.is_unheard = False
        """Whether the caller seems to have spoken and no transcript is expected any more."""

    @property
    def has_speech(self) -> bool:
        """Whether the caller seems to have spoken and a transcript is expected."""
        return self._is_unanswered or self._since_judged_ms < FORGOTTEN_AFTER_MS

    @property
    def _is_unanswered(self) -> bool:
        return self._awaits_final or self.spoken_ms >= LEAST_SPEECH_MS

    @property
    def transcribed_quiet_ms(self) -> float:
        """``quiet_ms`` if the last transcribed words were audible; otherwise 0: their end is unknown."""
        return self.quiet_ms if self._was_audible else 0.0

    def hear(self, audio: bytes, silence_ms: float | None) -> bool:
        """Take the audio that the service gets.

        Args:
            audio: 16-bit mono PCM.
            silence_ms: the silence after which the service makes a transcript final; None: no service is
                connected. Then none is reported, and a transcript stays expected.

        Returns:
            Whether a transcript is overdue; True once for the same speech.
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
        self.spoken_ms, self._awaits_final = 0.0, False
        self._since_judged_ms = 0.0
        self.judged += 1
        self._tolerance = min(self._tolerance * 2, MAX_TOLERANCE)
        return True

    def transcribed(self, words: int, *, final: bool) -> None:
        """Take a transcript of ``words`` words; 0: the service found none.

        An interim transcript of a single word may be noise, so its final one may be empty or missing, unless
        it is of speech that another service had not transcribed. If a final transcript is empty after an
        interim one of several words, the caller spoke and is unheard.
        """
        least_words = 1 if self._since_judged_ms < FORGOTTEN_AFTER_MS else LEAST_INTERIM_WORDS
        self.spoken_ms = self._waited_ms = 0.0
        if final or words:
            self._since_judged_ms = FORGOTTEN_AFTER_MS
        self.is_unheard = final and not words and self._awaits_final and not self._was_forgotten
        if final:
            self._tolerance, self.judged = 1, 0
            self._was_audible, self._audible_ms = self._audible_ms >= LEAST_AUDIBLE_MS, 0.0
        self._has_interims = self._has_interims or not final
        self._awaits_final = not final and (self._awaits_final or words >= least_words)

    def forget(self) -> None:
        """Expect no transcript of earlier audio: it was noise, or the caller is asked to repeat it."""
        self.is_unheard, self._was_forgotten = False, True

    def replaced(self) -> None:
        """Another service gets the audio from now on, and has the whole time for its transcript."""
        self._has_interims = False
        self._waited_ms = 0.0
        self.spoken_ms = min(self.spoken_ms, LEAST_SPEECH_MS)
        if self._since_judged_ms < FORGOTTEN_AFTER_MS:
            self._since_judged_ms = 0.0

    def _count_judged(self, ms: float) -> None:
        """Count the time that a second service has for speech which the first one did not transcribe."""
        was_awaited = self._since_judged_ms < FORGOTTEN_AFTER_MS
        self._since_judged_ms += ms
        if was_awaited and self._since_judged_ms >= FORGOTTEN_AFTER_MS and not self._is_unanswered:
            self.is_unheard = not self._was_forgotten

    def _is_overdue(self, silence_ms: float) -> bool:
        if not self._is_unanswered:
            return False
        # An interim transcript with words shows that this is not noise.
        tolerance = 1 if self._awaits_final else self._tolerance
        if self._waited_ms >= silence_ms + AFTER_SPEECH_MS * tolerance:
            return True
        longest = INTERIMS_MS if self._has_interims else LONGEST_SPEECH_MS
        return self.spoken_ms >= longest * self._tolerance

    def _is_audible(self, audio: bytes, ms: float) -> bool:
        level = peak_to_peak(audio)
        self._noise = min(float(level), (self._noise + 1.0) * NOISE_RISES ** (ms / 20))
        return level > LEAST_RANGE and level > self._noise * OVER_NOISE
