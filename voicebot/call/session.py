"""One live call: constructs its parts, runs them, and connects what one part reports with the others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from uuid import UUID

from loguru import logger
from pipecat.flows import Flow
from pipecat.frames.frames import LLMRunFrame
from pipecat.pipeline.worker import PipelineWorker
from pipecat.workers.runner import WorkerRunner

from db.calls import EndedBy
from db.revisions import TemplateSnapshot
from handlers.context import HandoffRequest
from telephony.flow import FlowCarrier
from telephony.media import MediaClosed
from templates.values import render
from voicebot.background import BackgroundTasks
from voicebot.call.agents import Agent, AgentPool
from voicebot.call.audio.connections import ServiceConnections, ServiceLost
from voicebot.call.audio.pipeline import CallPipeline
from voicebot.call.audio.speech_output import SpeechOutput
from voicebot.call.dependencies import CallDependencies
from voicebot.call.dtmf import DtmfCollector
from voicebot.call.farewells import is_goodbye
from voicebot.call.functions import RouteTool, compile_agent
from voicebot.call.handler_context import HandlerContext
from voicebot.call.hangup import WITH_PERSON, End, Hangup
from voicebot.call.person.person_speech import PersonSpeech
from voicebot.call.person.takeover import Takeover
from voicebot.call.person.transfer import CallTransfer
from voicebot.call.person.waiting import WaitingForPerson
from voicebot.call.preparation import AgentPreparation
from voicebot.call.resume import ResumeState
from voicebot.call.routing.activation import AgentActivation
from voicebot.call.routing.policy import RoutingPolicy
from voicebot.call.routing.router import Router
from voicebot.call.service_failures import ServiceFailures
from voicebot.call.services import CallServices
from voicebot.call.silence.steps import SilenceSteps
from voicebot.call.silence.watchdog import SilenceWatchdog
from voicebot.call.transcript.conversation import Conversation
from voicebot.call.transcript.recorder import CallRecorder, Seqs
from voicebot.call.transcript.transcript import Transcript
from voicebot.providers.provider import SpokenText

FLUSH_TIMEOUT_S = 1.0
TARGETS_TIMEOUT_S = 5.0

LoadTargets = Callable[[], Awaitable[Mapping[UUID, TemplateSnapshot]]]


class Session:
    """One live call; implements ``ConversationListener`` and ``RoutingListener``.

    The constructor of each part takes the parts that it uses, so they exist. Parts report to methods of the
    session; these are called only after ``run`` has started the pipeline.
    """

    def __init__(self, deps: CallDependencies, answering: Agent, past: ResumeState | None = None) -> None:
        """Construct the parts of the call.

        Args:
            deps: the call, its media stream, and what the process shares between calls.
            answering: the agent who answers the call.
            past: the state before the stream was lost; None: the call is new.
        """
        self._deps = deps
        self._past = past
        seqs = past.seqs if past else Seqs()
        self._tasks = BackgroundTasks(f"call {deps.call.id}", on_failure=self._task_failed)
        self._agents = AgentPool(answering)
        self._recorder = CallRecorder(deps, self._agents, seqs)
        transcript = Transcript(deps.call, self._recorder.utterance, first_seq=seqs.utterances + 1)
        services = CallServices(deps.services, deps.health, self._recorder)
        self._pipeline = CallPipeline(
            deps.media, services, answering.content, on_request=transcript.requests.on_request
        )
        self._connections = ServiceConnections(self._agents, self._pipeline, services, self._tasks)
        self._pipeline.llm.on_request(self._recorder.model_requests)
        self._conversation = Conversation(
            deps.media, deps.clock, self._agents, self._recorder, transcript, self._pipeline, self._tasks,
            listener=self, since_answer_ms=past.since_answer_ms if past else 0.0,
        )  # fmt: skip
        self._speech_output = SpeechOutput(self._pipeline, transcript.requests)
        self._hangup = Hangup(
            self._agents, deps.carrier, deps.media, self._pipeline, self._speech_output, self._conversation,
            self._tasks,
        )  # fmt: skip
        self.waiting = WaitingForPerson(
            deps.media, deps.clock, self._agents, self._recorder, self._pipeline, self._speech_output,
            self._conversation, self._hangup, self._tasks, deps.recording,
            has_phone=deps.has_phone,
        )  # fmt: skip
        self._activation = AgentActivation(
            self._pipeline, self._speech_output, self._ready_audio, self._conversation
        )
        self.transfer = CallTransfer(
            deps.transfer, deps.dial, self.waiting, self._hangup, self._pipeline, self._activation,
            self._recorder, self._tasks,
        )  # fmt: skip
        speech = PersonSpeech(
            self._pipeline.stt, services, self._agents, self._conversation, transcript, self._tasks,
        )  # fmt: skip
        self.takeover = Takeover(deps.media, deps.clock, self._pipeline, speech, self._activation.run_model)
        policy = RoutingPolicy(self._agents, hops=past.hops if past else 0)
        self._router = Router(
            self._agents, policy, self._recorder, self._pipeline, self._speech_output, self._activation,
            self._conversation, self._hangup, self._tasks, deps.clock, listener=self,
        )  # fmt: skip
        self.dtmf = DtmfCollector(
            deps.media, self._agents, self._recorder, self._pipeline, self._conversation, self._router,
            self._hangup, self.waiting, self._tasks,
        )  # fmt: skip
        self._route_tool = RouteTool(self._pipeline, self._agents, self._tasks)
        steps = SilenceSteps(
            self._agents, self._recorder, self.waiting, self._pipeline, transcript.requests,
            self._speech_output, self._hangup, self._activation, self._router, self._ready_audio,
            self._connections,
        )  # fmt: skip
        self._silence = SilenceWatchdog(
            self._agents, deps.media, self._pipeline, self._conversation, transcript.requests,
            self._hangup, self._router, self.waiting, steps, self._tasks, is_timed=deps.has_silence,
        )  # fmt: skip
        self._preparation = AgentPreparation(
            deps, self._agents, self._connections, self._pipeline, self._recorder, self._route_tool,
            self._tasks, compile_flow=self._compile, kept=past.variables if past else {},
        )  # fmt: skip
        failures = ServiceFailures(
            self._agents, self._pipeline, services, self._connections, self._preparation, self._silence,
            self._hangup,
        )  # fmt: skip
        self._pipeline.on_error, services.on_replaced = failures.failed, failures.replaced

    # -------------------------------------------------------------------------------- life cycle

    async def run(self, load_targets: LoadTargets) -> End:
        """Run the call to its end.

        Args:
            load_targets: loads the templates of the agents that can be routed to.

        Raises:
            InvalidValues, UnknownFunction: the agent who answers cannot begin.
        """
        self._preparation.prepare_answering()
        self._deps.media.on_closed(self._media_closed)
        self._recorder.answered()
        has_begun = self._past is not None and self._past.seqs.events > 0
        self._recorder.event("call.resumed" if has_begun else "call.started")
        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(self._pipeline.worker)
        running = asyncio.create_task(runner.run(), name=f"call {self._deps.call.id}")
        running.add_done_callback(
            lambda _: self._hangup.finish(End(ended_by="system", reason="pipeline_ended"))
        )
        self._tasks.start(self._begin(load_targets), name="beginning the call", droppable=True)
        self._tasks.start(self._limit_duration(), name="limiting the duration", droppable=True)
        end = await self._close(await self._hangup.wait())
        await runner.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await self._deps.media.close()
        return end

    @property
    def worker(self) -> PipelineWorker:
        """The worker of the pipeline."""
        return self._pipeline.worker

    @property
    def is_at_rest(self) -> bool:
        """Whether no function, route, preparation or goodbye is in progress."""
        return self._agents.is_settled and not self._hangup.is_hanging_up and not self._is_busy()

    async def end(
        self, ended_by: EndedBy, reason: str, goodbye: str | None = None, pause_s: float = 0.0
    ) -> None:
        """End the call after the current speech and ``goodbye``; return when the carrier has ended it."""
        await self._hangup.hang_up(End(ended_by=ended_by, reason=reason), goodbye, pause_s=pause_s)

    def release_to_flow(self) -> None:
        """Close the stream if the carrier's flow is to connect the caller with an operator."""
        if isinstance(self._deps.carrier, FlowCarrier):
            self.transfer.release_to_flow(self._deps.is_with_person, self._deps.media.close)

    async def hand_over(self) -> None:
        """Close the stream, at a pause in the conversation if possible, so that another process resumes."""
        await self._hangup.hand_over(self._is_at_pause)

    def _is_at_pause(self) -> bool:
        media, speaks = self._deps.media, self._conversation.caller_is_speaking
        return not speaks and not self._is_busy() and media.playout.all_heard(media.now_ms())

    def variables(self) -> Mapping[str, Any]:
        """The current agent's variables."""
        return dict(self._agents.current.values)

    async def _begin(self, load_targets: LoadTargets) -> None:
        pipeline, agent = self._pipeline, self._agents.answering
        started = asyncio.Event()
        pipeline.worker.add_event_handler("on_pipeline_started", lambda *_: started.set())
        await started.wait()
        self._recorder.event("stream.started", stream_id=self._deps.media.start.stream_id)
        self._tasks.start(
            self._connections.connect(agent.content), name="connecting the services", droppable=True
        )
        await pipeline.initialize()
        past = self._past
        if past is None or not past.was_greeted:
            await self._activation.activate(agent, agent.values)
        elif not past.path:
            await self._resume(past)
        if past is None or not past.was_greeted or not past.path:
            self._silence.start()
        # After the greeting: the first words must not wait until the database has loaded the targets.
        snapshots = await load_targets()
        self._agents.add_targets(snapshots)
        self._recorder.revisions({snapshot.id: snapshot.revision for snapshot in snapshots.values()})
        self._preparation.prepare_targets()
        if past is not None and past.was_greeted and past.path:
            await self._resume(past)
            self._silence.start()
        await self._preparation.prepare_speech(agent)  # for the next call
        await self._connections.probe(agent.content)

    async def _resume(self, past: ResumeState) -> None:
        """Continue with the agent who had the call when its stream was lost."""
        self.transfer.resume(past)
        if past.path:
            await self._agents.settled(TARGETS_TIMEOUT_S)
            self._agents.follow(past.path)
        visited = past.visited if len(self._agents.path) == len(past.path) + 1 else ()
        await self._router.resume(lambda _: list(past.said), visited)

    async def _limit_duration(self) -> None:
        await asyncio.sleep(self._agents.answering.content.limits.max_duration_ms / 1000)
        current = self._agents.current
        goodbye = render(current.content.idle.goodbye, current.values)
        self._hangup.start(End(ended_by="system", reason="max_duration"), goodbye)

    async def _close(self, end: End) -> End:
        await self._tasks.cancel()
        self._conversation.finish()
        self.takeover.end()
        if end.ended_by == "caller" and await self._deps.is_with_person():
            end = WITH_PERSON
        if not end.resumable:
            self._recorder.ended(end.record(self._deps.clock.now()))
        elif end.ended_by == "system":
            self._recorder.handed_over()
        # Before the socket closes: the carrier then requests /resume, which reads these rows.
        await self._deps.writer.flushed(FLUSH_TIMEOUT_S)
        # A hang-up may still be waiting for the carrier.
        await self._tasks.finish()
        return end

    def _compile(self, agent: Agent) -> Flow:
        agent.context = HandlerContext(
            agent=agent,
            agents=self._agents,
            time_zone=self._deps.time_zone,
            clock=self._deps.clock,
            recorder=self._recorder,
            pipeline=self._pipeline,
            speech_output=self._speech_output,
            router=self._router,
            hangup=self._hangup,
            waiting=self.waiting,
            call_transfer=self.transfer,
        )
        return compile_agent(agent, agent.context, self._deps.http, self._recorder, self._node_entered)

    def _ready_audio(self, agent: Agent, text: str) -> bytes | None:
        return self._deps.greetings.ready(
            SpokenText(
                account_id=self._deps.call.account_id,
                content=agent.content,
                text=text,
                sample_rate=self._deps.media.sample_rate,
            )
        )

    def _is_busy(self) -> bool:
        parts_act = self._router.is_routing or self._silence.is_acting or self.dtmf.is_busy
        return parts_act or self._pipeline.is_calling_functions

    # ---------------------------------------------------------------------- what the parts report

    def caller_started(self) -> None:
        """The caller's turn began."""
        self._silence.caller_started()
        if not self._agents.offers_routes:
            self._agents.offers_routes = True
            self._route_tool.update()

    def caller_finished(self, words: str) -> None:
        """The caller's turn ended."""
        if not words:
            return
        self._router.caller_spoke()
        self._silence.caller_spoke()
        self.waiting.caller_spoke()
        says_goodbye = is_goodbye(words, self._agents.current.content.language)
        if not says_goodbye and self._hangup.cancel():
            work = self._pipeline.worker.queue_frame(LLMRunFrame())
            self._tasks.start(work, name="answering the caller", droppable=True)

    def agent_audio_started(self, gap_ms: int) -> None:
        """The first audio of an agent's TTS context was sent."""
        self._router.audio_started(gap_ms)

    def _media_closed(self, closed: MediaClosed) -> None:
        lost = closed.is_lost
        reason = "stream_lost" if lost else "hangup"
        self._hangup.finish(End(ended_by="carrier" if lost else "caller", reason=reason, resumable=lost))

    def _node_entered(self, node: str) -> None:
        self._agents.node = node
        self._recorder.node_entered(node)

    def routes_withdrawn(self) -> None:
        """No route is offered in this turn: update the model's tools, and expect a spoken answer."""
        self._route_tool.update()
        self._silence.expect_words()

    def agent_changed(self) -> None:
        """Another agent has the call."""
        self._silence.agent_changed()

    def route_failed(self, name: str) -> None:
        """An accepted route failed: create a handoff if the template offers people."""
        if self._agents.current.offers_people:
            reason = f"The change to the agent {name!r} failed."
            self.waiting.hand_off(HandoffRequest(intent="escalate", reason=reason, origin="failed_route"))

    def _task_failed(self, name: str, error: BaseException) -> None:
        if isinstance(error, ServiceLost):
            self._hangup.service_lost(error.kind)
        else:
            logger.opt(exception=error).error("call {}: {} failed", self._deps.call.id, name)
            self._hangup.finish(End(ended_by="system", reason="internal_error"))
