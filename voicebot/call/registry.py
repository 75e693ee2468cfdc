"""The live calls of this process: answers them, and finds them by id until they end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Literal
from uuid import UUID

from loguru import logger

from db import attempts, calls, revisions
from db.calls import CallRecord
from db.errors import DatabaseError, DatabaseUnavailable
from db.pool import Database
from db.revisions import TemplateSnapshot
from handlers.context import HandoffStatus
from handlers.http import CheckedNetwork, HttpClient
from handlers.http.function import HttpFunctions
from telephony.carrier import Carrier
from telephony.errors import CarrierError
from telephony.flow import FlowCarrier
from telephony.media import MediaStream
from templates.compile import UnknownFunction
from templates.model import TemplateContent
from templates.values import InvalidValues, placeholders
from voicebot.background import BackgroundTasks
from voicebot.call.agents import answering_agent, load_reachable
from voicebot.call.audio.recordings import Recordings
from voicebot.call.dependencies import (
    CallDependencies,
    CallFact,
    CreateHandoffEntry,
    Health,
    WithdrawHandoffEntry,
)
from voicebot.call.hangup import WITH_PERSON, End
from voicebot.call.loading import CallLoader
from voicebot.call.person.carrier_transfers import CarrierTransfers, DialDestination
from voicebot.call.person.takeover import Takeover
from voicebot.call.replicas import Replicas
from voicebot.call.session import Session
from voicebot.call.transcript.recorder import CallWriter
from voicebot.clock import Clock
from voicebot.config import Settings
from voicebot.providers.greetings import Greetings
from voicebot.providers.provider import SpokenText, SynthesisFailed
from voicebot.providers.registry import Providers
from voicebot.vault import Vault

RESUME_GRACE_S = 10.0
HAND_OVER_CHECK_S = 1.0
ANSWERS_CHECK_S = 0.3

VOICEMAIL = "voicemail"
"""The end reason of a call that an answering machine answered."""


class CallRegistry:
    """Answers calls and holds those that are live."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        providers: Providers,
        carriers: Mapping[str, Carrier],
        clock: Clock,
        replicas: Replicas,
        health: Health,
        create_handoff: CreateHandoffEntry | None = None,
        withdraw_handoff: WithdrawHandoffEntry | None = None,
        dial: DialDestination | None = None,
        on_fact: Callable[[CallFact], None] = lambda _: None,
    ) -> None:
        """Start without calls.

        Args:
            database: where calls are read and written.
            settings: the secret key, and what HTTP functions may reach.
            providers: the vendors' services.
            carriers: the carriers, by name.
            clock: the source of all times.
            replicas: the other processes, which take calls over when this one stops.
            health: the state of the providers.
            create_handoff: makes the entry that creates a handoff; None: calls cannot create handoffs.
            withdraw_handoff: makes the entry that withdraws it because the caller no longer waits.
            dial: calls the destination of an attended transfer; None: there are no attended transfers.
            on_fact: called with every record of every call; must return at once.
        """
        self._database = database
        self._carriers = carriers
        self._clock = clock
        self._replicas = replicas
        self._create_handoff = create_handoff
        self._withdraw_handoff = withdraw_handoff
        self._on_fact = on_fact
        self._services = providers
        self._health = health
        self._greetings = Greetings(database, providers)
        self._http_client = HttpClient(CheckedNetwork(settings.http_allow))
        self._recordings = Recordings(self._http_client.download, clock)
        self._http = HttpFunctions(self._http_client.send, Vault(*settings.fernet_keys()).open)
        self._sessions: dict[UUID, Session] = {}
        self.takes_answers = False
        """Whether people whom this process has called are still connected, although it is stopping."""
        self.ended_calls = 0
        """The number of calls that were live and have ended."""
        self._idle = asyncio.Event()
        self._idle.set()
        self._background = BackgroundTasks()
        self._loader = CallLoader(database, clock, self._background)
        self._transfers = CarrierTransfers(database, carriers, settings.public_url, dial, self._background)

    @property
    def live(self) -> int:
        """The number of live calls."""
        return len(self._sessions)

    def held(self) -> Collection[UUID]:
        """The live calls, whose leases this process renews."""
        return self._sessions.keys()

    def takeover(self, call_id: UUID) -> Takeover | None:
        """The operator's place on a live call; None if this process has no call with this id."""
        session = self._sessions.get(call_id)
        return None if session is None else session.takeover

    def handoff_changed(self, call_id: UUID, status: HandoffStatus) -> None:
        """Report the status of a live call's handoff to the call."""
        session = self._sessions.get(call_id)
        if session is None:
            return
        session.waiting.handoff_changed(status)
        if status.leaves:
            session.release_to_flow()

    def calling_destinations(self) -> Collection[UUID]:
        """The live calls for which a destination is being called."""
        return [call_id for call_id, session in self._sessions.items() if session.transfer.is_calling]

    def not_accepted(self, call_id: UUID, leg_id: UUID, cause: str) -> None:
        """Report to a live call that nobody accepted the caller at its destination."""
        session = self._sessions.get(call_id)
        if session is not None:
            session.transfer.not_accepted(leg_id, cause)

    def known(self, call_id: UUID) -> CallRecord | None:
        """The record of a call that was passed to ``prepare`` within the last minute."""
        return self._loader.known(call_id)

    async def prepare(self, call: CallRecord) -> None:
        """Load the data of a call before its media stream begins."""
        template = await self._loader.prepare(call)
        if template is not None:
            await self._prepare_greeting(template, self._carriers[call.carrier].sample_rate)

    async def answer(self, media: MediaStream, call: CallRecord) -> None:
        """Run one call to its end.

        Raises:
            DatabaseUnavailable: the call's data cannot be loaded now; the call has not begun.
        """
        writer = CallWriter(self._database, call.id)
        try:
            end = await self._converse(media, call, writer)
        except DatabaseUnavailable:
            await writer.close()
            raise
        except (InvalidValues, UnknownFunction, DatabaseError) as error:
            logger.error("call {} cannot begin: {}", call.id, type(error).__name__)
            end = End(ended_by="system", reason="cannot_begin")
            self._write_end(writer, call, end)
            await self._hang_up(media, call)
        finally:
            self._sessions.pop(call.id, None)
            self.ended_calls += 1
            if not self._sessions:
                self._idle.set()
        if end.resumable and end is not WITH_PERSON:
            self._background.start(self._end_unless_resumed(call, end), name=f"ending call {call.id}")
        self._background.start(writer.close(), name=f"writing call {call.id}")

    async def end(
        self, call_id: UUID, *, ended_by: Literal["caller", "operator", "carrier", "system"], reason: str
    ) -> bool:
        """End a live call; False if this process has no call with this id."""
        session = self._sessions.get(call_id)
        if session is None:
            return False
        await session.end(ended_by, reason)
        return True

    async def end_at_machine(self, call_id: UUID, message: str | None, pause_s: float) -> bool:
        """End a call that a machine answered, after a pause and a message; False: it is not live here."""
        session = self._sessions.get(call_id)
        if session is None:
            return False
        await session.end("system", VOICEMAIL, message, pause_s)
        return True

    async def drain(self, timeout_s: float) -> None:
        """Wait for the calls to end; after ``timeout_s`` seconds another process takes the others over.

        If there is no other process, they continue here until they end, and people who are being called may
        answer within ``timeout_s``: nobody else would take their calls.
        """
        await self._replicas.leave()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._answered()
                await self._idle.wait()
        while self._sessions:
            if await self._replicas.has_other():
                logger.info("handing over {} calls", len(self._sessions))
                await asyncio.gather(*(each.hand_over() for each in list(self._sessions.values())))
            await self._idle_within(HAND_OVER_CHECK_S)

    async def _answered(self) -> None:
        """Wait until nobody is being called any more, or another process can take the answers."""
        try:
            self.takes_answers = not await self._replicas.has_other()
            while self.takes_answers and await attempts.someone_rings(self._database):
                await asyncio.sleep(ANSWERS_CHECK_S)
                self.takes_answers = not await self._replicas.has_other()
        except DatabaseError as error:
            logger.warning("it is not known whether anybody is being called: {}", type(error).__name__)
        finally:
            self.takes_answers = False

    async def close(self, timeout_s: float) -> None:
        """End the calls, wait up to ``timeout_s`` seconds for their writes, and close the connections."""
        await asyncio.gather(*(each.end("system", "shutdown") for each in list(self._sessions.values())))
        await self._idle.wait()
        await self._background.finish(timeout_s)
        await self._http.close()
        await self._http_client.close()

    async def _idle_within(self, timeout_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()

    async def prepare_greetings(self, account_id: UUID, template_id: UUID) -> None:
        """Synthesise a template's greeting ahead of time, if it is the same for every caller."""
        template = await revisions.for_call(self._database, account_id, template_id)
        for rate in {carrier.sample_rate for carrier in self._carriers.values()}:
            await self._prepare_greeting(template, rate)

    async def announcement(self, account_id: UUID, template_id: UUID, text: str, sample_rate: int) -> bytes:
        """A text that callers hear before an agent answers, in a template's voice: 16-bit mono PCM.

        Empty, with a warning, if it cannot be synthesised.
        """
        template = await revisions.for_call(self._database, account_id, template_id)
        return await self._synthesise(template, text, sample_rate)

    async def _prepare_greeting(self, template: TemplateSnapshot, sample_rate: int) -> None:
        greeting = TemplateContent.model_validate(template.content).greeting
        if greeting is not None and not placeholders(greeting.text):
            await self._synthesise(template, greeting.text, sample_rate)

    async def _synthesise(self, template: TemplateSnapshot, text: str, sample_rate: int) -> bytes:
        """The audio of a text in a template's voice; empty, with a warning, if it cannot be synthesised."""
        content = TemplateContent.model_validate(template.content)
        try:
            return await self._greetings.prepare(
                SpokenText(
                    account_id=template.account_id, content=content, text=text, sample_rate=sample_rate
                )
            )
        except SynthesisFailed as error:
            logger.warning("a text of template {} was not synthesised: {}", template.id, error)
            return b""

    async def _converse(self, media: MediaStream, call: CallRecord, writer: CallWriter) -> End:
        data = await self._loader.load(call)
        answering = answering_agent(data.template)
        deps = CallDependencies(
            call=call,
            media=media,
            carrier=self._carriers[call.carrier],
            time_zone=data.time_zone,
            payload=data.payload,
            has_phone=data.has_phone,
            writer=writer,
            services=self._services,
            health=self._health,
            greetings=self._greetings,
            http=self._http,
            clock=self._clock,
            on_fact=self._on_fact,
            create_handoff=self._create_handoff,
            withdraw_handoff=self._withdraw_handoff,
            transfer=lambda number: self._transfers.transfer(media, call, number),
            dial=lambda name, number: self._transfers.dial(call, name, number),
            is_with_person=lambda: self._transfers.is_with_person(call),
            process_id=self._replicas.process_id,
            recording=lambda url: self._recordings.get(url, media.sample_rate),
        )
        session = Session(deps, answering, data.past)
        self._sessions[call.id] = session
        self._idle.clear()

        return await session.run(
            lambda: load_reachable(
                answering.content, lambda ids: self._loader.targets(call, ids, data.defaults)
            )
        )

    async def _hang_up(self, media: MediaStream, call: CallRecord) -> None:
        try:
            await self._carriers[call.carrier].hang_up(media.start.carrier_call_id)
        except CarrierError as error:
            logger.warning("call {}: hang-up failed: {}", call.id, error)
        await media.close()

    async def _end_unless_resumed(self, call: CallRecord, end: End) -> None:
        """The stream was lost: end the call unless the carrier opens another stream in time."""
        await asyncio.sleep(RESUME_GRACE_S)
        now = await calls.get(self._database, call.account_id, call.id)
        if now.status != "ended" and now.resumes == call.resumes:
            if await self._is_over(now):
                end = End(ended_by="caller", reason="hangup")
            writer = CallWriter(self._database, call.id)
            self._write_end(writer, call, end)
            await writer.close()

    async def _is_over(self, call: CallRecord) -> bool:
        """Whether a call whose stream was lost has ended: it broke when the caller hung up."""
        if call.carrier_status == "completed":
            return True
        carrier = self._carriers[call.carrier]  # one with a flow need not report it
        if not isinstance(carrier, FlowCarrier) or call.carrier_call_id is None:
            return False
        try:
            return not await carrier.is_live(call.carrier_call_id)
        except CarrierError as error:
            logger.warning("call {}: the carrier did not say whether it has ended: {}", call.id, error)
            return False

    def _write_end(self, writer: CallWriter, call: CallRecord, end: End) -> None:
        written = end.record(self._clock.now())
        writer.write(lambda db: calls.finish(db, call.account_id, call.id, written))
