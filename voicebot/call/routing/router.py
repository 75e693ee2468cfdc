"""The second in which a live call changes agent."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol, cast
from uuid import UUID

from loguru import logger
from pipecat.frames.frames import LLMMessagesAppendFrame, LLMRunFrame

from db.ids import new_id
from db.routes import RouteRecord
from handlers.context import Refused, Routed
from handlers.route_to_agent import RouteToAgent
from templates.values import render
from voicebot.call.agents import BACK, Agent, ServiceKeys
from voicebot.call.audio.drain import DrainFrame
from voicebot.call.audio.llm_gate import OpenGateFrame
from voicebot.call.audio.pipeline import CallPipeline
from voicebot.call.audio.speech_output import SpeechOutput
from voicebot.call.routing import context as modes
from voicebot.call.routing.activation import AgentActivation, ContextMemory, firm
from voicebot.call.routing.policy import AcceptedRoute, RoutingPolicy
from voicebot.call.transcript.recorder import CallRecorder
from voicebot.call.transcript.transcript import ActiveAgent

RESULTS_TIMEOUT_S = 1.0
CALLER_FINISHES_S = 2.0
FAILED_MESSAGE = (
    "The call could not be handed over to the agent {name}. Tell the caller briefly that this did not work, "
    "and go on helping yourself."
)


class RouterHost(Protocol):
    """What a route needs of the session."""

    @property
    def record(self) -> CallRecorder:
        """Where the call is written down."""
        ...

    def role(self) -> ActiveAgent:
        """Who has the call now."""
        ...

    def now(self) -> datetime:
        """The current moment, in UTC."""
        ...

    def caller_is_speaking(self) -> bool:
        """Whether the caller's turn is open."""
        ...

    def took_over(self, agent: Agent) -> None:
        """``agent`` has the call from now on."""
        ...

    def route_failed(self, agent: str) -> None:
        """The caller could not be brought to the route's agent."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """A route that was accepted."""

    way: AcceptedRoute
    mode: str
    announce: str | None
    record: RouteRecord


class Router:
    """Performs routes, one at a time."""

    def __init__(
        self,
        policy: RoutingPolicy,
        pipeline: CallPipeline,
        stage: RouterHost,
        speech_output: SpeechOutput,
        activation: AgentActivation,
    ) -> None:
        self._policy = policy
        self._pipeline = pipeline
        self._stage = stage
        self._speech_output = speech_output
        self._activation = activation
        self._record = stage.record
        self._task: asyncio.Task[None] | None = None
        self._unheard: tuple[UUID, str] | None = None

    @property
    def current(self) -> Agent:
        """Who has the call."""
        return self._policy.current

    @property
    def is_routing(self) -> bool:
        """Whether a change of agent is under way."""
        return self._task is not None and not self._task.done()

    async def request(self, name: str, reason: str, variables: Mapping[str, Any]) -> Routed | Refused:
        """The model asks for a route: refuse with words it can correct itself by, or begin."""
        role = self._stage.role()
        self._record.event("route.requested", role, agent=name, reason=reason)
        answer = self._policy.decide(name, variables, is_routing=self.is_routing)
        if isinstance(answer, Refused):
            self._record.event("route.refused", role, agent=name, code=answer.code)
            self._record.route(self._refused(name, reason, answer))
            return answer
        plan = self._plan(answer, reason)
        self._pipeline.gate.shut(RouteToAgent.name)
        self._task = asyncio.create_task(self._perform(plan), name=f"route to {name}")
        return Routed(agent=name)

    def caller_said_something(self) -> None:
        """The caller finished a turn."""
        self._policy.caller_spoke()

    def sounding(self, gap_ms: int) -> None:
        """First audio goes out, ``gap_ms`` after the last; after a route it is the new agent's first word."""
        if self._unheard is not None:
            (route_id, name), self._unheard = self._unheard, None
            self._record.route_heard(route_id, self._stage.now(), gap_ms)
            self._record.event("route.done", self._stage.role(), agent=name, gap_ms=gap_ms)

    async def resume(self, agent: Agent, transform: modes.Transform, visited: Sequence[str]) -> None:
        """Go on with a call whose stream was lost: the same agent and node, what was said, no greeting."""
        if agent is not self.current:
            if agent.keys is not None:
                self._use(agent.keys)
            self._policy.current = agent
            self._stage.took_over(agent)
        await self._activation.enter(agent, agent.values, transform, greet=False, visited=visited)

    async def close(self) -> None:
        """Stop a change that is under way: the call is over."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _plan(self, way: AcceptedRoute, reason: str) -> _Plan:
        route = way.target.route if way.name != BACK else None
        announce = render(route.announce, self.current.values) if route and route.announce else None
        mode = route.context if route else "full"
        record = self._row(way.name, way.target, reason)
        return _Plan(
            way=way,
            mode=mode,
            announce=announce,
            record=replace(record, context=mode, announced=announce is not None),
        )

    def _refused(self, name: str, reason: str, refusal: Refused) -> RouteRecord:
        row = self._row(name, self._policy.known(name), reason)
        return replace(row, status="refused", error_code=refusal.code)

    def _row(self, name: str, target: Agent | None, reason: str) -> RouteRecord:
        role = self._stage.role()
        return RouteRecord(
            id=new_id(),
            account_id=self._record.account_id,
            call_id=self._record.call_id,
            seq=self._record.next_route_seq(),
            name=name,
            hop=self._policy.hops + 1,
            from_template_id=role.template_id,
            from_node=role.node,
            to_template_id=target.template_id if target else None,
            to_node=None,
            reason=reason,
            context="full",
            announced=False,
            status="done",
            error_code=None,
            requested_at=self._stage.now(),
            switched_at=None,
            first_audio_at=None,
            gap_ms=None,
        )

    # ----------------------------------------------------------------------------------- the performance

    async def _perform(self, plan: _Plan) -> None:
        source, ahead = self.current, None
        try:
            memory = ContextMemory(self._pipeline, plan.mode, plan.way.values)
            ahead = await self._let_finish(plan)
            transform = await memory.transform()
            await self._switch_services(plan.way.target)
        except Exception as error:  # a task's top: whatever happens, the caller is not left in silence
            logger.opt(exception=error).error("route to {} failed", plan.way.name)
            await self._stay(source, plan)
            return
        if ahead is not None and plan.announce:
            self._pipeline.tts.hold()
            transform = modes.followed_by(transform, plan.announce)
        self._take_over(plan)
        try:
            target, values = plan.way.target, plan.way.values
            await self._activation.enter(target, values, transform, greet=plan.way.name != BACK)
        except Exception as error:
            logger.opt(exception=error).error("entering {} failed", plan.way.name)
            await self._return(source, plan)
        if ahead is not None:
            await ahead.arrived.wait()
            await self._pipeline.tts.release()

    async def _let_finish(self, plan: _Plan) -> DrainFrame | None:
        """Let the old voice finish, and its functions' results come into the context.

        An announcement takes seconds to be heard but is synthesised at once. When the target's first words
        have yet to be found, that time is used for it: then this returns as soon as the announcement is
        queued, with the frame that arrives when it has been handed to the carrier.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RESULTS_TIMEOUT_S):
                await self._pipeline.gate.result_passed()
        ahead = plan.announce is not None and not self._activation.has_words(plan.way.target, plan.way.values)
        if plan.announce is not None:
            await self._speech_output.text(plan.announce, remembered=not ahead)
        drain = await self._pipeline.begin_drain()
        await (drain.synthesised if ahead else drain.arrived).wait()
        assistant = self._pipeline.aggregators.assistant()
        with contextlib.suppress(TimeoutError):  # a function that takes longer must not hold the caller
            async with asyncio.timeout(RESULTS_TIMEOUT_S):
                while assistant.has_function_calls_in_progress:  # noqa: ASYNC110 - pipecat has no event for it
                    await asyncio.sleep(0.005)
        return drain if ahead else None

    async def _switch_services(self, target: Agent) -> None:
        keys = target.keys
        if keys is None:
            raise RuntimeError(f"{target.name} is not ready")
        if keys.stt != self._pipeline.stt.active:
            # Half a sentence to one listener and half to another would be understood by neither.
            waited = 0.0
            while self._stage.caller_is_speaking() and waited < CALLER_FINISHES_S:
                await asyncio.sleep(0.02)
                waited += 0.02
        self._use(keys)

    def _use(self, keys: ServiceKeys) -> None:
        self._pipeline.stt.switch(keys.stt)
        self._pipeline.llm.switch(keys.llm)
        self._pipeline.tts.switch(keys.tts)

    def _take_over(self, plan: _Plan) -> None:
        target = plan.way.target
        self._policy.moved(target)
        target.values = dict(plan.way.values)
        self._stage.took_over(target)
        to_node = target.flow.config.initial_node if target.flow else None
        record = replace(plan.record, switched_at=self._stage.now(), to_node=to_node)
        self._record.route(record)
        self._unheard = (record.id, plan.way.name)
        self._record.event("voice.switched", self._stage.role(), agent=plan.way.name)

    async def _stay(self, source: Agent, plan: _Plan) -> None:
        """The change failed before anything changed: the agent who has the call says so and goes on."""
        self._record.route(replace(plan.record, status="failed", error_code="switch_failed"))
        await self._give_back(source, plan)
        await self._pipeline.worker.queue_frames([OpenGateFrame(), firm(LLMRunFrame())])

    async def _return(self, source: Agent, plan: _Plan) -> None:
        """The target's flow could not be entered: the call goes back, on the record too."""
        row = self._row(BACK, source, f"{plan.way.name} could not begin")
        self._record.route(replace(row, switched_at=self._stage.now()))
        self._unheard = None
        self._policy.moved(source)
        self._stage.took_over(source)
        await self._give_back(source, plan)
        await self._activation.enter(source, source.values, modes.full(), greet=False)

    async def _give_back(self, source: Agent, plan: _Plan) -> None:
        """Give the services back to ``source``, and tell its model what happened."""
        self._record.event("route.failed", self._stage.role(), agent=plan.way.name)
        self._stage.route_failed(plan.way.name)
        if source.keys is not None:
            self._use(source.keys)
        message = {"role": "developer", "content": FAILED_MESSAGE.format(name=plan.way.name)}
        append = LLMMessagesAppendFrame(messages=[cast(Any, message)])
        await self._pipeline.worker.queue_frame(firm(append))
