"""One live call: answer → converse → finish."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast
from uuid import UUID
from zoneinfo import ZoneInfo

from loguru import logger
from pipecat.flows import Flow
from pipecat.frames.frames import ErrorFrame, LLMRunFrame, LLMSetToolsFrame
from pipecat.pipeline.worker import PipelineWorker
from pipecat.utils.errors import ErrorCategory
from pipecat.workers.runner import WorkerRunner

from db import leads
from db.calls import EndedBy
from db.revisions import TemplateSnapshot
from handlers.context import CallContext, Destination, HandoffRequest, Refused, Routed
from handlers.escalate_to_person import EscalateToPerson
from handlers.route_to_agent import RouteToAgent
from telephony.carrier import CarrierError, MediaClosed
from templates.values import render, state
from voicebot.call.agent import BACK, Agent
from voicebot.call.apologies import apology
from voicebot.call.breakdown import Breakdown
from voicebot.call.connections import Connections, ServiceLost
from voicebot.call.conversation import Conversation
from voicebot.call.entrance import Entrance
from voicebot.call.functions import CallOfAgent, Functions, compile_agent
from voicebot.call.greeting import SynthesisFailed
from voicebot.call.idle import IdleRules, IdleWatch
from voicebot.call.itinerary import Itinerary
from voicebot.call.line import Line
from voicebot.call.pipeline import assemble
from voicebot.call.record import Record, Seqs
from voicebot.call.routing import Router
from voicebot.call.speaking import Mouth
from voicebot.call.switchboard import Switchboard, Workshop
from voicebot.call.tools import offer_routes, tools_with
from voicebot.call.transcript import Role

HANG_UP = "hang-up"
LAST_WORDS_S = 20.0
HANG_UP_S = 5.0
WRITTEN_S = 1.0
TARGETS_SETTLE_S = 5.0

LoadTargets = Callable[[], Awaitable[Mapping[UUID, TemplateSnapshot]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What happened on a call before its stream was lost, and how long ago it was answered.

    ``agent`` had the call (``Agent.known_as``) and had entered the nodes ``visited``; ``variables`` are those
    of all agents.
    """

    agent: str = BACK
    visited: Sequence[str] = ()
    variables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    said: Sequence[Any] = ()
    hops: int = 0
    since_answer_ms: float = 0.0
    seqs: Seqs = field(default_factory=Seqs)


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a call ended. ``resumable``: only the stream is lost, and the carrier may bring another."""

    ended_by: EndedBy
    reason: str
    outcome: str | None = None
    resumable: bool = False


class Session:
    """One live call. Implements ``handlers.CallContext`` and ``routing.Stage``."""

    def __init__(self, line: Line, answering: Agent, past: Past | None = None) -> None:
        """``past`` is given when the call goes on after its stream was lost."""
        self._line = line
        self._past = past
        seqs = past.seqs if past else Seqs()
        self._node: str | None = None
        self.record = Record(line.call, line.ledger, line.clock, seqs, line.tell)
        self._conversation = Conversation(
            line.media,
            line.clock,
            self.record,
            self.role,
            first_seq=seqs.utterances + 1,
            since_answer_ms=past.since_answer_ms if past else 0.0,
        )
        workshop = Workshop(
            account_id=line.call.account_id,
            speech=line.speech,
            greetings=line.greetings,
            payload=line.payload,
            compile=self._compile,
            on_request=self._requested,
            kept=past.variables if past else {},
        )
        self._switchboard = Switchboard(answering, workshop, self._settled)
        self._first = self._switchboard.first_parts()
        self._pipeline = assemble(
            line.media, self._first, listener=self._conversation, on_error=self._provider_failed
        )
        self._mouth = Mouth(self._pipeline, self._conversation.transcript)
        self._entrance = Entrance(self._pipeline, self._mouth, self._ready_greeting, self.caller_is_speaking)
        itinerary = Itinerary(self._switchboard, hops=past.hops if past else 0)
        self._router = Router(itinerary, self._pipeline, self, self._mouth, self._entrance)
        self._connections = Connections(self._pipeline, line.speech, self._requested, self._report_failure)
        self._breakdown = Breakdown(
            self._pipeline,
            self._mouth,
            self._entrance,
            lambda: apology(self._router.current.content.language),
            give_up=self._model_lost,
            silent=self._nothing_answered,
        )
        self._idle = IdleWatch(
            self._idle_rules,
            heard=self._all_heard,
            busy=self._is_busy,
            prompt=self._prompt_idle,
            give_up=self._give_up,
        )
        self._over: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._farewell: asyncio.Task[Any] | None = None
        self._has_asked_people = False

    # -------------------------------------------------------------------------------------- life

    async def run(self, load_targets: LoadTargets) -> End:
        """Converse until the call is over; ``load_targets`` loads the agents that can be routed to.

        Raises:
            InvalidValues, UnknownFunction: the agent who answers cannot begin.
        """
        self._switchboard.answer_with(self._first)
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
        running.add_done_callback(lambda _: self._finish(End(ended_by="system", reason="pipeline_ended")))
        self._spawn(self._begin(load_targets))
        self._spawn(self._limit_duration())
        end = await self._over
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
        ending = self._farewell is not None and not self._farewell.done()
        return self._switchboard.is_settled and not ending and not self._is_busy()

    async def end_by(self, ended_by: EndedBy, reason: str) -> None:
        """End the call from outside once what is being said has been heard."""
        await self._hang_up(End(ended_by=ended_by, reason=reason))

    async def _begin(self, load_targets: LoadTargets) -> None:
        pipeline, agent = self._pipeline, self._switchboard.answering
        started = asyncio.Event()
        pipeline.worker.add_event_handler("on_pipeline_started", lambda *_: started.set())
        await started.wait()
        self.record.event("stream.started", self.role(), stream_id=self._line.media.start.stream_id)
        self._spawn(self._connections.begin(self._first, agent.content))
        await pipeline.flow_manager.initialize()
        if self._past is None:
            await self._entrance.enter(agent, agent.values)
        elif self._past.agent == BACK:
            await self._go_on(self._past)
        # Only now: the first word waits for no target, nor for the database to name them.
        snapshots = await load_targets()
        self._switchboard.add_targets(snapshots)
        self.record.revisions({snapshot.id: snapshot.revision for snapshot in snapshots.values()})
        self._switchboard.prepare_targets(pipeline)
        if self._past is not None and self._past.agent != BACK:
            await self._go_on(self._past)
        await self._keep_greeting(agent)

    async def _go_on(self, past: Past) -> None:
        """Go on with the agent who had the call when its stream was lost."""
        agent = self._switchboard.answering
        if past.agent != BACK:
            await self._switchboard.settled(TARGETS_SETTLE_S)
            had_it = self._switchboard.targets.get(past.agent)
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
        await asyncio.sleep(self._switchboard.answering.content.limits.max_duration_ms / 1000)
        current = self._router.current
        goodbye = render(current.content.idle.goodbye, current.values)
        self._spawn(self._hang_up(End(ended_by="system", reason="max_duration"), goodbye), name=HANG_UP)

    async def _hang_up(self, end: End, last_words: str | None = None) -> None:
        """End the call by ourselves; nothing said is cut off by it."""
        if self._over.done():
            return
        self._idle.stir()
        self._pipeline.gate.shut()
        if last_words:
            await self._mouth.text(last_words)
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S):
                await self._all_heard()
        self._finish(end)
        try:
            async with asyncio.timeout(HANG_UP_S):
                await self._line.carrier.hang_up(self._line.media.start.carrier_call_id)
        except (CarrierError, TimeoutError) as error:
            # The socket's end leads the carrier to /resume, which hangs up too.
            logger.warning("call {}: hang-up failed: {}", self.call_id, type(error).__name__)

    def _finish(self, end: End) -> None:
        if not self._over.done():
            self._over.set_result(end)

    async def _close(self, end: End) -> None:
        self._idle.stir()
        await self._router.close()
        await self._breakdown.close()
        await self._switchboard.close()
        self._conversation.finish()
        others = [task for task in self._tasks if task.get_name() != HANG_UP]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        if not end.resumable:
            # Before the socket closes: the carrier then asks /resume, which must find an ended call.
            self.record.event("call.ended", self.role(), ended_by=end.ended_by, reason=end.reason)
            self.record.ended(end.ended_by, end.reason, end.outcome)
            await self._line.ledger.flushed(WRITTEN_S)
        # What is left is a hang-up that still asks the carrier.
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ---------------------------------------------------------------------- handlers.CallContext

    @property
    def call_id(self) -> UUID:
        """The call's id."""
        return self._line.call.id

    @property
    def time_zone(self) -> ZoneInfo:
        """The time zone of the number that was called."""
        return self._line.time_zone

    def now(self) -> datetime:
        """The current moment, in UTC."""
        return self._line.clock.now()

    def destinations(self) -> tuple[Destination, ...]:
        """The agents that can take the call now."""
        return self._switchboard.destinations(self._router.current)

    def agents_are_coming(self) -> bool:
        """Whether agents are still being made ready."""
        return not self._switchboard.is_settled

    async def route(self, agent: str, *, reason: str, variables: Mapping[str, Any]) -> Routed | Refused:
        """Hand the call to another agent, or say why not."""
        self._idle.stir()
        return await self._router.request(agent, reason, variables)

    async def end(self, *, reason: str, outcome: str | None = None) -> None:
        """End the call once everything said so far has been heard; a caller who goes on keeps it up."""
        end = End(ended_by="agent", reason=reason, outcome=outcome)
        self._farewell = self._spawn(self._hang_up(end), name=HANG_UP)

    async def record_outcome(self, outcome: str, fields: Mapping[str, Any]) -> None:
        """Write what came of the call on the lead."""
        self.record.outcome(outcome)
        self.record.event("outcome.recorded", self.role(), outcome=outcome, fields=dict(fields))
        self._keep_on_lead(fields)

    def hand_off(self, request: HandoffRequest) -> None:
        """Have people told of the caller; written after what was said so far, which is so part of it."""
        if self._line.hand_off is not None:
            self._line.ledger.write(self._line.hand_off(self._line.call, request))

    async def say(self, text: str) -> None:
        """Speak ``text`` in the current agent's voice."""
        await self._mouth.text(text)

    def keep(self, values: Mapping[str, Any]) -> None:
        """Set variables of the current agent; prompts see them from the next node on."""
        self._keep(self._router.current, values)

    def variables(self) -> Mapping[str, Any]:
        """The current agent's variables."""
        return dict(self._router.current.values)

    # ----------------------------------------------------------------------------- routing.Stage

    def role(self) -> Role:
        """Who has the call now."""
        return Role(template_id=self._router.current.template_id, node=self._node)

    def caller_is_speaking(self) -> bool:
        """Whether the caller's turn is open."""
        return self._conversation.caller_is_speaking

    def _ready_greeting(self, agent: Agent, text: str) -> bytes | None:
        return self._line.greetings.ready(self._line.call.account_id, agent.content, text)

    def route_failed(self, agent: str) -> None:
        """A change of agent failed: where the author offers people at all, they are told."""
        if self._offers_people():
            reason = f"The change to the agent {agent!r} failed."
            self.hand_off(HandoffRequest(intent="escalate", reason=reason, origin="failed_route"))

    def _offers_people(self) -> bool:
        offered = self._router.current.content.functions
        return any(one.type == "builtin" and one.name == EscalateToPerson.name for one in offered)

    def took_over(self, agent: Agent) -> None:
        """``agent`` has the call from now on."""
        self._node = None
        self.record.variables(agent.known_as, agent.values)
        if agent.flow is not None:
            offer_routes(agent.flow, RouteToAgent().bind(self))

    # ------------------------------------------------------------------------------ what happens

    def _caller_spoke(self) -> None:
        self._router.caller_said_something()
        self._entrance.caller_spoke()
        self._breakdown.caller_spoke()
        if self._farewell is not None and not self._farewell.done() and not self._over.done():
            # They are not done: answer, and end another time.
            self._farewell.cancel()
            self._pipeline.gate.open()
            self._spawn(self._pipeline.worker.queue_frame(LLMRunFrame()))

    def _nothing_said(self) -> None:
        """The caller's turn brought no words: whoever waited for it speaks now."""
        self._spawn(self._entrance.speak_if_waiting())

    def _media_closed(self, closed: MediaClosed) -> None:
        lost = closed.by == "carrier" and not closed.announced
        reason = "stream_lost" if lost else "hangup"
        self._finish(End(ended_by="carrier" if lost else "caller", reason=reason, resumable=lost))

    async def _provider_failed(self, key: str, frame: ErrorFrame) -> None:
        reason = type(frame.exception).__name__ if frame.exception else "error"
        self._report_failure(key.partition("[")[0], reason)
        broken = frame.processor is not None and not frame.processor.is_usable
        switch = self._connections.switch_of(key)
        if switch is self._pipeline.ear and switch.is_ready(key):
            # The vendor's client would connect again by itself, but after seconds of deafness; a fresh one
            # connects at once, and is given what was said meanwhile.
            switch.give_up(key)
            broken = True
        if broken and switch is not None:
            self._spawn(self._connections.mend(switch, self._router.current.content))
        elif broken:
            self._switchboard.lost(key, self._router.current, self._pipeline)
        elif switch is not None and not self._router.is_routing:
            # Nobody may be speaking any more: then the prompts break the silence.
            self._idle.quiet()
        # A function of ours that raises is no failure of the model's, which is told and goes on.
        if switch is self._pipeline.mind and frame.category is not ErrorCategory.APPLICATION:
            self._model_failed()

    def _model_failed(self) -> None:
        if self._line.recovers:
            self._idle.stir()
            self._breakdown.failed()

    def _model_lost(self) -> None:
        """The model stays away: people are asked for where the author offers them, else the call ends."""
        words = apology(self._router.current.content.language)
        if self._offers_people() and not self._has_asked_people:
            self._has_asked_people = True
            reason = "The language model does not answer; the caller has been told that somebody will help."
            self.hand_off(HandoffRequest(intent="escalate", reason=reason, origin="failed_model"))
            self._spawn(self._say_and_wait(words.people))
            return
        end = End(ended_by="system", reason="mind_unavailable")
        self._farewell = self._spawn(self._hang_up(end, words.goodbye), name=HANG_UP)

    async def _say_and_wait(self, text: str) -> None:
        await self._mouth.text(text, remembered=False)
        await self._pipeline.drain()
        self._nothing_answered()

    def _nothing_answered(self) -> None:
        """Nobody is going to speak: the caller's silence counts from here."""
        if not self._is_busy() and not self.caller_is_speaking():
            self._idle.quiet()

    def _report_failure(self, kind: str, reason: str) -> None:
        self.record.event("provider.failed", self.role(), part=kind, reason=reason)
        logger.warning("call {}: {} failed: {}", self.call_id, kind, reason)

    def _entered(self, node: str) -> None:
        self._node = node
        self.record.node(node)
        self.record.event("node.entered", self.role())

    def _settled(self, agent: Agent) -> None:
        """A target became ready, or cannot be: the routing table changes at once."""
        role = Role(template_id=agent.template_id, node=None)
        if agent.problem is None:
            self.record.event("agent.ready", role, agent=agent.name)
        else:
            self.record.event("agent.unavailable", role, agent=agent.name, reason=agent.problem)
        answering = self._switchboard.answering
        if answering.flow is None or self._router.current is not answering:
            return
        route = RouteToAgent().bind(self)
        offer_routes(answering.flow, route)
        tools = tools_with(self._pipeline.context, route)
        if tools is not None and not self._router.is_routing:
            frame = LLMSetToolsFrame(tools=tools)
            frame.interruptible = False
            self._spawn(self._pipeline.worker.queue_frame(frame))

    def _compile(self, agent: Agent) -> Flow:
        call = cast(CallContext, CallOfAgent(self, lambda values: self._keep(agent, values)))
        functions = Functions(call=call, record=self.record, role=self.role, http=self._line.http)
        return compile_agent(agent, functions, self._entered)

    async def _requested(self, context_id: str, text: str) -> None:
        await self._mouth.requested(context_id, text)

    # ------------------------------------------------------------------------------------- idle

    def _idle_rules(self) -> IdleRules:
        agent = self._router.current
        idle = agent.content.idle
        return IdleRules(
            after_ms=idle.after_ms,
            prompts=tuple(render(prompt, agent.values) for prompt in idle.prompts),
            goodbye=render(idle.goodbye, agent.values),
        )

    async def _all_heard(self) -> None:
        """Return when the caller has heard all: a text may be complete before its audio is sent."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S):
                await self._pipeline.drain()
                await self._line.media.wait_all_heard(LAST_WORDS_S)

    def _is_busy(self) -> bool:
        return (
            self._router.is_routing
            or self._breakdown.is_recovering
            or self._pipeline.aggregators.assistant().has_function_calls_in_progress
        )

    async def _prompt_idle(self, number: int, prompt: str) -> None:
        self.record.event("idle.prompted", self.role(), number=number)
        await self._mouth.text(prompt)

    async def _give_up(self, goodbye: str) -> None:
        end = End(ended_by="system", reason="idle")
        self._farewell = self._spawn(self._hang_up(end, goodbye), name=HANG_UP)

    # ------------------------------------------------------------------------------------ small

    def _keep(self, agent: Agent, values: Mapping[str, Any]) -> None:
        agent.with_values(values)
        self.record.variables(agent.known_as, agent.values)
        if agent is self._router.current:
            self._pipeline.flow_manager.state.update(state(values))
        self._keep_on_lead(values)

    def _keep_on_lead(self, values: Mapping[str, Any]) -> None:
        call = self._line.call
        kept = dict(values)
        self._line.ledger.write(lambda db: leads.keep_variables(db, call.account_id, call.lead_id, kept))

    def _spawn(self, work: Coroutine[Any, Any, Any], *, name: str | None = None) -> asyncio.Task[Any]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, ServiceLost):
            self._finish(End(ended_by="system", reason=f"{error.kind}_unavailable"))
        elif error is not None:
            logger.opt(exception=error).error("call {}: {} failed", self.call_id, task.get_name())
            self._finish(End(ended_by="system", reason="internal_error"))
