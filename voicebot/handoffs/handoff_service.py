"""Operations on handoffs. A transition is decided on the row that was read; again if it has changed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from db import handoff_transitions, handoffs, operators, users
from db.errors import DatabaseBusy, NotFound
from db.handoff_transitions import Transition
from db.handoffs import CreatedHandoff, HandoffDraft, HandoffRecord
from db.operators import OperatorRecord
from db.pool import Database, Transaction
from voicebot import availability
from voicebot.clock import Clock
from voicebot.handoffs import notifications, transitions
from voicebot.handoffs.briefing import Briefing, brief
from voicebot.handoffs.create import PARK_LIFE, Reschedule, continuation, create
from voicebot.handoffs.matching import someone_is_left
from voicebot.handoffs.transitions import (
    CLAIM_LEASE,
    AlreadyClaimed,
    CapacityReached,
    LostRace,
    StaleClaim,
)

_TRIES = 20

Decide = Callable[[HandoffRecord], Transition | None]
"""Decides on a transition of a handoff as it is now; None: no change."""

FollowUp = Callable[[Transaction, HandoffRecord], Awaitable[HandoffRecord]]
"""Runs in the transaction of a transition and returns the handoff to answer with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A claim and its briefing."""

    handoff: HandoffRecord
    briefing: Briefing


class HandoffService:
    """The operations on handoffs."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        assess: bool = False,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        """Work on ``database``.

        Args:
            database: the database.
            clock: the time.
            assess: whether to ask the language model for assessments.
            wake: called after a change that may allow an offer.
        """
        self._db = database
        self._clock = clock
        self._assess = assess
        self._wake = wake

    async def create(
        self, account_id: UUID, draft: HandoffDraft, *, idempotency_key: str | None = None
    ) -> CreatedHandoff:
        """Create a handoff; see ``voicebot.handoffs.create.create``."""
        made = await create(self._db, account_id, draft, idempotency_key=idempotency_key, assess=self._assess)
        self._wake()
        return made

    async def claim(self, account_id: UUID, handoff_id: UUID, user_id: UUID) -> Claim:
        """Claim a handoff, or return the operator's claim of it; either renews all claims of the operator.

        Raises:
            AlreadyClaimed: another operator holds it.
            CapacityReached: the operator's capacity is reached.
            IllegalMove: the operator is away or exhausted.
            IllegalTransition: the handoff has ended or is parked for later.
            NotFound: the account has no such handoff or active user.
            DatabaseBusy: it kept changing; try again.
        """
        for _ in range(_TRIES):
            now = self._clock.now()
            operator = await operators.ensure(self._db, account_id, user_id)
            handoff = await handoffs.get(self._db, account_id, handoff_id)
            if handoff.claimed_by == user_id:
                async with self._db.transaction() as transaction:
                    await operators.mark_seen(transaction, account_id, user_id, now)
                    await handoff_transitions.renew(transaction, account_id, user_id, now + CLAIM_LEASE)
                    handoff = await handoffs.get(transaction, account_id, handoff_id)
                if handoff.claimed_by != user_id:
                    continue
                return await self._with_briefing(handoff)
            # The statement decides by the same rules. The check gives the reason, and losers of a race do not
            # wait for a lock.
            _check_claim(handoff, operator, now)
            try:
                async with self._db.transaction() as transaction:
                    claimed = await transitions.claim(transaction, account_id, handoff_id, user_id, now)
            except LostRace:
                if not (await users.get(self._db, account_id, user_id)).active:
                    raise NotFound("user", user_id) from None
                continue
            return await self._with_briefing(claimed)
        raise DatabaseBusy(f"The handoff {handoff_id} kept changing; try again.")

    async def release(
        self,
        account_id: UUID,
        handoff_id: UUID,
        user_id: UUID,
        *,
        epoch: int | None = None,
        reason: str = "",
        supervises: bool = False,
    ) -> HandoffRecord:
        """Return a claim to its place in the queue; ``supervises``: the user may release others' claims.

        Raises:
            StaleClaim: the operator does not hold the handoff, or ``epoch`` is another claim.
            IllegalTransition: the caller is connected to the operator.
        """

        def decide(handoff: HandoffRecord) -> Transition:
            check_holds(handoff, required_holder(handoff, user_id, supervises), epoch)
            return Transition(
                to=transitions.WAITING[handoff.intent],
                at=self._clock.now(),
                event="handoff.released",
                cause=reason or "released",
            )

        return await self.transition(account_id, handoff_id, decide, actor_id=user_id)

    async def decline(
        self, account_id: UUID, handoff_id: UUID, user_id: UUID, *, reason: str = ""
    ) -> HandoffRecord:
        """Decline an offer or end a claim; the handoff is not offered to the same user again.

        Raises:
            StaleClaim: another operator holds it.
            NotFound: the account has no such handoff.
        """
        now = self._clock.now()
        await handoff_transitions.decline(self._db, account_id, handoff_id, user_id, reason=reason, at=now)

        def decide(handoff: HandoffRecord) -> Transition | None:
            if handoff.claimed_by is None and handoff.offered_to != user_id:
                return None
            if handoff.claimed_by is not None:
                check_holds(handoff, user_id, None)
            return Transition(
                to=transitions.WAITING[handoff.intent],
                at=now,
                event="handoff.declined",
                cause=reason or "declined",
            )

        async def ask_again(transaction: Transaction, after: HandoffRecord) -> HandoffRecord:
            """If nobody else can be offered the handoff, notify people who are not present."""
            if not await someone_is_left(transaction, after, now):
                await notifications.ask_again(transaction, after, "queued", now, exclude=user_id)
            return after

        before = await handoffs.get(self._db, account_id, handoff_id)
        return await self.transition(
            account_id,
            handoff_id,
            decide,
            actor_id=user_id,
            # The end of a claim asks again in any case.
            follow_up=ask_again if before.state == "offered" else None,
        )

    async def resolve(
        self,
        account_id: UUID,
        handoff_id: UUID,
        user_id: UUID,
        *,
        epoch: int | None = None,
        resolution: str,
    ) -> HandoffRecord:
        """Resolve a claim and notify the account's ticket systems. Repeating it changes nothing.

        Raises:
            StaleClaim: the operator does not hold the handoff, or ``epoch`` is another claim.
        """
        now = self._clock.now()

        def decide(handoff: HandoffRecord) -> Transition | None:
            if (
                handoff.state == "resolved"
                and handoff.resolved_by == user_id
                and epoch in (None, handoff.epoch)
            ):
                return None
            check_holds(handoff, user_id, epoch)
            return Transition(
                to="resolved", at=now, cause=handoff.cause, resolution=resolution, resolved_by=user_id
            )

        return await self.transition(account_id, handoff_id, decide, actor_id=user_id)

    async def reschedule(
        self,
        account_id: UUID,
        handoff_id: UUID,
        user_id: UUID,
        later: Reschedule,
        *,
        epoch: int | None = None,
    ) -> HandoffRecord:
        """Set another time to call. An escalation is converted to a park, which is returned.

        Raises:
            StaleClaim: another operator holds the handoff, or ``epoch`` is another claim.
            IllegalTransition: the handoff has ended, or the caller is connected to the operator.
        """
        now = self._clock.now()

        def decide(handoff: HandoffRecord) -> Transition:
            if handoff.claimed_by is not None or epoch is not None:
                check_holds(handoff, user_id, epoch)
            if handoff.intent == "escalate":
                return Transition(to="converted_to_park", at=now, cause="rescheduled")
            return Transition(
                to="scheduled",
                at=now,
                event="handoff.rescheduled",
                cause="rescheduled",
                due_at=later.due_at,
                time_zone=later.time_zone,
                consent=later.consent,
                expires_at=later.due_at + PARK_LIFE,
            )

        async def create_park(transaction: Transaction, handoff: HandoffRecord) -> HandoffRecord:
            if handoff.state != "converted_to_park":
                return handoff
            draft = continuation(handoff, later, now, user_id)
            return (await create(transaction, account_id, draft, assess=False)).handoff

        return await self.transition(account_id, handoff_id, decide, actor_id=user_id, follow_up=create_park)

    async def transition(
        self,
        account_id: UUID,
        handoff_id: UUID,
        decide: Decide,
        *,
        actor_id: UUID | None = None,
        follow_up: FollowUp | None = None,
    ) -> HandoffRecord:
        """Apply the transition that ``decide`` returns; it is asked again if the handoff changed meanwhile.

        Args:
            account_id: the account.
            handoff_id: the handoff.
            decide: decides on the handoff as it is now; what it raises is raised here.
            actor_id: the user who causes it; None: the program.
            follow_up: runs in the same transaction.

        Raises:
            IllegalTransition: the table does not allow it.
            NotFound: the account has no such handoff.
            DatabaseBusy: it kept changing; try again.
        """
        for _ in range(_TRIES):
            before = await handoffs.get(self._db, account_id, handoff_id)
            wanted = decide(before)
            if wanted is None:
                return before
            transitions.check(before, wanted.to)
            try:
                async with self._db.transaction() as transaction:
                    after = await transitions.apply(transaction, before, wanted, actor_id)
                    if follow_up is not None:
                        after = await follow_up(transaction, after)
            except LostRace:
                continue
            self._wake()
            return after
        raise DatabaseBusy(f"The handoff {handoff_id} kept changing; try again.")

    async def _with_briefing(self, handoff: HandoffRecord) -> Claim:
        snapshot = await handoffs.snapshot(self._db, handoff.account_id, handoff.id)
        return Claim(handoff=handoff, briefing=brief(handoff, snapshot))


def _check_claim(handoff: HandoffRecord, operator: OperatorRecord, now: datetime) -> None:
    if handoff.claimed_by is not None:
        raise AlreadyClaimed(handoff.claimed_by)
    transitions.check(handoff, "claimed")
    check_can_claim(operator, now)


def check_can_claim(operator: OperatorRecord, now: datetime) -> None:
    """Check that an operator may claim one more handoff.

    Raises:
        CapacityReached: their capacity is reached.
        IllegalMove: they are away or exhausted.
    """
    availability.check_claim(operator, now)
    if operator.holding >= operator.capacity:
        raise CapacityReached(operator.capacity)


def required_holder(handoff: HandoffRecord, user_id: UUID, supervises: bool) -> UUID | None:
    """The holder that the handoff must have for the user to act on it; None: any, if the user supervises."""
    return handoff.claimed_by if supervises else user_id


def check_holds(handoff: HandoffRecord, user_id: UUID | None, epoch: int | None) -> None:
    """Check that a user holds a handoff by the claim ``epoch``; None: by any claim.

    Raises:
        StaleClaim: they do not.
    """
    if handoff.claimed_by != user_id or (epoch is not None and epoch != handoff.epoch):
        raise StaleClaim(handoff)
