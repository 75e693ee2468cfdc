"""Writes events, utterances, routes and the end of a call to the database, in one ordered queue.

A call never waits for the database. Entries are written in the order they were made; while the database is
not reachable they wait in memory, and the call continues. Every entry is a statement that may be repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from loguru import logger

from db import calls, events, leads, model_requests, routes, utterances
from db.calls import CallEnd
from db.errors import DatabaseError, SequenceTaken
from db.events import EventRecord
from db.ids import new_id
from db.model_requests import ModelRequestRecord
from db.pool import Database
from db.routes import RouteRecord
from db.utterances import UtteranceRecord
from handlers.context import HandoffRequest
from voicebot.call.agents import ActiveAgent, AgentPool
from voicebot.call.dependencies import CallDependencies, CallFact, Entry
from voicebot.call.transcript.model_requests import ModelRequests

EventType = Literal[
    "call.started", "stream.started", "agent.ready", "agent.unavailable", "node.entered",
    "function.called", "function.returned", "route.requested", "route.done", "route.refused", "route.failed",
    "voice.switched", "barge_in", "idle.prompted", "provider.failed", "provider.switched", "call.resumed",
    "outcome.recorded", "call.ended", "dtmf.received", "transfer.failed",
]  # fmt: skip

FIRST_RETRY_S = 0.1
LAST_RETRY_S = 5.0


class CallWriter:
    """The ordered queue of one call's entries, which retries until PostgreSQL has them."""

    def __init__(self, database: Database, call_id: UUID) -> None:
        """Start to write; close it to end."""
        self._database = database
        self._call_id = call_id
        self._entries: asyncio.Queue[Entry | None] = asyncio.Queue()
        self._task = asyncio.create_task(self._write(), name=f"writing call {call_id}")

    @property
    def waiting(self) -> int:
        """Entries not yet written."""
        return self._entries.qsize()

    def write(self, entry: Entry) -> None:
        """Have ``entry`` written after all earlier ones; return at once."""
        self._entries.put_nowait(entry)

    async def flushed(self, timeout_s: float) -> bool:
        """Wait until everything is written; False if that took longer than ``timeout_s`` seconds."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._entries.join()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Return when everything is written; no entry may follow."""
        self._entries.put_nowait(None)
        await self._task

    async def _write(self) -> None:
        while (entry := await self._entries.get()) is not None:
            await self._write_entry(entry)
            self._entries.task_done()

    async def _write_entry(self, entry: Entry) -> None:
        pause_s = FIRST_RETRY_S
        while True:
            try:
                await entry(self._database)
            except DatabaseError as error:
                if not error.retryable:
                    logger.error("call {}: an entry was refused: {}", self._call_id, type(error).__name__)
                    return
                logger.warning(
                    "call {}: the database is not reachable, {} entries wait", self._call_id, self.waiting + 1
                )
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, LAST_RETRY_S)
            else:
                return


@dataclass(frozen=True, slots=True, kw_only=True)
class Seqs:
    """The last sequence numbers used on a call."""

    events: int = 0
    utterances: int = 0
    routes: int = 0


class CallRecorder:
    """Records what happens on one call; no method waits."""

    def __init__(self, deps: CallDependencies, agents: AgentPool, seqs: Seqs) -> None:
        """Record a call.

        Args:
            deps: the call, its writer, and the observer of its records.
            agents: the source of the active agent, to which events belong.
            seqs: the numbers used before, in a resumed call.
        """
        self._call = deps.call
        self._writer = deps.writer
        self._clock = deps.clock
        self._process_id = deps.process_id
        self._create_handoff = deps.create_handoff
        self._withdraw_handoff = deps.withdraw_handoff
        self._emit: Callable[[CallFact], None] = deps.on_fact
        self._agents = agents
        self._events = seqs.events
        self._routes = seqs.routes
        self.model_requests = ModelRequests(
            agents, deps.clock, deps.call.account_id, deps.call.id, self._model_request
        )

    @property
    def account_id(self) -> UUID:
        """The account that the call belongs to."""
        return self._call.account_id

    @property
    def call_id(self) -> UUID:
        """The call."""
        return self._call.id

    def event(self, type_: EventType, active: ActiveAgent | None = None, /, **data: Any) -> None:
        """Record an event of ``active``; None: the current agent."""
        active = active or self._agents.active
        self._events += 1
        event = EventRecord(
            id=new_id(),
            account_id=self._call.account_id,
            call_id=self._call.id,
            seq=self._events,
            type=type_,
            at=self._clock.now(),
            template_id=active.template_id,
            node=active.node,
            data=data,
        )
        self._emit(event)
        self._writer.write(lambda db: _write_event(db, event))

    def utterance(self, utterance: UtteranceRecord) -> None:
        """Record an utterance."""
        self._emit(utterance)
        self._writer.write(lambda db: utterances.record(db, utterance))

    def _model_request(self, request: ModelRequestRecord, same_tools: bool) -> None:
        self._emit(request)
        self._writer.write(lambda db: model_requests.append(db, request, same_tools=same_tools))

    def next_route_seq(self) -> int:
        """The number of the next route, whether it will be done or not."""
        self._routes += 1
        return self._routes

    def route(self, route: RouteRecord) -> None:
        """Record a refused, failed or done route; a done route also changes the lead and the call."""
        self._emit(route)
        write = routes.complete if route.status == "done" else routes.record
        self._writer.write(lambda db: write(db, route))

    def route_heard(self, route_id: UUID, first_audio_at: datetime, gap_ms: int) -> None:
        """Record the first audio of the new agent, ``gap_ms`` milliseconds after the last sound before it."""
        account_id = self._call.account_id
        self._writer.write(
            lambda db: routes.measured(db, account_id, route_id, first_audio_at=first_audio_at, gap_ms=gap_ms)
        )

    def answered(self) -> None:
        """The media stream is connected."""
        call, at, process_id = self._call, self._clock.now(), self._process_id
        self._writer.write(lambda db: calls.answered(db, call.account_id, call.id, at, held_by=process_id))

    def node_entered(self, name: str) -> None:
        """The current agent entered a node of its flow."""
        call = self._call
        self._writer.write(lambda db: calls.set_node(db, call.account_id, call.id, name))
        self.event("node.entered")

    def revisions(self, kept: Mapping[UUID, int]) -> None:
        """The call keeps these revisions of its templates."""
        call = self._call
        self._writer.write(lambda db: calls.keep_revisions(db, call.account_id, call.id, kept))

    def variables(self, agent: str, values: Mapping[str, Any]) -> None:
        """Record the variables of an agent (``Agent.key``), in case the call is resumed."""
        call, kept = self._call, dict(values)
        self._writer.write(lambda db: calls.keep_variables(db, call.account_id, call.id, agent, kept))

    def lead_variables(self, values: Mapping[str, Any]) -> None:
        """Add values to the variables of the lead."""
        call, kept = self._call, dict(values)
        self._writer.write(lambda db: leads.keep_variables(db, call.account_id, call.lead_id, kept))

    def outcome(self, outcome: str, fields: Mapping[str, Any]) -> None:
        """Record the outcome of the call, and its fields on the lead."""
        call = self._call
        self._writer.write(lambda db: calls.record_outcome(db, call.account_id, call.id, outcome))
        self.event("outcome.recorded", outcome=outcome, fields=dict(fields))
        self.lead_variables(fields)

    def hand_off(self, request: HandoffRequest) -> None:
        """Create a handoff; it is written after everything said before, which it includes."""
        if self._create_handoff is not None:
            self._writer.write(self._create_handoff(self._call, request))

    def withdraw_handoff(self, reason: Literal["caller_returned", "wait_over"]) -> None:
        """Withdraw the open handoff, which was written before."""
        if self._withdraw_handoff is not None:
            self._writer.write(self._withdraw_handoff(self._call, reason))

    def handed_over(self) -> None:
        """The process stops, and another one resumes the call."""
        call = self._call
        self._writer.write(lambda db: calls.handed_over(db, call.account_id, call.id, call.handovers + 1))

    def ended(self, end: CallEnd) -> None:
        """Record the end of the call."""
        self.event("call.ended", ended_by=end.ended_by, reason=end.end_reason)
        call = self._call
        self._writer.write(lambda db: calls.finish(db, call.account_id, call.id, end))


async def _write_event(db: Database, event: EventRecord) -> None:
    """Write an event with its number, or behind those that another process wrote meanwhile."""
    try:
        await events.record(db, event)
    except SequenceTaken:
        await events.append(db, event)
