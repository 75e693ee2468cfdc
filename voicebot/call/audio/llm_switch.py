"""The switch of the language models, with a gate that holds requests back, and a watch on the responses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from pipecat.frames.frames import (
    Frame,
    FunctionCallResultFrame,
    FunctionCallsStartedFrame,
    InterruptionFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
)
from pipecat.processors.frame_processor import FrameDirection

from voicebot.call.audio.frames import OpenGateFrame
from voicebot.call.audio.service_switch import OnError, ServiceSwitch
from voicebot.providers.service_spec import ServiceSpec

FrameCallback = Callable[..., Awaitable[None]]


class LlmSwitch(ServiceSwitch):
    """The language models of one call.

    The gate is shut while the call changes agent or ends: every request to the model is then dropped (its
    messages are in the context), and ``missed_turn`` says whether one of them was the caller's turn. Requests
    come from two sides: downstream by the caller's turn, upstream by the result of a function.
    """

    def __init__(self, initial: ServiceSpec, *, on_error: OnError) -> None:
        """The gate is open."""
        super().__init__(initial, on_error=on_error, name="llm")
        self.has_text = False
        """Whether the current or latest response contains text to speak."""
        self._has_calls = False
        self._response_ended = asyncio.Event()
        self._response_ended.set()
        self._on_response: Callable[[bool], None] = lambda _: None
        self._is_shut = False
        self._missed_turn = False
        self._function = ""
        self._result_passed = asyncio.Event()

    # ------------------------------------------------------------------------------------- gate

    @property
    def is_shut(self) -> bool:
        """Whether requests are held back."""
        return self._is_shut

    @property
    def missed_turn(self) -> bool:
        """Whether a turn of the caller was dropped since the gate was last shut."""
        return self._missed_turn

    def shut_gate(self, function: str = "") -> None:
        """Drop all requests until an :class:`OpenGateFrame` passes.

        Args:
            function: the name of the function whose call shuts the gate; its result can be waited for.
        """
        self._is_shut = True
        self._missed_turn = False
        self._function = function
        self._result_passed.clear()

    def open_gate(self) -> None:
        """Let requests pass again."""
        self._is_shut = False

    async def result_passed(self) -> None:
        """Wait until the result of the function that shut the gate is on its way to the context."""
        await self._result_passed.wait()

    async def queue_frame(
        self,
        frame: Frame,
        direction: FrameDirection = FrameDirection.DOWNSTREAM,
        callback: FrameCallback | None = None,
    ) -> None:
        """Apply the gate when a frame is queued, before it waits behind others."""
        if isinstance(frame, OpenGateFrame):
            self.open_gate()
        elif not (isinstance(frame, LLMContextFrame) and self._drops(direction)):
            await super().queue_frame(frame, direction, callback)

    def _drops(self, direction: FrameDirection) -> bool:
        if self._is_shut and direction is FrameDirection.DOWNSTREAM:
            self._missed_turn = True
        return self._is_shut

    # -------------------------------------------------------------------------------- responses

    def on_response(self, observer: Callable[[bool], None]) -> None:
        """Call ``observer`` at the end of every response that was not interrupted.

        Its argument says whether the response contained text or function calls.
        """
        self._on_response = observer

    async def response_ended(self) -> None:
        """Wait for the end of the current response; return at once when there is none."""
        await self._response_ended.wait()

    async def push_frame(self, frame: Frame, direction: FrameDirection = FrameDirection.DOWNSTREAM) -> None:
        """Pass a frame on, then note what it says about the response."""
        await super().push_frame(frame, direction)
        if isinstance(frame, FunctionCallResultFrame):
            if frame.function_name == self._function:
                self._result_passed.set()
        elif direction is FrameDirection.DOWNSTREAM:
            self._observe(frame)

    def _observe(self, frame: Frame) -> None:
        if isinstance(frame, LLMFullResponseStartFrame):
            self.has_text = self._has_calls = False
            self._response_ended.clear()
        elif isinstance(frame, LLMTextFrame):
            self.has_text = self.has_text or bool(frame.text.strip())
        elif isinstance(frame, FunctionCallsStartedFrame):
            self._has_calls = True
        elif isinstance(frame, InterruptionFrame):
            self._response_ended.set()
        elif isinstance(frame, LLMFullResponseEndFrame) and not self._response_ended.is_set():
            self._response_ended.set()
            self._on_response(self.has_text or self._has_calls)
