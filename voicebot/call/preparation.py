"""Makes the agents of a call ready: variables, flow, functions, connected services and a greeting.

The answering agent is prepared first, its targets in the background. A target is offered as soon as it is
ready. A target that cannot be made ready is not offered, and an event says why; if a service could not be
connected, it is tried again while the call lasts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from itertools import chain, repeat
from typing import Any

from loguru import logger
from pipecat.flows import Flow

from templates.compile import UnknownFunction
from templates.values import InvalidValues, placeholders, render, resolve
from voicebot.background import BackgroundTasks
from voicebot.call.agents import ActiveAgent, Agent, AgentPool, ServiceKeys
from voicebot.call.audio.connections import ServiceConnections
from voicebot.call.audio.pipeline import CallPipeline
from voicebot.call.dependencies import CallDependencies
from voicebot.call.functions import RouteTool, offer_routes
from voicebot.call.transcript.recorder import CallRecorder
from voicebot.providers.provider import SpokenText, SynthesisFailed
from voicebot.providers.service_spec import ServiceFailed

RECONNECT_PAUSE_S = 1.0
RETRY_PAUSES_S = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Pauses before a target whose services could not be connected is tried again; the last one repeats."""


class AgentPreparation:
    """Prepares the agents of one call."""

    def __init__(
        self,
        deps: CallDependencies,
        agents: AgentPool,
        connections: ServiceConnections,
        pipeline: CallPipeline,
        recorder: CallRecorder,
        route_tool: RouteTool,
        tasks: BackgroundTasks,
        *,
        compile_flow: Callable[[Agent], Flow],
        kept: Mapping[str, Mapping[str, Any]],
    ) -> None:
        """Nothing is prepared yet.

        Args:
            deps: the call, its payload, and the greetings.
            agents: the agents to prepare.
            connections: connects their services.
            pipeline: has the answering agent's services.
            recorder: for events of targets.
            route_tool: updated when a target becomes ready or unusable.
            tasks: the background tasks of the call.
            compile_flow: compiles an agent's flow for this call; raises ``UnknownFunction``.
            kept: the agents' variables of a resumed call, by ``Agent.key``.
        """
        self._deps = deps
        self._agents = agents
        self._connections = connections
        self._pipeline = pipeline
        self._recorder = recorder
        self._route_tool = route_tool
        self._tasks = tasks
        self._compile_flow = compile_flow
        self._kept = kept

    def prepare_answering(self) -> None:
        """Compute the answering agent's variables and flow; its services are connected separately.

        Raises:
            InvalidValues: the lead's payload does not fit its variables.
            UnknownFunction: it names a function that this server does not have.
        """
        agent, services = self._agents.answering, self._pipeline.initial
        agent.values = self._values(agent)
        agent.flow = self._compile_flow(agent)
        agent.keys = ServiceKeys(stt=services.stt.key, llm=services.llm.key, tts=services.tts.key)

    def prepare_targets(self) -> None:
        """Start to prepare every target, in the background."""
        for agent in self._agents.targets.values():
            self._start(self._settle(agent), agent)

    def service_lost(self, key: str) -> None:
        """A service failed: agents that use it are not offered until it is connected again."""
        for agent in (self._agents.answering, *self._agents.targets.values()):
            if agent is not self._agents.current and agent.keys is not None and key in agent.keys:
                agent.keys, agent.problem = None, "its service was lost"
                self._agents.note_unsettled()
                self._changed(agent)
                self._start(self._settle_again(agent), agent)

    def _changed(self, agent: Agent) -> None:
        """Record that a target became ready or unusable, and update the model's tools."""
        active = ActiveAgent(template_id=agent.template_id, node=None)
        if agent.problem is None:
            self._recorder.event("agent.ready", active, agent=agent.name)
        else:
            self._recorder.event("agent.unavailable", active, agent=agent.name, reason=agent.problem)
        if self._agents.current.content.routes:
            offer_routes(self._agents.current)
            self._route_tool.update()

    def _start(self, work: Coroutine[Any, Any, None], agent: Agent) -> None:
        self._tasks.start(work, name=f"preparing the agent {agent.name}", droppable=True)

    async def _settle_again(self, agent: Agent) -> None:
        await asyncio.sleep(RECONNECT_PAUSE_S)
        agent.problem = None
        await self._settle(agent)

    async def _settle(self, agent: Agent) -> None:
        may_work_later = agent.problem is None and await self._try(agent)
        self._agents.note_settled()
        self._changed(agent)
        if may_work_later:
            self._start(self._retry(agent), agent)

    async def _retry(self, agent: Agent) -> None:
        """Connect the services of an unusable target until that succeeds or the call ends."""
        for pause_s in chain(RETRY_PAUSES_S, repeat(RETRY_PAUSES_S[-1])):
            await asyncio.sleep(pause_s)
            if not await self._try(agent):
                self._changed(agent)
                return

    async def _try(self, agent: Agent) -> bool:
        """Prepare an agent and set its ``problem``; return whether another attempt may succeed."""
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
            agent.flow = self._compile_flow(agent)
            self._start(self.prepare_speech(agent), agent)
        agent.keys = await self._connections.prepare(agent.content)

    async def prepare_speech(self, agent: Agent) -> None:
        """Synthesise greeting and fillers ahead of time; otherwise the TTS speaks them when needed."""
        greeting, call = agent.content.greeting, self._deps.call
        spoken = partial(
            SpokenText,
            account_id=call.account_id,
            content=agent.content,
            sample_rate=self._pipeline.sample_rate,
        )
        texts = [spoken(text=text) for text in agent.fillers]
        if greeting is not None:
            lead_id = call.lead_id if placeholders(greeting.text) else None
            texts.insert(0, spoken(text=render(greeting.text, agent.values), lead_id=lead_id))
        try:
            for text in texts:
                await self._deps.greetings.prepare(text)
        except SynthesisFailed:
            return
        except Exception as error:  # noqa: BLE001 - the top of a task: a greeting must not end the call
            logger.opt(exception=error).error("the greeting of {} was not prepared", agent.name)

    def _values(self, agent: Agent) -> dict[str, Any]:
        """An agent's variables at the start: the payload, then those of the call before it was resumed."""
        initial = resolve(agent.content.variables, self._deps.payload, source="payload")
        return {**initial, **self._kept.get(agent.key, {})}
