"""The results of the turns of a text call, for people and programs to read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

from db.events import EventRecord
from db.model_requests import ModelRequestRecord
from db.routes import RouteRecord
from db.utterances import UtteranceRecord
from voicebot.call.dependencies import CallFact

RouteStatus = Literal["done", "refused", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The agent who had the call, and the node of its flow."""

    template_id: UUID
    agent: str
    node: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """Something said to the caller; ``source`` is ``llm``, ``greeting`` or ``filler``."""

    at: Place
    text: str
    source: str


@dataclass(slots=True, kw_only=True)
class FunctionCall:
    """A function that the model called.

    ``status`` is None until it returned; ``failure`` says why it failed.
    """

    at: Place
    name: str
    arguments: Mapping[str, Any]
    status: str | None = None
    duration_ms: int | None = None
    failure: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeEntered:
    """The flow entered a node."""

    at: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteTaken:
    """A route: done, refused or failed. ``to`` is None if no agent has the name."""

    at: Place
    name: str
    reason: str
    status: RouteStatus
    code: str | None
    to: Place | None
    context: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeRecorded:
    """The model recorded the outcome of the call."""

    at: Place
    outcome: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderFailure:
    """Something failed; ``part`` is ``llm``, ``http`` or ``agent``."""

    at: Place
    part: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequested:
    """A request to the language model, and its answer."""

    at: Place
    request: ModelRequestRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The call is over."""

    at: Place
    ended_by: str
    reason: str


Step = Reply | FunctionCall | NodeEntered | RouteTaken | OutcomeRecorded | ProviderFailure | Ended


@dataclass(slots=True, kw_only=True)
class Exchange:
    """What the caller said (None: the agent begins), and what happened until the caller's next turn."""

    said: str | None
    steps: list[Step] = field(default_factory=list)
    requests: list[ModelRequested] = field(default_factory=list)
    """What the model was shown and answered, in order."""

    @property
    def replies(self) -> list[Reply]:
        """What was said to the caller, in order."""
        return [step for step in self.steps if isinstance(step, Reply)]

    @property
    def functions(self) -> list[FunctionCall]:
        """The functions that were called, in order, without routes."""
        return [step for step in self.steps if isinstance(step, FunctionCall)]

    @property
    def routes(self) -> list[RouteTaken]:
        """The routes, in order, refused ones included."""
        return [step for step in self.steps if isinstance(step, RouteTaken)]

    @property
    def nodes(self) -> list[str]:
        """The nodes that were entered, in order."""
        return [step.at.node or "" for step in self.steps if isinstance(step, NodeEntered)]

    @property
    def failures(self) -> list[ProviderFailure]:
        """What failed, in order."""
        return [step for step in self.steps if isinstance(step, ProviderFailure)]

    @property
    def model_failed(self) -> bool:
        """Whether a request to the language model failed."""
        return any(failure.part == "llm" for failure in self.failures)

    @property
    def model_hung(self) -> bool:
        """Whether the model did not answer in time."""
        return any(failure.part == "llm" and "Timeout" in failure.reason for failure in self.failures)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentState:
    """Whether an agent can be routed to, and if not, why."""

    name: str
    ready: bool
    reason: str | None


class ExchangeLog:
    """Collects the facts of a session into exchanges."""

    def __init__(self, name_of: Callable[[UUID], str]) -> None:
        """``name_of`` returns a template's name."""
        self._name_of = name_of
        self._exchange = Exchange(said=None)
        self._at: Place | None = None
        self.agents: dict[str, AgentState] = {}

    @property
    def at(self) -> Place | None:
        """Where the call is; None before it has begun."""
        return self._at

    def open(self, said: str | None) -> Exchange:
        """Start a new exchange, to which everything from now on belongs."""
        self._exchange = Exchange(said=said)
        return self._exchange

    def add_fact(self, fact: CallFact) -> None:
        """Add something that happened on the call."""
        match fact:
            case EventRecord():
                self._event(fact)
            case UtteranceRecord():
                if fact.speaker == "agent" and (text := fact.heard_text or fact.text):
                    at = self._place(fact.template_id, fact.node)
                    self._add(Reply(at=at, text=text, source=fact.source))
            case RouteRecord():
                self._route(fact)
            case ModelRequestRecord():
                at = self._place(fact.template_id, fact.node)
                self._exchange.requests.append(ModelRequested(at=at, request=fact))

    def unanswered(self, function: str, arguments: Mapping[str, Any]) -> None:
        """An HTTP function was called that no prepared answer fits."""
        if self._at is not None:
            given = json.dumps(arguments, ensure_ascii=False, default=str)
            reason = f"no answer is prepared for {function} with {given}"
            self._add(ProviderFailure(at=self._at, part="http", reason=reason))

    def _event(self, event: EventRecord) -> None:
        data = event.data
        at = self._place(event.template_id, event.node)
        match event.type:
            case "agent.ready":
                self.agents[data["agent"]] = AgentState(name=data["agent"], ready=True, reason=None)
                return
            case "agent.unavailable":
                self._unavailable(at, data["agent"], data["reason"])
                return
            case "node.entered":
                self._add(NodeEntered(at=at))
            case "function.called":
                self._add(FunctionCall(at=at, name=data["name"], arguments=data["arguments"]))
            case "function.returned":
                self._returned(data)
            case "outcome.recorded":
                self._add(OutcomeRecorded(at=at, outcome=data["outcome"], fields=data["fields"]))
            case "provider.failed" if "instead" not in data:  # otherwise a backup is asked
                self._add(ProviderFailure(at=at, part=data["part"], reason=data["reason"]))
            case "call.ended":
                self._add(Ended(at=at, ended_by=data["ended_by"], reason=data["reason"]))
        self._at = at

    def _unavailable(self, at: Place, agent: str, reason: str) -> None:
        self.agents[agent] = AgentState(name=agent, ready=False, reason=reason)
        self._add(
            ProviderFailure(at=self._at or at, part="agent", reason=f"{agent} cannot be routed to: {reason}")
        )

    def _returned(self, data: Mapping[str, Any]) -> None:
        for call in reversed(self._exchange.functions):
            if call.name == data["name"] and call.status is None:
                call.status, call.duration_ms = data["status"], data["duration_ms"]
                if data.get("code"):
                    call.failure = f"{data['code']}: {data['message']}"
                return

    def _route(self, route: RouteRecord) -> None:
        to = None if route.to_template_id is None else self._place(route.to_template_id, route.to_node)
        self._add(
            RouteTaken(
                at=self._place(route.from_template_id, route.from_node),
                name=route.name,
                reason=route.reason,
                status=route.status,
                code=route.error_code,
                to=to,
                context=route.context,
            )
        )

    def _add(self, step: Step) -> None:
        self._exchange.steps.append(step)

    def _place(self, template_id: UUID | None, node: str | None) -> Place:
        if template_id is None:
            raise ValueError("a fact of a call must name a template")
        return Place(template_id=template_id, agent=self._name_of(template_id), node=node)
