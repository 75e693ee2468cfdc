"""What becomes of each answer of the model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pipecat.frames.frames import (
    Frame,
    FunctionCallsStartedFrame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor


class LlmResponseObserver(FrameProcessor):
    """Sits behind the model and sees what becomes of each of its answers."""

    def __init__(self) -> None:
        """Told of answers once somebody attends."""
        super().__init__(name="answer-watch", enable_direct_mode=True)
        self.has_words = False
        """Whether the answer that is under way, or was last, brought words that are spoken."""
        self._has_calls = False
        self._over = asyncio.Event()
        self._over.set()
        self._told: Callable[[bool], None] = lambda _: None

    def attend(self, told: Callable[[bool], None]) -> None:
        """Have ``told`` hear whether an answer brought anything when it ends; not of interrupted ones."""
        self._told = told

    async def over(self) -> None:
        """Wait for the end of the answer that is under way; return at once if there is none."""
        await self._over.wait()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Watch; pass everything on."""
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)
        if isinstance(frame, LLMFullResponseStartFrame):
            self.has_words = self._has_calls = False
            self._over.clear()
        elif isinstance(frame, LLMTextFrame):
            self.has_words = self.has_words or bool(frame.text.strip())
        elif isinstance(frame, FunctionCallsStartedFrame):
            self._has_calls = True
        elif isinstance(frame, InterruptionFrame):
            self._over.set()
        elif isinstance(frame, LLMFullResponseEndFrame) and not self._over.is_set():
            self._over.set()
            self._told(self.has_words or self._has_calls)
