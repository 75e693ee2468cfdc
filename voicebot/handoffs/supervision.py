"""Supervision: cancelling and reassigning handoffs, including those that other operators hold."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from db import handoffs, operators, users
from db.errors import DatabaseBusy, NotFound
from db.handoff_transitions import Transition
from db.handoffs import HandoffRecord
from db.pool import Database
from voicebot.clock import Clock
from voicebot.handoffs import transitions
from voicebot.handoffs.handoff_service import (
    HandoffService,
    check_can_claim,
    check_holds,
    required_holder,
)
from voicebot.handoffs.transitions import LostRace

_TRIES = 20


class Supervision:
    """Cancels and reassigns handoffs."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        service: HandoffService,
        *,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        """Work on ``database``; ``wake`` is called after a change that may allow an offer."""
        self._db = database
        self._clock = clock
        self._service = service
        self._wake = wake

    async def cancel(
        self, account_id: UUID, handoff_id: UUID, user_id: UUID, *, reason: str = "", supervises: bool = False
    ) -> HandoffRecord:
        """End a handoff that is not needed any more. Repeating it changes nothing.

        Args:
            account_id: the account.
            handoff_id: the handoff.
            user_id: who cancels it.
            reason: stored as its cause.
            supervises: whether the user may cancel handoffs that they do not hold.

        Raises:
            StaleClaim: the user does not hold it and does not supervise.
            IllegalTransition: it has ended, or the caller is connected to the operator.
        """

        def decide(handoff: HandoffRecord) -> Transition | None:
            if handoff.state == "cancelled":
                return None
            check_holds(handoff, required_holder(handoff, user_id, supervises), None)
            return Transition(to="cancelled", at=self._clock.now(), cause=reason or "cancelled")

        return await self._service.transition(account_id, handoff_id, decide, actor_id=user_id)

    async def reassign(
        self, account_id: UUID, handoff_id: UUID, user_id: UUID, to: UUID, *, supervises: bool = False
    ) -> HandoffRecord:
        """Give a handoff to another operator, as if they had claimed it; an earlier claim of it ends.

        Raises:
            StaleClaim: the user does not hold it and does not supervise.
            CapacityReached: the capacity of ``to`` is reached.
            IllegalMove: ``to`` is away or exhausted.
            IllegalTransition: the handoff has ended, or its caller is connected to an operator.
            NotFound: the account has no such handoff or active user.
            DatabaseBusy: it kept changing; try again.
        """
        for _ in range(_TRIES):
            now = self._clock.now()
            before = await handoffs.get(self._db, account_id, handoff_id)
            check_holds(before, required_holder(before, user_id, supervises), None)
            if before.claimed_by == to:
                return before
            operator = await operators.ensure(self._db, account_id, to)
            back = Transition(
                to=transitions.WAITING[before.intent], at=now, event="handoff.released", cause="reassigned"
            )
            if before.claimed_by is not None:
                transitions.check(before, back.to)
            else:
                transitions.check(before, "claimed")
            check_can_claim(operator, now)
            try:
                async with self._db.transaction() as transaction:
                    await operators.lock(transaction, account_id, {to, before.claimed_by or to})
                    if before.claimed_by is not None:
                        await transitions.apply(transaction, before, back, user_id)
                    after = await transitions.claim(
                        transaction, account_id, handoff_id, to, now, actor_id=user_id
                    )
            except LostRace:
                if not (await users.get(self._db, account_id, to)).active:
                    raise NotFound("user", to) from None
                continue
            self._wake()
            return after
        raise DatabaseBusy(f"The handoff {handoff_id} kept changing; try again.")
