"""Creation of handoffs, by users and by live calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from db import handoff_events, handoffs, open_handoffs
from db.errors import DatabaseBusy
from db.handoff_transitions import Transition
from db.handoffs import CreatedHandoff, HandoffDraft, HandoffRecord
from db.pool import Executor
from handlers.context import HandoffRequest
from voicebot.clock import Clock
from voicebot.handoffs import notifications, transitions
from voicebot.handoffs.call_snapshot import take_snapshot

ESCALATION_LIFE = timedelta(hours=4)
"""An escalation without an answer expires after this time, which is longer than a call."""

_TRIES = 20

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
        draft: the request.
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
                escalate_after_ms=snapshot.escalate_after_ms or draft.escalate_after_ms,
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Reschedule:
    """Another time to call."""

    due_at: datetime
    time_zone: str | None = None
    """IANA name; None keeps the caller's time zone."""
    consent: bool | None = None
    """Whether the caller agreed to be called. None: unchanged for a park, agreed for an escalation."""


def continuation(
    escalation: HandoffRecord, later: Reschedule, now: datetime, user_id: UUID | None
) -> HandoffDraft:
    """The park that an escalation becomes; ``user_id``: who decides it; None: the program."""
    return HandoffDraft(
        intent="park",
        origin="person",
        reason=escalation.reason,
        created_at=now,
        call_id=escalation.call_id,
        lead_id=escalation.lead_id,
        notes=escalation.notes,
        priority=escalation.priority,
        language=escalation.language,
        team=escalation.team,
        due_at=later.due_at,
        time_zone=later.time_zone or escalation.time_zone,
        consent=later.consent is not False,
        created_by=user_id,
        continues_id=escalation.id,
    )


async def park(db: Executor, account_id: UUID, draft: HandoffDraft, *, assess: bool = True) -> CreatedHandoff:
    """Create a park for a caller on a live call; an open escalation of the call is converted to it.

    Raises:
        LostRace: the escalation has changed meanwhile; nothing was written.
        NotFound: the account has no such call.
    """
    async with db.transaction() as transaction:
        if draft.call_id is not None:
            asked = await open_handoffs.escalation_of(transaction, account_id, draft.call_id)
            if asked is not None and "converted_to_park" in transitions.allowed(asked.intent, asked.state):
                converted = Transition(to="converted_to_park", at=draft.created_at, cause="parked")
                await transitions.apply(transaction, asked, converted)
                draft = replace(
                    draft,
                    priority=asked.priority,
                    language=asked.language,
                    team=asked.team,
                    notes="\n".join(filter(None, (asked.notes, f"Asked for a person: {asked.reason}"))),
                    continues_id=asked.id,
                )
        return await create(transaction, account_id, draft, assess=assess)


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
"""Makes the write with which a live call creates a handoff; the write may be repeated."""


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
            if draft.intent == "escalate":
                await create(db, call.account_id, draft, assess=assess)
            else:
                await _until_won(lambda: park(db, call.account_id, draft, assess=assess))
            wake()

        return write

    return hand_off


async def _until_won(attempt: Callable[[], Awaitable[object]]) -> None:
    """Repeat ``attempt`` until it does not lose a race.

    Raises:
        DatabaseBusy: the handoff kept changing; try again.
    """
    for _ in range(_TRIES):
        try:
            await attempt()
        except transitions.LostRace:
            continue
        return
    raise DatabaseBusy("The handoff kept changing; try again.")
