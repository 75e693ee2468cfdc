"""The switch of the language models, with a gate that holds requests back, and a watch on the responses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from pipecat.frames.frames import (
    ErrorFrame,
    Frame,
    FunctionCallCancelFrame,
    FunctionCallResultFrame,
    FunctionCallResultProperties,
    FunctionCallsStartedFrame,
    InterruptionFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    LLMUpdateSettingsFrame,
)
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.settings import LLMSettings

from voicebot.call.audio.frames import OpenGateFrame
from voicebot.call.audio.service_switch import OnError, ServiceSwitch
from voicebot.providers.service_spec import ServiceSpec

FrameCallback = Callable[..., Awaitable[None]]


class RequestObserver(Protocol):
    """Observes the requests to the models. Its methods must return at once."""

    def sent(self, context: LLMContext, role: str | None) -> None:
        """A request is made; ``role`` are the instructions in force."""
        ...

    def observe(self, frame: Frame) -> None:
        """A frame left the active model."""
        ...

    def failed(self, error: BaseException | None, message: str) -> None:
        """The active model failed."""
        ...


class LlmSwitch(ServiceSwitch):
    """The language models of one call.

    The gate is shut while the call changes agent or ends: every request to the model is then dropped (its
    messages are in the context), and ``missed_turn`` says whether one of them was the caller's turn. Requests
    come from two sides: downstream by the caller's turn, upstream by the result of a function.

    The result of a function of an agent that is leaving or has left only enters the context: it neither runs
    the model nor moves the flow, because both belong to the next agent.
    """

    def __init__(self, initial: ServiceSpec, *, on_error: OnError) -> None:
        """The gate is open."""

        async def report(key: str, frame: ErrorFrame) -> None:
            if self._requests is not None and key == self.active:
                self._requests.failed(frame.exception, frame.error)
            await on_error(key, frame)

        super().__init__(initial, on_error=report, name="llm")
        self._requests: RequestObserver | None = None
        self._role: str | None = None
        self.has_text = False
        """Whether the current or latest response contains text to speak."""
        self.was_cut = False
        """Whether the latest interruption stopped a response."""
        self._has_calls = False
        self._is_interrupted = False
        self._response_ended = asyncio.Event()
        self._response_ended.set()
        self._on_response: Callable[[bool], None] = lambda _: None
        self._is_routing = False
        self._is_ending = False
        self._is_paused = False
        self._missed_turn = False
        self._function = ""
        self._calls: set[str] = set()
        self._may_answer_result = False
        self._result_passed = asyncio.Event()

    # ------------------------------------------------------------------------------------- gate

    @property
    def is_shut(self) -> bool:
        """Whether requests are held back."""
        return self._is_routing or self._is_ending or self._is_paused

    @property
    def is_ending(self) -> bool:
        """Whether requests are held back because the call ends."""
        return self._is_ending

    @property
    def missed_turn(self) -> bool:
        """Whether a turn of the caller was dropped since the gate was last shut."""
        return self._missed_turn

    def shut_gate(self, function: str) -> None:
        """Drop all requests until an :class:`OpenGateFrame` passes: the agent is leaving.

        Args:
            function: the name of the function whose call shuts the gate; its result can be waited for.
        """
        self._is_routing = True
        self._missed_turn = False
        self._function = function
        self._result_passed.clear()

    def begin_end(self) -> None:
        """Drop all requests, because the call ends; an :class:`OpenGateFrame` does not change this."""
        self._is_ending = True
        self._missed_turn = False

    @property
    def is_paused(self) -> bool:
        """Whether requests are dropped because a person has the call."""
        return self._is_paused

    def pause(self) -> None:
        """Drop all requests until ``resume``, because a person has the call."""
        self._is_paused = True

    def resume(self) -> None:
        """The agent has the call again."""
        self._is_paused = False

    def cancel_end(self) -> None:
        """The call does not end: open the gate."""
        self._is_ending = False

    def change_agent(self) -> None:
        """Another agent has the call: results of earlier function calls belong to the previous agent."""
        self._calls.clear()
        self._may_answer_result = False

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
            self._is_routing = False
        elif not (isinstance(frame, LLMContextFrame) and self._drops(frame, direction)):
            await super().queue_frame(frame, direction, callback)

    def _drops(self, frame: LLMContextFrame, direction: FrameDirection) -> bool:
        if direction is FrameDirection.UPSTREAM and not self._may_answer_result:
            return True
        # Entering a node of the flow runs the model too; only a turn of the caller needs an answer.
        if self.is_shut and _ends_with_caller(frame):
            self._missed_turn = True
        return self.is_shut

    def _check_result(self, frame: FunctionCallResultFrame | FunctionCallCancelFrame) -> None:
        """Record a result of the current agent; keep the result of another one from running the model."""
        if frame.tool_call_id in self._calls and not self._is_routing:
            self._may_answer_result = True
        elif isinstance(frame, FunctionCallCancelFrame):
            frame.run_llm = False
        else:
            frame.properties = FunctionCallResultProperties(run_llm=False)

    # -------------------------------------------------------------------------------- responses

    def on_request(self, observer: RequestObserver) -> None:
        """Tell ``observer`` of every request and its answer."""
        self._requests = observer

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Pass a frame to the active model, and note what it is asked."""
        if isinstance(frame, LLMUpdateSettingsFrame) and isinstance(frame.delta, LLMSettings):
            role = frame.delta.system_instruction
            self._role = role if isinstance(role, str) else self._role
        elif isinstance(frame, LLMContextFrame) and self._requests is not None:
            self._requests.sent(frame.context, self._role)
        elif isinstance(frame, InterruptionFrame):
            # The model ends a response that it breaks off before the interruption leaves it.
            self._is_interrupted = True
            self.was_cut = self.is_responding and self.has_text
        await super().process_frame(frame, direction)

    def on_response(self, observer: Callable[[bool], None]) -> None:
        """Call ``observer`` at the end of every response that was not interrupted.

        Its argument says whether the response contained text or function calls.
        """
        self._on_response = observer

    @property
    def is_responding(self) -> bool:
        """Whether a response is under way."""
        return not self._response_ended.is_set()

    async def response_ended(self) -> None:
        """Wait for the end of the current response; return at once when there is none."""
        await self._response_ended.wait()

    async def push_frame(self, frame: Frame, direction: FrameDirection = FrameDirection.DOWNSTREAM) -> None:
        """Pass a frame on, and note what it says about the response and its functions."""
        if isinstance(frame, FunctionCallsStartedFrame):
            self._calls.update(call.tool_call_id for call in frame.function_calls)
        elif isinstance(frame, FunctionCallResultFrame | FunctionCallCancelFrame):
            self._check_result(frame)
        await super().push_frame(frame, direction)
        if isinstance(frame, FunctionCallResultFrame):
            if frame.function_name == self._function:
                self._result_passed.set()
        elif direction is FrameDirection.DOWNSTREAM:
            self._observe(frame)

    def _observe(self, frame: Frame) -> None:
        if self._requests is not None:
            self._requests.observe(frame)
        if isinstance(frame, LLMFullResponseStartFrame):
            self.has_text = self._has_calls = False
            self._response_ended.clear()
        elif isinstance(frame, LLMTextFrame):
            self.has_text = self.has_text or bool(frame.text.strip())
        elif isinstance(frame, FunctionCallsStartedFrame):
            self._has_calls = True
        elif isinstance(frame, InterruptionFrame):
            self._is_interrupted = False
            self._response_ended.set()
        elif isinstance(frame, LLMFullResponseEndFrame) and not self._response_ended.is_set():
            self._response_ended.set()
            if not self._is_interrupted:
                self._on_response(self.has_text or self._has_calls)


def _ends_with_caller(frame: LLMContextFrame) -> bool:
    messages = frame.context.get_messages()
    newest = messages[-1] if messages else None
    return isinstance(newest, dict) and newest.get("role") == "user"
