"""``HandlerContext``: what the functions of an agent may do with the call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from handlers.context import Destination, HandoffRequest, Refused, Routed
from templates.values import placeholders, render, state
from voicebot.call.agents import Agent, AgentPool
from voicebot.call.audio.key_tones import key_tones
from voicebot.call.audio.pipeline import CallPipeline
from voicebot.call.audio.speech_output import SpeechOutput
from voicebot.call.hangup import End, Hangup
from voicebot.call.person.transfer import CallTransfer
from voicebot.call.person.waiting import WaitingForPerson
from voicebot.call.routing.router import Router
from voicebot.call.transcript.recorder import CallRecorder
from voicebot.clock import Clock

KEYS_SENT = "[keys sent: {keys}]"
"""What the transcript says of keys that the agent pressed."""

_LEAVING = Refused(code="already_routing", message="The call is being handed over already. Say nothing.")


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerContext:
    """Implements ``handlers.context.CallContext`` for the functions of one agent.

    A function may return after another agent took the call over: the variables that it sets belong to its own
    agent.
    """

    agent: Agent
    agents: AgentPool
    time_zone: ZoneInfo
    clock: Clock
    recorder: CallRecorder
    pipeline: CallPipeline
    speech_output: SpeechOutput
    router: Router
    hangup: Hangup
    waiting: WaitingForPerson
    call_transfer: CallTransfer

    @property
    def call_id(self) -> UUID:
        """The call's id."""
        return self.recorder.call_id

    @property
    def has_phone(self) -> bool:
        """See ``CallContext``."""
        return self.waiting.has_phone

    def now(self) -> datetime:
        """The current moment, in UTC."""
        return self.clock.now()

    def destinations(self) -> tuple[Destination, ...]:
        """The agents that can take the call now."""
        return self.agents.destinations()

    def agents_are_coming(self) -> bool:
        """Whether agents are still being prepared."""
        return not self.agents.is_settled

    async def route(self, agent: str, *, reason: str, variables: Mapping[str, Any]) -> Routed | Refused:
        """Route the call to another agent, or say why not."""
        if not self._has_call:
            return _LEAVING
        return await self.router.request(agent, reason, variables)

    async def end(self, *, reason: str, outcome: str | None = None) -> Refused | None:
        """End the call when everything said was heard; a caller who speaks before that continues it.

        An agent that is handing the call over, or has done so, cannot end it.
        """
        if self.router.is_routing or not self._has_call:
            return _LEAVING
        self.hangup.start(End(ended_by="agent", reason=reason, outcome=outcome), cancellable=True)
        return None

    def transfer(self, destination: str) -> Refused | None:
        """Connect the caller with a destination of the agent, unless another agent has the call by now."""
        if self.router.is_routing or not self._has_call:
            return _LEAVING
        return self.call_transfer.request(self.agent, destination)

    async def press_keys(self, keys: str) -> Refused | None:
        """Send keys as uninterruptible tones, unless another agent has the call by now."""
        if self.router.is_routing or not self._has_call:
            return _LEAVING
        await self.pipeline.drain()
        tones = key_tones(keys, self.pipeline.sample_rate)
        await self.speech_output.audio(
            KEYS_SENT.format(keys=keys), tones, "filler", interruptible=False, remembered=False
        )
        return None

    async def record_outcome(self, outcome: str, fields: Mapping[str, Any]) -> None:
        """Record the outcome of the call, on the lead too."""
        self.recorder.outcome(outcome, fields)

    def hand_off(self, request: HandoffRequest) -> None:
        """Create a handoff to people."""
        self.waiting.hand_off(request)

    def cancel_hand_off(self) -> bool:
        """Withdraw the request for a person; False: there was none."""
        return self.waiting.leave()

    async def say(self, text: str) -> None:
        """Speak ``text`` in the agent's voice, unless another agent has the call by now."""
        if self._has_call:
            await self.speech_output.text(text)

    async def keep(self, values: Mapping[str, Any]) -> None:
        """Set variables of the agent; its role contains them from the model's next answer on."""
        self.agent.values = {**self.agent.values, **values}
        self.recorder.variables(self.agent.key, self.agent.recorded(self.agent.values))
        if self._has_call:
            self.pipeline.flow_manager.state.update(state(values))
            role = self.agent.role or ""
            if any(path.partition(".")[0] in values for path in placeholders(role)):
                await self.pipeline.set_role(render(role, self.agent.values))
        if recorded := self.agent.recorded(values):
            self.recorder.lead_variables(recorded)

    def variables(self) -> Mapping[str, Any]:
        """The agent's variables."""
        return dict(self.agent.values)

    @property
    def _has_call(self) -> bool:
        return self.agent is self.agents.current
