"""Observes what goes out to the carrier, and marks it, so that we know what the caller has heard.

``MarkInserter`` is the stage before the output, ``PlayoutObserver`` the stage behind it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pipecat.frames.frames import (
    Frame,
    InterruptionFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from voicebot.call.audio.frames import DrainFrame

MARK_EVERY_MS = 500.0
BYTES_PER_MS = 16  # 8,000 Hz, 16 bit, mono


class PlayoutListener(Protocol):
    """Receives what the observer sees. Its methods run on the event loop and must return at once."""

    def on_audio_started(self, context_id: str) -> None:
        """The first audio of a TTS context was handed to the carrier."""
        ...

    def on_word(self, text: str, *, spaced: bool) -> None:
        """The audio handed over has reached a word; ``spaced`` says that the word contains its own spaces."""
        ...

    def on_audio_ended(self) -> None:
        """The last audio of a TTS context was handed to the carrier."""
        ...

    def on_interrupted(self) -> None:
        """An interruption stopped the output."""
        ...


class MarkInserter(FrameProcessor):
    """Puts a mark behind each half second of speech and behind its end."""

    def __init__(self, mark: Callable[[str], Frame]) -> None:
        """``mark`` makes the carrier's mark frame with a name."""
        super().__init__(name="mark-inserter", enable_direct_mode=True)
        self._mark = mark
        self._count = 0
        self._unmarked_ms = 0.0
        self._is_speaking = False

    @property
    def is_speaking(self) -> bool:
        """Whether the speech of an agent is on its way to the carrier, and has not all passed here."""
        return self._is_speaking

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Pass every frame on, insert marks, and note drains."""
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSStartedFrame | TTSAudioRawFrame):
            self._is_speaking = True
        elif isinstance(frame, TTSStoppedFrame | InterruptionFrame):
            self._is_speaking = False
        await self.push_frame(frame, direction)
        if isinstance(frame, TTSAudioRawFrame):
            self._unmarked_ms += len(frame.audio) / BYTES_PER_MS
            if self._unmarked_ms >= MARK_EVERY_MS:
                await self._push_mark()
        elif isinstance(frame, TTSStoppedFrame):
            await self._push_mark()
        elif isinstance(frame, InterruptionFrame):
            self._unmarked_ms = 0.0
        elif isinstance(frame, DrainFrame):
            frame.synthesised.set()

    async def _push_mark(self) -> None:
        self._unmarked_ms = 0.0
        self._count += 1
        await self.push_frame(self._mark(f"heard-{self._count}"))


class PlayoutObserver(FrameProcessor):
    """Reports frames as their audio is handed to the carrier, which happens in real time."""

    def __init__(self) -> None:
        """Nobody listens yet."""
        super().__init__(name="playout-observer", enable_direct_mode=True)
        self._listener: PlayoutListener | None = None
        self._next_context: str | None = None
        self._started: set[str] = set()
        self._early_words: list[TTSTextFrame] = []

    def listen(self, listener: PlayoutListener) -> None:
        """Report to ``listener`` from now on."""
        self._listener = listener

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Report what a frame means, and pass it on."""
        await super().process_frame(frame, direction)
        if self._listener is not None:
            self._report(frame, self._listener)
        await self.push_frame(frame, direction)

    def _report(self, frame: Frame, listener: PlayoutListener) -> None:
        if isinstance(frame, TTSStartedFrame):
            self._next_context = frame.context_id
        elif isinstance(frame, TTSAudioRawFrame) and self._next_context is not None:
            context_id, self._next_context = self._next_context, None
            self._started.add(context_id)
            listener.on_audio_started(context_id)
            self._report_words(listener)
        elif isinstance(frame, TTSStoppedFrame):
            listener.on_audio_ended()
        elif isinstance(frame, TTSTextFrame):
            self._early_words.append(frame)
            self._report_words(listener)
        elif isinstance(frame, InterruptionFrame):
            self._next_context = None
            self._early_words.clear()
            listener.on_interrupted()

    def _report_words(self, listener: PlayoutListener) -> None:
        """Report the words whose audio has begun: word frames have their own clock and may be ahead of it."""
        waiting = []
        for frame in self._early_words:
            if frame.context_id is None or frame.context_id in self._started:
                listener.on_word(frame.text, spaced=bool(frame.includes_inter_frame_spaces))
            else:
                waiting.append(frame)
        self._early_words = waiting
