"""How an agent takes over a call: its context, the first node of its flow, and its first words."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from loguru import logger
from pipecat.flows import NodeConfig
from pipecat.frames.frames import LLMMessagesTransformFrame, LLMRunFrame
from pipecat.processors.aggregators.llm_context import LLMContext

from templates.compile import entry_node
from templates.values import render, state
from voicebot.call.agents import Agent
from voicebot.call.audio.frames import OpenGateFrame, uninterruptible
from voicebot.call.audio.pipeline import CallPipeline
from voicebot.call.audio.speech_output import SpeechOutput
from voicebot.call.routing import context as modes
from voicebot.call.transcript.conversation import Conversation

ReadyAudio = Callable[[Agent, str], bytes | None]
"""The audio of a text in an agent's voice if it is in memory: raw PCM, 16 bit, mono, 8,000 Hz."""


class ContextTransfer:
    """The context of the next agent, by the context mode of the route.

    It is created when the route is accepted, because a summary takes time, and applied when the agent is
    activated.
    """

    def __init__(self, pipeline: CallPipeline, mode: str, handover: modes.Handover) -> None:
        """``handover`` is what the agent is told about the route, in every mode but ``none``."""
        self._pipeline = pipeline
        self._mode = mode
        self._handover = handover
        self._known = len(pipeline.context.get_messages())
        self._summary: asyncio.Task[str | None] | None = None
        if mode == "summary":
            request = LLMContext(messages=modes.summary_request(self._spoken(), handover.from_agent))
            self._summary = asyncio.create_task(pipeline.infer(request, modes.SUMMARY_INSTRUCTION))

    async def transform(self) -> modes.Transform:
        """The change of the model's messages; waits for a summary, for 1.5 s at most."""
        if self._summary is not None:
            summary = await _in_time(self._summary)
            return modes.summarised(summary, self._spoken(), self._known, self._handover)
        if self._mode == "variables":
            return modes.variables_only(self._handover, self._known)
        if self._mode == "none":
            return modes.only_later(self._known)
        return modes.full(self._handover)

    def _spoken(self) -> modes.Messages:
        return modes.spoken(self._pipeline.context.get_messages())


class AgentActivation:
    """Activates agents on one call."""

    def __init__(
        self,
        pipeline: CallPipeline,
        speech_output: SpeechOutput,
        ready_audio: ReadyAudio,
        conversation: Conversation,
    ) -> None:
        """``conversation`` says whether the caller is speaking: an agent does not begin then."""
        self._pipeline = pipeline
        self._speech_output = speech_output
        self._ready_audio = ready_audio
        self._conversation = conversation

    def has_first_words(self, agent: Agent, values: Mapping[str, Any]) -> bool:
        """Whether the agent's first words need no model and no synthesis."""
        greeting = agent.content.greeting
        return greeting is not None and self._ready_audio(agent, render(greeting.text, values)) is not None

    async def activate(
        self,
        agent: Agent,
        values: Mapping[str, Any],
        transform: modes.Transform | None = None,
        *,
        greet: bool = True,
        visited: Sequence[str] = (),
    ) -> None:
        """Enter an agent's flow and have it speak first, unless the caller is speaking.

        Args:
            agent: who takes over.
            values: its variables.
            transform: the change of the context; None leaves the context as it is.
            greet: whether it speaks its greeting; otherwise the model produces the first words.
            visited: the nodes that it had entered before, if it continues there.

        If the call ends meanwhile, the agent says nothing, because the goodbye is already being spoken.
        """
        manager, worker = self._pipeline.flow_manager, self._pipeline.worker
        manager.state.clear()
        manager.state.update(state(values))
        if transform is not None:
            await worker.queue_frame(uninterruptible(LLMMessagesTransformFrame(transform=transform)))
        await manager.set_node_from_config(_entry(agent, visited))
        if self._pipeline.llm.is_ending:
            await worker.queue_frame(OpenGateFrame())
            return
        self._conversation.expect_answer()
        if greet and agent.content.greeting is not None:
            await self._greet(agent, values)
            run = self._pipeline.llm.missed_turn
        else:
            # The end of an open turn runs the model, which must not run twice.
            run = not self._conversation.caller_is_speaking
        await worker.queue_frames([OpenGateFrame(), *([uninterruptible(LLMRunFrame())] if run else [])])

    async def run_model(self) -> None:
        """Have the model speak, unless the caller's turn is open: its end runs the model."""
        if not self._conversation.caller_is_speaking:
            await self._pipeline.run_model()

    async def _greet(self, agent: Agent, values: Mapping[str, Any]) -> None:
        greeting = agent.content.greeting
        if greeting is None:
            return
        text = render(greeting.text, values)
        audio = self._ready_audio(agent, text)
        if audio is not None:
            await self._speech_output.audio(text, audio, interruptible=greeting.interruptible)
        else:
            await self._speech_output.text(text, "greeting", interruptible=greeting.interruptible)


def _entry(agent: Agent, visited: Sequence[str]) -> NodeConfig:
    """The node to enter; it keeps the context it is given and does not run the model."""
    if agent.flow is None:
        raise RuntimeError(f"{agent.name} is not ready")
    node = entry_node(agent.flow, visited=visited, respond_immediately=False)
    agent.role = node.get("role_message")
    node.pop("context_strategy", None)  # the transform has changed the context already
    return node


async def _in_time(summary: asyncio.Task[str | None]) -> str | None:
    try:
        async with asyncio.timeout(modes.SUMMARY_TIMEOUT_S):
            return await summary
    except Exception as error:  # noqa: BLE001 - a model that fails or hangs must not delay the route
        logger.info("no summary in time: {}", type(error).__name__)
        return None
