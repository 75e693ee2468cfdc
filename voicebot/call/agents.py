"""The agents of one call: templates in their role on the call, and which of them has the caller."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from pipecat.flows import Flow

from db.revisions import TemplateSnapshot
from handlers.context import CallContext, Destination
from handlers.escalate_to_person import EscalateToPerson
from templates.model import Route, TemplateContent
from templates.provision import variables_masked, variables_taken
from templates.values import render
from voicebot.call.apologies import apology

BACK = "back"
"""The name by which a target routes to the agent who answered the call."""

MAX_WORK = 20
"""How many calls of functions are remembered of an agent, for the agent who has the call next."""

_NO_TEMPLATE = UUID(int=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveAgent:
    """The agent who has the call at one moment: its template, and the node of its flow if it is at one."""

    template_id: UUID
    node: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceKeys:
    """The keys of the services that an agent uses (``ServiceSpec.key``)."""

    stt: str
    llm: str
    tts: str

    def __contains__(self, key: str) -> bool:
        return key in (self.stt, self.llm, self.tts)

    def replaced(self, before: str, after: str) -> ServiceKeys:
        """The keys with one of them replaced."""
        stt, llm, tts = (after if key == before else key for key in (self.stt, self.llm, self.tts))
        return ServiceKeys(stt=stt, llm=llm, tts=tts)


@dataclass(slots=True, kw_only=True, eq=False)
class Agent:
    """One agent of a call.

    ``route`` is the route that leads to it (None: it answered the call). ``context`` and ``flow`` are set
    when it is compiled, ``keys`` when its services are connected; ``problem`` says why it cannot be used.
    ``values`` are its variables, kept while another agent has the call. ``role`` is the text of its role in
    force, with placeholders. ``work`` are the functions that it called since it took the call over.
    """

    name: str
    route: Route | None
    template_id: UUID
    revision: int
    content: TemplateContent
    values: dict[str, Any] = field(default_factory=dict)
    context: CallContext | None = None
    flow: Flow | None = None
    keys: ServiceKeys | None = None
    problem: str | None = None
    role: str | None = None
    work: deque[Mapping[str, Any]] = field(default_factory=lambda: deque(maxlen=MAX_WORK))

    @property
    def key(self) -> str:
        """Its name in the records of the call: the route's name; ``back`` for the agent who answered."""
        return self.name if self.route is not None else BACK

    def recorded(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values without those that the author masks, which leave the memory of the call nowhere."""
        masked = variables_masked(self.content)
        return {name: value for name, value in values.items() if name not in masked}

    @property
    def is_ready(self) -> bool:
        """Whether the call can change to it at once."""
        return self.keys is not None and self.flow is not None

    @property
    def can_return(self) -> bool:
        """Whether it may route the caller back to the agent who answered."""
        return self.route is not None and self.route.can_return

    @property
    def fillers(self) -> tuple[str, ...]:
        """What it says while the caller waits: its author's words, or those of its language."""
        written = self.content.fillers
        if written is None:
            return apology(self.content.language).fillers
        return tuple(render(text, self.values) for text in written)

    @property
    def offers_people(self) -> bool:
        """Whether its author offers the caller a person."""
        functions = self.content.functions
        return any(each.type == "builtin" and each.name == EscalateToPerson.name for each in functions)


class AgentPool:
    """All agents of one call, the one who has it, and the node that one is at."""

    def __init__(self, answering: Agent) -> None:
        """``answering`` has the call; the targets of its routes are added when they are loaded."""
        self.answering = answering
        self.current = answering
        self.node: str | None = None
        self.offers_routes = True
        """False for the rest of a turn in which the model has asked for refused routes too often."""
        self.targets: dict[str, Agent] = {}
        self._unsettled = len(answering.content.routes)
        self._all_settled = asyncio.Event()

    @property
    def active(self) -> ActiveAgent:
        """The agent who has the call now."""
        return ActiveAgent(template_id=self.current.template_id, node=self.node)

    @property
    def is_settled(self) -> bool:
        """Whether every target is ready or known to be unusable."""
        return self._unsettled == 0

    async def settled(self, timeout_s: float) -> None:
        """Wait until every target is settled, for ``timeout_s`` seconds at most."""
        if not self.is_settled:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._all_settled.wait(), timeout_s)

    def note_settled(self) -> None:
        """One more target is ready or known to be unusable."""
        self._unsettled -= 1
        if self.is_settled:
            self._all_settled.set()

    def note_unsettled(self) -> None:
        """A settled target lost a service and is being prepared again."""
        self._unsettled += 1

    def add_targets(self, snapshots: Mapping[UUID, TemplateSnapshot]) -> None:
        """Add the agents that the answering agent's routes lead to."""
        for route in self.answering.content.routes:
            self.targets[route.name] = _target(route, snapshots.get(target_id(route)))

    def find(self, name: str) -> Agent | None:
        """The agent that the current one calls ``name``, ready or not."""
        if name == BACK:
            return self.answering if self.current is not self.answering else None
        return self.targets.get(name) if self.current is self.answering else None

    def destinations(self) -> tuple[Destination, ...]:
        """The agents that the current one may route to now."""
        if not self.offers_routes:
            return ()
        if self.current is self.answering:
            return tuple(_destination(agent) for agent in self.targets.values() if agent.is_ready)
        if self.current.can_return:
            when = "The caller wants something else, or wants to go back."
            return (Destination(name=BACK, when=when),)
        return ()

    def hand_over(self, agent: Agent) -> None:
        """``agent`` has the call from now on and has entered no node yet."""
        self.current = agent
        self.node = None


def answering_agent(snapshot: TemplateSnapshot, content: TemplateContent | None = None) -> Agent:
    """The agent who answers the call; ``content`` replaces the content of the snapshot."""
    return Agent(
        name="orchestrator",
        route=None,
        template_id=snapshot.id,
        revision=snapshot.revision,
        content=content or TemplateContent.model_validate(snapshot.content),
    )


def _destination(agent: Agent) -> Destination:
    """A target as the model of the answering agent chooses it.

    With the context mode ``none`` it is given nothing, so its variables are not asked for.
    """
    route = agent.route
    given = route is None or route.context != "none"
    return Destination(
        name=agent.name,
        when=route.when if route else "",
        description=agent.content.description,
        variables=variables_taken(agent.content) if given else (),
    )


def target_ids(routes: Iterable[Route]) -> list[UUID]:
    """The templates that routes lead to."""
    return [target_id(route) for route in routes]


def target_id(route: Route) -> UUID:
    """The template that a route leads to; an id that no template has when a draft names none."""
    try:
        return UUID(route.template_id)
    except ValueError:
        return _NO_TEMPLATE


def _target(route: Route, snapshot: TemplateSnapshot | None) -> Agent:
    if snapshot is None:
        return Agent(
            name=route.name,
            route=route,
            template_id=target_id(route),
            revision=0,
            content=TemplateContent(name=route.name),
            problem="the template is gone",
        )
    active = snapshot.status == "active" and snapshot.kind == "agent"
    return Agent(
        name=route.name,
        route=route,
        template_id=snapshot.id,
        revision=snapshot.revision,
        content=TemplateContent.model_validate(snapshot.content),
        problem=None if active else "the template is not an active agent",
    )
