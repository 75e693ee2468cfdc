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
from voicebot.call.agent_pool import AgentPool
from voicebot.call.agents import Agent
from voicebot.call.audio.pipeline import CallPipeline
from voicebot.call.audio.speech_output import SpeechOutput
from voicebot.call.dependencies import CallDependencies
from voicebot.call.hangup import End, Hangup
from voicebot.call.idle import IdleWatch
from voicebot.call.routing.router import Router
from voicebot.call.transcript.recorder import CallRecorder
from voicebot.call.transcript.transcript import ActiveAgent


@dataclass(frozen=True, slots=True, kw_only=True)
class CallControls:
    """The parts of a call that whoever has the floor works with."""

    line: CallDependencies
    record: CallRecorder
    pipeline: CallPipeline
    agent_pool: AgentPool
    router: Router
    speech_output: SpeechOutput
    idle: IdleWatch
    ending: Hangup
    role: Callable[[], ActiveAgent]
    """Who has the call now."""

    @property
    def offers_people(self) -> bool:
        """Whether the author offers people at all where the call is."""
        offered = self.router.current.content.functions
        return any(one.type == "builtin" and one.name == EscalateToPerson.name for one in offered)

    def hand_off(self, request: HandoffRequest) -> None:
        """Have people told of the caller; written after what was said so far, which is so part of it."""
        if self.line.hand_off is not None:
            self.line.writer.write(self.line.hand_off(self.line.call, request))

    def keep_on_lead(self, values: Mapping[str, Any]) -> None:
        """Write what was learned on the lead."""
        call, kept = self.line.call, dict(values)
        self.line.writer.write(lambda db: leads.keep_variables(db, call.account_id, call.lead_id, kept))


class HandlerContext:
    """Implements ``handlers.CallContext``: the call as one agent's functions see it.

    A function may come back when the call has gone on to another agent, whose variables are not its business:
    what it keeps stays with its own agent.
    """

    def __init__(self, agent: Agent, controls: CallControls) -> None:
        """``agent`` is whose functions they are."""
        self._agent = agent
        self._controls = controls

    @property
    def call_id(self) -> UUID:
        """The call's id."""
        return self._controls.line.call.id

    @property
    def time_zone(self) -> ZoneInfo:
        """The time zone of the number that was called."""
        return self._controls.line.time_zone

    def now(self) -> datetime:
        """The current moment, in UTC."""
        return self._controls.line.clock.now()

    def destinations(self) -> tuple[Destination, ...]:
        """The agents that can take the call now."""
        return self._controls.agent_pool.destinations(self._controls.router.current)

    def agents_are_coming(self) -> bool:
        """Whether agents are still being made ready."""
        return not self._controls.agent_pool.is_settled

    async def route(self, agent: str, *, reason: str, variables: Mapping[str, Any]) -> Routed | Refused:
        """Hand the call to another agent, or say why not."""
        self._controls.idle.stir()
        return await self._controls.router.request(agent, reason, variables)

    async def end(self, *, reason: str, outcome: str | None = None) -> None:
        """End the call once everything said so far has been heard; a caller who goes on keeps it up."""
        self._controls.ending.take_leave(End(ended_by="agent", reason=reason, outcome=outcome))

    async def record_outcome(self, outcome: str, fields: Mapping[str, Any]) -> None:
        """Write what came of the call on the lead."""
        record = self._controls.record
        record.outcome(outcome)
        record.event("outcome.recorded", self._controls.role(), outcome=outcome, fields=dict(fields))
        self._controls.keep_on_lead(fields)

    def hand_off(self, request: HandoffRequest) -> None:
        """Have people told of the caller."""
        self._controls.hand_off(request)

    async def say(self, text: str) -> None:
        """Speak ``text`` in the current agent's voice."""
        await self._controls.speech_output.text(text)

    def keep(self, values: Mapping[str, Any]) -> None:
        """Set variables of the agent; prompts see them from the next node on."""
        controls, agent = self._controls, self._agent
        agent.with_values(values)
        controls.record.variables(agent.known_as, agent.values)
        if agent is controls.router.current:
            controls.pipeline.flow_manager.state.update(state(values))
        controls.keep_on_lead(values)

    def variables(self) -> Mapping[str, Any]:
        """The agent's variables."""
        return dict(self._agent.values)
