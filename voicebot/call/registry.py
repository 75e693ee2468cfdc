"""All live calls of this process: each is answered here and runs until it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Literal
from uuid import UUID
from zoneinfo import ZoneInfo

from loguru import logger

from db import calls, leads, numbers, revisions
from db.calls import CallRecord
from db.errors import DatabaseError
from db.pool import Database
from db.revisions import TemplateSnapshot
from handlers.http import CheckedNetwork, HttpClient, HttpFunctions
from telephony.carrier import Carrier, CarrierError, MediaStream
from templates.compile import UnknownFunction
from templates.model import TemplateContent
from templates.values import InvalidValues, placeholders
from voicebot.call.agent_pool import template_ids
from voicebot.call.agents import Agent
from voicebot.call.dependencies import CallDependencies, CallFact, CreateHandoffEntry
from voicebot.call.hangup import End
from voicebot.call.resume import load_resume_state
from voicebot.call.session import Session
from voicebot.call.transcript.recorder import CallRecorder
from voicebot.call.transcript.writer import CallWriter
from voicebot.clock import Clock
from voicebot.config import Settings
from voicebot.providers.greetings import Greetings
from voicebot.providers.provider import SynthesisFailed
from voicebot.providers.registry import Providers
from voicebot.vault import Vault

RESUME_GRACE_S = 10.0


class CallRegistry:
    """Answers calls, and knows those that are on."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        providers: Providers,
        carriers: Mapping[str, Carrier],
        clock: Clock,
        hand_off: CreateHandoffEntry | None = None,
        tell: Callable[[CallFact], None] = lambda _: None,
    ) -> None:
        """``tell`` hears of everything that happens on any call, and returns at once."""
        self._database = database
        self._carriers = carriers
        self._clock = clock
        self._hand_off = hand_off
        self._tell = tell
        self._speech = providers
        self._greetings = Greetings(database, providers)
        self._http_client = HttpClient(CheckedNetwork(settings.http_allow))
        self._http = HttpFunctions(self._http_client.send, Vault(settings.fernet_key()).open)
        self._sessions: dict[UUID, Session] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._aftermath: set[asyncio.Task[None]] = set()

    @property
    def live(self) -> int:
        """How many calls are on."""
        return len(self._sessions)

    def held(self) -> Collection[UUID]:
        """The calls that are on."""
        return self._sessions.keys()

    async def answer(self, media: MediaStream, call: CallRecord) -> None:
        """Run one call to its end."""
        writer = CallWriter(self._database, call.id)
        try:
            end = await self._converse(media, call, writer)
        except (InvalidValues, UnknownFunction, DatabaseError) as error:
            logger.error("call {} cannot begin: {}", call.id, type(error).__name__)
            end = End(ended_by="system", reason="cannot_begin")
            CallRecorder(call, writer, self._clock).ended(end.ended_by, end.reason, end.outcome)
            await self._hang_up(media, call)
        finally:
            self._sessions.pop(call.id, None)
            if not self._sessions:
                self._idle.set()
        if end.resumable:
            self._after(self._unless_resumed(call, end))
        self._after(writer.close())

    async def end(
        self, call_id: UUID, *, ended_by: Literal["caller", "operator", "carrier", "system"], reason: str
    ) -> bool:
        """End a live call of this process; False: there is none with this id."""
        session = self._sessions.get(call_id)
        if session is None:
            return False
        await session.end_by(ended_by, reason)
        return True

    def stream_failed(self, call_id: UUID, error: str) -> bool:
        """The carrier says that the stream of a live call failed; False: there is none with this id."""
        session = self._sessions.get(call_id)
        if session is None:
            return False
        session.record.event("stream.failed", session.role(), error=error)
        return True

    async def drain(self, timeout_s: float) -> None:
        """Shutdown: wait for the calls to end, then end them, and have everything written."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        await asyncio.gather(*(s.end_by("system", "shutdown") for s in list(self._sessions.values())))
        await self._idle.wait()
        if self._aftermath:
            await asyncio.wait(self._aftermath, timeout=timeout_s)
        await self._http.close()
        await self._http_client.close()

    async def prepare_greetings(self, account_id: UUID, template_id: UUID) -> None:
        """Have a template's greeting made, if it is the same for every caller."""
        snapshot = await revisions.for_call(self._database, account_id, template_id)
        content = TemplateContent.model_validate(snapshot.content)
        if content.greeting is None or placeholders(content.greeting.text):
            return
        try:
            await self._greetings.prepare(account_id, content, content.greeting.text)
        except SynthesisFailed as error:
            logger.warning("greeting of template {} not made: {}", template_id, error)

    async def _converse(self, media: MediaStream, call: CallRecord, writer: CallWriter) -> End:
        account = call.account_id
        kept = {UUID(template): revision for template, revision in call.revisions.items()}
        snapshot, number, lead = await asyncio.gather(
            revisions.for_call(
                self._database, account, call.initial_template_id, kept.get(call.initial_template_id)
            ),
            numbers.get(self._database, account, call.number_id),
            leads.get(self._database, account, call.lead_id),
        )
        answering = _agent(snapshot)
        line = CallDependencies(
            call=call,
            media=media,
            carrier=self._carriers[call.carrier],
            time_zone=ZoneInfo(number.time_zone),
            payload={**lead.payload, **lead.variables},
            writer=writer,
            speech=self._speech,
            greetings=self._greetings,
            http=self._http,
            clock=self._clock,
            tell=self._tell,
            hand_off=self._hand_off,
        )
        past = await load_resume_state(self._database, call, self._clock.now()) if call.resumes else None
        session = Session(line, answering, past)
        self._sessions[call.id] = session
        self._idle.clear()

        async def targets() -> Mapping[UUID, TemplateSnapshot]:
            ids = template_ids(answering.content.routes)
            return await revisions.targets(self._database, account, ids, kept)

        return await session.run(targets)

    async def _hang_up(self, media: MediaStream, call: CallRecord) -> None:
        try:
            await self._carriers[call.carrier].hang_up(media.start.carrier_call_id)
        except CarrierError as error:
            logger.warning("call {}: hang-up failed: {}", call.id, error)
        await media.close()

    async def _unless_resumed(self, call: CallRecord, end: End) -> None:
        """The stream was lost: the call is over unless the carrier brings another stream in time."""
        await asyncio.sleep(RESUME_GRACE_S)
        now = await calls.get(self._database, call.account_id, call.id)
        if now.status != "ended" and now.resumes == call.resumes:
            writer = CallWriter(self._database, call.id)
            CallRecorder(call, writer, self._clock).ended(end.ended_by, end.reason, end.outcome)
            await writer.close()

    def _after(self, work: object) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)  # type: ignore[arg-type]
        self._aftermath.add(task)
        task.add_done_callback(self._aftermath.discard)


def _agent(snapshot: TemplateSnapshot) -> Agent:
    return Agent(
        name="orchestrator",
        route=None,
        template_id=snapshot.id,
        revision=snapshot.revision,
        content=TemplateContent.model_validate(snapshot.content),
    )
