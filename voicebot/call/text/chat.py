"""One text call: the caller writes a turn, and everything happens that would happen on the telephone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from db.ids import new_id
from db.revisions import TemplateSnapshot
from templates.compile import UnknownFunction
from templates.model import TemplateContent
from templates.problem import Problem
from templates.values import InvalidValues
from voicebot.call.agent_pool import template_ids
from voicebot.call.agents import Agent
from voicebot.call.dependencies import CallDependencies, CallFact, HttpBinder
from voicebot.call.hangup import End
from voicebot.call.session import Session
from voicebot.call.text.exchange import Exchange, ExchangeLog
from voicebot.call.text.library import Library
from voicebot.call.text.media import TextMedia
from voicebot.call.text.services import LlmFactory, SilentGreetings, TextServices
from voicebot.call.transcript.writer import Entry
from voicebot.clock import Clock, SystemClock

TURN_TIMEOUT_S = 30.0
FOREVER_MS = 10**12
LAST_S = 5.0
_LOOK_S = 0.01


class CannotBegin(Exception):
    """The agent cannot take a call as it is, or not with these values; ``problems`` say why."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(problem.message for problem in problems))
        self.problems = tuple(problems)


class TurnTooLong(Exception):
    """The turn was not over in time, most likely because the model hangs; the conversation is given up.

    ``exchange`` is the turn as far as it came.
    """

    def __init__(self, exchange: Exchange) -> None:
        super().__init__("the turn was not over in time")
        self.exchange = exchange


class ChatOver(Exception):
    """The call has ended; nothing more can be said on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What text calls stand on. ``http`` makes the HTTP functions of one call; it is given its diary."""

    library: Library
    llm: LlmFactory
    http: Callable[[ExchangeLog], HttpBinder]
    payload: Mapping[str, Any] = field(default_factory=dict)
    clock: Clock = field(default_factory=SystemClock)
    turn_timeout_s: float = TURN_TIMEOUT_S


@dataclass(frozen=True, slots=True, kw_only=True)
class _TextCall:
    id: UUID
    account_id: UUID
    lead_id: UUID
    template_id: UUID


class _Unwritten:
    """Nothing of a text call is kept: no call, no lead, no transcript."""

    def write(self, entry: Entry) -> None:
        return None

    async def flushed(self, timeout_s: float) -> bool:
        return True


class _NobodyElse:
    """The only other side of a text line is the one who writes."""

    async def hang_up(self, carrier_call_id: str) -> None:
        return None


class Chat:
    """A text call, from ``begin`` until it is over. Turns are taken one at a time."""

    def __init__(self, setup: Setup, snapshot: TemplateSnapshot, time_zone: ZoneInfo) -> None:
        """Prepare a call with a template; drafts take text calls too."""
        self._setup = setup
        self._names = {snapshot.id: snapshot.name}
        self._log = ExchangeLog(lambda template_id: self._names.get(template_id, str(template_id)))
        self._began = asyncio.Event()
        self._media = TextMedia(setup.clock)
        content = TemplateContent.model_validate(_patient(snapshot.content))
        self._answering = Agent(
            name="orchestrator", route=None, template_id=snapshot.id,
            revision=snapshot.revision, content=content,
        )  # fmt: skip
        self._session = Session(self._line(snapshot, time_zone), self._answering)
        self._running: asyncio.Task[End] | None = None

    @classmethod
    async def begin(cls, setup: Setup, template_id: UUID) -> tuple[Chat, Exchange]:
        """Call a template, and hear what it says first.

        Raises:
            NotFound: there is no such template.
            CannotBegin: it cannot take a call, or not with this payload.
            TurnTooLong: it said nothing in time.
        """
        snapshot = await setup.library.answering(template_id)
        chat = cls(setup, snapshot, await setup.library.time_zone(snapshot))
        try:
            return chat, await chat._open()
        except asyncio.CancelledError:
            chat._media.hang_up()
            raise

    @property
    def log(self) -> ExchangeLog:
        """Where the call is, and which agents it can be routed to."""
        return self._log

    @property
    def is_over(self) -> bool:
        """Whether the call has ended."""
        return self._running is not None and self._running.done()

    @property
    def end(self) -> End | None:
        """How it ended; None while it lasts."""
        if self._running is None or not self._running.done() or self._running.cancelled():
            return None
        return self._running.result()

    def variables(self) -> Mapping[str, Any]:
        """The variables of the agent who has the call."""
        return self._session.variables()

    async def say(self, text: str) -> Exchange:
        """The caller says something; return when it is their turn again, or the call is over.

        Raises:
            ChatOver: the call had ended before.
            TurnTooLong: the turn was not over in time; the call is.
        """
        if self.is_over:
            raise ChatOver
        exchange = self._log.open(text)
        await self._in_time(self._take_turn(text), exchange)
        return exchange

    async def hang_up(self) -> Exchange:
        """The caller ends the call, if it is not over; nothing is said any more."""
        exchange = self._log.open(None)
        if self._running is not None:
            self._media.hang_up()
            _, late = await asyncio.wait({self._running}, timeout=LAST_S)
            for task in late:
                task.cancel()
        return exchange

    async def _open(self) -> Exchange:
        exchange = self._log.open(None)
        self._running = asyncio.create_task(self._session.run(self._targets), name="text call")
        await self._in_time(self._first_words(self._running), exchange)
        return exchange

    async def _first_words(self, running: asyncio.Task[End]) -> None:
        began = asyncio.create_task(self._began.wait())
        try:
            await asyncio.wait({began, running}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            began.cancel()
        self._raise_if_failed()
        await self._rest()

    async def _take_turn(self, text: str) -> None:
        await self._media.begin_turn(text)
        await self._flush()  # the end of a turn would overtake its words
        await self._media.end_turn()
        await self._rest()

    async def _in_time(self, work: Coroutine[Any, Any, None], exchange: Exchange) -> None:
        try:
            async with asyncio.timeout(self._setup.turn_timeout_s):
                await work
        except TimeoutError:
            await self.hang_up()
            raise TurnTooLong(exchange) from None

    def _raise_if_failed(self) -> None:
        if self._running is None or not self._running.done():
            return
        try:
            self._running.result()
        except InvalidValues as error:
            raise CannotBegin(error.problems) from error
        except UnknownFunction as error:
            raise CannotBegin([_problem("unknown_function", f"There is no function {error}.")]) from error
        except ValueError as error:
            raise CannotBegin([_problem("invalid_flow", str(error))]) from error

    # ----------------------------------------------------------------------------- a turn's end

    async def _rest(self) -> None:
        """Wait until nothing moves: the model has answered, functions have returned, routes are done.

        The pipeline is drained until it was drained without anything having moved. Work between two drains
        is the event loop's alone, which runs all tasks in turn, so that a drain's many steps outlast it.
        """
        while not self.is_over:
            before = self._media.activity
            drained = await self._flush()
            if not self._session.is_at_rest:
                await asyncio.sleep(_LOOK_S)
            elif drained and self._media.activity == before:
                return

    async def _flush(self) -> bool:
        """Wait until the pipeline is drained; False if it was not, because it is busy or the call is over."""
        if self._running is None:
            return False
        flush = asyncio.create_task(self._session.worker.flush_pipeline())
        try:
            await asyncio.wait({flush, self._running}, return_when=asyncio.FIRST_COMPLETED)
            return flush.done() and flush.result()
        finally:
            flush.cancel()

    # ------------------------------------------------------------------------------------ set-up

    def _line(self, snapshot: TemplateSnapshot, time_zone: ZoneInfo) -> CallDependencies:
        return CallDependencies(
            call=_TextCall(
                id=new_id(), account_id=snapshot.account_id, lead_id=new_id(), template_id=snapshot.id
            ),
            media=self._media,
            carrier=_NobodyElse(),
            time_zone=time_zone,
            payload=self._setup.payload,
            writer=_Unwritten(),
            speech=TextServices(self._setup.llm),
            greetings=SilentGreetings(),
            http=self._setup.http(self._log),
            clock=self._setup.clock,
            tell=self._tell,
            recovers=False,
        )

    def _tell(self, happening: CallFact) -> None:
        self._log.tell(happening)
        if getattr(happening, "type", None) == "node.entered":
            self._began.set()

    async def _targets(self) -> Mapping[UUID, TemplateSnapshot]:
        found = await self._setup.library.targets(template_ids(self._answering.content.routes))
        self._names.update({snapshot.id: snapshot.name for snapshot in found.values()})
        return {
            # A draft is offered too: trying it is what a text call is for.
            template_id: replace(snapshot, status="active", content=_patient(snapshot.content))
            for template_id, snapshot in found.items()
        }


def _patient(content: Mapping[str, Any]) -> dict[str, Any]:
    """A template's document whose agent never asks whether the caller is still there: writing takes time."""
    return {**content, "idle": {**(content.get("idle") or {}), "after_ms": FOREVER_MS}}


def _problem(code: str, message: str) -> Problem:
    return Problem(pointer="", code=code, message=message, remedy="Run the check on the template.")
