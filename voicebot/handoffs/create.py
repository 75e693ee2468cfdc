"""Creation of handoffs, by users and by live calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from db import handoff_events, handoffs
from db.handoffs import CreatedHandoff, HandoffDraft
from db.pool import Executor
from handlers.context import HandoffRequest
from voicebot.clock import Clock
from voicebot.handoffs import notifications, transitions
from voicebot.handoffs.call_snapshot import take_snapshot

ESCALATION_LIFE = timedelta(hours=4)
"""An escalation without an answer expires after this time, which is longer than a call."""

PARK_LIFE = timedelta(hours=72)
"""A parked call expires this long after its due time."""


async def create(
    db: Executor,
    account_id: UUID,
    draft: HandoffDraft,
    *,
    idempotency_key: str | None = None,
    assess: bool = True,
) -> CreatedHandoff:
    """Create a handoff: snapshot, row, notices and event in one transaction.

    Repeated with the same draft, or for a call that has an open escalation, it returns the first handoff.

    Args:
        db: the connection; if it is a transaction, the handoff commits with it.
        account_id: the account.
        draft: what is asked for.
        idempotency_key: the client's Idempotency-Key.
        assess: whether to ask the language model for an assessment afterwards.

    Raises:
        NotFound: the account has no such call or lead.
        IdempotencyKeyReused: the key came with a different request.
    """
    now = draft.created_at
    async with db.transaction() as transaction:
        snapshot = await take_snapshot(transaction, account_id, draft.call_id, draft.lead_id)
        due_at = (draft.due_at or now) if draft.intent == "park" else None
        made = await handoffs.create(
            transaction,
            account_id,
            replace(
                draft,
                lead_id=snapshot.lead_id,
                template_id=snapshot.template_id,
                node=snapshot.node,
                language=draft.language or snapshot.language,
                time_zone=draft.time_zone or snapshot.time_zone,
                due_at=due_at,
            ),
            state=transitions.INITIAL[draft.intent],
            queue_at=transitions.queue_at(due_at or now, draft.priority),
            expires_at=due_at + PARK_LIFE if due_at else now + ESCALATION_LIFE,
            snapshot=snapshot.document,
            idempotency_key=idempotency_key,
        )
        if made.created:
            handoff = made.handoff
            await notifications.add(
                transaction, handoff, assess=assess and bool(snapshot.document["transcript"])
            )
            await handoff_events.append_change(
                transaction, handoff, "handoff.created", now, actor_id=draft.created_by, summary=draft.reason
            )
        return made


class CallIdentity(Protocol):
    """Identifies a call."""

    @property
    def id(self) -> UUID:
        """The call's id."""
        ...

    @property
    def account_id(self) -> UUID:
        """The account's id."""
        ...


HandOff = Callable[[CallIdentity, HandoffRequest], Callable[[Executor], Awaitable[None]]]
"""Makes the write with which a live call hands over its caller; the write may be repeated."""


def call_hand_off(clock: Clock, *, assess: bool, wake: Callable[[], None]) -> HandOff:
    """Make the function with which live calls create handoffs.

    Args:
        clock: the time.
        assess: whether to ask the language model for assessments.
        wake: called after each write, because an operator may be offered the handoff.
    """

    def hand_off(call: CallIdentity, request: HandoffRequest) -> Callable[[Executor], Awaitable[None]]:
        draft = HandoffDraft(
            intent=request.intent,
            origin=request.origin,
            reason=request.reason,
            priority=request.priority,
            created_at=clock.now(),
            due_at=request.due_at,
            # The model is instructed to park a call only with the caller's consent.
            consent=request.intent == "park",
            call_id=call.id,
        )

        async def write(db: Executor) -> None:
            await create(db, call.account_id, draft, assess=assess)
            wake()

        return write

    return hand_off
