"""What a call leaves behind: events, utterances, routes and its end, handed to the ordered writer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from db import calls, events, routes, utterances
from db.calls import CallEnd, EndedBy
from db.errors import SequenceTaken
from db.events import EventRecord
from db.ids import new_id
from db.pool import Database
from db.routes import RouteRecord
from db.utterances import UtteranceRecord
from voicebot.call.dependencies import CallFact, CallFacts, Writer
from voicebot.call.transcript.transcript import ActiveAgent, Utterance
from voicebot.clock import Clock

EventType = Literal[
    "call.started", "stream.started", "stream.failed", "agent.ready", "agent.unavailable", "node.entered",
    "function.called", "function.returned", "route.requested", "route.done", "route.refused", "route.failed",
    "voice.switched", "barge_in", "idle.prompted", "provider.failed", "provider.switched", "call.resumed",
    "outcome.recorded", "call.ended",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Seqs:
    """The last numbers that were given on a call."""

    events: int = 0
    utterances: int = 0
    routes: int = 0


class CallRecorder:
    """Numbers and stamps what happens on one call; nothing here waits."""

    def __init__(
        self,
        call: CallFacts,
        writer: Writer,
        clock: Clock,
        seqs: Seqs | None = None,
        tell: Callable[[CallFact], None] | None = None,
    ) -> None:
        """``seqs`` are given when the call goes on after its stream was lost; ``tell`` hears of all."""
        self._call = call
        self._writer = writer
        self._clock = clock
        self._events = seqs.events if seqs else 0
        self._routes = seqs.routes if seqs else 0
        self._tell = tell or (lambda _: None)

    @property
    def account_id(self) -> UUID:
        """Whose call it is."""
        return self._call.account_id

    @property
    def call_id(self) -> UUID:
        """The call."""
        return self._call.id

    def event(self, type_: EventType, role: ActiveAgent | None = None, **data: Any) -> None:
        """Something happened; ``role`` is who had the call."""
        self._events += 1
        event = EventRecord(
            id=new_id(),
            account_id=self._call.account_id,
            call_id=self._call.id,
            seq=self._events,
            type=type_,
            at=self._clock.now(),
            template_id=role.template_id if role else None,
            node=role.node if role else None,
            data=data,
        )
        self._tell(event)
        self._writer.write(lambda db: _in_order(db, event))

    def utterance(self, said: Utterance) -> None:
        """Somebody said something."""
        row = UtteranceRecord(
            id=said.id,
            account_id=self._call.account_id,
            call_id=self._call.id,
            seq=said.seq,
            speaker=said.speaker,
            template_id=said.template_id,
            node=said.node,
            text=said.text,
            heard_text=said.heard_text,
            interrupted=said.interrupted,
            source=said.source,
            started_ms=said.started_ms,
            ended_ms=said.ended_ms,
        )
        self._tell(row)
        self._writer.write(lambda db: utterances.record(db, row))

    def next_route_seq(self) -> int:
        """The number of the next route, done or not."""
        self._routes += 1
        return self._routes

    def route(self, route: RouteRecord) -> None:
        """A route was refused or failed, or is done: then lead and call change with it."""
        self._tell(route)
        if route.status == "done":
            self._writer.write(lambda db: routes.complete(db, route))
        else:
            self._writer.write(lambda db: routes.record(db, route))

    def route_heard(self, route_id: UUID, first_audio_at: datetime, gap_ms: int) -> None:
        """The new agent was heard, ``gap_ms`` after the last sound before it."""
        account_id = self._call.account_id
        self._writer.write(
            lambda db: routes.measured(db, account_id, route_id, first_audio_at=first_audio_at, gap_ms=gap_ms)
        )

    def answered(self) -> None:
        """The media stream stands."""
        call, at = self._call, self._clock.now()
        self._writer.write(lambda db: calls.answered(db, call.account_id, call.id, at))

    def node(self, name: str) -> None:
        """The current agent entered a node."""
        call = self._call
        self._writer.write(lambda db: calls.set_node(db, call.account_id, call.id, name))

    def revisions(self, kept: Mapping[UUID, int]) -> None:
        """The call keeps these revisions of its templates."""
        call = self._call
        self._writer.write(lambda db: calls.keep_revisions(db, call.account_id, call.id, kept))

    def variables(self, agent: str, values: Mapping[str, Any]) -> None:
        """An agent's variables as they are now, for a stream that comes after a lost one."""
        call, kept = self._call, dict(values)
        self._writer.write(lambda db: calls.keep_variables(db, call.account_id, call.id, agent, kept))

    def outcome(self, outcome: str) -> None:
        """What came of the call."""
        call = self._call
        self._writer.write(lambda db: calls.record_outcome(db, call.account_id, call.id, outcome))

    def ended(self, ended_by: EndedBy, reason: str, outcome: str | None) -> None:
        """The call is over."""
        call = self._call
        end = CallEnd(ended_by=ended_by, end_reason=reason, outcome=outcome, ended_at=self._clock.now())
        self._writer.write(lambda db: calls.finish(db, call.account_id, call.id, end))


async def _in_order(db: Database, event: EventRecord) -> None:
    """Write an event in its place, or behind what others wrote of the call meanwhile."""
    try:
        await events.record(db, event)
    except SequenceTaken:
        await events.append(db, event)
