"""Where a call has been, and where it may go: the rules of routing, without any machinery."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from handlers.context import Refused
from templates.values import InvalidValues, resolve
from voicebot.call.agent_pool import AgentPool
from voicebot.call.agents import BACK, Agent


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedRoute:
    """An accepted route: to whom, by which name, with which variables."""

    target: Agent
    name: str
    values: Mapping[str, Any]


class RoutingPolicy:
    """One call's way from agent to agent."""

    def __init__(self, agent_pool: AgentPool, *, hops: int = 0) -> None:
        """The answering agent has the call; ``hops`` were made before its stream was lost."""
        self.current = agent_pool.answering
        self.hops = hops
        self._agent_pool = agent_pool
        self._came_from: Agent | None = None
        self._caller_spoke = True

    def caller_spoke(self) -> None:
        """The caller finished a turn: going back is no ping-pong any more."""
        self._caller_spoke = True

    def moved(self, target: Agent) -> None:
        """The call went on to ``target``."""
        self.hops += 1
        self._came_from, self.current = self.current, target
        self._caller_spoke = False

    def known(self, name: str) -> Agent | None:
        """The agent that the current one calls ``name``, reachable or not."""
        answering = self._agent_pool.answering
        if name == BACK:
            return answering if self.current is not answering else None
        return self._agent_pool.targets.get(name) if self.current is answering else None

    def decide(self, name: str, variables: Mapping[str, Any], *, is_routing: bool) -> AcceptedRoute | Refused:
        """Whether the current agent may route to ``name`` now; a refusal tells the model how to go on."""
        if is_routing:
            message = "The call is being handed over already. Say nothing."
            return Refused(code="already_routing", message=message)
        offered = [d.name for d in self._agent_pool.destinations(self.current)]
        target = self.known(name)
        if target is None:
            return Refused(code="unknown_agent", message=f"There is no agent {name!r}. {_choose(offered)}")
        if name not in offered:
            return Refused(code="not_ready", message=f"{name!r} cannot take the call now. {_choose(offered)}")
        return self._limited(target) or _way(target, name, variables)

    def _limited(self, target: Agent) -> Refused | None:
        limit = self._agent_pool.answering.content.limits.max_hops
        if self.hops >= limit:
            message = f"The call was handed over {limit} times, which is the limit. Help the caller yourself."
            return Refused(code="hop_limit", message=message)
        if target is self._came_from and not self._caller_spoke:
            message = "The caller just came from there and has said nothing since. Ask what they need first."
            return Refused(code="ping_pong", message=message)
        return None


def _way(target: Agent, name: str, variables: Mapping[str, Any]) -> AcceptedRoute | Refused:
    if name == BACK:
        return AcceptedRoute(target=target, name=name, values=target.values)
    try:
        values = resolve(target.content.variables, variables, source="call", known=target.values)
    except InvalidValues as error:
        return Refused(code="invalid_variables", message=f"Not routed. variables: {error}. Call again.")
    return AcceptedRoute(target=target, name=name, values=values)


def _choose(offered: Sequence[str]) -> str:
    return (
        f"Choose one of: {', '.join(offered)}." if offered else "No agent can take the call; help yourself."
    )
