"""Periodic work on handoffs, in every replica; conditional statements prevent repetitions.

It handles expired leases and handoffs, callers who hung up, parked calls that are due, silent operators, and
queued handoffs that can be offered. All of them are found in the database, so nothing is lost when a process
dies.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from uuid import UUID

from loguru import logger

from db import handoff_events, handoff_transitions, open_handoffs, operators
from db.errors import DatabaseError
from db.handoff_transitions import Transition
from db.handoffs import HandoffRecord
from db.open_handoffs import QueuedHandoff
from db.operators import OperatorRecord
from db.pool import Database
from voicebot import availability
from voicebot.clock import Clock
from voicebot.handoffs import notifications, transitions
from voicebot.handoffs.handoff_service import HandoffService
from voicebot.handoffs.matching import matches
from voicebot.handoffs.presence import PresenceService
from voicebot.handoffs.withdrawals import Withdrawals

DEBOUNCE_S = 0.05
"""Pause after a wake-up, so that one run serves several changes."""
OFFER_LEASE = timedelta(seconds=30)
"""An offer that is not claimed in this time goes to the next operator."""

EVENT_RETENTION = timedelta(days=30)
"""How long events are kept for the stream to resume from."""
DELETE_EVERY = timedelta(minutes=1)
"""How often older events are deleted."""
DELETE_AGAIN = timedelta(seconds=1)
"""The same while there are more of them than one statement deletes, or the database does not answer."""

_BATCH = 200
_DELETED_AT_ONCE = 1000
_OFFER_ORDER = ("idle", "on_call", "busy")
"""States in which an operator is offered handoffs, in this order."""


class Scheduler:
    """Runs the periodic work."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        service: HandoffService,
        presence: PresenceService,
        wakeup: asyncio.Event | None = None,
    ) -> None:
        """Work on ``database`` whenever ``wakeup`` is set; None: only ``run_once`` does."""
        self._db = database
        self._clock = clock
        self._service = service
        self._presence = presence
        self._withdrawals = Withdrawals(database, clock, service)
        self._wakeup = wakeup or asyncio.Event()
        self._delete_at = clock.now()

    async def run(self) -> None:
        """Run the work after each wake-up and when old events are to be deleted, until cancelled."""
        while True:
            self._wakeup.clear()
            try:
                await self.run_once()
            except DatabaseError as error:
                logger.warning("the handoff scheduler waits for the database: {}", type(error).__name__)
            with suppress(TimeoutError):
                pause = max(self._delete_at - self._clock.now(), DELETE_AGAIN)
                async with asyncio.timeout(pause.total_seconds()):
                    await self._wakeup.wait()
                    await asyncio.sleep(DEBOUNCE_S)

    async def run_once(self) -> None:
        """Run the work once."""
        now = self._clock.now()
        silent_since = now - availability.OFFLINE_AFTER
        for operator in await operators.silent_since(self._db, silent_since, limit=_BATCH):
            await self._attempt(self._presence.expire(operator.account_id, operator.user_id))
        for handoff, hung_up in await open_handoffs.needing_action(self._db, now, limit=_BATCH):
            await self._attempt(self._act_on(handoff, hung_up))
        for handoff, level in await open_handoffs.unclaimed(
            self._db, now, levels=len(notifications.CHAIN), limit=_BATCH
        ):
            await self._attempt(self._escalate(handoff, level))
        for account_id in await open_handoffs.accounts_with_queue(self._db):
            await self._attempt(self._offer_queue(account_id))
        if now >= self._delete_at:
            before = now - EVENT_RETENTION
            deleted = await handoff_events.delete_old(self._db, before, limit=_DELETED_AT_ONCE)
            self._delete_at = now + (DELETE_EVERY if deleted < _DELETED_AT_ONCE else DELETE_AGAIN)

    async def _attempt(self, work: Awaitable[object]) -> None:
        """Log a failure, so that one handoff's error does not affect another; the next run tries again."""
        try:
            await work
        except (DatabaseError, transitions.IllegalTransition) as error:
            logger.warning("the handoff scheduler will try again: {}", type(error).__name__)

    async def _act_on(self, found: HandoffRecord, hung_up: bool) -> None:
        if hung_up and found.state == "claimed":
            await self._store_hang_up(found)
            return
        if not hung_up and await self._stays_offered(found):
            return
        if hung_up and found.state in ("queued", "offered") and await self._withdrawals.is_called_back(found):
            await self._withdrawals.call_back(found)
            return

        def decide(handoff: HandoffRecord) -> Transition | None:
            if (handoff.state, handoff.epoch) != (found.state, found.epoch):
                return None
            return _due_transition(handoff, hung_up, self._clock.now())

        await self._service.transition(found.account_id, found.id, decide)

    async def _store_hang_up(self, claimed: HandoffRecord) -> None:
        """Tell the operator that the caller has hung up; the claim stays."""
        async with self._db.transaction() as transaction:
            left = await handoff_transitions.store_hang_up(transaction, claimed)
            if left is not None:
                await handoff_events.append_change(
                    transaction, left, "handoff.caller_left", self._clock.now()
                )

    async def _escalate(self, waiting: HandoffRecord, level: int) -> None:
        """Notify the next people in the chain of a handoff that was not claimed in time."""
        now = self._clock.now()
        async with self._db.transaction() as transaction:
            reported = await handoff_transitions.escalate(transaction, waiting, level)
            if reported is not None:
                await notifications.escalate(transaction, reported, level, now)

    async def _stays_offered(self, found: HandoffRecord) -> bool:
        """Renew an unanswered offer, without an event, if it would go to the same operator again."""
        now = self._clock.now()
        if found.state != "offered" or found.expires_at <= now:
            return False
        declined_by = await open_handoffs.declined_by(self._db, found.account_id, found.id)
        queued = QueuedHandoff(handoff=found, declined_by=frozenset(declined_by))
        # The offer itself counts against the capacity of its operator.
        takers = {
            operator.user_id
            for operator, room in await self._candidates(found.account_id)
            if room >= (0 if operator.user_id == found.offered_to else 1) and matches(operator, queued)
        }
        if takers != {found.offered_to}:
            return False
        await handoff_transitions.renew_offer(self._db, found, at=now, lease_until=now + OFFER_LEASE)
        return True

    async def _candidates(self, account_id: UUID) -> list[tuple[OperatorRecord, int]]:
        """Operators who may be offered handoffs, and how many more each; those without a claim first."""
        now = self._clock.now()
        candidates = [
            (operator, operator.capacity - operator.holding - offered)
            for operator, offered in await operators.below_capacity(self._db, account_id)
            if availability.state(operator, now) in _OFFER_ORDER and not operator.bridged
        ]
        return sorted(candidates, key=lambda one: _OFFER_ORDER.index(availability.state(one[0], now)))

    async def _offer_queue(self, account_id: UUID) -> None:
        """Offer queued handoffs while operators have capacity, skipping those that no operator can take."""
        candidates = [one for one in await self._candidates(account_id) if one[1] > 0]
        page: Sequence[QueuedHandoff] = []
        while candidates and (
            page := await open_handoffs.queued(
                self._db, account_id, after=page[-1] if page else None, limit=_BATCH
            )
        ):
            for queued in page:
                chosen = next((one for one in candidates if matches(one[0], queued)), None)
                if chosen is None:
                    continue
                # An operator who was offered a handoff goes to the end; one whose offer failed waits for
                # the next run, because another server may have used the room.
                candidates.remove(chosen)
                operator, room = chosen
                if await self._offer(queued.handoff, operator) and room > 1:
                    candidates.append((operator, room - 1))

    async def _offer(self, handoff: HandoffRecord, operator: OperatorRecord) -> bool:
        now = self._clock.now()
        try:
            async with self._db.transaction() as transaction:
                # This locks the operator's row.
                await operators.set_last_offered(transaction, handoff.account_id, operator.user_id, now)
                offered = await handoff_transitions.offer(
                    transaction,
                    handoff.account_id,
                    handoff.id,
                    operator.user_id,
                    at=now,
                    lease_until=now + OFFER_LEASE,
                )
                if offered is None:
                    raise transitions.LostRace  # noqa: TRY301 - rolls the transaction back
                await handoff_events.append_change(transaction, offered, "handoff.offered", now)
        except transitions.LostRace:
            return False
        return True


def _due_transition(handoff: HandoffRecord, hung_up: bool, now: datetime) -> Transition | None:
    """The transition of an open handoff that is due by time or by the end of the call; None: none."""
    if handoff.expires_at <= now and (expiry := _expiry(handoff, now)) is not None:
        return expiry
    if handoff.state == "scheduled":
        due = handoff.consent and handoff.due_at is not None and handoff.due_at <= now
        return Transition(to="due", at=now) if due else None
    if handoff.state == "bridged" and handoff.lease_until is not None and handoff.lease_until <= now:
        # The process is lost that connected the operator's browser; the call continues with the agent.
        return Transition(
            to="resolved", at=now, event="handoff.returned", only_if_lapsed=True, cause="process_lost"
        )
    if handoff.lease_until is not None and handoff.lease_until <= now:
        return Transition(
            to=transitions.WAITING[handoff.intent],
            at=now,
            event="handoff.lapsed",
            only_if_lapsed=True,
            cause=f"{handoff.state}_lapsed",
        )
    if hung_up and "abandoned" in transitions.allowed(handoff.intent, handoff.state):
        return Transition(to="abandoned", at=now, cause="caller_hung_up")
    return None


def _expiry(handoff: HandoffRecord, now: datetime) -> Transition | None:
    possible = transitions.allowed(handoff.intent, handoff.state)
    if "expired" in possible:
        agreed = handoff.intent == "escalate" or handoff.consent
        return Transition(to="expired", at=now, cause="nobody_answered" if agreed else "no_consent")
    if "resolved" in possible:
        # The caller was connected to an operator, who never resolved the handoff.
        return Transition(to="resolved", at=now, cause="never_closed", resolution="never closed")
    return None
