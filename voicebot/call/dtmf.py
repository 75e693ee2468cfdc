"""Input by telephone keys (DTMF), at nodes of a flow that request it.

While a caller presses keys, their turn is open as it is while they speak: there are no prompts or
interruptions.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from typing import Any, Literal

from pipecat.frames.frames import InterruptionFrame, LLMMessagesAppendFrame

from telephony.media import MediaStream
from templates.flow import DtmfInput
from templates.model import TemplateContent
from templates.transitions import chosen_node
from templates.values import coerce
from voicebot.background import BackgroundTasks
from voicebot.call.agents import Agent, AgentPool
from voicebot.call.audio.frames import uninterruptible
from voicebot.call.audio.pipeline import CallPipeline
from voicebot.call.hangup import Hangup
from voicebot.call.person.waiting import WaitingForPerson
from voicebot.call.routing.router import Router
from voicebot.call.transcript.conversation import Conversation
from voicebot.call.transcript.recorder import CallRecorder

RESULTS_TIMEOUT_S = 1.0

PRESSED = "[keys pressed: {keys}]"
"""What the model is told, as the caller's words."""

MASKED = "{count}, which are kept in {variable}"

NOT_FITTING = (
    "What the caller entered by the keys does not fit {about}: it must be {expected}. It was not kept. Say "
    "so, and ask the caller to enter it again."
)

_TYPED = re.compile("#([0-9A-D*#]+)")

EndedBy = Literal["count", "terminator", "timeout"]


@dataclass(slots=True, kw_only=True, eq=False)
class _Input:
    """An input that has begun, and its node."""

    agent: Agent
    node: str
    asked: DtmfInput
    digits: list[str] = field(default_factory=list)
    timer: asyncio.Task[None] | None = None


class DtmfCollector:
    """Collects the keys of one call, and gives them to the model or to a transition."""

    def __init__(
        self,
        media: MediaStream,
        agents: AgentPool,
        recorder: CallRecorder,
        pipeline: CallPipeline,
        conversation: Conversation,
        router: Router,
        hangup: Hangup,
        waiting: WaitingForPerson,
        tasks: BackgroundTasks,
    ) -> None:
        """Observe the keys. While the caller waits for a person, keys belong to ``waiting``."""
        self._agents = agents
        self._recorder = recorder
        self._pipeline = pipeline
        self._conversation = conversation
        self._router = router
        self._hangup = hangup
        self._waiting = waiting
        self._tasks = tasks
        self._input: _Input | None = None
        self._giving: asyncio.Task[None] | None = None
        media.on_dtmf(self._pressed)

    @property
    def takes_keys(self) -> bool:
        """Whether a key that is pressed now has an effect."""
        return self._waiting.takes_keys or self._asked() is not None

    @property
    def is_busy(self) -> bool:
        """Whether an input has begun that the conversation has not used yet."""
        return self._input is not None or (self._giving is not None and not self._giving.done())

    def finish(self) -> None:
        """End an input that has begun, as its timeout does."""
        if self._input is not None:
            self._end(self._input, "timeout")

    def _asked(self) -> DtmfInput | None:
        """The input that the current node requests; None: keys have no effect now."""
        if self._waiting.takes_keys or self._router.is_routing or self._hangup.is_final:
            return None
        return None if self._pipeline.llm.is_paused else _asked_at(self._agents.current, self._agents.node)

    def _pressed(self, digit: str) -> None:
        asked, agent, node = self._asked(), self._agents.current, self._agents.node
        if asked is None or node is None:
            return
        begun = self._input
        if begun is None or begun.agent is not agent or begun.node != node:
            self._drop()
            begun = self._input = _Input(agent=agent, node=node, asked=asked)
            self._conversation.keys_began()
            if agent.content.turns.barge_in:
                work = self._pipeline.worker.queue_frame(InterruptionFrame())
                self._tasks.start(work, name="interrupting for keys", droppable=True)
        if digit == asked.terminator:
            self._end(begun, "terminator")
            return
        begun.digits.append(digit)
        if len(begun.digits) >= asked.max_digits:
            self._end(begun, "count")
        else:
            self._restart_timer(begun)

    def _restart_timer(self, begun: _Input) -> None:
        if begun.timer is not None:
            begun.timer.cancel()
        begun.timer = self._tasks.start(self._time_out(begun), name="waiting for keys", droppable=True)

    async def _time_out(self, begun: _Input) -> None:
        await asyncio.sleep(begun.asked.timeout_ms / 1000)
        if self._input is begun:
            begun.timer = None
            self._end(begun, "timeout")

    def _drop(self) -> None:
        """Forget an input whose node was left before it ended."""
        if self._input is not None and self._input.timer is not None:
            self._input.timer.cancel()
        self._input = None

    def _end(self, begun: _Input, ended_by: EndedBy) -> None:
        self._drop()
        if begun.digits:
            self._hangup.cancel()
            self._giving = self._tasks.start(self._give(begun, ended_by), name="giving keys", droppable=True)
        else:
            self._conversation.keys_ended("")

    async def _give(self, begun: _Input, ended_by: EndedBy) -> None:
        """Keep what was entered, then take the transition or have the model answer."""
        asked, agent, digits = begun.asked, begun.agent, "".join(begun.digits)
        shown = "*" * len(digits) if asked.masked else digits
        self._recorder.event("dtmf.received", digits=shown, ended_by=ended_by, variable=asked.variable)
        await self._functions_returned()
        fault = await self._keep(asked, agent, digits)
        self._conversation.keys_ended(PRESSED.format(keys=shown))
        is_there = agent is self._agents.current and begun.node == self._agents.node
        if not is_there or agent.flow is None:
            return  # a function call that was in progress left the node; the input is kept
        node = chosen_node(asked.transition_to, agent.values) if fault is None else None
        told = MASKED.format(count=len(digits), variable=asked.variable) if asked.masked else digits
        await self._tell(
            *([fault] if fault is not None else []), keys=PRESSED.format(keys=told), answer=node is None
        )
        if node is not None:
            await self._pipeline.flow_manager.set_node_from_config(agent.flow.node(node))

    async def _functions_returned(self) -> None:
        """Wait for the functions that the model has called, whose results come before the keys."""
        try:
            async with asyncio.timeout(RESULTS_TIMEOUT_S):
                while self._pipeline.is_calling_functions:  # noqa: ASYNC110 - pipecat has no event for it
                    await asyncio.sleep(0.005)
        except TimeoutError:
            return

    async def _keep(self, asked: DtmfInput, agent: Agent, digits: str) -> str | None:
        """Set the variable; return the message for the model if the keys do not fit it."""
        variable = next((each for each in agent.content.variables if each.name == asked.variable), None)
        if variable is None or agent.context is None:
            return None
        try:
            value = coerce(variable.type, digits)
        except ValueError as error:
            about = f"{variable.name} ({variable.description})" if variable.description else variable.name
            return NOT_FITTING.format(about=about, expected=error)
        await agent.context.keep({variable.name: value})
        return None

    async def _tell(self, *notes: str, keys: str, answer: bool) -> None:
        messages: list[Any] = [{"role": "user", "content": keys}]
        messages += [{"role": "developer", "content": note} for note in notes]
        run = answer and not self._conversation.caller_is_speaking  # the end of their turn runs the model
        frame = LLMMessagesAppendFrame(messages=messages, run_llm=run)
        await self._pipeline.worker.queue_frame(uninterruptible(frame))


def typed_keys(text: str) -> str | None:
    """The keys that a written turn presses: 12 for `#12`; None: the turn is text."""
    typed = _TYPED.fullmatch(text.strip())
    return typed[1] if typed is not None else None


def _asked_at(agent: Agent, node: str | None) -> DtmfInput | None:
    content: TemplateContent = agent.content
    found = content.flow.nodes.get(node) if content.flow is not None and node is not None else None
    return found.dtmf if found is not None else None
