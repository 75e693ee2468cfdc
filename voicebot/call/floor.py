"""What the functions of an agent may do with the call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from db import leads
from handlers.context import Destination, HandoffRequest, Refused, Routed
from handlers.escalate_to_person import EscalateToPerson
from templates.values import state
from voicebot.call.agent import Agent
from voicebot.call.ending import End, Ending
from voicebot.call.idle import IdleWatch
from voicebot.call.line import Line
from voicebot.call.pipeline import CallPipeline
from voicebot.call.record import Record
from voicebot.call.routing import Router
from voicebot.call.speaking import Mouth
from voicebot.call.switchboard import Switchboard
from voicebot.call.transcript import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """The parts of a call that whoever has the floor works with."""

    line: Line
    record: Record
    pipeline: CallPipeline
    switchboard: Switchboard
    router: Router
    mouth: Mouth
    idle: IdleWatch
    ending: Ending
    role: Callable[[], Role]
    """Who has the call now."""

    @property
    def offers_people(self) -> bool:
        """Whether the author offers people at all where the call is."""
        offered = self.router.current.content.functions
        return any(one.type == "builtin" and one.name == EscalateToPerson.name for one in offered)

    def hand_off(self, request: HandoffRequest) -> None:
        """Have people told of the caller; written after what was said so far, which is so part of it."""
        if self.line.hand_off is not None:
            self.line.ledger.write(self.line.hand_off(self.line.call, request))

    def keep_on_lead(self, values: Mapping[str, Any]) -> None:
        """Write what was learned on the lead."""
        call, kept = self.line.call, dict(values)
        self.line.ledger.write(lambda db: leads.keep_variables(db, call.account_id, call.lead_id, kept))


class AgentsCall:
    """Implements ``handlers.CallContext``: the call as one agent's functions see it.

    A function may come back when the call has gone on to another agent, whose variables are not its business:
    what it keeps stays with its own agent.
    """

    def __init__(self, agent: Agent, floor: Floor) -> None:
        """``agent`` is whose functions they are."""
        self._agent = agent
        self._floor = floor

    @property
    def call_id(self) -> UUID:
        """The call's id."""
        return self._floor.line.call.id

    @property
    def time_zone(self) -> ZoneInfo:
        """The time zone of the number that was called."""
        return self._floor.line.time_zone

    def now(self) -> datetime:
        """The current moment, in UTC."""
        return self._floor.line.clock.now()

    def destinations(self) -> tuple[Destination, ...]:
        """The agents that can take the call now."""
        return self._floor.switchboard.destinations(self._floor.router.current)

    def agents_are_coming(self) -> bool:
        """Whether agents are still being made ready."""
        return not self._floor.switchboard.is_settled

    async def route(self, agent: str, *, reason: str, variables: Mapping[str, Any]) -> Routed | Refused:
        """Hand the call to another agent, or say why not."""
        self._floor.idle.stir()
        return await self._floor.router.request(agent, reason, variables)

    async def end(self, *, reason: str, outcome: str | None = None) -> None:
        """End the call once everything said so far has been heard; a caller who goes on keeps it up."""
        self._floor.ending.take_leave(End(ended_by="agent", reason=reason, outcome=outcome))

    async def record_outcome(self, outcome: str, fields: Mapping[str, Any]) -> None:
        """Write what came of the call on the lead."""
        record = self._floor.record
        record.outcome(outcome)
        record.event("outcome.recorded", self._floor.role(), outcome=outcome, fields=dict(fields))
        self._floor.keep_on_lead(fields)

    def hand_off(self, request: HandoffRequest) -> None:
        """Have people told of the caller."""
        self._floor.hand_off(request)

    async def say(self, text: str) -> None:
        """Speak ``text`` in the current agent's voice."""
        await self._floor.mouth.text(text)

    def keep(self, values: Mapping[str, Any]) -> None:
        """Set variables of the agent; prompts see them from the next node on."""
        floor, agent = self._floor, self._agent
        agent.with_values(values)
        floor.record.variables(agent.known_as, agent.values)
        if agent is floor.router.current:
            floor.pipeline.flow_manager.state.update(state(values))
        floor.keep_on_lead(values)

    def variables(self) -> Mapping[str, Any]:
        """The agent's variables."""
        return dict(self._agent.values)
