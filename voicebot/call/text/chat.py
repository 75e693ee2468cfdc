"""One text call: the caller writes turns; everything else is as on a telephone call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from db.events import EventRecord
from db.ids import new_id
from db.revisions import TemplateSnapshot
from templates.compile import UnknownFunction
from templates.model import TemplateContent
from templates.problem import Problem
from templates.values import InvalidValues
from voicebot.call.agents import answering_agent, load_reachable
from voicebot.call.dependencies import CallDependencies, CallFact, Entry, Health, HttpBinder
from voicebot.call.dtmf import typed_keys
from voicebot.call.hangup import End
from voicebot.call.session import Session
from voicebot.call.text.exchange import Exchange, ExchangeLog
from voicebot.call.text.library import Library
from voicebot.call.text.media import TextMedia
from voicebot.call.text.services import LlmFactory, SilentGreetings, TextServices
from voicebot.clock import Clock, SystemClock

TURN_TIMEOUT_S = 30.0
_NEVER_MS = 10**12
HANG_UP_TIMEOUT_S = 5.0
_POLL_S = 0.01


class CannotBegin(Exception):
    """The template cannot take a call, or not with these values; ``problems`` say why."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(problem.message for problem in problems))
        self.problems = tuple(problems)


class TurnTooLong(Exception):
    """A turn took too long, most likely because the model does not answer; the call has been ended.

    ``exchange`` is the turn as far as it got.
    """

    def __init__(self, exchange: Exchange) -> None:
        super().__init__("the turn took too long")
        self.exchange = exchange


class ChatOver(Exception):
    """The call has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """The dependencies of a text call.

    ``http`` makes the binder of HTTP functions from the call's log. ``health`` is the state of the language
    model providers; None: unknown.
    """

    library: Library
    llm: LlmFactory
    http: Callable[[ExchangeLog], HttpBinder]
    health: Health | None = None
    payload: Mapping[str, Any] = field(default_factory=dict)
    clock: Clock = field(default_factory=SystemClock)
    turn_timeout_s: float = TURN_TIMEOUT_S


@dataclass(frozen=True, slots=True, kw_only=True)
class _TextCall:
    id: UUID
    account_id: UUID
    lead_id: UUID
    template_id: UUID
    handovers: int = 0


class _NoWriter:
    """Writes nothing: no call, lead or transcript of a text call is kept."""

    def write(self, entry: Entry) -> None:
        return None

    async def flushed(self, timeout_s: float) -> bool:
        return True


class _NoCarrier:
    """Ends nothing: a text call has no carrier."""

    async def hang_up(self, carrier_call_id: str) -> None:
        return None


class Chat:
    """A text call. Turns are taken one at a time."""

    def __init__(self, setup: Setup, snapshot: TemplateSnapshot, time_zone: ZoneInfo) -> None:
        """Prepare a call with a template, which may be a draft."""
        self._setup = setup
        self._names = {snapshot.id: snapshot.name}
        self._log = ExchangeLog(lambda template_id: self._names.get(template_id, str(template_id)))
        self._began = asyncio.Event()
        self._media = TextMedia(setup.clock)
        content = TemplateContent.model_validate(_without_idle(snapshot.content))
        self._answering = answering_agent(snapshot, content)
        self._session = Session(self._dependencies(snapshot, time_zone), self._answering)
        self._running: asyncio.Task[End] | None = None

    @classmethod
    async def begin(cls, setup: Setup, template_id: UUID) -> tuple[Chat, Exchange]:
        """Call a template; return the call and what the agent says first.

        Raises:
            NotFound: there is no such template.
            CannotBegin: it cannot take a call, or not with this payload.
            TurnTooLong: it did not speak in time.
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
        """The exchanges, where the call is, and which agents it can be routed to."""
        return self._log

    @property
    def is_over(self) -> bool:
        """Whether the call has ended."""
        return self._running is not None and self._running.done()

    @property
    def end(self) -> End | None:
        """How the call ended; None while it lasts."""
        if self._running is None or not self._running.done() or self._running.cancelled():
            return None
        return self._running.result()

    def variables(self) -> Mapping[str, Any]:
        """The variables of the current agent."""
        return self._session.variables()

    async def say(self, text: str) -> Exchange:
        """Say something as the caller; return when the agent is waiting for the caller, or the call is over.

        `#123` presses the keys 1, 2 and 3 where keys have an effect; elsewhere these are words.

        Raises:
            ChatOver: the call had ended before.
            TurnTooLong: the turn took too long; the call has been ended.
        """
        if self.is_over:
            raise ChatOver
        exchange = self._log.open(text)
        await self._in_time(self._take_turn(text), exchange)
        return exchange

    async def hang_up(self) -> Exchange:
        """End the call as the caller, if it is not over."""
        exchange = self._log.open(None)
        if self._running is not None:
            self._media.hang_up()
            _, late = await asyncio.wait({self._running}, timeout=HANG_UP_TIMEOUT_S)
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
        keys = typed_keys(text)
        if keys is not None and self._session.dtmf.takes_keys:
            self._media.press(keys)
            self._session.dtmf.finish()
            await self._rest()
            return
        await self._media.begin_turn(text)
        await self._flush()  # the frame that ends the turn would overtake the words
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
        """Wait until the model has answered, functions have returned and routes are done.

        The pipeline is flushed until no frame has passed during a flush. A flush takes many steps of the
        event loop, which is longer than the steps between two frames.
        """
        while not self.is_over:
            before = self._media.activity
            drained = await self._flush()
            if not self._session.is_at_rest:
                await asyncio.sleep(_POLL_S)
            elif drained and self._media.activity == before:
                return

    async def _flush(self) -> bool:
        """Flush the pipeline; False if that did not succeed, because it is busy or the call is over."""
        if self._running is None:
            return False
        flush = asyncio.create_task(self._session.worker.flush_pipeline())
        try:
            await asyncio.wait({flush, self._running}, return_when=asyncio.FIRST_COMPLETED)
            return flush.done() and flush.result()
        finally:
            flush.cancel()

    # ------------------------------------------------------------------------------------ set-up

    def _dependencies(self, snapshot: TemplateSnapshot, time_zone: ZoneInfo) -> CallDependencies:
        return CallDependencies(
            call=_TextCall(
                id=new_id(), account_id=snapshot.account_id, lead_id=new_id(), template_id=snapshot.id
            ),
            media=self._media,
            carrier=_NoCarrier(),
            time_zone=time_zone,
            payload=self._setup.payload,
            writer=_NoWriter(),
            services=TextServices(self._setup.llm),
            health=self._setup.health,
            greetings=SilentGreetings(),
            http=self._setup.http(self._log),
            clock=self._setup.clock,
            on_fact=self._add_fact,
            has_silence=False,
        )

    def _add_fact(self, fact: CallFact) -> None:
        self._log.add_fact(fact)
        if isinstance(fact, EventRecord) and fact.type == "node.entered":
            self._began.set()

    async def _targets(self) -> Mapping[UUID, TemplateSnapshot]:
        found = await load_reachable(self._answering.content, self._setup.library.targets)
        self._names.update({snapshot.id: snapshot.name for snapshot in found.values()})
        return {
            # Drafts are offered too: a text call is for trying them.
            template_id: replace(snapshot, status="active", content=_without_idle(snapshot.content))
            for template_id, snapshot in found.items()
        }


def _without_idle(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a template without idle prompts, since a person who writes takes time."""
    return {**content, "idle": {**(content.get("idle") or {}), "after_ms": _NEVER_MS}}


def _problem(code: str, message: str) -> Problem:
    return Problem(pointer="", code=code, message=message, remedy="Run the check on the template.")
