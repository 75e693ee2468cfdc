"""One live call: answer → converse → finish."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any
from uuid import UUID

from loguru import logger
from pipecat.flows import Flow
from pipecat.frames.frames import ErrorFrame, LLMRunFrame, LLMSetToolsFrame
from pipecat.pipeline.worker import PipelineWorker
from pipecat.utils.errors import ErrorCategory
from pipecat.workers.runner import WorkerRunner

from db.calls import EndedBy
from db.revisions import TemplateSnapshot
from handlers.context import HandoffRequest
from handlers.route_to_agent import RouteToAgent
from telephony.carrier import MediaClosed
from templates.values import render
from voicebot.call.agent_pool import AgentFactory, AgentPool
from voicebot.call.agents import BACK, Agent
from voicebot.call.apologies import apology
from voicebot.call.audio.connections import ServiceConnections, ServiceLost
from voicebot.call.audio.pipeline import assemble
from voicebot.call.audio.speech_output import SpeechOutput
from voicebot.call.dependencies import CallDependencies
from voicebot.call.functions import Functions, compile_agent
from voicebot.call.handler_context import CallControls, HandlerContext
from voicebot.call.hangup import End, Hangup
from voicebot.call.idle import IdleWatch, rules_of
from voicebot.call.llm_recovery import LlmRecovery
from voicebot.call.resume import ResumeState
from voicebot.call.routing.activation import AgentActivation
from voicebot.call.routing.policy import RoutingPolicy
from voicebot.call.routing.router import Router
from voicebot.call.tasks import Tasks
from voicebot.call.tools import offer_routes, tools_with
from voicebot.call.transcript.conversation import Conversation
from voicebot.call.transcript.recorder import CallRecorder, Seqs
from voicebot.call.transcript.transcript import ActiveAgent
from voicebot.providers.provider import SynthesisFailed

WRITTEN_S = 1.0
TARGETS_SETTLE_S = 5.0

LoadTargets = Callable[[], Awaitable[Mapping[UUID, TemplateSnapshot]]]


class Session:
    """One live call: brings its parts together. Implements ``routing.Stage``."""

    def __init__(self, line: CallDependencies, answering: Agent, past: ResumeState | None = None) -> None:
        """``past`` is given when the call goes on after its stream was lost."""
        self._line = line
        self._past = past
        seqs = past.seqs if past else Seqs()
        self._node: str | None = None
        self.record = CallRecorder(line.call, line.writer, line.clock, seqs, line.tell)
        self._conversation = Conversation(
            line.media,
            line.clock,
            self.record,
            self.role,
            first_seq=seqs.utterances + 1,
            since_answer_ms=past.since_answer_ms if past else 0.0,
        )
        factory = AgentFactory(
            account_id=line.call.account_id,
            speech=line.speech,
            greetings=line.greetings,
            payload=line.payload,
            compile=self._compile,
            on_request=self._requested,
            kept=past.variables if past else {},
        )
        self._agent_pool = AgentPool(answering, factory, self._settled)
        self._first = self._agent_pool.first_parts()
        self._pipeline = assemble(
            line.media, self._first, listener=self._conversation, on_error=self._provider_failed
        )
        self._speech_output = SpeechOutput(self._pipeline, self._conversation.transcript)
        self._activation = AgentActivation(
            self._pipeline, self._speech_output, self._ready_greeting, self.caller_is_speaking
        )
        policy = RoutingPolicy(self._agent_pool, hops=past.hops if past else 0)
        self._router = Router(policy, self._pipeline, self, self._speech_output, self._activation)
        self._connections = ServiceConnections(
            self._pipeline, line.speech, self._requested, self._report_failure
        )
        self._tasks = Tasks(self._task_failed)
        self._idle = IdleWatch(
            lambda: rules_of(self._router.current),
            heard=self._all_heard,
            busy=self._is_busy,
            prompt=self._prompt_idle,
            give_up=self._give_up,
        )
        self._ending = Hangup(line, self._pipeline, self._speech_output, self._tasks, self._idle.stir)
        self._controls = CallControls(
            line=line,
            record=self.record,
            pipeline=self._pipeline,
            agent_pool=self._agent_pool,
            router=self._router,
            speech_output=self._speech_output,
            idle=self._idle,
            ending=self._ending,
            role=self.role,
        )
        self._llm_recovery = LlmRecovery(self._controls, self._activation)

    # -------------------------------------------------------------------------------------- life

    async def run(self, load_targets: LoadTargets) -> End:
        """Converse until the call is over; ``load_targets`` loads the agents that can be routed to.

        Raises:
            InvalidValues, UnknownFunction: the agent who answers cannot begin.
        """
        self._agent_pool.answer_with(self._first)
        self._line.media.on_closed(self._media_closed)
        self._conversation.attend(
            self._pipeline.aggregators,
            self._pipeline.worker,
            self._idle,
            on_first_audio=self._router.sounding,
            on_empty_turn=self._nothing_said,
            on_caller=self._caller_spoke,
        )
        self.record.answered()
        self.record.event("call.resumed" if self._past else "call.started", self.role())
        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(self._pipeline.worker)
        running = asyncio.create_task(runner.run(), name=f"call {self._line.call.id}")
        running.add_done_callback(
            lambda _: self._ending.finish(End(ended_by="system", reason="pipeline_ended"))
        )
        self._tasks.start(self._begin(load_targets))
        self._tasks.start(self._limit_duration())
        end = await self._ending.come()
        await self._close(end)
        await runner.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await self._line.media.close()
        return end

    @property
    def worker(self) -> PipelineWorker:
        """What runs the pipeline."""
        return self._pipeline.worker

    @property
    def is_at_rest(self) -> bool:
        """Whether no function, no change of agent, no preparing and no goodbye is under way."""
        ending = self._ending.is_under_way
        return self._agent_pool.is_settled and not ending and not self._is_busy()

    async def end_by(self, ended_by: EndedBy, reason: str) -> None:
        """End the call from outside once what is being said has been heard."""
        await self._ending.hang_up(End(ended_by=ended_by, reason=reason))

    def variables(self) -> Mapping[str, Any]:
        """The current agent's variables."""
        return dict(self._router.current.values)

    async def _begin(self, load_targets: LoadTargets) -> None:
        pipeline, agent = self._pipeline, self._agent_pool.answering
        started = asyncio.Event()
        pipeline.worker.add_event_handler("on_pipeline_started", lambda *_: started.set())
        await started.wait()
        self.record.event("stream.started", self.role(), stream_id=self._line.media.start.stream_id)
        self._tasks.start(self._connections.begin(self._first, agent.content))
        await pipeline.flow_manager.initialize()
        if self._past is None:
            await self._activation.enter(agent, agent.values)
        elif self._past.agent == BACK:
            await self._go_on(self._past)
        # Only now: the first word waits for no target, nor for the database to name them.
        snapshots = await load_targets()
        self._agent_pool.add_targets(snapshots)
        self.record.revisions({snapshot.id: snapshot.revision for snapshot in snapshots.values()})
        self._agent_pool.prepare_targets(pipeline)
        if self._past is not None and self._past.agent != BACK:
            await self._go_on(self._past)
        await self._keep_greeting(agent)

    async def _go_on(self, past: ResumeState) -> None:
        """Go on with the agent who had the call when its stream was lost."""
        agent = self._agent_pool.answering
        if past.agent != BACK:
            await self._agent_pool.settled(TARGETS_SETTLE_S)
            had_it = self._agent_pool.targets.get(past.agent)
            agent = had_it if had_it is not None and had_it.is_ready else agent
        visited = past.visited if agent.known_as == past.agent else ()
        await self._router.resume(agent, lambda _: list(past.said), visited)

    async def _keep_greeting(self, agent: Agent) -> None:
        """Have the answering agent's greeting at hand for the next call."""
        if agent.content.greeting is not None:
            text = render(agent.content.greeting.text, agent.values)
            with suppress(SynthesisFailed):
                await self._line.greetings.prepare(self._line.call.account_id, agent.content, text)

    async def _limit_duration(self) -> None:
        await asyncio.sleep(self._agent_pool.answering.content.limits.max_duration_ms / 1000)
        current = self._router.current
        goodbye = render(current.content.idle.goodbye, current.values)
        self._ending.begin(End(ended_by="system", reason="max_duration"), goodbye)

    async def _close(self, end: End) -> None:
        self._idle.stir()
        await self._router.close()
        await self._llm_recovery.close()
        await self._agent_pool.close()
        self._conversation.finish()
        await self._tasks.stop()
        if not end.resumable:
            # Before the socket closes: the carrier then asks /resume, which must find an ended call.
            self.record.event("call.ended", self.role(), ended_by=end.ended_by, reason=end.reason)
            self.record.ended(end.ended_by, end.reason, end.outcome)
            await self._line.writer.flushed(WRITTEN_S)
        # What is left is a hang-up that still asks the carrier.
        await self._tasks.finish()

    # ----------------------------------------------------------------------------- routing.Stage

    def now(self) -> datetime:
        """The current moment, in UTC."""
        return self._line.clock.now()

    def role(self) -> ActiveAgent:
        """Who has the call now."""
        return ActiveAgent(template_id=self._router.current.template_id, node=self._node)

    def caller_is_speaking(self) -> bool:
        """Whether the caller's turn is open."""
        return self._conversation.caller_is_speaking

    def _ready_greeting(self, agent: Agent, text: str) -> bytes | None:
        return self._line.greetings.ready(self._line.call.account_id, agent.content, text)

    def route_failed(self, agent: str) -> None:
        """A change of agent failed: where the author offers people at all, they are told."""
        if self._controls.offers_people:
            reason = f"The change to the agent {agent!r} failed."
            self._controls.hand_off(HandoffRequest(intent="escalate", reason=reason, origin="failed_route"))

    def took_over(self, agent: Agent) -> None:
        """``agent`` has the call from now on."""
        self._node = None
        self.record.variables(agent.known_as, agent.values)
        if agent.flow is not None:
            offer_routes(agent.flow, RouteToAgent().bind(HandlerContext(agent, self._controls)))

    # ------------------------------------------------------------------------------ what happens

    def _caller_spoke(self) -> None:
        self._router.caller_said_something()
        self._activation.caller_spoke()
        self._llm_recovery.caller_spoke()
        if self._ending.stay():
            # They are not done: answer, and end another time.
            self._tasks.start(self._pipeline.worker.queue_frame(LLMRunFrame()))

    def _nothing_said(self) -> None:
        """The caller's turn brought no words: whoever waited for it speaks now."""
        self._tasks.start(self._activation.speak_if_waiting())

    def _media_closed(self, closed: MediaClosed) -> None:
        lost = closed.by == "carrier" and not closed.announced
        reason = "stream_lost" if lost else "hangup"
        self._ending.finish(End(ended_by="carrier" if lost else "caller", reason=reason, resumable=lost))

    async def _provider_failed(self, key: str, frame: ErrorFrame) -> None:
        reason = type(frame.exception).__name__ if frame.exception else "error"
        self._report_failure(key.partition("[")[0], reason)
        broken = frame.processor is not None and not frame.processor.is_usable
        switch = self._connections.switch_of(key)
        if switch is self._pipeline.stt and switch.is_ready(key):
            # The vendor's client would connect again by itself, but after seconds of deafness; a fresh one
            # connects at once, and is given what was said meanwhile.
            switch.give_up(key)
            broken = True
        if broken and switch is not None:
            self._tasks.start(self._connections.mend(switch, self._router.current.content))
        elif broken:
            self._agent_pool.lost(key, self._router.current, self._pipeline)
        elif switch is not None and not self._router.is_routing:
            # Nobody may be speaking any more: then the prompts break the silence.
            self._idle.quiet()
        # A function of ours that raises is no failure of the model's, which is told and goes on.
        fault = frame.category is not ErrorCategory.APPLICATION
        if switch is self._pipeline.llm and fault and self._line.recovers:
            self._llm_recovery.failed()

    def _report_failure(self, kind: str, reason: str) -> None:
        self.record.event("provider.failed", self.role(), part=kind, reason=reason)
        logger.warning("call {}: {} failed: {}", self._line.call.id, kind, reason)

    def _entered(self, node: str) -> None:
        self._node = node
        self.record.node(node)
        self.record.event("node.entered", self.role())

    def _settled(self, agent: Agent) -> None:
        """A target became ready, or cannot be: the routing table changes at once."""
        role = ActiveAgent(template_id=agent.template_id, node=None)
        if agent.problem is None:
            self.record.event("agent.ready", role, agent=agent.name)
        else:
            self.record.event("agent.unavailable", role, agent=agent.name, reason=agent.problem)
        answering = self._agent_pool.answering
        if answering.flow is None or self._router.current is not answering:
            return
        route = RouteToAgent().bind(HandlerContext(answering, self._controls))
        offer_routes(answering.flow, route)
        tools = tools_with(self._pipeline.context, route)
        if tools is not None and not self._router.is_routing:
            frame = LLMSetToolsFrame(tools=tools)
            frame.interruptible = False
            self._tasks.start(self._pipeline.worker.queue_frame(frame))

    def _compile(self, agent: Agent) -> Flow:
        call = HandlerContext(agent, self._controls)
        functions = Functions(call=call, record=self.record, role=self.role, http=self._line.http)
        return compile_agent(agent, functions, self._entered)

    async def _requested(self, context_id: str, text: str) -> None:
        await self._speech_output.requested(context_id, text)

    # ------------------------------------------------------------------------------------- idle

    async def _all_heard(self) -> None:
        await self._ending.all_heard()

    def _is_busy(self) -> bool:
        return (
            self._router.is_routing
            or self._llm_recovery.is_recovering
            or self._pipeline.aggregators.assistant().has_function_calls_in_progress
        )

    async def _prompt_idle(self, number: int, prompt: str) -> None:
        self.record.event("idle.prompted", self.role(), number=number)
        await self._speech_output.text(prompt)

    async def _give_up(self, goodbye: str) -> None:
        self._ending.take_leave(End(ended_by="system", reason="idle"), goodbye)

    def _task_failed(self, name: str, error: BaseException) -> None:
        if isinstance(error, ServiceLost):
            end = End(ended_by="system", reason=f"{error.kind}_unavailable")
            tts = self._pipeline.tts
            if tts.is_ready(tts.active):  # deaf, but not dumb
                self._ending.begin(end, apology(self._router.current.content.language).goodbye)
            else:
                self._ending.finish(end)
        else:
            logger.opt(exception=error).error("call {}: {} failed", self._line.call.id, name)
            self._ending.finish(End(ended_by="system", reason="internal_error"))
