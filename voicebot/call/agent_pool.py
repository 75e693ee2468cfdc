"""The agents prepared for one call: who can be routed to, and what makes them ready.

The agent who answers is prepared first; all others in the background, each with its revision, values, flow,
functions and connected services. An agent is offered when it is ready. One that cannot be made ready is not
offered, and the events say why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from pipecat.flows import Flow

from db.revisions import TemplateSnapshot
from handlers.context import Destination
from templates.compile import UnknownFunction
from templates.model import Route, TemplateContent
from templates.values import InvalidValues, render, resolve
from voicebot.call.agents import BACK, Agent, ServiceKeys
from voicebot.call.audio.pipeline import CallPipeline, InitialServices
from voicebot.call.dependencies import ReadyGreetings, ServiceFactory
from voicebot.providers.provider import SynthesisFailed
from voicebot.providers.service_spec import OnRequest, ServiceFailed

Compile = Callable[[Agent], Flow]

RECONNECT_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentFactory:
    """What preparing an agent takes."""

    account_id: UUID
    speech: ServiceFactory
    greetings: ReadyGreetings
    payload: Mapping[str, Any]
    compile: Compile
    on_request: OnRequest
    kept: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The agents' variables of a call that goes on, by ``Agent.known_as``."""

    def values(self, agent: Agent) -> dict[str, Any]:
        """What an agent begins with: the payload, and over it what it knew before.

        Raises:
            InvalidValues: the payload does not fit its variables.
        """
        begins = resolve(agent.content.variables, self.payload, source="payload")
        return {**begins, **self.kept.get(agent.known_as, {})}


_NOBODY = UUID(int=0)


class AgentPool:
    """The agents of one call."""

    def __init__(self, answering: Agent, factory: AgentFactory, changed: Callable[[Agent], None]) -> None:
        """``changed`` is told of every agent that became ready or turned out never to be."""
        self.answering = answering
        self.targets: dict[str, Agent] = {}
        self._factory = factory
        self._changed = changed
        self._tasks: set[asyncio.Task[None]] = set()
        self._unsettled = len(answering.content.routes)
        self._all_settled = asyncio.Event()

    @property
    def is_settled(self) -> bool:
        """Whether every target is ready or known never to be."""
        return self._unsettled == 0

    async def settled(self, timeout_s: float) -> None:
        """Wait until every target is settled, for ``timeout_s`` at most."""
        if not self.is_settled:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._all_settled.wait(), timeout_s)

    def first_parts(self) -> InitialServices:
        """The services of the agent who answers, not yet connected."""
        content = self.answering.content
        llm, llm_service = self._factory.speech.llm(content)
        stt = self._factory.speech.stt(content)
        tts = self._factory.speech.tts(content, self._factory.on_request)
        return InitialServices(stt=stt, llm=llm, tts=tts, llm_service=llm_service)

    def answer_with(self, first: InitialServices) -> None:
        """Make the answering agent ready: its flow and values; its services connect while it begins.

        Raises:
            InvalidValues: the lead's payload does not fit its variables.
            UnknownFunction: it names a function that this server does not have.
        """
        agent = self.answering
        agent.values = self._factory.values(agent)
        agent.flow = self._factory.compile(agent)
        agent.keys = ServiceKeys(stt=first.stt.key, llm=first.llm.key, tts=first.tts.key)

    def add_targets(self, snapshots: Mapping[UUID, TemplateSnapshot]) -> None:
        """Learn the agents that the answering one routes to."""
        for route in self.answering.content.routes:
            snapshot = snapshots.get(_target_id(route))
            self.targets[route.name] = _target(route, snapshot)

    def prepare_targets(self, pipeline: CallPipeline) -> None:
        """Begin to prepare every target, in the background."""
        for agent in self.targets.values():
            self._start(self._settle(agent, pipeline), agent)

    def lost(self, key: str, current: Agent, pipeline: CallPipeline) -> None:
        """A service broke down: whoever needs it is not offered until it is connected again."""
        for agent in self.targets.values():
            if agent is not current and agent.keys is not None and key in agent.keys:
                agent.keys, agent.problem = None, "its service was lost"
                self._unsettled += 1
                self._changed(agent)
                self._start(self._again(agent, pipeline), agent)

    def destinations(self, current: Agent) -> tuple[Destination, ...]:
        """Where ``current`` may route to now."""
        if current is self.answering:
            return tuple(
                Destination(name=name, when=agent.route.when if agent.route else "")
                for name, agent in self.targets.items()
                if agent.is_ready
            )
        if current.may_return:
            when = "The caller wants something else, or wants to go back."
            return (Destination(name=BACK, when=when),)
        return ()

    async def close(self) -> None:
        """Stop preparing."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, work: Coroutine[Any, Any, None], agent: Agent) -> None:
        task = asyncio.create_task(work, name=f"prepare {agent.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _again(self, agent: Agent, pipeline: CallPipeline) -> None:
        await asyncio.sleep(RECONNECT_PAUSE_S)
        agent.problem = None
        await self._settle(agent, pipeline)

    async def _settle(self, agent: Agent, pipeline: CallPipeline) -> None:
        try:
            if agent.problem is None:
                await self._prepare(agent, pipeline)
        except InvalidValues as error:
            agent.problem = f"values: {error}"
        except UnknownFunction as error:
            agent.problem = f"unknown function: {error}"
        except ServiceFailed as error:
            agent.problem = error.reason
        except Exception as error:  # a task's top: one target must not take the call down
            agent.problem = type(error).__name__
        self._unsettled -= 1
        self._changed(agent)
        if self.is_settled:
            self._all_settled.set()

    async def _prepare(self, agent: Agent, pipeline: CallPipeline) -> None:
        shop = self._factory
        agent.values = shop.values(agent)
        agent.flow = shop.compile(agent)
        greeting = asyncio.create_task(self._greeting(agent))
        stt = shop.speech.stt(agent.content)
        llm, _ = shop.speech.llm(agent.content)
        tts = shop.speech.tts(agent.content, shop.on_request)
        await _all(pipeline.stt.prepare(stt), pipeline.llm.prepare(llm), pipeline.tts.prepare(tts))
        await asyncio.wait({greeting}, timeout=0)
        agent.keys = ServiceKeys(stt=stt.key, llm=llm.key, tts=tts.key)

    async def _greeting(self, agent: Agent) -> None:
        """Have the greeting made; without it the agent begins by itself."""
        if agent.content.greeting is None:
            return
        text = render(agent.content.greeting.text, agent.values)
        try:
            await self._factory.greetings.prepare(self._factory.account_id, agent.content, text)
        except SynthesisFailed:
            return


async def _all(*preparations: Awaitable[None]) -> None:
    """Wait for all, so that a late failure of one is not lost behind an early one of another."""
    failures = [r for r in await asyncio.gather(*preparations, return_exceptions=True) if r is not None]
    if failures:
        raise failures[0]


def _target(route: Route, snapshot: TemplateSnapshot | None) -> Agent:
    if snapshot is None:
        missing = TemplateContent(name=route.name)
        problem = "the template is gone"
        return Agent(
            name=route.name, route=route, template_id=_target_id(route), revision=0, content=missing,
            problem=problem,
        )  # fmt: skip
    active = snapshot.status == "active" and snapshot.kind == "agent"
    return Agent(
        name=route.name,
        route=route,
        template_id=snapshot.id,
        revision=snapshot.revision,
        content=TemplateContent.model_validate(snapshot.content),
        problem=None if active else "the template is not an active agent",
    )


def template_ids(routes: Iterable[Route]) -> list[UUID]:
    """The templates that routes lead to."""
    return [_target_id(route) for route in routes]


def _target_id(route: Route) -> UUID:
    """Where a route leads; to no template, where a draft that is tried out says nothing better."""
    try:
        return UUID(route.template_id)
    except ValueError:
        return _NOBODY
