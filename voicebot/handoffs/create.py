"""Handoffs are made: by people, and by a live call among what it writes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from db import handoff_events, handoffs
from db.handoffs import CreatedHandoff, HandoffDraft
from db.pool import Executor
from handlers.context import HandoffRequest
from voicebot.clock import Clock
from voicebot.handoffs import events, notifications, transitions
from voicebot.handoffs.call_snapshot import take_snapshot
from voicebot.handoffs.create_request import CreateHandoff

ESCALATION_LIFE = timedelta(hours=4)
"""After so long without an answer an escalation is over; calls are shorter."""

PARK_LIFE = timedelta(hours=72)
"""How long after its time a parked call may wait."""


async def make(
    db: Executor,
    account_id: UUID,
    wish: CreateHandoff,
    now: datetime,
    *,
    key: str | None = None,
    assess: bool = True,
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
        frozen = await take_snapshot(transaction, account_id, wish.call_id, wish.lead_id)
        due_at = (wish.due_at or now) if wish.intent == "park" else None
        draft = HandoffDraft(
            id=wish.id,
            intent=wish.intent,
            origin=wish.origin,
            state=transitions.BEGINS[wish.intent],
            reason=wish.reason,
            created_at=now,
            queue_at=transitions.queue_at(due_at or now, wish.priority),
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
            worth_an_opinion = assess and bool(frozen.document["transcript"])
            await notifications.tell(transaction, made.handoff, assess=worth_an_opinion)
            await handoff_events.append(transaction, account_id, events.created(made.handoff))
        return made


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


def entry(
    clock: Clock, *, assess: bool, stir: Callable[[], None]
) -> Callable[[CallFacts, HandoffRequest], Callable[[Executor], Awaitable[None]]]:
    """How a live call hands itself to people: as an entry among what it writes, which may be repeated."""

    def hand_off(call: CallFacts, request: HandoffRequest) -> Callable[[Executor], Awaitable[None]]:
        now = clock.now()
        wish = CreateHandoff(
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
