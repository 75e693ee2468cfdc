"""How an agent comes into a call: what it remembers, its first node, and its first words."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from loguru import logger
from pipecat.flows import NodeConfig
from pipecat.frames.frames import Frame, LLMMessagesTransformFrame, LLMRunFrame
from pipecat.processors.aggregators.llm_context import LLMContext

from templates.compile import entry_node
from templates.values import render, state
from voicebot.call.agents import Agent
from voicebot.call.audio.llm_gate import OpenGateFrame
from voicebot.call.audio.pipeline import CallPipeline
from voicebot.call.audio.speech_output import SpeechOutput
from voicebot.call.routing import context as modes


class ReadyGreeting(Protocol):
    """Where greetings made ahead come from."""

    def __call__(self, agent: Agent, text: str) -> bytes | None:
        """The audio of the agent's greeting, if it is at hand."""
        ...


class ContextMemory:
    """What the next agent will know of the conversation, by the route's context mode.

    Made when the route is decided, since a summary takes a while; applied when the agent enters.
    """

    def __init__(self, pipeline: CallPipeline, mode: str, variables: Mapping[str, Any]) -> None:
        """``variables`` are those that the agent is given."""
        self._pipeline = pipeline
        self._mode = mode
        self._variables = dict(variables)
        self._known = len(pipeline.context.get_messages())
        self._summary: asyncio.Task[str | None] | None = None
        if mode == "summary":
            request = LLMContext(messages=modes.summary_request(self._said()))
            self._summary = asyncio.create_task(pipeline.infer(request, modes.SUMMARY_INSTRUCTION))

    async def transform(self) -> modes.Transform:
        """The change of the model's messages; waits for a summary, but not long."""
        if self._summary is not None:
            return modes.summarised(await _in_time(self._summary), self._said(), self._known)
        if self._mode == "variables":
            return modes.only_later(self._known, {"variables": self._variables})
        if self._mode == "none":
            return modes.only_later(self._known)
        return modes.full()

    def _said(self) -> modes.Messages:
        return modes.spoken(self._pipeline.context.get_messages())


class AgentActivation:
    """Brings agents into one call."""

    def __init__(
        self,
        pipeline: CallPipeline,
        speech_output: SpeechOutput,
        ready_greeting: ReadyGreeting,
        caller_is_speaking: Callable[[], bool],
    ) -> None:
        self._pipeline = pipeline
        self._speech_output = speech_output
        self._ready_greeting = ready_greeting
        self.caller_is_speaking = caller_is_speaking
        self._is_waiting = False

    def has_words(self, agent: Agent, values: Mapping[str, Any]) -> bool:
        """Whether the agent's first words are at hand, so that nobody has to think of them."""
        greeting = agent.content.greeting
        return greeting is not None and self._ready_greeting(agent, render(greeting.text, values)) is not None

    async def enter(
        self,
        agent: Agent,
        values: Mapping[str, Any],
        transform: modes.Transform | None = None,
        *,
        greet: bool = True,
        visited: Sequence[str] = (),
    ) -> None:
        """Enter an agent's flow: its state, the conversation as it may know it, its node, its first words.

        ``visited`` are the nodes it had entered before, when it goes on where it was.
        """
        manager, worker = self._pipeline.flow_manager, self._pipeline.worker
        manager.state.clear()
        manager.state.update(state(values))
        if transform is not None:
            await worker.queue_frame(firm(LLMMessagesTransformFrame(transform=transform)))
        await manager.set_node_from_config(_entry(agent, visited))
        self._is_waiting = False
        if not greet or agent.content.greeting is None:
            # A caller in mid-sentence is heard out: the end of their turn asks the model, and once is enough.
            self._is_waiting = self.caller_is_speaking()
            await worker.queue_frames([OpenGateFrame(), *([] if self._is_waiting else [firm(LLMRunFrame())])])
            return
        await self._greet(agent, values)
        unanswered = self._pipeline.gate.missed
        await worker.queue_frames([OpenGateFrame(), *([firm(LLMRunFrame())] if unanswered else [])])

    async def ask(self) -> None:
        """Have the model speak; a caller in mid-sentence is heard out, since their turn asks it as well."""
        self._is_waiting = self.caller_is_speaking()
        if not self._is_waiting:
            await self._pipeline.worker.queue_frame(firm(LLMRunFrame()))

    def caller_spoke(self) -> None:
        """The caller's turn ended with words, which the model is asked to answer."""
        self._is_waiting = False

    async def speak_if_waiting(self) -> None:
        """Let the agent begin that waited for the caller to finish, who then said nothing after all."""
        if self._is_waiting:
            self._is_waiting = False
            await self._pipeline.worker.queue_frame(firm(LLMRunFrame()))

    async def _greet(self, agent: Agent, values: Mapping[str, Any]) -> None:
        greeting = agent.content.greeting
        if greeting is None:
            return
        text = render(greeting.text, values)
        audio = self._ready_greeting(agent, text)
        if audio is not None:
            await self._speech_output.audio(text, audio, interruptible=greeting.interruptible)
        else:
            await self._speech_output.text(text, "greeting", interruptible=greeting.interruptible)


def firm(frame: Frame) -> Frame:
    """The frame, so that a barge-in does not drop it."""
    frame.interruptible = False
    return frame


def _entry(agent: Agent, visited: Sequence[str]) -> NodeConfig:
    """The node to enter, which keeps the conversation it is given and leaves the first word to us."""
    if agent.flow is None:
        raise RuntimeError(f"{agent.name} is not ready")
    node = entry_node(agent.flow, visited=visited, respond_immediately=False)
    node.pop("context_strategy", None)  # the transform has set the memory anew already
    return node


async def _in_time(summary: asyncio.Task[str | None]) -> str | None:
    try:
        return await asyncio.wait_for(summary, modes.SUMMARY_TIMEOUT_S)
    except Exception as error:  # an edge: a model that fails or hangs must not hold the call
        logger.info("no summary in time: {}", type(error).__name__)
        return None
