"""Escalations of live calls that end without a person: the caller returns, waits too long, or hangs up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal
from uuid import UUID

from db import leads, open_handoffs
from db.handoff_transitions import Transition
from db.handoffs import HandoffRecord, State
from db.pool import Database, Transaction
from voicebot.clock import Clock
from voicebot.handoffs import transitions
from voicebot.handoffs.create import CallIdentity, Reschedule, continuation, create
from voicebot.handoffs.handoff_service import HandoffService

WithdrawalReason = Literal["caller_returned", "wait_over"]
"""Why the caller no longer waits: they continue with the agent, or `waiting.max_ms` has passed."""


class Withdrawals:
    """Ends escalations whose callers no longer wait."""

    def __init__(self, database: Database, clock: Clock, service: HandoffService) -> None:
        """Work on ``database`` with the transitions of ``service``."""
        self._db = database
        self._clock = clock
        self._service = service

    def entry(self, call: CallIdentity, reason: WithdrawalReason) -> Callable[[object], Awaitable[None]]:
        """For live calls: make the write that ends the escalation; the write may be repeated."""

        async def write(_: object) -> None:
            await self.withdraw(call.account_id, call.id, reason)

        return write

    async def withdraw(self, account_id: UUID, call_id: UUID, reason: WithdrawalReason) -> None:
        """End the open escalation of a live call, if there is one.

        A claimed escalation is not ended for a long wait: its operator is about to help.

        Raises:
            DatabaseBusy: it kept changing; try again.
        """
        asked = await open_handoffs.escalation_of(self._db, account_id, call_id)
        if asked is None:
            return
        to: State = "cancelled" if reason == "caller_returned" else "expired"

        def decide(handoff: HandoffRecord) -> Transition | None:
            stays = handoff.claimed_by is not None and reason == "wait_over"
            if stays or to not in transitions.allowed(handoff.intent, handoff.state):
                return None
            return Transition(to=to, at=self._clock.now(), cause=reason)

        await self._service.transition(account_id, asked.id, decide)

    async def call_back(self, found: HandoffRecord) -> None:
        """Turn an escalation that was claimed once, and whose caller hung up, into a call-back that is due.

        Raises:
            DatabaseBusy: it kept changing; try again.
        """
        now = self._clock.now()

        def decide(handoff: HandoffRecord) -> Transition | None:
            if handoff.claimed_by is not None or handoff.ended_at is not None:
                return None
            return Transition(to="converted_to_park", at=now, cause="caller_hung_up")

        async def create_park(transaction: Transaction, handoff: HandoffRecord) -> HandoffRecord:
            draft = continuation(handoff, Reschedule(due_at=now), now, None)
            return (await create(transaction, handoff.account_id, draft, assess=False)).handoff

        await self._service.transition(found.account_id, found.id, decide, follow_up=create_park)

    async def is_called_back(self, found: HandoffRecord) -> bool:
        """Whether a caller who hung up is called back: it was claimed once, and the number is known."""
        if found.claimed_at is None or found.lead_id is None:
            return False
        return (await leads.get(self._db, found.account_id, found.lead_id)).phone is not None
