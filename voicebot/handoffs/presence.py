"""Who is at the desk: facts changed by compare-and-set, by the rules of `voicebot.availability`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal
from uuid import UUID

from db import handoff_events, handoff_transitions, open_handoffs, operators
from db.errors import DatabaseBusy
from db.handoff_events import HandoffEvent
from db.handoff_transitions import Transition
from db.operators import OperatorRecord
from db.pool import Database, Transaction
from voicebot import availability
from voicebot.availability import IllegalMove, Presence, State
from voicebot.clock import Clock
from voicebot.handoffs import transitions
from voicebot.handoffs.apply_transition import CLAIM_LEASE, apply, held_state
from voicebot.handoffs.presence_mapping import facts_of, presence_of

Wanted = Literal["idle", "away", "on_call", "wrapping_up", "offline", "exhausted", "relieved"]

_TRIES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What an operator sets; None leaves a fact as it is."""

    status: Wanted | None = None
    until: datetime | None = None
    billing: bool = False
    """Of `exhausted`: until a person says otherwise."""
    capacity: int | None = None
    languages: tuple[str, ...] | None = None
    teams: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PresenceView:
    """An operator, and what their facts add up to now."""

    operator: OperatorRecord
    state: State


class PresenceService:
    """Changes the facts of operators, and tells the stream when they add up to something else."""

    def __init__(self, database: Database, clock: Clock, *, stir: Callable[[], None] = lambda: None) -> None:
        """``stir`` is called when somebody could be offered something."""
        self._db = database
        self._clock = clock
        self._stir = stir

    async def look(self, account_id: UUID, user_id: UUID) -> PresenceView:
        """An operator as they are."""
        operator = await operators.ensure(self._db, account_id, user_id)
        return PresenceView(
            operator=operator, state=availability.state(presence_of(operator), self._clock.now())
        )

    async def heartbeat(self, account_id: UUID, user_id: UUID) -> PresenceView:
        """A sign of life; renews the leases of what the operator holds."""
        now = self._clock.now()
        seen = await self._change(
            account_id, user_id, lambda _, presence: availability.seen(presence, now), now, signed_on=True
        )
        if seen.operator.holding:
            await handoff_transitions.renew(self._db, account_id, user_id, now + CLAIM_LEASE)
        return seen

    async def set(self, account_id: UUID, user_id: UUID, setting: Setting) -> PresenceView:
        """Set oneself to something.

        Raises:
            IllegalMove: the state does not allow it.
        """
        now = self._clock.now()

        def rule(operator: OperatorRecord, presence: Presence) -> Presence:
            return _ruled(presence, setting, now)

        seen = await self._change(
            account_id, user_id, rule, now, signed_on=setting.status != "offline", setting=setting
        )
        self._stir()
        return seen

    async def lost(self, account_id: UUID, user_id: UUID) -> PresenceView:
        """Look whether an operator has fallen silent; if so what they hold returns to the queue, once."""
        now = self._clock.now()
        seen = await self.look(account_id, user_id)
        if seen.state != "offline" or not seen.operator.signed_on:
            return seen
        gone = await self._change(
            account_id, user_id, lambda _, presence: presence, now, signed_on=False, only_if_silent=True
        )
        self._stir()
        return gone

    async def _change(
        self,
        account_id: UUID,
        user_id: UUID,
        rule: Callable[[OperatorRecord, Presence], Presence],
        now: datetime,
        *,
        signed_on: bool,
        setting: Setting | None = None,
        only_if_silent: bool = False,
    ) -> PresenceView:
        for _ in range(_TRIES):
            operator = await operators.ensure(self._db, account_id, user_id)
            before = presence_of(operator)
            if only_if_silent and not availability.is_offline(before, now):
                return PresenceView(operator=operator, state=availability.state(before, now))
            after = rule(operator, before)
            facts = facts_of(_with(operator, setting), after, signed_on=signed_on)
            async with self._db.transaction() as transaction:
                written = await operators.set_facts(
                    transaction, account_id, user_id, facts, expected_revision=operator.revision
                )
                if written is not None:
                    # Who was signed on counts as there until somebody noticed that they are not.
                    told = availability.state(before, now) if operator.signed_on else "offline"
                    return await self._tell(transaction, written, told, now)
        raise DatabaseBusy("The operator kept changing; try again.")

    async def _tell(
        self, transaction: Transaction, operator: OperatorRecord, before: State, now: datetime
    ) -> PresenceView:
        state = availability.state(presence_of(operator), now)
        left = not operator.signed_on
        if left and operator.holding:
            operator = await self._return_claims(transaction, operator, now)
        if left or state != before:
            event = HandoffEvent(
                type="operator.changed",
                at=now,
                actor_id=operator.user_id,
                data={"operator_id": str(operator.user_id), "state": state, "before": before},
            )
            await handoff_events.append(transaction, operator.account_id, event)
        return PresenceView(operator=operator, state=state)

    async def _return_claims(
        self, transaction: Transaction, operator: OperatorRecord, now: datetime
    ) -> OperatorRecord:
        # The operator's row is ours, and a claim needs it too: nothing is added while we give back.
        for held in await open_handoffs.held_by(transaction, operator.account_id, operator.user_id):
            if held_state(held.state):
                back = Transition(to=transitions.WAITING[held.intent], at=now, cause="operator_offline")
                await apply(transaction, held, back, "handoff.lapsed")
        return await operators.ensure(transaction, operator.account_id, operator.user_id)


def _ruled(presence: Presence, setting: Setting, now: datetime) -> Presence:
    match setting.status:
        case None:
            return availability.seen(presence, now)
        case "offline":
            return availability.signed_off(presence)
        case "exhausted":
            return availability.exhausted(
                availability.seen(presence, now), now, until=setting.until, billing=setting.billing
            )
        case "relieved":
            return availability.relieved(availability.seen(presence, now))
        case activity:
            return availability.set_to(presence, activity, now, setting.until)


def _with(operator: OperatorRecord, setting: Setting | None) -> OperatorRecord:
    if setting is None:
        return operator
    return replace(
        operator,
        capacity=operator.capacity if setting.capacity is None else setting.capacity,
        languages=operator.languages if setting.languages is None else setting.languages,
        teams=operator.teams if setting.teams is None else setting.teams,
    )


__all__ = ["IllegalMove", "PresenceService", "PresenceView", "Setting", "Wanted"]
