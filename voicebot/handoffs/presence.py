"""Presence of operators: facts are changed by compare-and-set, by the rules of ``voicebot.availability``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal
from uuid import UUID

from db import handoff_events, handoff_transitions, open_handoffs, operators
from db.errors import DatabaseBusy
from db.handoff_transitions import Transition
from db.operators import OperatorRecord
from db.pool import Database, Transaction
from voicebot import availability
from voicebot.availability import State
from voicebot.clock import Clock
from voicebot.handoffs import transitions
from voicebot.handoffs.transitions import CLAIM_LEASE

Status = Literal["idle", "away", "on_call", "wrapping_up", "offline", "exhausted", "relieved"]
"""What an operator can be set to; ``relieved`` ends an exhaustion."""

_TRIES = 20
_LOST_WHEN_OFFLINE = frozenset({"claimed", "transferring"})
"""States in which a claim returns to the queue when its operator goes offline; connected callers stay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PresenceChange:
    """A change of an operator's facts; None keeps a fact."""

    status: Status | None = None
    until: datetime | None = None
    """When the status ends; None: it does not end on its own."""
    billing: bool = False
    """Whether `exhausted` lasts until an admin ends it."""
    capacity: int | None = None
    languages: tuple[str, ...] | None = None
    teams: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorPresence:
    """An operator and the state computed from their facts."""

    operator: OperatorRecord
    state: State


class PresenceService:
    """Changes the facts of operators and appends an event when the state changes."""

    def __init__(self, database: Database, clock: Clock, *, wake: Callable[[], None] = lambda: None) -> None:
        """Work on ``database``; ``wake`` is called after a change that may allow an offer."""
        self._db = database
        self._clock = clock
        self._wake = wake

    async def get(self, account_id: UUID, user_id: UUID) -> OperatorPresence:
        """Get an operator and their state.

        Raises:
            NotFound: the account has no such user.
        """
        operator = await operators.ensure(self._db, account_id, user_id)
        return OperatorPresence(operator=operator, state=availability.state(operator, self._clock.now()))

    async def heartbeat(self, account_id: UUID, user_id: UUID) -> OperatorPresence:
        """Record a sign of life and renew the leases of the operator's claims.

        Raises:
            NotFound: the account has no such user.
            DatabaseBusy: the operator kept changing; try again.
        """
        now = self._clock.now()

        def change(operator: OperatorRecord) -> OperatorRecord:
            return replace(availability.mark_seen(operator, now), signed_on=True)

        return await self._change(account_id, user_id, change, now, renews=True)

    async def set(self, account_id: UUID, user_id: UUID, wanted: PresenceChange) -> OperatorPresence:
        """Change an operator's facts. Going offline returns their claims to the queue.

        Every change that the operator makes and stays online with renews the leases of their claims.

        Raises:
            IllegalMove: the state does not allow the status.
            NotFound: the account has no such user.
            DatabaseBusy: the operator kept changing; try again.
        """
        now = self._clock.now()
        after = await self._change(
            account_id,
            user_id,
            lambda operator: _changed(operator, wanted, now),
            now,
            # An admin sets `relieved`, so it does not show that the operator is there.
            renews=wanted.status not in ("offline", "relieved"),
        )
        self._wake()
        return after

    async def expire(self, account_id: UUID, user_id: UUID) -> OperatorPresence:
        """Sign off an operator who has become silent; their claims return to the queue, once.

        Raises:
            NotFound: the account has no such user.
            DatabaseBusy: the operator kept changing; try again.
        """
        now = self._clock.now()

        def change(operator: OperatorRecord) -> OperatorRecord | None:
            silent = operator.signed_on and availability.is_offline(operator, now)
            return replace(operator, signed_on=False) if silent else None

        after = await self._change(account_id, user_id, change, now)
        self._wake()
        return after

    async def _change(
        self,
        account_id: UUID,
        user_id: UUID,
        change: Callable[[OperatorRecord], OperatorRecord | None],
        now: datetime,
        *,
        renews: bool = False,
    ) -> OperatorPresence:
        for _ in range(_TRIES):
            before = await operators.ensure(self._db, account_id, user_id)
            changed = change(before)
            if changed is None:
                return OperatorPresence(operator=before, state=availability.state(before, now))
            async with self._db.transaction() as transaction:
                written = await operators.save(transaction, changed)
                if written is not None:
                    if renews and written.holding:
                        await handoff_transitions.renew(transaction, account_id, user_id, now + CLAIM_LEASE)
                    # Silence alone changes no row: a signed-on operator has been reported as online.
                    reported = availability.state(before, now) if before.signed_on else "offline"
                    return await self._report(transaction, written, reported, now)
        raise DatabaseBusy("The operator kept changing; try again.")

    async def _report(
        self, transaction: Transaction, operator: OperatorRecord, before: State, now: datetime
    ) -> OperatorPresence:
        state = availability.state(operator, now)
        if not operator.signed_on and operator.holding:
            operator = await self._return_claims(transaction, operator, now)
        if not operator.signed_on or state != before:
            await handoff_events.append(
                transaction,
                operator.account_id,
                "operator.changed",
                now,
                actor_id=operator.user_id,
                data={"operator_id": str(operator.user_id), "state": state, "before": before},
            )
        return OperatorPresence(operator=operator, state=state)

    async def _return_claims(
        self, transaction: Transaction, operator: OperatorRecord, now: datetime
    ) -> OperatorRecord:
        # The operator's row is locked, and a claim needs it too, so no claim is added meanwhile.
        for handoff in await open_handoffs.held_by(transaction, operator.account_id, operator.user_id):
            if handoff.state in _LOST_WHEN_OFFLINE:
                back = Transition(
                    to=transitions.WAITING[handoff.intent],
                    at=now,
                    event="handoff.lapsed",
                    cause="operator_offline",
                )
                await transitions.apply(transaction, handoff, back)
        return await operators.ensure(transaction, operator.account_id, operator.user_id)


def _changed(operator: OperatorRecord, wanted: PresenceChange, now: datetime) -> OperatorRecord:
    return replace(
        _with_status(operator, wanted, now),
        signed_on=wanted.status != "offline",
        capacity=operator.capacity if wanted.capacity is None else wanted.capacity,
        languages=operator.languages if wanted.languages is None else wanted.languages,
        teams=operator.teams if wanted.teams is None else wanted.teams,
    )


def _with_status(operator: OperatorRecord, wanted: PresenceChange, now: datetime) -> OperatorRecord:
    match wanted.status:
        case None:
            return availability.mark_seen(operator, now)
        case "offline":
            return availability.sign_off(operator)
        case "exhausted":
            seen = availability.mark_seen(operator, now)
            return availability.exhaust(seen, now, until=wanted.until, billing=wanted.billing)
        case "relieved":
            return availability.clear_exhaustion(availability.mark_seen(operator, now))
        case activity:
            return availability.set_to(operator, activity, now, wanted.until)
