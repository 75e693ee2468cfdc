"""A handoff whose operator speaks with the caller from a browser, through the call's own media stream."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal
from uuid import UUID

from db import handoff_transitions, handoffs, operators
from db.handoff_transitions import Transition
from db.handoffs import HandoffRecord
from db.pool import Database
from voicebot.clock import Clock
from voicebot.handoffs.handoff_service import HandoffService
from voicebot.handoffs.transitions import StaleClaim

LEASE = timedelta(seconds=20)
"""How long a connection from a browser counts as open without a sign of life of its process."""

Leave = Literal["resolve", "return"]


class BrowserBridge:
    """The changes of a handoff by an operator in a browser."""

    def __init__(self, database: Database, clock: Clock, service: HandoffService) -> None:
        """``service`` applies the changes."""
        self._db = database
        self._clock = clock
        self._service = service

    async def holds(self, account_id: UUID, handoff_id: UUID, user_id: UUID) -> HandoffRecord:
        """The handoff, if the user holds its claim.

        Raises:
            StaleClaim: they do not.
            NotFound: the account has no such handoff.
        """
        handoff = await handoffs.get(self._db, account_id, handoff_id)
        if handoff.claimed_by != user_id or handoff.ended_at is not None:
            raise StaleClaim(handoff)
        return handoff

    async def begin(self, handoff: HandoffRecord) -> HandoffRecord:
        """The operator speaks with the caller: the handoff is bridged. Repeating it changes nothing.

        Raises:
            StaleClaim: the claim has ended.
            IllegalTransition: the caller is being connected by telephone.
        """

        def decide(now: HandoffRecord) -> Transition | None:
            _check(now, handoff)
            if now.state == "bridged":
                return None
            at = self._clock.now()
            return Transition(to="bridged", at=at, claimed_by=handoff.claimed_by, lease_until=at + LEASE)

        return await self._service.transition(
            handoff.account_id, handoff.id, decide, actor_id=handoff.claimed_by
        )

    async def renew(self, handoff: HandoffRecord) -> bool:
        """The operator is still connected, which is a sign of their life; False: the claim has ended."""
        now = self._clock.now()
        async with self._db.transaction() as transaction:
            if handoff.claimed_by is not None:
                await operators.mark_seen(transaction, handoff.account_id, handoff.claimed_by, now)
            return await handoff_transitions.renew_bridge(transaction, handoff, now + LEASE)

    async def leave(self, handoff: HandoffRecord, how: Leave) -> HandoffRecord:
        """The operator leaves the caller. One who did not speak and returns keeps the claim.

        Raises:
            StaleClaim: the claim has ended.
        """

        def decide(now: HandoffRecord) -> Transition | None:
            _check(now, handoff)
            if how == "return" and now.state != "bridged":
                return None
            returned = how == "return"
            return Transition(
                to="resolved",
                at=self._clock.now(),
                event="handoff.returned" if returned else "",
                cause="returned" if returned else now.cause,
                resolution="The caller went back to the agent." if returned else "resolved",
                resolved_by=handoff.claimed_by,
            )

        return await self._service.transition(
            handoff.account_id, handoff.id, decide, actor_id=handoff.claimed_by
        )


def _check(now: HandoffRecord, then: HandoffRecord) -> None:
    if now.claimed_by != then.claimed_by or now.epoch != then.epoch or now.ended_at is not None:
        raise StaleClaim(now)
