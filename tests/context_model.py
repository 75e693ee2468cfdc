"""A language model of pipecat's that tests answer: it receives contexts and the role in force."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from pipecat.frames.frames import Frame, FunctionCallFromLLM, LLMContextFrame, LLMUpdateSettingsFrame
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.llm_service import LLMService
from pipecat.services.settings import LLMSettings

from db.ids import new_id


class ContextModel(LLMService):
    """Calls ``respond`` with each context; ``role`` is the role that the flow has set."""

    def __init__(self) -> None:
        super().__init__(settings=LLMSettings(model="scripted"))
        self.role = ""

    @abstractmethod
    async def respond(self, context: LLMContext) -> None:
        """Push the answer to a context."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Answer a context; remember the role that a node sets."""
        await super().process_frame(frame, direction)
        if isinstance(frame, LLMUpdateSettingsFrame) and isinstance(frame.delta, LLMSettings):
            if isinstance(frame.delta.system_instruction, str):
                self.role = frame.delta.system_instruction
        elif isinstance(frame, LLMContextFrame):
            await self.respond(frame.context)
        else:
            await self.push_frame(frame, direction)

    async def call_functions(
        self, calls: Sequence[tuple[str, Mapping[str, Any]]], context: LLMContext
    ) -> None:
        """Call functions by name with arguments."""
        if calls:
            await self.run_function_calls(
                [FunctionCallFromLLM(name, f"call_{new_id()}", dict(given), context) for name, given in calls]
            )
