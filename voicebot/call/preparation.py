"""Makes the agents of a call ready: values, flow, functions, connected services and a greeting.

The agent who answers is prepared first, its targets in the background. A target is offered as soon as it is
ready. One that cannot be made ready is not offered, and an event says why; if a service of it could not be
connected, that is tried again while the call lasts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import Any
from uuid import UUID

from loguru import logger
from pipecat.flows import Flow

from templates.compile import UnknownFunction
from templates.model import TemplateContent
from templates.values import InvalidValues, render, resolve
from voicebot.background import BackgroundTasks
from voicebot.call.agents import Agent, AgentPool, ServiceKeys
from voicebot.call.audio.pipeline import CallPipeline
from voicebot.call.dependencies import ReadyGreetings
from voicebot.providers.provider import SynthesisFailed
from voicebot.providers.service_spec import ServiceFailed

RECONNECT_PAUSE_S = 1.0
RETRY_PAUSES_S = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Pauses before a target whose services could not be connected is tried again; the last one repeats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSupplies:
    """What an agent is made of."""

    account_id: UUID
    greetings: ReadyGreetings
    payload: Mapping[str, Any]
    compile: Callable[[Agent], Flow]
    """Compiles an agent's flow for this call.

    Raises:
        UnknownFunction: the template names a function that this server does not have.
    """
    connect: Callable[[TemplateContent], Awaitable[ServiceKeys]]
    """Connects the services of an agent.

    Raises:
        ServiceFailed: one of them could not be connected.
    """
    kept: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The agents' variables of a resumed call, by ``Agent.key``."""


class AgentPreparation:
    """Prepares the agents of one call."""

    def __init__(
        self,
        agents: AgentPool,
        pipeline: CallPipeline,
        supplies: AgentSupplies,
        tasks: BackgroundTasks,
        on_change: Callable[[Agent], None],
    ) -> None:
        """``on_change`` is called with every target that became ready or unusable."""
        self._agents = agents
        self._pipeline = pipeline
        self._supplies = supplies
        self._tasks = tasks
        self._on_change = on_change

    def prepare_answering(self) -> None:
        """Make the answering agent's values and flow; its services connect separately.

        Raises:
            InvalidValues: the lead's payload does not fit its variables.
            UnknownFunction: it names a function that this server does not have.
        """
        agent, services = self._agents.answering, self._pipeline.initial
        agent.values = self._values(agent)
        agent.flow = self._supplies.compile(agent)
        agent.keys = ServiceKeys(stt=services.stt.key, llm=services.llm.key, tts=services.tts.key)

    def prepare_targets(self) -> None:
        """Start to prepare every target, in the background."""
        for agent in self._agents.targets.values():
            self._start(self._settle(agent), agent)

    def service_lost(self, key: str) -> None:
        """A service broke down: no agent that uses it is offered until it is connected again."""
        for agent in (self._agents.answering, *self._agents.targets.values()):
            if agent is not self._agents.current and agent.keys is not None and key in agent.keys:
                agent.keys, agent.problem = None, "its service was lost"
                self._agents.note_unsettled()
                self._on_change(agent)
                self._start(self._settle_again(agent), agent)

    def _start(self, work: Coroutine[Any, Any, None], agent: Agent) -> None:
        self._tasks.start(work, name=f"preparing the agent {agent.name}", droppable=True)

    async def _settle_again(self, agent: Agent) -> None:
        await asyncio.sleep(RECONNECT_PAUSE_S)
        agent.problem = None
        await self._settle(agent)

    async def _settle(self, agent: Agent) -> None:
        may_work_later = agent.problem is None and await self._try(agent)
        self._agents.note_settled()
        self._on_change(agent)
        if may_work_later:
            self._start(self._retry(agent), agent)

    async def _retry(self, agent: Agent) -> None:
        """Connect the services of a target that has been found unusable, until it works or the call ends."""
        for pause_s in chain(RETRY_PAUSES_S, repeat(RETRY_PAUSES_S[-1])):
            await asyncio.sleep(pause_s)
            if not await self._try(agent):
                self._on_change(agent)
                return

    async def _try(self, agent: Agent) -> bool:
        """Prepare an agent; ``problem`` says whether it is unusable, and the result whether only for now."""
        try:
            await self._prepare(agent)
        except InvalidValues as error:
            agent.problem = f"values: {error}"
        except UnknownFunction as error:
            agent.problem = f"unknown function: {error}"
        except ServiceFailed as error:
            agent.problem = error.reason
            return True
        except Exception as error:  # noqa: BLE001 - the top of a task: one target must not end the call
            agent.problem = type(error).__name__
        else:
            agent.problem = None
        return False

    async def _prepare(self, agent: Agent) -> None:
        if agent.flow is None:  # otherwise only a service was lost
            agent.values = self._values(agent)
            agent.flow = self._supplies.compile(agent)
            self._start(self.prepare_speech(agent), agent)
        agent.keys = await self._supplies.connect(agent.content)

    async def prepare_speech(self, agent: Agent) -> None:
        """Synthesise greeting and fillers ahead of time; otherwise the TTS speaks them when needed."""
        greeting = agent.content.greeting
        texts = [] if greeting is None else [render(greeting.text, agent.values)]
        try:
            for text in [*texts, *agent.fillers]:
                await self._supplies.greetings.prepare(
                    self._supplies.account_id, agent.content, text, self._pipeline.sample_rate
                )
        except SynthesisFailed:
            return
        except Exception as error:  # noqa: BLE001 - the top of a task: a greeting must not end the call
            logger.opt(exception=error).error("the greeting of {} was not prepared", agent.name)

    def _values(self, agent: Agent) -> dict[str, Any]:
        """The variables an agent begins with: the payload, then what it kept from before the call resumed."""
        initial = resolve(agent.content.variables, self._supplies.payload, source="payload")
        return {**initial, **self._supplies.kept.get(agent.key, {})}
