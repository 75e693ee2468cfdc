"""The desk: handoffs are made, claimed and moved on, each change with its event in one transaction.

Locks are taken in one order: operator, handoff, outbox, the account's sequence (the event, always last).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from db import desk_events, handoff_moves, handoffs, operators, users
from db.errors import DatabaseBusy, NotFound
from db.handoff_moves import Move
from db.handoffs import CreatedHandoff, HandoffDraft, HandoffRecord, State
from db.operators import OperatorFacts, OperatorRecord
from db.pool import Database, Executor, Transaction
from handlers.context import HandoffRequest
from voicebot import availability
from voicebot.availability import Presence
from voicebot.clock import Clock
from voicebot.escalation import moves, notices, story
from voicebot.escalation.briefing import Briefing, brief
from voicebot.escalation.snapshot import freeze
from voicebot.escalation.wish import Wish

CLAIM_LEASE = timedelta(minutes=3)
"""A claim that is neither renewed (by heartbeats, or by claiming again) nor moved on returns to the queue."""

TRANSFER_LEASE = timedelta(minutes=2)
"""How long a telephone may ring before the handoff returns to the queue."""

ESCALATION_LIFE = timedelta(hours=4)
"""After so long without an answer an escalation is over; calls are shorter."""

PARK_LIFE = timedelta(hours=72)
"""How long after its time a parked call may wait."""

_TRIES = 20

Decide = Callable[[HandoffRecord], Move | None]
"""What to do with a handoff as it is now; None: nothing."""


class AlreadyClaimed(Exception):
    """Somebody else holds the handoff; a retry helps only if they let go."""

    def __init__(self, claimed_by: UUID) -> None:
        self.claimed_by = claimed_by
        super().__init__(f"The handoff is claimed by {claimed_by}.")


class StaleClaim(Exception):
    """The claim has ended since, and its writes count no more; look at the handoff, do not retry."""

    def __init__(self, handoff: HandoffRecord) -> None:
        self.claimed_by = handoff.holder_id
        self.epoch = handoff.epoch
        super().__init__("You do not hold this claim any more.")


class CapacityReached(Exception):
    """The operator holds as many handoffs as they may; release or resolve one first."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        super().__init__(f"You hold {capacity} handoffs, which is as many as you may.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A claim that was won, or is held already."""

    handoff: HandoffRecord
    briefing: Briefing


@dataclass(frozen=True, slots=True, kw_only=True)
class Later:
    """Another time to call; None keeps the caller's time zone."""

    due_at: datetime
    time_zone: str | None = None


class _Undone(Exception):
    """Leaves a transaction that turned out to be too late."""


async def make(
    db: Executor, account_id: UUID, wish: Wish, now: datetime, *, key: str | None = None, assess: bool = True
) -> CreatedHandoff:
    """Make a handoff: snapshot, row, calls for help and event in one transaction. It waits on nothing else.

    May be repeated: the same wish, or an escalation of a call that has an open one, gives the one made first.

    Args:
        key: the client's Idempotency-Key.
        assess: whether to ask the model for its opinion afterwards.

    Raises:
        NotFound: the account has no such call or lead.
        IdempotencyKeyReused: the key came with another wish.
    """
    async with db.transaction() as transaction:
        frozen = await freeze(transaction, account_id, wish.call_id, wish.lead_id)
        due_at = (wish.due_at or now) if wish.intent == "park" else None
        draft = HandoffDraft(
            id=wish.id,
            intent=wish.intent,
            origin=wish.origin,
            state=moves.BEGINS[wish.intent],
            reason=wish.reason,
            created_at=now,
            queue_at=moves.queue_at(due_at or now, wish.priority),
            expires_at=due_at + PARK_LIFE if due_at else now + ESCALATION_LIFE,
            call_id=wish.call_id,
            lead_id=frozen.lead_id,
            template_id=frozen.template_id,
            node=frozen.node,
            notes=wish.notes,
            priority=wish.priority,
            language=wish.language or frozen.language,
            team=wish.team,
            due_at=due_at,
            time_zone=wish.time_zone or frozen.time_zone,
            consent=wish.consent,
            snapshot=frozen.document,
            created_by=wish.created_by,
            continues_id=wish.continues_id,
        )
        made = await handoffs.create(transaction, account_id, draft, idempotency_key=key)
        if made.created:
            if wish.intent == "escalate":
                await notices.call_for_help(transaction, made.handoff)
            if assess and frozen.document["transcript"]:
                await notices.ask_for_assessment(transaction, made.handoff)
            await desk_events.append(transaction, account_id, story.created(made.handoff))
        return made


def entry(
    clock: Clock, *, assess: bool, stir: Callable[[], None]
) -> Callable[[CallFacts, HandoffRequest], Callable[[Executor], Awaitable[None]]]:
    """How a live call hands itself to people: as an entry among what it writes, which may be repeated."""

    def hand_off(call: CallFacts, request: HandoffRequest) -> Callable[[Executor], Awaitable[None]]:
        now = clock.now()
        wish = Wish(
            intent=request.intent,
            origin=request.origin,
            reason=request.reason,
            priority=request.priority,
            due_at=request.due_at,
            # The agent is told to park a call only when the caller has agreed to it.
            consent=request.intent == "park",
            call_id=call.id,
        )

        async def write(db: Executor) -> None:
            await make(db, call.account_id, wish, now, assess=assess)
            stir()

        return write

    return hand_off


class CallFacts(Protocol):
    """Which call it is."""

    @property
    def id(self) -> UUID:
        """The call."""
        ...

    @property
    def account_id(self) -> UUID:
        """Whose call it is."""
        ...


class Desk:
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

    async def create(self, account_id: UUID, wish: Wish, *, key: str | None = None) -> CreatedHandoff:
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
                    won = await _take(transaction, account_id, handoff_id, user_id, now)
            except _Undone:
                if not (await users.get(self._db, account_id, user_id)).active:
                    raise NotFound("user", user_id) from None
                continue
            return await self._with_briefing(won)
        raise DatabaseBusy(f"The handoff {handoff_id} kept changing; try again.")

    async def _held_already(self, handoff: HandoffRecord, user_id: UUID) -> Claim:
        await handoff_moves.renew(self._db, handoff.account_id, user_id, self._clock.now() + CLAIM_LEASE)
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

        def decide(seen: HandoffRecord) -> Move:
            _must_hold(seen, user_id, epoch)
            return Move(to=moves.WAITING[seen.intent], at=self._clock.now(), cause=reason or "released")

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
        await handoff_moves.decline(self._db, account_id, handoff_id, user_id, reason=reason, at=now)

        def decide(seen: HandoffRecord) -> Move | None:
            if seen.holder_id is None and seen.offered_to != user_id:
                return None
            if seen.holder_id is not None:
                _must_hold(seen, user_id, None)
            return Move(to=moves.WAITING[seen.intent], at=now, cause=reason or "declined")

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

        def decide(seen: HandoffRecord) -> Move | None:
            if seen.state == "resolved" and seen.resolved_by == user_id and epoch in (None, seen.epoch):
                return None
            _must_hold(seen, user_id, epoch)
            return Move(to="resolved", at=now, ends=True, resolution=resolution, resolved_by=user_id)

        resolved = await self.move(account_id, handoff_id, decide, "handoff.resolved", actor_id=user_id)
        self._stir()
        return resolved

    async def reschedule(
        self, account_id: UUID, handoff_id: UUID, user_id: UUID, later: Later, *, epoch: int | None = None
    ) -> HandoffRecord:
        """Have the caller called at another time; of an escalation, the park that continues it.

        Raises:
            StaleClaim: somebody else holds it, or another claim than this one.
            IllegalTransition: it is over, or the caller is on the line.
        """
        now = self._clock.now()

        def decide(seen: HandoffRecord) -> Move:
            if seen.holder_id is not None or epoch is not None:
                _must_hold(seen, user_id, epoch)
            if seen.intent == "escalate":
                return Move(to="converted_to_park", at=now, ends=True, cause="rescheduled")
            return Move(
                to="scheduled",
                at=now,
                cause="rescheduled",
                due_at=later.due_at,
                time_zone=later.time_zone,
                expires_at=later.due_at + PARK_LIFE,
            )

        def event(wanted: Move) -> str:
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
        event: Callable[[Move], str],
        actor_id: UUID | None,
        later: Later | None = None,
    ) -> HandoffRecord:
        for _ in range(_TRIES):
            seen = await handoffs.get(self._db, account_id, handoff_id)
            wanted = decide(seen)
            if wanted is None:
                return seen
            moves.check(seen, wanted.to)
            try:
                async with self._db.transaction() as transaction:
                    moved = await apply(transaction, seen, wanted, event(wanted), actor_id)
                    if wanted.to == "converted_to_park" and later is not None:
                        moved = await _continue(transaction, moved, later, wanted.at, actor_id)
                    return moved
            except _Undone:
                continue
        raise DatabaseBusy(f"The handoff {handoff_id} kept changing; try again.")


async def apply(
    transaction: Transaction, seen: HandoffRecord, wanted: Move, event: str, actor_id: UUID | None = None
) -> HandoffRecord:
    """Make one move with all that belongs to it, or raise to have the transaction undone.

    The move is one of the table: who calls this has checked.
    """
    holder = None
    if seen.holder_id is not None:
        bridged = (wanted.to in moves.ON_THE_LINE) - (seen.state in moves.ON_THE_LINE)
        holder = await operators.count(
            transaction,
            seen.account_id,
            seen.holder_id,
            holding=0 if wanted.holder_id else -1,
            bridged=bridged,
        )
    moved = await handoff_moves.move(transaction, seen, wanted)
    if moved is None:
        raise _Undone
    if wanted.ends:
        await notices.call_off(transaction, seen.account_id, seen.id, wanted.at)
    if wanted.to == "resolved":
        await notices.file_notes(transaction, moved, wanted.at)
        if holder is not None:
            await _wrap_up(transaction, holder, wanted.at)
    await desk_events.append(
        transaction, seen.account_id, story.changed(event, moved, wanted.at, actor_id=actor_id)
    )
    return moved


async def _continue(
    transaction: Transaction, ended: HandoffRecord, later: Later, now: datetime, actor_id: UUID | None
) -> HandoffRecord:
    """The park that an escalation has become, in the same transaction."""
    wish = Wish(
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
        created_by=actor_id,
        continues_id=ended.id,
    )
    return (await make(transaction, ended.account_id, wish, now, assess=False)).handoff


async def _take(
    transaction: Transaction, account_id: UUID, handoff_id: UUID, user_id: UUID, now: datetime
) -> HandoffRecord:
    won = await handoff_moves.claim(
        transaction, account_id, handoff_id, user_id, at=now, lease_until=now + CLAIM_LEASE
    )
    if won is None:
        raise _Undone
    await notices.call_off(transaction, account_id, handoff_id, now)
    event = story.changed("handoff.claimed", won, now, actor_id=user_id)
    await desk_events.append(transaction, account_id, event)
    return won


def presence_of(operator: OperatorRecord) -> Presence:
    """An operator's facts for the rules."""
    return Presence(
        last_seen_at=operator.last_seen_at,
        activity=operator.activity,
        activity_until=operator.activity_until,
        quota=operator.quota,
        quota_until=operator.quota_until,
        holding=operator.holding,
        bridged=operator.bridged,
    )


def facts_of(operator: OperatorRecord, presence: Presence, *, signed_on: bool) -> OperatorFacts:
    """The operator's row with what the rules made of it."""
    return OperatorFacts(
        last_seen_at=presence.last_seen_at,
        activity=presence.activity,
        activity_until=presence.activity_until,
        quota=presence.quota,
        quota_until=presence.quota_until,
        capacity=operator.capacity,
        languages=operator.languages,
        teams=operator.teams,
        signed_on=signed_on,
    )


async def _wrap_up(transaction: Transaction, operator: OperatorRecord, now: datetime) -> None:
    presence = presence_of(operator)
    after = availability.wrapped_up(presence, now)
    if after != presence:
        facts = facts_of(operator, after, signed_on=operator.signed_on)
        # The row is ours since it was counted, so the revision cannot have changed.
        await operators.set_facts(
            transaction, operator.account_id, operator.user_id, facts, expected_revision=operator.revision
        )


def _check_claim(seen: HandoffRecord, operator: OperatorRecord, now: datetime) -> None:
    if seen.holder_id is not None:
        raise AlreadyClaimed(seen.holder_id)
    moves.check(seen, "claimed")
    availability.check_claim(presence_of(operator), now)
    if operator.holding >= operator.capacity:
        raise CapacityReached(operator.capacity)


def _must_hold(seen: HandoffRecord, user_id: UUID, epoch: int | None) -> None:
    if seen.holder_id != user_id or (epoch is not None and epoch != seen.epoch):
        raise StaleClaim(seen)


def held_state(state: State) -> bool:
    """Whether an operator who disappears loses it: claimed, but with no caller on the line."""
    return state in ("claimed", "transferring")
