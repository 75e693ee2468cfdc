"""The switch of the STT services, which gets the caller's audio from the carrier's stream."""

from __future__ import annotations

from collections import deque

from pipecat.frames.frames import (
    ErrorFrame,
    Frame,
    InterimTranscriptionFrame,
    TranscriptionFrame,
)
from pipecat.processors.frame_processor import FrameDirection

from voicebot.call.audio.branch import Branch
from voicebot.call.audio.service_switch import OnError, ServiceSwitch
from voicebot.call.audio.side_stt import SideStt
from voicebot.call.audio.stt_watch import SttWatch
from voicebot.providers.deepgram_stream import NoWordsFrame
from voicebot.providers.pcm import bytes_per_ms
from voicebot.providers.service_spec import SAMPLE_RATE, ServiceSpec
from voicebot.providers.speech_input import SpeechInput

BACKLOG_MS = 10_000
"""How much of the caller's audio is kept until it is transcribed."""
OVERLAP_MS = 300
"""How much audio is kept when a transcript arrives: it was spoken while the transcript was made."""

MAX_JUDGED = 3
"""After so many reports in a row, the caller's speech counts as not transcribable by any service."""


class _Backlog:
    """The latest audio, in messages of any length."""

    def __init__(self, sample_rate: int) -> None:
        self.messages: deque[bytes] = deque()
        self._bytes_per_ms = bytes_per_ms(sample_rate)
        self._size = 0

    def add(self, audio: bytes) -> None:
        self.messages.append(audio)
        self._size += len(audio)
        self.shorten(BACKLOG_MS)

    def shorten(self, kept_ms: int) -> None:
        """Drop the oldest messages, but keep at least this much audio."""
        while self.messages and self._size - len(self.messages[0]) >= kept_ms * self._bytes_per_ms:
            self._size -= len(self.messages.popleft())


class SttSwitch(ServiceSwitch):
    """The STT services of one call.

    A service that replaces a failed one gets the audio that was not transcribed, so that no words are lost. A
    service that sends no transcript although the caller speaks is reported as failed.
    """

    def __init__(self, initial: ServiceSpec, *, on_error: OnError, sample_rate: int = SAMPLE_RATE) -> None:
        """No audio was heard yet. ``sample_rate`` is that of the caller's audio, in Hz."""
        super().__init__(initial, on_error=on_error, name="stt", waits=())  # no frame is for the service
        self.gets_silence = False
        """Whether the service gets silence instead of the caller's audio, because a person has the call."""
        self._untranscribed = _Backlog(sample_rate)
        self._watch = SttWatch(sample_rate)

    @property
    def awaits_transcript(self) -> bool:
        """Whether the caller seems to have spoken and a transcript is expected."""
        return self._watch.has_speech

    @property
    def quiet_ms(self) -> float:
        """How long the caller has not been audible, in ms of their audio."""
        return self._watch.quiet_ms

    @property
    def transcribed_quiet_ms(self) -> float:
        """How long ago the caller's last words ended, in ms of their audio; 0 if that is not known."""
        return self._watch.transcribed_quiet_ms

    @property
    def is_unheard(self) -> bool:
        """Whether the caller seems to have spoken and no transcript is expected any more."""
        return self._watch.is_unheard

    def forget_unheard(self) -> None:
        """Expect no transcript of earlier audio: it was noise, or the caller is asked to repeat it."""
        self._watch.forget()

    @property
    def is_given_up(self) -> bool:
        """Whether the caller spoke several times in a row and no service transcribed it."""
        return self._watch.judged >= MAX_JUDGED

    def hear(self, audio: bytes) -> None:
        """Give the caller's audio (16-bit mono PCM at the call's rate) to the active service; return at once.

        Audio that arrives while that service still connects is given to it when it is ready.
        """
        if self.gets_silence:
            audio = bytes(len(audio))
        self._untranscribed.add(audio)
        branch = self.active_branch
        speech = _speech_input(branch)
        listener = speech if branch.ready else None
        is_overdue = self._watch.hear(audio, listener.silence_ms if listener is not None else None)
        if listener is not None:
            listener.write(audio)
            if is_overdue:
                self._background.start(self._report_silence(branch), name="reporting a silent STT")

    async def run_beside(self, side: SideStt) -> None:
        """Connect a service that transcribes another voice, outside of the call's pipeline."""
        await side.connect(self.processor_setup, await self._start)

    def became_active(self, branch: Branch) -> None:
        """Give a service that has just connected the audio that was not transcribed."""
        self._watch.replaced()
        speech = _speech_input(branch)
        if speech is not None:
            for audio in self._untranscribed.messages:
                speech.write(audio)

    async def _report_silence(self, branch: Branch) -> None:
        error = TimeoutError("the caller speaks, but no transcript arrives")
        frame = ErrorFrame(str(error), exception=error)
        frame.processor = branch.processors[0]
        await self._on_error(branch.spec.key, frame)

    async def _leave(self, branch: Branch, frame: Frame, direction: FrameDirection) -> None:
        if branch is self.active_branch and direction is FrameDirection.DOWNSTREAM:
            self._note(frame)
        if not isinstance(frame, NoWordsFrame):
            await super()._leave(branch, frame, direction)

    def _note(self, frame: Frame) -> None:
        if isinstance(frame, InterimTranscriptionFrame):
            self._watch.transcribed(len(frame.text.split()), final=False)
        elif isinstance(frame, TranscriptionFrame | NoWordsFrame):
            self._watch.transcribed(0 if isinstance(frame, NoWordsFrame) else 1, final=True)
            self._untranscribed.shorten(OVERLAP_MS)


def _speech_input(branch: Branch) -> SpeechInput | None:
    return next((each for each in branch.processors if isinstance(each, SpeechInput)), None)
