"""The desk: handoffs are claimed and moved on. Each move is decided on what was read; if late, anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from db import handoff_transitions, handoffs, operators, users
from db.errors import DatabaseBusy, NotFound
from db.handoff_transitions import Transition
from db.handoffs import CreatedHandoff, HandoffRecord
from db.operators import OperatorRecord
from db.pool import Database, Transaction
from voicebot import availability
from voicebot.clock import Clock
from voicebot.handoffs import apply_transition, transitions
from voicebot.handoffs.apply_transition import CLAIM_LEASE, LostRace
from voicebot.handoffs.briefing import Briefing, brief
from voicebot.handoffs.create import PARK_LIFE, make
from voicebot.handoffs.create_request import CreateHandoff
from voicebot.handoffs.errors import AlreadyClaimed, CapacityReached, StaleClaim
from voicebot.handoffs.presence_mapping import presence_of

_TRIES = 20

Decide = Callable[[HandoffRecord], Transition | None]
"""What to do with a handoff as it is now; None: nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A claim that was won, or is held already."""

    handoff: HandoffRecord
    briefing: Briefing


@dataclass(frozen=True, slots=True, kw_only=True)
class Reschedule:
    """Another time to call; None keeps the caller's time zone."""

    due_at: datetime
    time_zone: str | None = None
    consent: bool | None = None
    """Whether the caller agreed to be called. None: as it was; who had asked for a person is answered."""


class HandoffService:
    """What people and the telephone do with handoffs."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        assess: bool = False,
        stir: Callable[[], None] = lambda: None,
    ) -> None:
        """``assess``: a model is at hand; ``stir`` is called when somebody could be offered something."""
        self._db = database
        self._clock = clock
        self._assess = assess
        self._stir = stir

    async def create(
        self, account_id: UUID, wish: CreateHandoff, *, key: str | None = None
    ) -> CreatedHandoff:
        """See `make`."""
        now = self._clock.now()
        made = await make(self._db, account_id, wish, now, key=key, assess=self._assess)
        self._stir()
        return made

    async def claim(self, account_id: UUID, handoff_id: UUID, user_id: UUID) -> Claim:
        """Take a handoff, or see again what one holds already.

        Raises:
            AlreadyClaimed: somebody else was first.
            CapacityReached: the operator's hands are full.
            IllegalMove: the operator is away or exhausted.
            IllegalTransition: the handoff is over, or parked for later.
            NotFound: the account has no such handoff or user, or the user is deactivated.
            DatabaseBusy: it kept changing; try again.
        """
        for _ in range(_TRIES):
            now = self._clock.now()
            operator = await operators.ensure(self._db, account_id, user_id)
            seen = await handoffs.get(self._db, account_id, handoff_id)
            if seen.holder_id == user_id:
                return await self._held_already(seen, user_id)
            # A friendly look, which names the reason and spares those who come late the wait for a lock;
            # the statement decides by the same rules.
            _check_claim(seen, operator, now)
            try:
                async with self._db.transaction() as transaction:
                    won = await apply_transition.take(transaction, account_id, handoff_id, user_id, now)
            except LostRace:
                if not (await users.get(self._db, account_id, user_id)).active:
                    raise NotFound("user", user_id) from None
                continue
            return await self._with_briefing(won)
        raise DatabaseBusy(f"The handoff {handoff_id} kept changing; try again.")

    async def _held_already(self, handoff: HandoffRecord, user_id: UUID) -> Claim:
        await handoff_transitions.renew(
            self._db, handoff.account_id, user_id, self._clock.now() + CLAIM_LEASE
        )
        return await self._with_briefing(await handoffs.get(self._db, handoff.account_id, handoff.id))

    async def _with_briefing(self, handoff: HandoffRecord) -> Claim:
        frozen = await handoffs.snapshot(self._db, handoff.account_id, handoff.id)
        return Claim(handoff=handoff, briefing=brief(handoff, frozen))

    async def release(
        self, account_id: UUID, handoff_id: UUID, user_id: UUID, *, epoch: int | None = None, reason: str = ""
    ) -> HandoffRecord:
        """Give a claim back to the queue, where it keeps its place.

        Raises:
            StaleClaim: the operator does not hold it (any more), or another claim than this one.
            IllegalTransition: the caller is on the line.
        """

        def decide(seen: HandoffRecord) -> Transition:
            _must_hold(seen, user_id, epoch)
            return Transition(
                to=transitions.WAITING[seen.intent], at=self._clock.now(), cause=reason or "released"
            )

        released = await self.move(account_id, handoff_id, decide, "handoff.released", actor_id=user_id)
        self._stir()
        return released

    async def decline(
        self, account_id: UUID, handoff_id: UUID, user_id: UUID, *, reason: str = ""
    ) -> HandoffRecord:
        """Not take what one is offered, or has claimed; it is not offered to the same person again.

        Raises:
            StaleClaim: somebody else holds it.
            NotFound: the account has no such handoff.
        """
        await handoffs.get(self._db, account_id, handoff_id)
        now = self._clock.now()
        await handoff_transitions.decline(self._db, account_id, handoff_id, user_id, reason=reason, at=now)

        def decide(seen: HandoffRecord) -> Transition | None:
            if seen.holder_id is None and seen.offered_to != user_id:
                return None
            if seen.holder_id is not None:
                _must_hold(seen, user_id, None)
            return Transition(to=transitions.WAITING[seen.intent], at=now, cause=reason or "declined")

        declined = await self.move(account_id, handoff_id, decide, "handoff.declined", actor_id=user_id)
        self._stir()
        return declined

    async def resolve(
        self,
        account_id: UUID,
        handoff_id: UUID,
        user_id: UUID,
        *,
        epoch: int | None = None,
        resolution: str,
    ) -> HandoffRecord:
        """Be done with a claim; the account's ticket systems are told. Doing it again changes nothing.

        Raises:
            StaleClaim: the operator does not hold it (any more), or another claim than this one.
        """
        now = self._clock.now()

        def decide(seen: HandoffRecord) -> Transition | None:
            if seen.state == "resolved" and seen.resolved_by == user_id and epoch in (None, seen.epoch):
                return None
            _must_hold(seen, user_id, epoch)
            return Transition(to="resolved", at=now, ends=True, resolution=resolution, resolved_by=user_id)

        resolved = await self.move(account_id, handoff_id, decide, "handoff.resolved", actor_id=user_id)
        self._stir()
        return resolved

    async def reschedule(
        self,
        account_id: UUID,
        handoff_id: UUID,
        user_id: UUID,
        later: Reschedule,
        *,
        epoch: int | None = None,
    ) -> HandoffRecord:
        """Have the caller called at another time; of an escalation, the park that continues it.

        Raises:
            StaleClaim: somebody else holds it, or another claim than this one.
            IllegalTransition: it is over, or the caller is on the line.
        """
        now = self._clock.now()

        def decide(seen: HandoffRecord) -> Transition:
            if seen.holder_id is not None or epoch is not None:
                _must_hold(seen, user_id, epoch)
            if seen.intent == "escalate":
                return Transition(to="converted_to_park", at=now, ends=True, cause="rescheduled")
            return Transition(
                to="scheduled",
                at=now,
                cause="rescheduled",
                due_at=later.due_at,
                time_zone=later.time_zone,
                consent=later.consent,
                expires_at=later.due_at + PARK_LIFE,
            )

        def event(wanted: Transition) -> str:
            return "handoff.rescheduled" if wanted.to == "scheduled" else f"handoff.{wanted.to}"

        moved = await self._move(account_id, handoff_id, decide, event, user_id, later)
        self._stir()
        return moved

    async def move(
        self,
        account_id: UUID,
        handoff_id: UUID,
        decide: Decide,
        event: str,
        *,
        actor_id: UUID | None = None,
    ) -> HandoffRecord:
        """Move a handoff as ``decide`` says of what it is now; asked again when it changed meanwhile.

        Raises:
            IllegalTransition: not a move of the table.
            DatabaseBusy: it kept changing; try again.
            Whatever ``decide`` raises.
        """
        return await self._move(account_id, handoff_id, decide, lambda _: event, actor_id)

    async def _move(
        self,
        account_id: UUID,
        handoff_id: UUID,
        decide: Decide,
        event: Callable[[Transition], str],
        actor_id: UUID | None,
        later: Reschedule | None = None,
    ) -> HandoffRecord:
        for _ in range(_TRIES):
            seen = await handoffs.get(self._db, account_id, handoff_id)
            wanted = decide(seen)
            if wanted is None:
                return seen
            transitions.check(seen, wanted.to)
            try:
                async with self._db.transaction() as transaction:
                    moved = await apply_transition.apply(transaction, seen, wanted, event(wanted), actor_id)
                    if wanted.to == "converted_to_park" and later is not None:
                        moved = await _continue(transaction, moved, later, wanted.at, actor_id)
                    return moved
            except LostRace:
                continue
        raise DatabaseBusy(f"The handoff {handoff_id} kept changing; try again.")


def _check_claim(seen: HandoffRecord, operator: OperatorRecord, now: datetime) -> None:
    if seen.holder_id is not None:
        raise AlreadyClaimed(seen.holder_id)
    transitions.check(seen, "claimed")
    availability.check_claim(presence_of(operator), now)
    if operator.holding >= operator.capacity:
        raise CapacityReached(operator.capacity)


def _must_hold(seen: HandoffRecord, user_id: UUID, epoch: int | None) -> None:
    if seen.holder_id != user_id or (epoch is not None and epoch != seen.epoch):
        raise StaleClaim(seen)


async def _continue(
    transaction: Transaction, ended: HandoffRecord, later: Reschedule, now: datetime, actor_id: UUID | None
) -> HandoffRecord:
    """The park that an escalation has become, in the same transaction."""
    wish = CreateHandoff(
        intent="park",
        origin="person",
        reason=ended.reason,
        call_id=ended.call_id,
        lead_id=ended.lead_id,
        notes=ended.notes,
        priority=ended.priority,
        language=ended.language,
        team=ended.team,
        due_at=later.due_at,
        time_zone=later.time_zone or ended.time_zone,
        consent=later.consent is not False,
        created_by=actor_id,
        continues_id=ended.id,
    )
    return (await make(transaction, ended.account_id, wish, now, assess=False)).handoff
