"""An accepted route, and what the target is told about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from db.routes import RouteRecord
from voicebot.call.agents import BACK, Agent, Path
from voicebot.call.routing.context import Handover


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedRoute:
    """A route to be performed.

    Attributes:
        name: what the source calls the target.
        path: the path of the call when the target has it.
        values: the variables of the target.
        announcement: what the caller is told first.
        record: the route's record.
        has_result: whether a function call of the source requested it; its result enters the context.
    """

    name: str
    path: Path
    values: Mapping[str, Any]
    announcement: str | None
    record: RouteRecord
    has_result: bool = True

    @property
    def target(self) -> Agent:
        """The agent that takes the call over."""
        return self.path[-1].agent

    def handover(self, source: Agent) -> Handover:
        """What the target is told; after ``back`` it includes what was done in the meantime."""
        if self.name != BACK:
            return self._handover(source, variables=self.values)
        set_on_call = {each.name for each in source.content.variables if each.source == "call"}
        results = {n: value for n, value in source.recorded(source.values).items() if n in set_on_call}
        return self._handover(source, results=results, work=tuple(source.work))

    def _handover(self, source: Agent, **more: Any) -> Handover:
        return Handover(
            from_agent=source.content.name,
            to_agent=self.target.content.name,
            reason=self.record.reason,
            **more,
        )
