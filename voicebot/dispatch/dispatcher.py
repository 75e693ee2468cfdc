"""The dispatcher: claims leads that are due and places their calls.

Any number of processes run one. Each wakes when the database says that something may be due, and at the
next due time. What is decided before a call is placed, in this order: stopped leads are not claimed, nor
those of people to whom a call goes on; opt-outs and the calling window (``rules``); the author's server
(``precheck``); then, by one statement that reads all before it writes anything, the person's rate limit, the
number, a free channel, other calls to the person, and the attempt (``db.attempts.begin_attempts``); the
greeting; the carrier. A lead that does not get through has taken nothing.

Each lead takes these steps in a task of its own. Leads that come to the same step at once share its statement
(``voicebot.batches``).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID
from zoneinfo import ZoneInfo

from loguru import logger

from db import attempts, calls, dispatch, outbox
from db.attempts import NOT_PLACED, AttemptLimits, Blocked, Obstacle
from db.calls import CallEnd, CallRecord
from db.dispatch import ClaimedLead
from db.dispatch_records import Alert
from db.pool import Database, Executor
from telephony.carrier import Carrier, DialRequest
from telephony.errors import CarrierError
from telephony.machines import MachineCarrier
from templates.outbound import Outbound, Voicemail
from voicebot.batches import Batches
from voicebot.clock import Clock
from voicebot.config import websocket_url
from voicebot.dispatch import reports, rules
from voicebot.dispatch.breaker import Breakers
from voicebot.dispatch.due_work import DueWork
from voicebot.dispatch.precheck import Prechecks
from voicebot.dispatch.rules import Later, Over

MAX_ATTEMPTS_AT_ONCE = 128
"""How many leads a process works on at once; an attempt ends when the carrier has taken the call.

Carriers that answer in 200 ms are asked for 500 calls a second. The calls themselves are bounded by channels.
"""

MAX_PER_ACCOUNT = 96
"""How many of them may be of one account, so that its slow server or carrier leaves places to others."""

GREETINGS_AT_ONCE = 32
"""How many calls are prepared at once, each of which may ask a TTS vendor."""

ATTEMPT = "call"
"""The parameter of an attempt's webhooks: the id of its call."""

CLAIM = timedelta(seconds=30)
RING_TIMEOUT_S = 30
DIAL_TIMEOUT_S = 10.0
"""How long the carrier may take; afterwards it is not known whether the call was placed."""

ASKING = timedelta(seconds=20)
"""How long an attempt counts as live before the carrier has taken it; its process may die.

It is longer than greeting and dial together, so that no call is placed for an attempt that has ended.
"""

RINGING = timedelta(seconds=RING_TIMEOUT_S + 30)
"""The same after that: as long as it rings, and until the process that answers it renews its lease."""

GREETING_TIMEOUT_S = 5.0

_WAITS_FOR: Mapping[Obstacle, str] = {"no_channel": "channel", "person_busy": "person"}
"""What a lead waits for that keeps its due time: it is claimed again when that is free."""

NUMBER_UNAVAILABLE = "number_unavailable"
TEMPLATE_UNAVAILABLE = "template_unavailable"
CARRIER_REFUSED = "carrier_refused"
"""The alert about a carrier that refuses the account or its credentials; leads wait for it."""
SKIPPED = "skipped"
"""The outcome of a lead that the author's server does not want to be called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DialUrls:
    """The addresses at which carriers reach this server for a dialled call.

    Attributes:
        origin: the server's URL; webhooks are below it.
        token: issues a token that opens the call's media stream.
    """

    origin: str
    token: Callable[[CallRecord], str]

    def of(self, call: CallRecord, carrier: Carrier, webhook: str) -> str:
        """The webhook of an attempt; its query names the attempt, which has no id of the carrier yet."""
        return f"{self.origin}{carrier.webhooks_path}/{webhook}?{ATTEMPT}={call.id}"


class Dispatcher(DueWork[ClaimedLead]):
    """Dials the leads of all accounts."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        carriers: Mapping[str, Carrier],
        breakers: Breakers,
        urls: DialUrls,
        prepare: Callable[[CallRecord], Awaitable[None]],
        prechecks: Prechecks,
        is_draining: Callable[[], bool] = lambda: False,
    ) -> None:
        """Dial leads.

        Args:
            database: the database.
            clock: the time.
            carriers: those of this process.
            breakers: the state of each carrier; all processes share it.
            urls: where carriers reach this server.
            prepare: makes a call's first words.
            prechecks: asks the authors' servers.
            is_draining: whether the process is about to stop; then it dials nobody any more, and gives
                back what it has claimed.
        """
        super().__init__("dispatch", MAX_ATTEMPTS_AT_ONCE, clock)
        self._db = database
        self._carriers = carriers
        self._detecting = {name for name, each in carriers.items() if isinstance(each, MachineCarrier)}
        self._urls = urls
        self._prepare = prepare
        self._prechecks = prechecks
        self._breakers = breakers
        self._is_draining = is_draining
        self._claimed: Counter[UUID] = Counter()
        self._preparing = asyncio.Semaphore(GREETINGS_AT_ONCE)
        self._attempts = Batches(partial(attempts.begin_attempts, database), self._background, "attempts")
        self._dialable = Batches(
            partial(self._are_in, attempts.dialable_of), self._background, "attempts that may be dialled"
        )
        self._wanted = Batches(
            partial(self._are_in, attempts.wanted_of), self._background, "attempts that are wanted"
        )
        self._placed = Batches(self._all_placed, self._background, "calls that were placed")

    async def claim(self, now: datetime, limit: int) -> Sequence[ClaimedLead]:
        """See ``DueWork.claim``."""
        if self._is_draining():
            return []
        await self._breakers.refresh()
        return await dispatch.claim(
            self._db, now=now, lease=CLAIM, limit=limit, per_account=MAX_PER_ACCOUNT,
            claimed=+self._claimed, resting=self._breakers.open(), tested=self._breakers.tested(),
        )  # fmt: skip

    async def next_due(self, after: datetime) -> datetime | None:
        """See ``DueWork.next_due``."""
        if self._is_draining():
            return None
        both = await dispatch.next_due(self._db, after), self._breakers.next_end(after)
        return min((at for at in both if at is not None), default=None)

    # ------------------------------------------------------------------------------------------ one lead

    async def work(self, lead: ClaimedLead) -> None:
        """Dial a claimed lead, end it, or give it back."""
        self._claimed[lead.account_id] += 1
        try:
            await self._dial(lead)
        finally:
            self._claimed[lead.account_id] -= 1

    async def _dial(self, lead: ClaimedLead) -> None:
        outbound = await self._settings_of(lead)
        if outbound is None:
            return
        decision = self._decide(lead, outbound)
        if isinstance(decision, Over):
            await self._end(lead, outbound, decision.outcome)
            return
        if isinstance(decision, Later):
            await dispatch.defer(self._db, lead, decision.until, decision.waits_for)
            return
        precheck = outbound.precheck
        if precheck is not None and not await self._prechecks.allows(precheck, lead):
            await self._end(lead, outbound, SKIPPED)
            return
        if self._is_draining():
            await dispatch.defer(self._db, lead, None, None)
            return
        await self._attempt(lead, outbound)

    def _decide(self, lead: ClaimedLead, outbound: Outbound) -> Over | Later | None:
        return rules.before_call(
            outbound, self._clock.now(), ZoneInfo(lead.time_zone), opted_out=lead.opted_out,
            latest_at=lead.latest_at,
        )  # fmt: skip

    async def _settings_of(self, lead: ClaimedLead) -> Outbound | None:
        """How the lead's template dials; None: the lead was ended, because the template cannot be used."""
        outbound = rules.outbound_of(lead.outbound)
        if outbound is not None and lead.template_status == "active":
            return outbound
        await self._unavailable(
            lead, outbound, TEMPLATE_UNAVAILABLE, "the template of the lead is not active"
        )
        return None

    async def _unavailable(
        self, lead: ClaimedLead, outbound: Outbound | None, outcome: str, detail: str
    ) -> None:
        """End a lead that no attempt can help, and raise one alert for many of them."""
        alert = Alert(code=outcome, template_id=lead.template_id, detail=detail, at=self._clock.now())
        await self._end(lead, outbound, outcome, alert)

    async def _end(
        self, lead: ClaimedLead, outbound: Outbound | None, outcome: str, alert: Alert | None = None
    ) -> None:
        """End a lead without a call, and report it and the alert to the template's webhook."""
        now = self._clock.now()
        async with self._db.transaction() as transaction:
            if not await dispatch.finish(transaction, lead, outcome, now):
                return
            data = reports.lead_finished_uncalled(lead, outcome)
            drafts = reports.notice(outbound, lead.template_id, "lead.finished", data, now)
            await outbox.put(transaction, lead.account_id, drafts)
            if alert is not None:
                await reports.raise_alert(transaction, lead, outbound, alert)

    async def _attempt(self, lead: ClaimedLead, outbound: Outbound) -> None:
        if lead.carrier not in self._carriers:
            await self._unavailable(
                lead, outbound, NUMBER_UNAVAILABLE, "the carrier of the number is not configured"
            )
            return
        if not await self._breakers.admits(lead.carrier):
            until = self._clock.now() + self._breakers.wait(lead.carrier)
            await dispatch.defer(self._db, lead, until, "carrier")
            return
        limit = outbound.rate_limit
        limits = AttemptLimits(
            now=self._clock.now(),
            calls=None if limit is None else limit.calls,
            period=timedelta(milliseconds=1 if limit is None else limit.per_ms),
            held_for=ASKING,
        )
        begun = await self._attempts.put((lead, limits))
        if isinstance(begun, Blocked):
            await self._breakers.unused(lead.carrier)
            await self._give_back(lead, outbound, begun)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(GREETING_TIMEOUT_S), self._preparing:
                await self._prepare(begun)
        # Pre-check and greeting have taken time: what keeps the person from being called is looked at again.
        is_dialable = await self._dialable.put(begun.id) and self._decide(lead, outbound) is None
        if not is_dialable or self._is_draining():
            await self._breakers.unused(lead.carrier)
            await self._not_placed(begun, NOT_PLACED)
            return
        refused = await self._place(begun, outbound.voicemail)
        if refused is not None and refused.account_refused:
            alert = Alert(
                code=CARRIER_REFUSED, carrier=lead.carrier, detail=str(refused), at=self._clock.now()
            )
            async with self._db.transaction() as transaction:
                await reports.raise_alert(transaction, lead, outbound, alert)

    async def _give_back(self, lead: ClaimedLead, outbound: Outbound, blocked: Blocked) -> None:
        if blocked.obstacle == "no_number":
            await self._unavailable(
                lead, outbound, NUMBER_UNAVAILABLE,
                "the number of the lead is not active, or all its channels are reserved (reserved_inbound)",
            )  # fmt: skip
        elif blocked.obstacle == "rate_limit" and blocked.until is not None:
            await dispatch.defer(self._db, lead, blocked.until, "rate_limit")
        else:
            await dispatch.defer(self._db, lead, None, _WAITS_FOR.get(blocked.obstacle))

    async def _place(self, call: CallRecord, voicemail: Voicemail) -> CarrierError | None:
        """Ask the carrier for the call of an attempt; return why it did not take it."""
        carrier = self._carriers[call.carrier]
        detects = voicemail.action != "continue" and call.carrier in self._detecting
        request = DialRequest(
            to=call.to_number,
            from_=call.from_number or "",
            answer_url=self._urls.of(call, carrier, "voice"),
            status_url=self._urls.of(call, carrier, "status"),
            ring_timeout_s=RING_TIMEOUT_S,
            machine_url=self._urls.of(call, carrier, "machine") if detects else None,
            until_beep=voicemail.action == "message",
            media_url=websocket_url(f"{self._urls.origin}/media/{call.carrier}"),
            token=self._urls.token(call),
            reference=str(call.id),
        )
        try:
            async with asyncio.timeout(DIAL_TIMEOUT_S):
                sid = await carrier.dial(request)
        except (CarrierError, TimeoutError) as error:
            late = CarrierError("the carrier took too long", status=0, retryable=True, uncertain=True)
            refused = error if isinstance(error, CarrierError) else late
            await self._on_refusal(call, refused)
            return refused
        is_stored = await self._placed.put((call.account_id, call.id, sid))
        await self._breakers.worked(call.carrier)
        # Who stops leads now finds the carrier's id, or is found by this statement.
        if not is_stored or not await self._wanted.put(call.id):
            await self._hang_up(carrier, sid)
        return None

    async def _are_in(
        self,
        read: Callable[[Executor, Sequence[UUID]], Awaitable[Collection[UUID]]],
        call_ids: Sequence[UUID],
    ) -> Sequence[bool]:
        found = await read(self._db, call_ids)
        return [call_id in found for call_id in call_ids]

    async def _all_placed(self, answers: Sequence[tuple[UUID, UUID, str]]) -> Sequence[bool]:
        stored = await attempts.all_placed(self._db, answers, RINGING)
        return [call_id in stored for _, call_id, _ in answers]

    async def _on_refusal(self, call: CallRecord, error: CarrierError) -> None:
        logger.warning("the carrier did not take call {}: {}", call.id, error)
        await self._breakers.refused(call.carrier, error)
        if error.uncertain:
            return  # the call may ring; it is looked for before anything is dialled again
        is_ours = not error.retryable and not error.account_refused
        await self._not_placed(call, "failed" if is_ours else NOT_PLACED)

    async def _not_placed(self, call: CallRecord, reason: str) -> None:
        end = CallEnd(ended_by="system", end_reason=reason, outcome=None, ended_at=self._clock.now())
        await calls.finish(self._db, call.account_id, call.id, end)

    async def _hang_up(self, carrier: Carrier, sid: str) -> None:
        try:
            await carrier.hang_up(sid)
        except CarrierError as error:
            logger.warning("a call that nobody wants was not hung up: {}", error)
