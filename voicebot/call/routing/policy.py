"""The rules of routing: whether the current agent may route to another one now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from handlers.context import Refused
from templates.values import InvalidValues, resolve
from voicebot.call.agents import BACK, Agent, AgentPool

MAX_REFUSALS = 3
"""Refusals of one kind in a turn of the caller, after which no route is offered in that turn."""

LAST_REFUSAL = " Do not ask for a route again before the caller has spoken; help the caller yourself."


class RoutingPolicy:
    """Decides on the routes of one call."""

    def __init__(self, agents: AgentPool, *, hops: int = 0) -> None:
        """``hops``: the number of routes before the call was resumed."""
        self.hops = hops
        self._agents = agents
        self._went_back = False
        """Whether the last route led back, and the caller has said nothing since."""
        self._silent_visits: set[int] = set()
        """The agents that routed the call away since the caller's last words, by identity."""
        self._refusals: Counter[str] = Counter()

    def caller_spoke(self) -> None:
        """The caller finished a turn: routing back is allowed again."""
        self._silent_visits.clear()
        self._went_back = False
        self._refusals.clear()
        self._agents.offers_routes = True

    def count(self, refused: Refused) -> Refused:
        """Count a refusal and return its message; after several of a kind, offer no routes in this turn."""
        self._refusals[refused.code] += 1
        if self._refusals[refused.code] < MAX_REFUSALS:
            return refused
        self._agents.offers_routes = False
        return replace(refused, message=refused.message + LAST_REFUSAL)

    def routed(self, source: Agent, name: str) -> None:
        """Count a route from ``source``, by the name that its model chose."""
        self.hops += 1
        self._went_back = name == BACK
        self._silent_visits.add(id(source))
        self._refusals.clear()
        self._agents.offers_routes = True

    def decide(
        self, name: str, variables: Mapping[str, Any], *, is_routing: bool, is_ending: bool = False
    ) -> Mapping[str, Any] | Refused:
        """Decide whether the current agent may route to the agent it calls ``name``.

        Args:
            name: a route's name, or ``back``.
            variables: the values that the model passes to the target.
            is_routing: whether another route is in progress.
            is_ending: whether the end of the call can no longer be cancelled.

        Returns:
            The variables of the target, or the refusal, whose message tells the model what to do.
        """
        if is_ending:
            return Refused(code="call_ending", message="The call is ending. Say nothing.")
        if is_routing:
            message = "The call is being handed over already. Say nothing."
            return Refused(code="already_routing", message=message)
        offered = [destination.name for destination in self._agents.destinations()]
        target = self._agents.find(name)
        if target is None:
            return Refused(code="unknown_agent", message=f"There is no agent {name!r}. {_choose(offered)}")
        if name not in offered:
            return Refused(code="not_ready", message=f"{name!r} cannot take the call now. {_choose(offered)}")
        return self._limited(target, name) or _values(target, name, variables)

    def _limited(self, target: Agent, name: str) -> Refused | None:
        limit = self._agents.answering.content.limits.max_hops
        if self.hops >= limit:
            message = f"The call was handed over {limit} times, which is the limit. Help the caller yourself."
            return Refused(code="hop_limit", message=message)
        if name == BACK and self._went_back:
            message = (
                "The caller has just been given back to you and has said nothing since. Ask what they need."
            )
            return Refused(code="ping_pong", message=message)
        if id(target) in self._silent_visits:
            message = "The caller just came from there and has said nothing since. Ask what they need first."
            return Refused(code="ping_pong", message=message)
        return None


def _values(target: Agent, name: str, variables: Mapping[str, Any]) -> Mapping[str, Any] | Refused:
    if name == BACK:
        return target.values
    try:
        return resolve(target.content.variables, variables, source="call", known=target.values)
    except InvalidValues as error:
        return Refused(code="invalid_variables", message=_what_to_ask(target, name, error))


def _what_to_ask(target: Agent, name: str, error: InvalidValues) -> str:
    """The refusal that tells the model what to ask the caller for."""
    declared = {variable.name: variable for variable in target.content.variables}
    missing, wrong = [], []
    for problem in error.problems:
        variable = declared[problem.pointer.removeprefix("/")]
        about = f"{variable.name} ({variable.description})" if variable.description else variable.name
        if problem.code == "variable_required":
            missing.append(f"{about}, of type {variable.type}")
        else:
            wrong.append(f"{about}: {problem.message}")
    parts = [f"Not routed yet: the caller is still with you. The agent {name!r}"]
    if missing:
        parts.append(f"needs {'; '.join(missing)}.")
    if wrong:
        parts.append(f"{'and ' if missing else ''}was given a value that it cannot use. {' '.join(wrong)}")
    parts.append(
        "Ask the caller for it now, one thing at a time, then call route_to_agent again with it in "
        "`variables`. Do not make up a value."
    )
    return " ".join(parts)


def _choose(offered: Sequence[str]) -> str:
    return (
        f"Choose one of: {', '.join(offered)}." if offered else "No agent can take the call; help yourself."
    )
