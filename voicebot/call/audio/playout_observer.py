"""Watches what really goes out to the carrier, and sets marks so that we know what was heard of it."""

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

from voicebot.call.audio.drain import DrainFrame

MARK_EVERY_MS = 500.0
BYTES_PER_MS = 16  # 8,000 Hz, 16 bit, mono


class Listener(Protocol):
    """Who wants to know what goes out."""

    def on_sounding(self, context_id: str) -> None:
        """The first audio of a TTS context was handed to the carrier."""
        ...

    def on_word(self, text: str, *, spaced: bool) -> None:
        """A word was reached by the audio that was handed over."""
        ...

    def on_silent(self) -> None:
        """The last audio of a TTS context was handed to the carrier."""
        ...

    def on_cut(self) -> None:
        """An interruption stopped the output."""
        ...


class MarkInserter(FrameProcessor):
    """Sits before the output and sets a mark behind each half second of speech and behind its end."""

    def __init__(self, mark: Callable[[str], Frame]) -> None:
        """``mark`` makes the carrier's frame for a name."""
        super().__init__(name="marker")
        self._mark = mark
        self._count = 0
        self._unmarked_ms = 0.0

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Pass every frame on; put a mark behind those that complete something; note drains."""
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)
        if isinstance(frame, TTSAudioRawFrame):
            self._unmarked_ms += len(frame.audio) / BYTES_PER_MS
            if self._unmarked_ms >= MARK_EVERY_MS:
                await self._set()
        elif isinstance(frame, TTSStoppedFrame):
            await self._set()
        elif isinstance(frame, InterruptionFrame):
            self._unmarked_ms = 0.0
        elif isinstance(frame, DrainFrame):
            frame.synthesised.set()

    async def _set(self) -> None:
        self._unmarked_ms = 0.0
        self._count += 1
        await self.push_frame(self._mark(f"heard-{self._count}"))


class PlayoutObserver(FrameProcessor):
    """Sits behind the output, where frames arrive as their audio is handed to the carrier, at real pace."""

    def __init__(self, listener: Listener) -> None:
        """``listener`` is called on the event loop and must return at once."""
        super().__init__(name="scribe")
        self._listener = listener
        self._coming: str | None = None
        self._sounded: set[str] = set()
        self._early: list[TTSTextFrame] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Tell the listener, and pass every frame on."""
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSStartedFrame):
            self._coming = frame.context_id
        elif isinstance(frame, TTSAudioRawFrame) and self._coming is not None:
            context_id, self._coming = self._coming, None
            self._sounded.add(context_id)
            self._listener.on_sounding(context_id)
            self._tell_early()
        elif isinstance(frame, TTSStoppedFrame):
            self._listener.on_silent()
        elif isinstance(frame, TTSTextFrame):
            self._early.append(frame)
            self._tell_early()
        elif isinstance(frame, InterruptionFrame):
            self._coming = None
            self._early.clear()
            self._listener.on_cut()
        await self.push_frame(frame, direction)

    def _tell_early(self) -> None:
        """Tell the words whose audio has begun: words go by a clock of their own and may be ahead of it."""
        waiting = []
        for frame in self._early:
            if frame.context_id is None or frame.context_id in self._sounded:
                self._listener.on_word(frame.text, spaced=bool(frame.includes_inter_frame_spaces))
            else:
                waiting.append(frame)
        self._early = waiting
