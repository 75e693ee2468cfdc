"""Finalises calls that have ended, inbound and outbound, each once.

An ended call is claimed from its row with a lease. A call of an attempt whose id was never learned is looked
for at the carrier and hung up first. Then everything is read and computed (outcome, cost, and the output
fields, for which a model is asked), and one transaction records it, updates the lead and writes the webhooks
into the outbox. So a process that dies before that has changed nothing, and another one begins again when
the lease has run out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID
from zoneinfo import ZoneInfo

from loguru import logger
from pydantic import ValidationError

from db import events, finalisation, legs, model_requests, outbox, revisions, routes, utterances
from db.calls import CallRecord
from db.errors import DatabaseError
from db.finalisation import EndedCall, Finalisation
from db.pool import Database
from db.utterances import UtteranceRecord
from telephony.carrier import Carrier, CarrierError
from templates.model import TemplateContent
from templates.outbound import Outbound, OutputField
from voicebot.background import BackgroundTasks
from voicebot.clock import Clock
from voicebot.dispatch import reports, rules
from voicebot.dispatch.breaker import Breaker
from voicebot.dispatch.costs import CallUse, Prices, cost_of
from voicebot.dispatch.outcomes import NOT_PLACED, Outcome, outcome_of

AT_ONCE = 16
"""How many calls a process finalises at once."""

LEASE = timedelta(seconds=60)
"""How long a claimed call belongs to a process; longer than a model takes to fill the output fields."""

CHECK_AGAIN_S = 30.0
"""The longest pause; notifications may be lost while a connection is down."""


class FillsOutput(Protocol):
    """Fills output fields; ``voicebot.dispatch.output_fields.OutputModel``."""

    async def fill(
        self, fields: Mapping[str, OutputField], transcript: list[UtteranceRecord]
    ) -> dict[str, Any] | None:
        """The value of each field; None: they could not be filled."""
        ...


class Finaliser:
    """Finalises the ended calls of all accounts."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        carriers: Mapping[str, Carrier],
        breakers: Mapping[str, Breaker],
        output: FillsOutput | None = None,
        on_notices: Callable[[], None] = lambda: None,
    ) -> None:
        """Finalise calls.

        Args:
            database: the database.
            clock: the time.
            carriers: those that may have a call whose id was not learned.
            breakers: the state of each carrier; a lead that was not dialled waits for it.
            output: fills the output fields; None: there are none.
            on_notices: called when webhooks were written into the outbox.
        """
        self._db = database
        self._clock = clock
        self._carriers = carriers
        self._breakers = breakers
        self._output = output
        self._on_notices = on_notices
        self._wakeup = asyncio.Event()
        self._background = BackgroundTasks("finalisation")
        self._working = 0

    def wake(self) -> None:
        """Look for ended calls soon."""
        self._wakeup.set()

    async def run(self) -> None:
        """Finalise until cancelled."""
        while True:
            self._wakeup.clear()
            try:
                pause_s = await self.run_once()
            except DatabaseError as error:
                logger.warning("ended calls wait for the database: {}", type(error).__name__)
                pause_s = 1.0
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._wakeup.wait()

    async def run_once(self) -> float:
        """Begin to finalise what is due; returns how long to wait for what comes next, in s."""
        free = AT_ONCE - self._working
        now = self._clock.now()
        if free > 0:
            for ended in await finalisation.claim(self._db, now=now, until=now + LEASE, limit=free):
                self._working += 1
                self._background.start(self._work(ended), name=f"finalising call {ended.call.id}")
        due = await finalisation.next_due(self._db, now)
        seconds = CHECK_AGAIN_S if due is None else (due - self._clock.now()).total_seconds()
        return min(max(seconds, 0.0), CHECK_AGAIN_S)

    async def finish(self, timeout_s: float) -> None:
        """Wait until what was begun is done."""
        await self._background.finish(timeout_s)

    async def _work(self, ended: EndedCall) -> None:
        try:
            await self._finalise(ended)
        except DatabaseError as error:
            logger.warning("call {} is finalised later: {}", ended.call.id, type(error).__name__)
        finally:
            self._working -= 1
            self._wakeup.set()

    async def _finalise(self, ended: EndedCall) -> None:
        if not await self._is_over(ended.call):
            return
        outbound = _outbound_of(ended)
        result = await self._result(ended, outbound)
        template_id = ended.call.initial_template_id
        async with self._db.transaction() as transaction:
            lead = await finalisation.finalise(transaction, ended, result)
            if lead is None:
                return
            told = [("call.ended", reports.call_ended(ended, result))]
            if lead == "finished":
                told.append(("lead.finished", reports.lead_finished(ended, result)))
            drafts = [
                draft
                for type_, data in told
                for draft in reports.notice(outbound, template_id, type_, data, result.at)
            ]
            await outbox.put(transaction, ended.call.account_id, drafts)
        if drafts:
            self._on_notices()

    # ------------------------------------------------------------------------------------- at the carrier

    async def _is_over(self, call: CallRecord) -> bool:
        """Whether no call of the attempt rings. One whose id was not learned is looked for and hung up."""
        is_known = call.carrier_call_id is not None or call.end_reason in (NOT_PLACED, "failed")
        carrier = self._carriers.get(call.carrier)
        if call.direction == "inbound" or is_known or carrier is None:
            return True
        try:
            found = await carrier.find_live(
                from_=call.from_number or "", to=call.to_number, since=call.started_at
            )
        except CarrierError as error:
            logger.warning("it is not known whether call {} was placed: {}", call.id, error)
            return False
        for sid in found:
            try:
                await carrier.hang_up(sid)
            except CarrierError as error:
                logger.warning("a call that nobody wants was not hung up: {}", error)
        return True

    # --------------------------------------------------------------------------------- what is recorded

    async def _result(self, ended: EndedCall, outbound: Outbound | None) -> Finalisation:
        call, cost, output = ended.call, None, None
        talks = outbound is not None and outbound.voicemail.action == "continue"
        outcome = outcome_of(call, talks_to_machines=talks)
        if call.answered_at is not None:
            said = list(await utterances.of_call(self._db, call.account_id, call.id))
            cost = await self._cost(ended, said)
            if outbound is not None and outbound.output and self._output is not None:
                is_talk = any(one.speaker == "caller" for one in said)
                output = await self._output.fill(outbound.output, said) if is_talk else None
        retry_at, attempts = self._next_attempt(ended, outbound or Outbound(), outcome)
        return Finalisation(
            at=self._clock.now(), outcome=outcome.name, cost=cost, output=output, retry_at=retry_at,
            attempts=attempts,
        )  # fmt: skip

    async def _cost(self, ended: EndedCall, said: list[UtteranceRecord]) -> dict[str, Any] | None:
        call = ended.call
        kept = {UUID(template_id): revision for template_id, revision in call.revisions.items()}
        found = await revisions.targets(self._db, call.account_id, list(kept), kept)
        agents = {}
        for template_id, snapshot in found.items():
            with suppress(ValidationError):
                agents[template_id] = TemplateContent.model_validate(snapshot.content)
        use = CallUse(
            call=call,
            agents=agents,
            routes=await routes.of_call(self._db, call.account_id, call.id),
            events=await events.of_call(self._db, call.account_id, call.id),
            utterances=said,
            legs=await legs.of_call(self._db, call.account_id, call.id),
            models=await model_requests.use_of_call(self._db, call.account_id, call.id),
        )
        return cost_of(use, Prices.model_validate(ended.prices))

    def _next_attempt(
        self, ended: EndedCall, outbound: Outbound, outcome: Outcome
    ) -> tuple[datetime | None, int]:
        """When the lead is dialled again, if it is, and how many of its attempts count."""
        call, now = ended.call, self._clock.now()
        if outcome.failure is None:
            return None, ended.attempts
        if call.end_reason == NOT_PLACED:
            # The person was not called: this attempt does not count.
            breaker = self._breakers.get(call.carrier) or Breaker()
            pause = timedelta(milliseconds=breaker.remaining_ms(self._clock.monotonic_ms()))
            return now + pause, ended.attempts - 1
        again = rules.retry_at(
            outbound, outcome.failure, attempts=ended.attempts, now=now, zone=ZoneInfo(ended.time_zone),
            latest_at=ended.latest_at,
        )  # fmt: skip
        return again, ended.attempts


def _outbound_of(ended: EndedCall) -> Outbound | None:
    """How the call's template dials and reports; None if its document cannot be read."""
    with suppress(ValidationError):
        return Outbound.model_validate(ended.content.get("outbound") or {})
    return None
