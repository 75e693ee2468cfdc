"""Finalises calls that have ended, inbound and outbound, each once.

An ended call is claimed from its row with a lease. First, a call that may still exist at the carrier is hung
up: that of a lost process, or one whose id is unknown, which is searched for. Then everything is read and
computed (outcome, cost, and the output fields, which a model fills), and one transaction records it, updates
the lead and writes the webhooks to the outbox. A process that dies before that has changed nothing; another
one starts again when the lease has expired. Calls that come to the same step at once share its statement
(``voicebot.batches``).
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Protocol, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

from loguru import logger

from db import attempts, call_use, finalisation, outbox
from db.attempts import NOT_PLACED
from db.call_leases import NEVER_CONNECTED, PROCESS_LOST
from db.calls import CallRecord
from db.errors import DatabaseError
from db.finalisation import EndedCall, Finalisation, LeadChange
from db.outbox import NoticeDraft
from db.pool import Database
from db.utterances import UtteranceRecord
from telephony.carrier import CLOCKS_DIFFER, Carrier
from telephony.errors import CarrierError
from templates.outbound import Outbound, OutputField
from voicebot.batches import Batches
from voicebot.clock import Clock
from voicebot.dispatch import reports, rules
from voicebot.dispatch.breaker import Breakers
from voicebot.dispatch.costs import Prices, cost_of
from voicebot.dispatch.due_work import DueWork
from voicebot.dispatch.outcomes import Outcome, outcome_of
from voicebot.dispatch.output_fields import ModelBusy

AT_ONCE = 64
"""How many calls a process finalises at once."""

INTERVAL_S = 0.1
"""The shortest time between two claims, in seconds: calls that end meanwhile share the statements."""

LOST_FOR = timedelta(seconds=60)
"""How long after an attempt the carrier may still place its call; afterwards it counts as not placed."""

LEASE = timedelta(seconds=20)
"""How long a process holds a claimed call; it renews the lease while it waits for a carrier or a model."""

RENEWAL_S = 5.0
"""Seconds between two renewals."""

MODEL_FOR = timedelta(minutes=2)
"""How long after the end of a call a model that is busy is asked again; then the call has no output."""

FIRST_MODEL_PAUSE = timedelta(seconds=2)

ResultT = TypeVar("ResultT")


class _AskedLater(Exception):
    """The model that fills output fields is asked again ``at`` a moment."""

    def __init__(self, at: datetime) -> None:
        super().__init__(at)
        self.at = at


class FillsOutput(Protocol):
    """Fills output fields; ``voicebot.dispatch.output_fields.OutputModel``."""

    async def fill(
        self, fields: Mapping[str, OutputField], transcript: list[UtteranceRecord]
    ) -> dict[str, Any] | None:
        """The value of each field; None: they could not be filled.

        Raises:
            ModelBusy: the model may be asked again later.
        """
        ...


class Finaliser(DueWork[EndedCall]):
    """Finalises the ended calls of all accounts."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        carriers: Mapping[str, Carrier],
        breakers: Breakers,
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
        super().__init__("finalisation", AT_ONCE, clock, interval_s=INTERVAL_S)
        self._db = database
        self._carriers = carriers
        self._breakers = breakers
        self._output = output
        self._on_notices = on_notices
        self._uses = Batches(partial(call_use.of_calls, database), self._background, "what calls have used")
        self._results = Batches(self._record, self._background, "calls that are finalised")

    async def claim(self, now: datetime, limit: int) -> Sequence[EndedCall]:
        """See ``DueWork.claim``."""
        return await finalisation.claim(self._db, now=now, until=now + LEASE, limit=limit)

    async def next_due(self, after: datetime) -> datetime | None:
        """See ``DueWork.next_due``."""
        return await finalisation.next_due(self._db, after)

    async def work(self, ended: EndedCall) -> None:
        """Finalise a call, unless a call of its attempt may still ring, or the model is asked again later."""
        call = await self._settled(ended.call)
        if call is None:
            return
        ended = replace(ended, call=call)
        outbound = rules.outbound_of(ended.outbound)
        try:
            result = await self._result(ended, outbound)
        except _AskedLater as later:
            # Nothing was changed: the call is claimed again then, by any process, which begins anew.
            await finalisation.renew(self._db, call.id, later.at)
            return
        await self._results.put((ended, result, outbound))

    async def _record(
        self, results: Sequence[tuple[EndedCall, Finalisation, Outbound | None]]
    ) -> Sequence[None]:
        """Finalise calls and write their webhooks, by one transaction."""
        notices: defaultdict[UUID, list[NoticeDraft]] = defaultdict(list)
        async with self._db.transaction() as transaction:
            leads = await finalisation.finalise(
                transaction, [(ended, result) for ended, result, _ in results]
            )
            for ended, result, outbound in results:
                lead = leads.get(ended.call.id)
                if lead is not None and outbound is not None and outbound.webhook_url:
                    notices[ended.call.account_id] += _notices(ended, result, outbound, lead)
            for account_id, drafts in notices.items():
                await outbox.put(transaction, account_id, drafts)
        if notices:
            self._on_notices()
        return [None] * len(results)

    async def _keeping(self, call: CallRecord, waiting: Awaitable[ResultT]) -> ResultT:
        """Return the result of a slow operation; until then the lease of the call is renewed."""
        renewing = self._background.start(self._renew(call.id), name="lease of an ended call")
        try:
            return await waiting
        finally:
            renewing.cancel()

    async def _renew(self, call_id: UUID) -> None:
        while True:
            await asyncio.sleep(RENEWAL_S)
            with suppress(DatabaseError):
                await finalisation.renew(self._db, call_id, self._clock.now() + LEASE)

    # ------------------------------------------------------------------------------------- at the carrier

    async def _settled(self, call: CallRecord) -> CallRecord | None:
        """Return the call when its attempt is over at the carrier; None: it is checked again later.

        The call of a process that was lost is hung up, and one whose id was not learned is looked for. If the
        carrier has no such call, it was not placed.
        """
        carrier = self._carriers.get(call.carrier)
        is_lost = call.carrier_call_id is None or call.end_reason in (PROCESS_LOST, NEVER_CONNECTED)
        is_known_to_be_over = call.direction == "inbound" or call.end_reason in (NOT_PLACED, "failed")
        if carrier is None or is_known_to_be_over or not is_lost:
            return call
        try:
            found, is_live = await self._keeping(call, self._hang_up(carrier, call))
        except CarrierError as error:
            logger.warning("it is not known whether call {} goes on at the carrier: {}", call.id, error)
            return None if error.retryable or error.uncertain or error.account_refused else call
        may_appear = not found and self._clock.now() - call.started_at < LOST_FOR
        if may_appear or is_live:
            return None
        return call if found else await attempts.was_not_placed(self._db, call)

    async def _hang_up(self, carrier: Carrier, call: CallRecord) -> tuple[Sequence[str], bool]:
        """Hang up the calls of an attempt; return their ids at the carrier, and whether any is still live."""
        found = await self._carrier_ids(carrier, call)
        for sid in found:
            await carrier.hang_up(sid)
        # Not every carrier can hang up a call that rings.
        return found, any([await carrier.is_live(sid) for sid in found])

    async def _carrier_ids(self, carrier: Carrier, call: CallRecord) -> Sequence[str]:
        """The carrier's ids of an attempt, without those of other calls between its numbers."""
        if call.carrier_call_id is not None:
            return [call.carrier_call_id]
        found = await carrier.find_calls(
            from_=call.from_number or "", to=call.to_number, since=call.started_at - CLOCKS_DIFFER
        )
        others = await attempts.ids_of_others(self._db, call, found)
        return [sid for sid in found if sid not in others]

    # --------------------------------------------------------------------------------- what is recorded

    async def _result(self, ended: EndedCall, outbound: Outbound | None) -> Finalisation:
        call, cost, output = ended.call, None, None
        talks = outbound is not None and outbound.voicemail.action == "continue"
        outcome = outcome_of(call, talks_to_machines=talks)
        if call.answered_at is not None:
            use = await self._uses.put(call)
            cost = cost_of(use, Prices.model_validate(ended.prices))
            is_talk = any(one.speaker == "caller" for one in use.utterances)
            if is_talk and outbound is not None and outbound.output and self._output is not None:
                filling = self._output.fill(outbound.output, list(use.utterances))
                output = await self._output_of(call, filling)
        retry_at, attempts = self._next_attempt(ended, outbound or Outbound(), outcome)
        return Finalisation(
            at=self._clock.now(), outcome=outcome.name, cost=cost, output=output, retry_at=retry_at,
            attempts=attempts,
        )  # fmt: skip

    async def _output_of(
        self, call: CallRecord, fill: Awaitable[dict[str, Any] | None]
    ) -> dict[str, Any] | None:
        """The output fields of a call; None: they could not be filled.

        Raises:
            _AskedLater: the model is busy; the pauses double.
        """
        try:
            return await self._keeping(call, fill)
        except ModelBusy as busy:
            now = self._clock.now()
            ended_at = call.ended_at or now
            at = now + max(FIRST_MODEL_PAUSE, now - ended_at)
            if busy.until is not None:
                at = max(at, busy.until)
            if at > ended_at + MODEL_FOR:
                return None
            raise _AskedLater(at) from None

    def _next_attempt(
        self, ended: EndedCall, outbound: Outbound, outcome: Outcome
    ) -> tuple[datetime | None, int]:
        """Return when the lead is dialled again (None: it is not), and how many of its attempts count."""
        call, now = ended.call, self._clock.now()
        if outcome.failure is None:
            return None, ended.attempts
        if call.end_reason == NOT_PLACED:
            # The person was not called: this attempt does not count.
            return now + self._breakers.wait(call.carrier), ended.attempts - 1
        again = rules.retry_at(
            outbound, outcome.failure, attempts=ended.attempts, now=now, zone=ZoneInfo(ended.time_zone),
            latest_at=ended.latest_at,
        )  # fmt: skip
        return again, ended.attempts


def _notices(
    ended: EndedCall, result: Finalisation, outbound: Outbound, lead: LeadChange
) -> list[NoticeDraft]:
    told = [("call.ended", reports.call_ended(ended, result))]
    if lead in ("finished", "cancelled"):
        told.append(("lead.finished", reports.lead_finished(ended, result, lead)))
    return [
        draft
        for type_, data in told
        for draft in reports.notice(outbound, ended.call.initial_template_id, type_, data, result.at)
    ]
