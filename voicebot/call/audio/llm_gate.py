"""Holds the model back while the call changes agent, so that the old agent answers nothing more."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from pipecat.frames.frames import (
    ControlFrame,
    Frame,
    FunctionCallResultFrame,
    LLMContextFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor


@dataclass
class OpenGateFrame(ControlFrame):
    """Opens the gate at this place of the frames' order; a barge-in does not drop it."""

    interruptible: bool = field(default=False, init=False)


class LlmGate:
    """Shut: every run of the model is dropped (the context has its message already), and ``missed`` tells.

    The model is asked from two sides: by the caller's turn, downstream, and by a function's result, upstream.
    Each side has a processor of its own around the model.
    """

    def __init__(self) -> None:
        """Open, with nothing missed."""
        self.before = _GateProcessor(self, name="gate-before-model")
        self.after = _GateProcessor(self, name="gate-after-model")
        self._shut = False
        self._missed = False
        self._function = ""
        self._result_passed = asyncio.Event()

    async def result_passed(self) -> None:
        """Wait for the result of the function that shut the gate to be on its way to the context."""
        await self._result_passed.wait()

    @property
    def is_shut(self) -> bool:
        """Whether the model is held back."""
        return self._shut

    @property
    def missed(self) -> bool:
        """Whether the caller's turn came while the gate was shut and is still unanswered."""
        return self._missed

    def shut(self, function: str = "") -> None:
        """From now on nothing reaches the model, until an :class:`OpenGateFrame` passes.

        ``function`` is the one that is being called now and shuts the gate.
        """
        self._shut = True
        self._missed = False
        self._function = function
        self._result_passed.clear()

    def open(self) -> None:
        """Let the model be asked again."""
        self._shut = False

    def note_result(self, function: str) -> None:
        """A function's result leaves the model for the context."""
        if function == self._function:
            self._result_passed.set()

    def stop(self, direction: FrameDirection) -> bool:
        """Whether a request to the model stops here."""
        if self._shut and direction is FrameDirection.DOWNSTREAM:
            self._missed = True
        return self._shut


class _GateProcessor(FrameProcessor):
    def __init__(self, gate: LlmGate, *, name: str) -> None:
        super().__init__(name=name, enable_direct_mode=True)
        self._gate = gate

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, OpenGateFrame):
            self._gate.open()
        elif not (isinstance(frame, LLMContextFrame) and self._gate.stop(direction)):
            await self.push_frame(frame, direction)
        if isinstance(frame, FunctionCallResultFrame):
            self._gate.note_result(frame.function_name)
