"""One live call: answer → converse → finish."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from loguru import logger
from pipecat.flows import Flow
from pipecat.frames.frames import ErrorFrame, LLMMessagesTransformFrame, LLMSetToolsFrame
from pipecat.workers.runner import WorkerRunner

from db import leads
from db.calls import CallRecord, EndedBy
from db.revisions import TemplateSnapshot
from handlers.context import Destination, Refused, Routed
from handlers.http import HttpFunctions
from handlers.route_to_agent import RouteToAgent
from telephony.carrier import Carrier, CarrierError, MediaClosed, MediaStream
from templates.values import render, state
from voicebot.call import context as modes
from voicebot.call.agent import Agent
from voicebot.call.functions import Functions, compile_agent
from voicebot.call.greeting import Greetings
from voicebot.call.idle import IdleRules, IdleWatch
from voicebot.call.ledger import Ledger
from voicebot.call.pipeline import assemble
from voicebot.call.record import Record
from voicebot.call.routing import Router
from voicebot.call.speaking import Mouth
from voicebot.call.speech import Speech
from voicebot.call.switch import Part, PartFailed, ServiceSwitch
from voicebot.call.switchboard import Switchboard, Workshop
from voicebot.call.tools import offer_routes, tools_with
from voicebot.call.transcript import Role, Transcript
from voicebot.clock import Clock

LAST_WORDS_S = 20.0
HANG_UP = "hang-up"
HANG_UP_S = 5.0
WRITTEN_S = 1.0
RECONNECT_PAUSES_S = (0.2, 0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What a session stands on: one answered call and the shared works of the process."""

    call: CallRecord
    media: MediaStream
    carrier: Carrier
    time_zone: ZoneInfo
    payload: Mapping[str, Any]
    ledger: Ledger
    speech: Speech
    greetings: Greetings
    http: HttpFunctions
    clock: Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a call ended. ``resumable``: only the stream is lost, and the carrier may bring another."""

    ended_by: EndedBy
    reason: str
    outcome: str | None = None
    resumable: bool = False


class Session:
    """One live call. Implements ``handlers.CallContext``, and listens to what goes out and comes in."""

    def __init__(self, line: Line, answering: Agent, *, first_seq: int = 1) -> None:
        """``first_seq`` is above 1 when the call goes on after its stream was lost."""
        self._line = line
        self._began_ms = line.clock.monotonic_ms()
        self._record = Record(line.call, line.ledger, line.clock, first_seq=first_seq)
        self._transcript = Transcript(self._record.utterance, first_seq=first_seq)
        workshop = Workshop(
            account_id=line.call.account_id,
            speech=line.speech,
            greetings=line.greetings,
            payload=line.payload,
            compile=self._compile,
            on_request=self._requested,
        )
        self._switchboard = Switchboard(answering, workshop, self._settled)
        self._first = self._switchboard.first_parts()
        self._pipeline = assemble(line.media, self._first, listener=self, on_error=self._provider_failed)
        self._mouth = Mouth(self._pipeline, self._transcript)
        self._router = Router(self._switchboard, self._pipeline, self, self._mouth, self._record)
        self._idle = IdleWatch(
            self._idle_rules, heard=self._all_heard, prompt=self._prompt_idle, give_up=self._give_up
        )
        self._node: str | None = None
        self._caller_since: int | None = None
        self._last_sound_ms = 0
        self._cut_at: str | None = None
        self._over: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self._tasks: set[asyncio.Task[Any]] = set()

    # -------------------------------------------------------------------------------------- life

    async def run(self, targets: Callable[[], Awaitable[Mapping[UUID, TemplateSnapshot]]]) -> End:
        """Converse until the call is over; ``targets`` loads the agents that can be routed to.

        Raises:
            InvalidValues, UnknownFunction: the agent who answers cannot begin.
        """
        self._switchboard.answer_with(self._first)
        self._listen()
        self._record.answered()
        self._record.event("call.started", self.role(), carrier=self._line.call.carrier)
        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(self._pipeline.worker)
        running = asyncio.create_task(runner.run(), name=f"call {self._line.call.id}")
        self._spawn(self._begin(targets))
        self._spawn(self._limit_duration())
        running.add_done_callback(lambda _: self._finish(End(ended_by="system", reason="pipeline_ended")))
        end = await self._over
        await self._stop()
        if not end.resumable:
            # Before the socket closes: the carrier then asks /resume, which must find an ended call.
            self._record.event("call.ended", self.role(), ended_by=end.ended_by, reason=end.reason)
            self._record.ended(end.ended_by, end.reason, end.outcome)
            await self._line.ledger.flushed(WRITTEN_S)
        await asyncio.gather(
            *self._tasks, return_exceptions=True
        )  # a hang-up that is still asking the carrier
        await runner.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await self._line.media.close()
        return end

    async def end_by(self, ended_by: EndedBy, reason: str) -> None:
        """End the call from outside once what is being said has been heard."""
        await self._hang_up(End(ended_by=ended_by, reason=reason))

    def _listen(self) -> None:
        media, worker = self._line.media, self._pipeline.worker
        user, assistant = self._pipeline.aggregators
        media.on_closed(self._media_closed)
        worker.add_event_handler("on_pipeline_error", _ignore)
        user.add_event_handler("on_user_turn_started", self._caller_started)
        user.add_event_handler("on_user_turn_stopped", self._caller_stopped)
        assistant.add_event_handler("on_assistant_turn_stopped", self._agent_stopped)

    async def _begin(self, targets: Callable[[], Awaitable[Mapping[UUID, TemplateSnapshot]]]) -> None:
        pipeline, agent = self._pipeline, self._switchboard.answering
        started = asyncio.Event()
        pipeline.worker.add_event_handler("on_pipeline_started", lambda *_: started.set())
        await started.wait()
        self._record.event("stream.started", self.role(), stream_id=self._line.media.start.stream_id)
        content = agent.content
        speech = self._line.speech
        self._spawn(self._connect(pipeline.ear, self._first.ear, lambda: speech.ear(content)))
        self._spawn(self._connect(pipeline.mind, self._first.mind, lambda: speech.mind(content)[0]))
        self._spawn(
            self._connect(pipeline.voice, self._first.voice, lambda: speech.voice(content, self._requested))
        )
        await pipeline.flow_manager.initialize()
        await self._router.enter(agent, agent.values, None)
        snapshots = await targets()
        self._switchboard.add_targets(snapshots)
        kept = {snapshot.id: snapshot.revision for snapshot in snapshots.values()}
        self._record.revisions(kept)
        self._switchboard.prepare_targets(pipeline)

    async def _connect(self, switch: ServiceSwitch, part: Part, again: Callable[[], Part]) -> None:
        """Connect a part of the agent who has the call, trying again with fresh ones."""
        for pause in (*RECONNECT_PAUSES_S, None):
            try:
                await switch.prepare(part)
            except PartFailed as error:
                self._record.event("provider.failed", self.role(), part=switch.name, reason=error.reason)
                if pause is None:
                    self._finish(End(ended_by="system", reason=f"{switch.name}_unavailable"))
                    return
                await asyncio.sleep(pause)
                part = again()
            else:
                return

    async def _limit_duration(self) -> None:
        content = self._switchboard.answering.content
        await asyncio.sleep(content.limits.max_duration_ms / 1000)
        goodbye = render(self._router.current.content.idle.goodbye, self._router.current.values)
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
                await self._pipeline.drain()
                await self._all_heard()
        self._finish(end)
        try:
            async with asyncio.timeout(HANG_UP_S):
                await self._line.carrier.hang_up(self._line.media.start.carrier_call_id)
        except (CarrierError, TimeoutError) as error:
            # The socket's end leads the carrier to /resume, which hangs up too.
            logger.warning("call {}: hang-up failed: {}", self._line.call.id, type(error).__name__)

    def _finish(self, end: End) -> None:
        if not self._over.done():
            self._over.set_result(end)

    async def _stop(self) -> None:
        self._idle.stir()
        await self._router.close()
        await self._switchboard.close()
        self._transcript.finish(at_ms=self._now_ms(), heard_until=self._heard_until())
        others = [task for task in self._tasks if task.get_name() != HANG_UP]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

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

    async def route(self, agent: str, *, reason: str, variables: Mapping[str, Any]) -> Routed | Refused:
        """Hand the call to another agent, or say why not."""
        self._idle.stir()
        return await self._router.request(agent, reason, variables)

    async def end(self, *, reason: str, outcome: str | None = None) -> None:
        """End the call once everything said so far has been heard."""
        end = End(ended_by="agent", reason=reason, outcome=outcome)
        self._spawn(self._hang_up(end), name=HANG_UP)

    async def record_outcome(self, outcome: str, fields: Mapping[str, Any]) -> None:
        """Write what came of the call on the lead."""
        self._record.outcome(outcome)
        self._record.event("outcome.recorded", self.role(), outcome=outcome, fields=dict(fields))
        self._keep_on_lead(fields)

    async def say(self, text: str) -> None:
        """Speak ``text`` in the current agent's voice."""
        await self._mouth.text(text)

    def keep(self, values: Mapping[str, Any]) -> None:
        """Set variables of the current agent; prompts see them from the next node on."""
        self._router.current.with_values(values)
        self._pipeline.flow_manager.state.update(state(values))
        self._keep_on_lead(values)

    def variables(self) -> Mapping[str, Any]:
        """The current agent's variables."""
        return dict(self._router.current.values)

    # ----------------------------------------------------------------------------- routing.Stage

    def role(self) -> Role:
        """Who has the call now."""
        return Role(template_id=self._router.current.template_id, node=self._node)

    def caller_is_speaking(self) -> bool:
        """Whether the caller's turn is open."""
        return self._caller_since is not None

    def ready_greeting(self, agent: Agent, text: str) -> bytes | None:
        """The greeting's audio, if it is at hand."""
        return self._line.greetings.ready(self._line.call.account_id, agent.content, text)

    def took_over(self, agent: Agent) -> None:
        """``agent`` has the call from now on."""
        self._node = None
        if agent.flow is not None:
            offer_routes(agent.flow, RouteToAgent().bind(self))

    # ---------------------------------------------------------------------------- scribe.Listener

    def on_sounding(self, context_id: str) -> None:
        """The first audio of a TTS context was handed to the carrier."""
        self._idle.stir()
        playout = self._line.media.playout
        self._transcript.sounding(context_id, self.role(), at_ms=self._now_ms(), position=playout.sent_ms)
        self._router.sounding(lambda: max(0, self._now_ms() - self._last_sound_ms))

    def on_word(self, text: str, *, spaced: bool) -> None:
        """A word was reached by the audio that was handed over."""
        self._transcript.word(text, spaced=spaced, position=self._line.media.playout.sent_ms)

    def on_silent(self) -> None:
        """The last audio of a TTS context was handed to the carrier."""
        self._last_sound_ms = self._now_ms()
        self._transcript.silent(at_ms=self._now_ms())

    def on_cut(self) -> None:
        """An interruption stopped the output: keep what was heard, by the marks, and nothing else."""
        was_speaking = self._transcript.speaking_since is not None
        self._last_sound_ms = self._now_ms()
        self._cut_at = self._transcript.agent_interrupted(
            heard_until=self._heard_until(), at_ms=self._now_ms()
        )
        if was_speaking:
            self._record.event("barge_in", self.role())

    def _heard_until(self) -> float:
        playout, begin = self._line.media.playout, self._transcript.speaking_since
        if begin is None:
            return 0.0
        return begin + playout.heard_between(begin, playout.sent_ms, self._line.media.now_ms())

    # ------------------------------------------------------------------------------ what happens

    async def _caller_started(self, *_: Any) -> None:
        self._idle.spoke()
        self._caller_since = self._now_ms()

    async def _caller_stopped(self, _aggregator: Any, _strategy: Any, message: Any) -> None:
        now = self._now_ms()
        started, self._caller_since = self._caller_since or now, None
        self._last_sound_ms = now
        if not message.content:
            self._idle.quiet()
            return
        self._transcript.caller_said(message.content, self.role(), started_ms=started, ended_ms=now)
        self._router.caller_said_something()

    async def _agent_stopped(self, _aggregator: Any, message: Any) -> None:
        if message.interrupted:
            heard, self._cut_at = self._cut_at, None
            if heard is not None and heard != message.content:
                await self._correct(message.content, heard)
            return
        self._transcript.agent_finished(message.content, at_ms=self._now_ms())
        if message.content and not self._router.is_routing:
            self._idle.quiet()

    async def _correct(self, sent: str, heard: str) -> None:
        """The model remembers what was sent until the interruption; make that what was heard."""
        frame = LLMMessagesTransformFrame(transform=modes.as_heard(sent, heard))
        frame.interruptible = False
        await self._pipeline.worker.queue_frame(frame)

    def _media_closed(self, closed: MediaClosed) -> None:
        lost = closed.by == "carrier" and not closed.announced
        reason = "stream_lost" if lost else "hangup"
        self._finish(End(ended_by="carrier" if lost else "caller", reason=reason, resumable=lost))

    async def _provider_failed(self, key: str, frame: ErrorFrame) -> None:
        reason = type(frame.exception).__name__ if frame.exception else "error"
        self._record.event("provider.failed", self.role(), part=key.partition("[")[0], reason=reason)
        logger.warning("call {}: {} failed: {}", self.call_id, key.partition("[")[0], reason)
        if not self._router.is_routing:
            self._idle.quiet()

    def _entered(self, node: str) -> None:
        self._node = node
        self._record.node(node)
        self._record.event("node.entered", self.role())

    def _settled(self, agent: Agent) -> None:
        """A target became ready, or never will be: the routing table changes at once."""
        role = Role(template_id=agent.template_id, node=None)
        if agent.problem is None:
            self._record.event("agent.ready", role, agent=agent.name)
        else:
            self._record.event("agent.unavailable", role, agent=agent.name, reason=agent.problem)
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
        functions = Functions(call=self, record=self._record, role=self.role, http=self._line.http)
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
        await self._line.media.wait_all_heard(LAST_WORDS_S)

    async def _prompt_idle(self, number: int, prompt: str) -> None:
        self._record.event("idle.prompted", self.role(), number=number)
        await self._mouth.text(prompt)

    async def _give_up(self, goodbye: str) -> None:
        end = End(ended_by="system", reason="idle")
        self._spawn(self._hang_up(end, goodbye), name=HANG_UP)

    # ------------------------------------------------------------------------------------ small

    def _now_ms(self) -> int:
        return round(self._line.clock.monotonic_ms() - self._began_ms)

    def _keep_on_lead(self, values: Mapping[str, Any]) -> None:
        call = self._line.call
        kept = dict(values)
        self._line.ledger.write(lambda db: leads.keep_variables(db, call.account_id, call.lead_id, kept))

    def _spawn(self, work: Any, *, name: str | None = None) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.opt(exception=error).error("call {}: {} failed", self.call_id, task.get_name())
            self._finish(End(ended_by="system", reason="internal_error"))


def _ignore(*_: Any) -> None:
    """Errors reach us by the switches; the worker's own report would only repeat them."""
