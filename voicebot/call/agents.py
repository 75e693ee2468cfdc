"""The agents of one call: templates in their role on the call, and which of them has the caller."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
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
from voicebot.call.failure_texts import failure_texts

BACK = "back"
"""The name by which an agent routes back to the one who routed to it."""

MAX_NESTED = 100
"""The most templates that are loaded because agents route to them, beside the answering agent's targets."""

MAX_WORK = 20
"""How many function calls of an agent are kept for the next agent."""

_NO_TEMPLATE = UUID(int=0)

LoadTemplates = Callable[[Sequence[UUID]], Awaitable[Mapping[UUID, TemplateSnapshot]]]
"""Loads templates by id, without those that do not exist."""


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

    ``route`` is the first route that leads to it (None: it answered the call). ``can_return`` says whether
    one of the routes to it allows ``back``. ``context`` and ``flow`` are set when the agent is compiled,
    ``keys`` when its services are connected; ``problem`` says why it cannot be used. ``values`` are its
    variables, kept while another agent has the call. ``role`` is the current text of its role, with
    placeholders. ``work`` lists the functions that it called since it took the call over.
    """

    name: str
    route: Route | None
    can_return: bool = False
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
        """Its name in the records of the call; ``back`` for the answering agent."""
        return self.name if self.route is not None else BACK

    def recorded(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values without masked ones, which must not leave the memory of the call."""
        masked = variables_masked(self.content)
        return {name: value for name, value in values.items() if name not in masked}

    @property
    def is_ready(self) -> bool:
        """Whether the call can change to it at once."""
        return self.keys is not None and self.flow is not None

    @property
    def fillers(self) -> tuple[str, ...]:
        """The texts that it speaks while the caller waits: the author's, or those of its language."""
        written = self.content.fillers
        if written is None:
            return failure_texts(self.content.language).fillers
        return tuple(render(text, self.values) for text in written)

    @property
    def offers_people(self) -> bool:
        """Whether its template offers the caller a person."""
        functions = self.content.functions
        return any(each.type == "builtin" and each.name == EscalateToPerson.name for each in functions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One agent on the path of a call, and the route by which it got the call."""

    agent: Agent
    route: Route | None = None


Path = tuple[Visit, ...]
"""The agents from the one that answered to the current one (the last); each routed to the next."""


class AgentPool:
    """All agents of one call, the current one, and the node of its flow."""

    def __init__(self, answering: Agent) -> None:
        """``answering`` is the current agent; the targets of its routes are added when they are loaded."""
        self.answering = answering
        self.path: Path = (Visit(agent=answering),)
        self.node: str | None = None
        self.offers_routes = True
        """False for the rest of a turn in which too many routes were refused."""
        self.targets: dict[str, Agent] = {}
        """All other agents, by ``Agent.name``."""
        self._unsettled = len(answering.content.routes)
        self._all_settled = asyncio.Event()

    @property
    def current(self) -> Agent:
        """The agent who has the call."""
        return self.path[-1].agent

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
                async with asyncio.timeout(timeout_s):
                    await self._all_settled.wait()

    def note_settled(self) -> None:
        """Count a target that became ready or unusable."""
        self._unsettled -= 1
        if self.is_settled:
            self._all_settled.set()

    def note_unsettled(self) -> None:
        """Count a target that lost a service and is being prepared again."""
        self._unsettled += 1

    def service_replaced(self, before: str, after: str) -> None:
        """Replace the service key ``before`` by ``after`` in every agent that has it."""
        for agent in (self.answering, *self.targets.values()):
            if agent.keys is not None:
                agent.keys = agent.keys.replaced(before, after)

    def add_targets(self, snapshots: Mapping[UUID, TemplateSnapshot]) -> None:
        """Add the agents that routes lead to: those of the answering agent, then those of its targets.

        A template that several agents route to is one agent. Its name is the first path to it that was found:
        `billing`, or `billing/refunds` if only the agent `billing` routes to it.
        """
        before = len(self.answering.content.routes)
        for route in self.answering.content.routes:
            self.targets[route.name] = _target(route.name, route, snapshots)
        found = list(self.targets.values())
        known = {agent.template_id for agent in found}
        for agent in found:  # grows
            for route in agent.content.routes if agent.problem is None else ():
                if target_id(route) in snapshots and target_id(route) not in known:
                    known.add(target_id(route))
                    target = _target(f"{agent.name}/{route.name}", route, snapshots)
                    self.targets[target.name] = target
                    found.append(target)
        for agent in (self.answering, *found):
            for route, target in self._targets_of(agent):
                target.can_return = target.can_return or route.can_return
        self._unsettled += len(self.targets) - before
        if self.is_settled:
            self._all_settled.set()

    def path_to(self, name: str) -> Path | None:
        """The path of the call after a route to ``name``, whether that agent is ready or not."""
        if name == BACK:
            return self.path[:-1] or None
        found = (each for each in self._targets_of(self.current) if each[0].name == name)
        route, target = next(found, (None, None))
        return (*self.path, Visit(agent=target, route=route)) if target is not None else None

    def find(self, name: str) -> Agent | None:
        """The agent that the current one calls ``name``, ready or not."""
        path = self.path_to(name)
        return path[-1].agent if path is not None else None

    def follow(self, names: Iterable[str]) -> None:
        """Continue the call at the end of these routes, or at the last agent on the path that is ready."""
        for name in names:
            path = self.path_to(name)
            if path is None or not path[-1].agent.is_ready:
                return
            self.hand_over(path)

    def destinations(self) -> tuple[Destination, ...]:
        """The agents that the current one may route to now."""
        if not self.offers_routes:
            return ()
        found = [
            _destination(route, agent) for route, agent in self._targets_of(self.current) if agent.is_ready
        ]
        came_by = self.path[-1].route
        if came_by is not None and came_by.can_return:
            found.append(Destination(name=BACK, when="The caller wants something else, or wants to go back."))
        return tuple(found)

    def hand_over(self, path: Path) -> None:
        """Make the last agent of ``path`` the current one; it has entered no node yet."""
        self.path = path
        self.node = None

    def _targets_of(self, agent: Agent) -> Iterator[tuple[Route, Agent]]:
        """The routes of an agent, and where they lead."""
        if agent is self.answering:
            routes = {route.name: route for route in agent.content.routes}
            yield from ((route, self.targets[name]) for name, route in routes.items() if name in self.targets)
            return
        by_template: dict[UUID, Agent] = {}
        for target in self.targets.values():
            by_template.setdefault(target.template_id, target)
        for route in agent.content.routes:
            if target_id(route) in by_template:
                yield route, by_template[target_id(route)]


def answering_agent(snapshot: TemplateSnapshot, content: TemplateContent | None = None) -> Agent:
    """The answering agent; ``content`` replaces the content of the snapshot."""
    return Agent(
        name="orchestrator",
        route=None,
        template_id=snapshot.id,
        revision=snapshot.revision,
        content=content or TemplateContent.model_validate(snapshot.content),
    )


def _destination(route: Route, agent: Agent) -> Destination:
    """A target as it is offered to the model of the agent with the route.

    With the context mode ``none`` the target gets no variables, so none are requested.
    """
    return Destination(
        name=route.name,
        when=route.when,
        description=agent.content.description,
        variables=variables_taken(agent.content) if route.context != "none" else (),
    )


async def load_reachable(content: TemplateContent, load: LoadTemplates) -> dict[UUID, TemplateSnapshot]:
    """The templates that routes lead to: those of a template, those of its targets, and so on.

    Args:
        content: the template of the agent who answers.
        load: loads templates by id, without those that do not exist.
    """
    found: dict[UUID, TemplateSnapshot] = {}
    asked: set[UUID] = set()
    wanted = [target_id(route) for route in content.routes]
    nested = 0
    while wanted:
        asked.update(wanted)
        new = await load(wanted)
        found.update(new)
        routes = (route for each in new.values() for route in each.content.get("routes") or ())
        ids = dict.fromkeys(_uuid(route.get("template_id", "")) for route in routes)
        wanted = [each for each in ids if each not in asked][: MAX_NESTED - nested]
        nested += len(wanted)
    return found


def _uuid(text: str) -> UUID:
    """The id of a template; an id that no template has when a draft names none."""
    try:
        return UUID(text)
    except ValueError:
        return _NO_TEMPLATE


def target_id(route: Route) -> UUID:
    """The template that a route leads to; an id that no template has when a draft names none."""
    return _uuid(route.template_id)


def _target(name: str, route: Route, snapshots: Mapping[UUID, TemplateSnapshot]) -> Agent:
    snapshot = snapshots.get(target_id(route))
    if snapshot is None:
        return Agent(
            name=name,
            route=route,
            template_id=target_id(route),
            revision=0,
            content=TemplateContent(name=route.name),
            problem="the template is gone",
        )
    active = snapshot.status == "active" and snapshot.kind == "agent"
    return Agent(
        name=name,
        route=route,
        template_id=snapshot.id,
        revision=snapshot.revision,
        content=TemplateContent.model_validate(snapshot.content),
        problem=None if active else "the template is not an active agent",
    )
