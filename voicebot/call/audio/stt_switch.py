"""The switch of the STT services, which gets the caller's audio from the carrier's stream."""

from __future__ import annotations

from collections import deque

from voicebot.call.audio.service_switch import Branch, OnError, ServiceSwitch
from voicebot.providers.service_spec import ServiceSpec
from voicebot.providers.speech_input import SpeechInput

BACKLOG_MESSAGES = 500  # 10 s of 20 ms carrier audio, kept while the active service still connects


class SttSwitch(ServiceSwitch):
    """The STT services of one call."""

    def __init__(self, initial: ServiceSpec, *, on_error: OnError) -> None:
        """No audio was heard yet."""
        super().__init__(initial, on_error=on_error, name="stt", waits=())  # no frame is for the service
        self._unheard: deque[bytes] = deque(maxlen=BACKLOG_MESSAGES)

    def hear(self, audio: bytes) -> None:
        """Give the caller's audio (16-bit mono PCM, 8,000 Hz) to the active service; return at once.

        Audio that arrives while that service still connects is given to it when it is ready.
        """
        if self.is_ready(self.active):
            _write(self.active_branch, audio)
        else:
            self._unheard.append(audio)

    def became_ready(self, branch: Branch) -> None:
        """Give a service that was waited for the audio that arrived meanwhile."""
        if branch is self.active_branch:
            while self._unheard:
                _write(branch, self._unheard.popleft())


def _write(branch: Branch, audio: bytes) -> None:
    for processor in branch.processors:
        if isinstance(processor, SpeechInput):
            processor.write(audio)
