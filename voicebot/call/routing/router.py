"""Performs routes: a live call changes from one agent to another."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Protocol, cast
from uuid import UUID

from loguru import logger
from pipecat.frames.frames import LLMMessagesAppendFrame, LLMRunFrame

from db.ids import new_id
from db.routes import RouteContext, RouteRecord
from handlers.context import Refused, Routed
from handlers.route_to_agent import RouteToAgent
from templates.values import render
from voicebot.background import BackgroundTasks
from voicebot.call.agents import BACK, Agent, AgentPool, Path
from voicebot.call.audio.frames import DrainFrame, OpenGateFrame, uninterruptible
from voicebot.call.audio.pipeline import CallPipeline
from voicebot.call.audio.speech_output import SpeechOutput
from voicebot.call.functions import offer_routes
from voicebot.call.hangup import Hangup
from voicebot.call.routing import context
from voicebot.call.routing.accepted_route import AcceptedRoute
from voicebot.call.routing.activation import AgentActivation, ContextTransfer
from voicebot.call.routing.policy import RoutingPolicy
from voicebot.call.transcript.conversation import Conversation
from voicebot.call.transcript.recorder import CallRecorder
from voicebot.clock import Clock

RESULTS_TIMEOUT_S = 1.0
TURN_END_TIMEOUT_S = 2.0
POLL_S = 0.02
FAILED_MESSAGE = (
    "The call could not be handed over to the agent {name}. Tell the caller briefly that this did not work, "
    "and go on helping yourself."
)


class RoutingListener(Protocol):
    """Receives the results of routes. Its methods must return at once."""

    def route_failed(self, name: str) -> None:
        """A route that was accepted failed."""
        ...

    def agent_changed(self) -> None:
        """Another agent has the call."""
        ...

    def routes_withdrawn(self) -> None:
        """Routes were refused so often that none is offered in this turn."""
        ...


class Router:
    """Performs the routes of one call, one at a time."""

    def __init__(
        self,
        agents: AgentPool,
        policy: RoutingPolicy,
        recorder: CallRecorder,
        pipeline: CallPipeline,
        speech_output: SpeechOutput,
        activation: AgentActivation,
        conversation: Conversation,
        hangup: Hangup,
        tasks: BackgroundTasks,
        clock: Clock,
        listener: RoutingListener,
    ) -> None:
        """``listener`` is told of changes of the agent, and of failed and withdrawn routes."""
        self._agents = agents
        self._policy = policy
        self._recorder = recorder
        self._pipeline = pipeline
        self._speech_output = speech_output
        self._activation = activation
        self._conversation = conversation
        self._hangup = hangup
        self._tasks = tasks
        self._clock = clock
        self._listener = listener
        self._task: asyncio.Task[None] | None = None
        self._unheard: tuple[UUID, str] | None = None

    @property
    def is_routing(self) -> bool:
        """Whether a route is in progress."""
        return self._task is not None and not self._task.done()

    async def request(self, name: str, reason: str, variables: Mapping[str, Any]) -> Routed | Refused:
        """Start a route that the model requests, or refuse it with a message for the model.

        A route cancels an end of the call by the same agent: a caller who is routed by mistake can still say
        goodbye.
        """
        self._recorder.event("route.requested", agent=name, reason=reason)
        target = self._agents.find(name)
        answer = self._policy.decide(
            name, variables, is_routing=self.is_routing, is_ending=self._hangup.is_final
        )
        if isinstance(answer, Refused):
            return self._refuse(name, target, reason, answer)
        path = self._agents.path_to(name)
        if path is None:
            raise LookupError(f"a route to an unknown agent was accepted: {name}")
        self._hangup.cancel()
        route = self._accept(name, path, answer, reason)
        self._pipeline.llm.shut_gate(RouteToAgent.name)
        self._task = self._tasks.start(self._perform(route), name=f"routing to {name}", droppable=True)
        return Routed(agent=name)

    async def return_to_answering(self, reason: str) -> None:
        """Route the call back to the answering agent, because the current one cannot answer.

        Returns when that agent has taken over; a route that is in progress is finished first.
        """
        path = self._agents.path[:1]
        if not self.is_routing and not self._hangup.is_final and path != self._agents.path:
            self._recorder.event("route.requested", agent=BACK, reason=reason)
            self._hangup.cancel()
            accepted = self._accept(BACK, path, self._agents.answering.values, reason)
            route = replace(accepted, has_result=False)
            self._pipeline.llm.shut_gate("")
            self._task = self._tasks.start(self._perform(route), name="routing back", droppable=True)
        if self._task is not None:
            await asyncio.shield(self._task)

    def _refuse(self, name: str, target: Agent | None, reason: str, refused: Refused) -> Refused:
        self._recorder.event("route.refused", agent=name, code=refused.code)
        record = self._new_record(name, target, reason)
        self._recorder.route(replace(record, status="refused", error_code=refused.code))
        refused = self._policy.count(refused)
        if not self._agents.offers_routes:
            self._listener.routes_withdrawn()
        return refused

    def caller_spoke(self) -> None:
        """The caller finished a turn with words."""
        self._policy.caller_spoke()

    def audio_started(self, gap_ms: int) -> None:
        """Audio was sent, ``gap_ms`` milliseconds after the last sound; the first audio completes a route."""
        if self._unheard is not None:
            (route_id, name), self._unheard = self._unheard, None
            self._recorder.route_heard(route_id, self._clock.now(), gap_ms)
            self._recorder.event("route.done", agent=name, gap_ms=gap_ms)

    async def resume(self, transform: context.Transform, visited: Sequence[str]) -> None:
        """Continue a call whose stream was lost: at the same node, with the conversation, without a greeting.

        The current agent of the pool continues.
        """
        agent = self._agents.current
        if agent is not self._agents.answering:
            if agent.keys is not None:
                self._pipeline.use(agent.keys)
            self._hand_over(self._agents.path)
        await self._activation.activate(agent, agent.values, transform, greet=False, visited=visited)

    def _accept(self, name: str, path: Path, values: Mapping[str, Any], reason: str) -> AcceptedRoute:
        route = path[-1].route if name != BACK else None
        announcement = None
        if route is not None and route.announce:
            announcement = render(route.announce, self._agents.current.values)
        mode: RouteContext = route.context if route else "full"
        record = self._new_record(name, path[-1].agent, reason)
        return AcceptedRoute(
            name=name,
            path=path,
            values=values,
            announcement=announcement,
            record=replace(record, context=mode, announced=announcement is not None),
        )

    def _new_record(self, name: str, target: Agent | None, reason: str) -> RouteRecord:
        active = self._agents.active
        return RouteRecord(
            id=new_id(),
            account_id=self._recorder.account_id,
            call_id=self._recorder.call_id,
            seq=self._recorder.next_route_seq(),
            name=name,
            hop=self._policy.hops + 1,
            from_template_id=active.template_id,
            from_node=active.node,
            to_template_id=target.template_id if target else None,
            to_node=None,
            reason=reason,
            context="full",
            announced=False,
            status="done",
            error_code=None,
            requested_at=self._clock.now(),
            switched_at=None,
            first_audio_at=None,
            gap_ms=None,
        )

    # ------------------------------------------------------------------------ an accepted route

    async def _perform(self, route: AcceptedRoute) -> None:
        source, origin, announcing = self._agents.current, self._agents.path, None
        try:
            transfer = ContextTransfer(self._pipeline, route.record.context, route.handover(source))
            announcing = await self._let_source_finish(route)
            transform = await transfer.transform()
            await self._switch_services(route.target)
        except Exception as error:  # noqa: BLE001 - the top of a task: the caller must not be left in silence
            logger.opt(exception=error).error("route to {} failed", route.name)
            await self._stay(source, route)
            return
        if self._hangup.is_final:
            self._recorder.route(replace(route.record, status="failed", error_code="call_ending"))
            self._recorder.event("route.failed", agent=route.name)
            return
        if announcing is not None and route.announcement:
            self._pipeline.tts.hold()
            if heard := self._conversation.as_heard(route.announcement):
                transform = context.followed_by(transform, heard)
        self._take_over(source, route)
        try:
            await self._activation.activate(route.target, route.values, transform, greet=route.name != BACK)
        except Exception as error:  # noqa: BLE001 - the top of a task
            logger.opt(exception=error).error("the flow of {} could not be entered", route.name)
            await self._return(origin, route)
        if announcing is not None:
            await announcing.sent.wait()
            await self._pipeline.tts.release()

    async def _let_source_finish(self, route: AcceptedRoute) -> DrainFrame | None:
        """Wait until the source has spoken and the results of its functions are in the context.

        An announcement takes seconds to play. If the target's first words are not ready, this returns as soon
        as the announcement is synthesised, so that they are produced while it plays.

        Returns:
            The drain that follows an announcement which is still playing.
        """
        if route.has_result:
            with suppress(TimeoutError):
                async with asyncio.timeout(RESULTS_TIMEOUT_S):
                    await self._pipeline.llm.result_passed()
        announced = route.announcement is not None
        overlaps = announced and not self._activation.has_first_words(route.target, route.values)
        if route.announcement is not None:
            await self._speech_output.text(route.announcement, remembered=not overlaps, is_announcement=True)
        drain = await self._pipeline.start_drain()
        await (drain.synthesised if overlaps else drain.sent).wait()
        with suppress(TimeoutError):  # a function that takes longer must not delay the caller
            async with asyncio.timeout(RESULTS_TIMEOUT_S):
                while self._pipeline.is_calling_functions:  # noqa: ASYNC110 - pipecat has no event for it
                    await asyncio.sleep(0.005)
        return drain if overlaps else None

    async def _switch_services(self, target: Agent) -> None:
        if target.keys is None:
            raise RuntimeError(f"{target.name} is not ready")
        if target.keys.stt != self._pipeline.stt.active:
            # Neither STT service would transcribe its half of a sentence.
            waited_s = 0.0
            while self._conversation.caller_is_speaking and waited_s < TURN_END_TIMEOUT_S:
                await asyncio.sleep(POLL_S)
                waited_s += POLL_S
        self._pipeline.use(target.keys)

    def _hand_over(self, path: Path) -> None:
        agent = path[-1].agent
        self._agents.hand_over(path)
        self._pipeline.llm.change_agent()
        self._listener.agent_changed()
        self._recorder.variables(agent.key, agent.recorded(agent.values))
        offer_routes(agent)

    def _take_over(self, source: Agent, route: AcceptedRoute) -> None:
        target = route.target
        target.values = dict(route.values)
        target.work.clear()
        self._policy.routed(source, route.name)
        self._hand_over(route.path)
        to_node = target.flow.config.initial_node if target.flow else None
        record = replace(route.record, switched_at=self._clock.now(), to_node=to_node)
        self._recorder.route(record)
        self._unheard = (record.id, route.name)
        self._recorder.event("voice.switched", agent=route.name)

    async def _stay(self, source: Agent, route: AcceptedRoute) -> None:
        """Report a route that failed before anything changed: the source tells the caller and continues."""
        self._recorder.route(replace(route.record, status="failed", error_code="switch_failed"))
        await self._give_back(source, route)
        await self._pipeline.worker.queue_frames([OpenGateFrame(), uninterruptible(LLMRunFrame())])

    async def _return(self, origin: Path, route: AcceptedRoute) -> None:
        """The target's flow could not be entered: route the call back, in the records too."""
        source, led_here = origin[-1].agent, origin[-1].route
        name = led_here.name if route.name == BACK and led_here is not None else BACK
        record = self._new_record(name, source, f"{route.name} could not begin")
        self._recorder.route(replace(record, switched_at=self._clock.now()))
        self._unheard = None
        self._policy.routed(route.target, name)
        self._hand_over(origin)
        await self._give_back(source, route)
        await self._activation.activate(source, source.values, context.full(), greet=False)

    async def _give_back(self, source: Agent, route: AcceptedRoute) -> None:
        """Give the services back to ``source`` and tell its model what happened."""
        self._recorder.event("route.failed", agent=route.name)
        self._listener.route_failed(route.name)
        if source.keys is not None:
            self._pipeline.use(source.keys)
        message = {"role": "developer", "content": FAILED_MESSAGE.format(name=route.name)}
        append = LLMMessagesAppendFrame(messages=[cast(Any, message)])
        await self._pipeline.worker.queue_frame(append)
