"""The keeper: nobody is forgotten. Every replica has one; conditional statements keep them apart.

Leases that ran out, callers who hung up, parked calls whose time has come, operators who fell silent,
handoffs that nobody has been asked about: each is found in the database, so a process that dies forgets
nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from uuid import UUID

from loguru import logger

from db import handoff_events, handoff_transitions, open_handoffs, operators, outbox
from db.errors import DatabaseError
from db.handoff_transitions import Transition
from db.handoffs import HandoffRecord
from db.open_handoffs import Queued
from db.operators import OperatorRecord
from db.pool import Database
from voicebot import availability
from voicebot.clock import Clock
from voicebot.handoffs import events, transitions
from voicebot.handoffs.handoff_service import HandoffService
from voicebot.handoffs.presence import PresenceService
from voicebot.handoffs.presence_mapping import presence_of

EVERY_S = 1.0
SETTLE_S = 0.05
"""How long after being stirred it looks, so that one look serves all who come together."""
OFFER_LEASE = timedelta(seconds=30)
"""How long somebody is asked before the next one is."""

KEPT = timedelta(days=30)
"""How long events stay for the stream to resume from."""

_BATCH = 200
_ASKABLE = ("idle", "on_call", "busy")


class Scheduler:
    """Looks after all handoffs, again and again."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        desk: HandoffService,
        presence: PresenceService,
        stirred: asyncio.Event | None = None,
    ) -> None:
        """Look after ``database``; at once when ``stirred``: something was queued, somebody came."""
        self._db = database
        self._clock = clock
        self._desk = desk
        self._presence = presence
        self._stirred = stirred or asyncio.Event()

    async def run(self) -> None:
        """Look every second, and when stirred, until cancelled."""
        while True:
            self._stirred.clear()
            try:
                await self.look()
            except DatabaseError as error:
                logger.warning("the desk's keeper could not look: {}", type(error).__name__)
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S):
                    await self._stirred.wait()
                    await asyncio.sleep(SETTLE_S)

    async def look(self) -> None:
        """Look once at everything."""
        now = self._clock.now()
        for operator in await operators.silent_since(self._db, now - availability.SILENCE, limit=_BATCH):
            await self._guarded(self._presence.lost(operator.account_id, operator.user_id))
        for handoff in await open_handoffs.to_look_after(self._db, now, limit=_BATCH):
            await self._guarded(self._look_after(handoff))
        for account_id in await open_handoffs.accounts_with_queue(self._db):
            await self._guarded(self._offer_all(account_id))
        await outbox.bury_cancelled(self._db, now)
        await handoff_events.forget(self._db, now - KEPT)

    async def _guarded(self, work: object) -> None:
        """One handoff's trouble is no other's."""
        try:
            await work  # type: ignore[misc]
        except (DatabaseError, transitions.IllegalTransition) as error:
            logger.warning("the desk's keeper left something for later: {}", type(error).__name__)

    async def _look_after(self, found: HandoffRecord) -> None:
        event = ""

        def decide(seen: HandoffRecord) -> Transition | None:
            nonlocal event
            if (seen.state, seen.epoch) != (found.state, found.epoch):
                return None
            event, move = self._verdict(seen)
            return move

        # The event's name is known when the move is: asked for what it would be now, then made.
        decide(found)
        if event:
            await self._desk.move(found.account_id, found.id, decide, event)

    def _verdict(self, seen: HandoffRecord) -> tuple[str, Transition | None]:
        now = self._clock.now()
        if seen.expires_at <= now:
            return self._expired(seen)
        if seen.state == "scheduled":
            if seen.consent and seen.due_at is not None and seen.due_at <= now:
                return "handoff.due", Transition(to="due", at=now)
            return "", None
        if seen.lease_until is not None and seen.lease_until <= now:
            cause = f"{seen.state}_lapsed"
            return "handoff.lapsed", Transition(to=transitions.WAITING[seen.intent], at=now, cause=cause)
        if seen.intent == "escalate" and "abandoned" in transitions.allowed(seen.intent, seen.state):
            return "handoff.abandoned", Transition(to="abandoned", at=now, ends=True, cause="caller_hung_up")
        return "", None

    def _expired(self, seen: HandoffRecord) -> tuple[str, Transition | None]:
        now = self._clock.now()
        possible = transitions.allowed(seen.intent, seen.state)
        if "expired" in possible:
            agreed = seen.intent == "escalate" or seen.consent
            cause = "nobody_answered" if agreed else "no_consent"
            return "handoff.expired", Transition(to="expired", at=now, ends=True, cause=cause)
        if "resolved" in possible:
            # The caller was helped; whoever did it never said so.
            end = Transition(
                to="resolved", at=now, ends=True, cause="never_closed", resolution="never closed"
            )
            return "handoff.resolved", end
        return "", None

    async def _offer_all(self, account_id: UUID) -> None:
        """Ask about everything that is queued, so that nobody waits behind those whom no one here fits."""
        now = self._clock.now()
        askable = [
            (state, operator)
            for operator in await operators.with_room(self._db, account_id)
            if (state := availability.state(presence_of(operator), now)) in _ASKABLE and not operator.bridged
        ]
        # Those whose hands are free before those who hold something; who was asked goes last.
        candidates = [one for _, one in sorted(askable, key=lambda pair: _ASKABLE.index(pair[0]))]
        page: Sequence[Queued] = []
        while candidates and (
            page := await open_handoffs.queued(
                self._db, account_id, after=page[-1] if page else None, limit=_BATCH
            )
        ):
            for each in page:
                asked = next((one for one in candidates if _fits(one, each)), None)
                if asked is not None:
                    candidates.append(candidates.pop(candidates.index(asked)))
                    await self._offer(each.handoff, asked)

    async def _offer(self, handoff: HandoffRecord, asked: OperatorRecord) -> None:
        now = self._clock.now()
        async with self._db.transaction() as transaction:
            await operators.offered(transaction, handoff.account_id, asked.user_id, now)
            offered = await handoff_transitions.offer(
                transaction,
                handoff.account_id,
                handoff.id,
                asked.user_id,
                at=now,
                lease_until=now + OFFER_LEASE,
            )
            if offered is not None:
                event = events.changed("handoff.offered", offered, now)
                await handoff_events.append(transaction, handoff.account_id, event)


def _fits(operator: OperatorRecord, queued: Queued) -> bool:
    handoff = queued.handoff
    return (
        operator.user_id not in queued.declined_by
        and speaks(operator, handoff.language)
        and (not operator.teams or handoff.team is None or handoff.team in operator.teams)
    )


def speaks(operator: OperatorRecord, language: str | None) -> bool:
    """Whether an operator can be asked to speak a language: `en` speaks `en-US`; who names none, any."""
    if not operator.languages or language is None:
        return True
    primary = language.partition("-")[0].lower()
    return any(one.lower() in (language.lower(), primary) for one in operator.languages)
