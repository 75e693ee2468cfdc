"""Connects callers by telephone with operators, and with destinations of templates.

The row of a leg is created, then the person is dialled. They hear a whisper and accept with the key 1 or over
the API. Then both calls join a conference that is named after the handoff's id. From then on the carrier
holds the connection, and no process of ours is needed. The carrier's reports (``leg_reports``) may arrive at
any process, in any order and more than once.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from uuid import UUID

from loguru import logger

from db import bridged_calls, handoff_events, handoff_transitions, handoffs, leg_changes, legs
from db.calls import CallRecord
from db.errors import DatabaseError
from db.handoffs import HandoffRecord
from db.ids import new_id
from db.legs import LegDraft, LegRecord
from db.pool import Database
from telephony.bridge import ConferenceJoin, Party
from telephony.carrier import DialRequest
from telephony.errors import CallIsOver, CarrierError
from telephony.flow import FlowCarrier, PersonCarrier, can_transfer
from voicebot.background import BackgroundTasks
from voicebot.clock import Clock
from voicebot.handoffs import leg_effects
from voicebot.handoffs.leg_ends import LegEnds, resume_url
from voicebot.handoffs.transitions import CLAIM_LEASE, LostRace, StaleClaim

RING_TIMEOUT_S = 30
DIAL_DEADLINE = timedelta(seconds=10)
"""The carrier reports dialling within this time; otherwise the process that sent the request is lost."""
RING_DEADLINE = timedelta(seconds=RING_TIMEOUT_S + 20)
"""The carrier reports the end of ringing within this time, including the detection of answering machines."""
ACCEPTED_DEADLINE = timedelta(seconds=10)
LED_OUT_DEADLINE = timedelta(hours=5)
"""A flow asks for the next step of the call within this time; no carrier keeps a call for longer."""
BRIDGED_CHECK = timedelta(seconds=30)
"""How often the carrier is asked whether both sides of a bridge are still there."""


class NotDialable(Exception):
    """The operator of a handoff cannot be called, or cannot be called now."""


class Bridge:
    """Dials persons, and connects callers with those who accept."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        carriers: Mapping[str, PersonCarrier],
        ends: LegEnds,
        tasks: BackgroundTasks,
    ) -> None:
        """``carriers`` are those that can connect a caller with a person, by name."""
        self._db = database
        self._clock = clock
        self._carriers = carriers
        self._ends = ends
        self._tasks = tasks

    async def dial(
        self, account_id: UUID, handoff_id: UUID, user_id: UUID, origin: str, *, epoch: int | None = None
    ) -> HandoffRecord:
        """Call the operator who holds a handoff; the call itself is placed in the background.

        A handoff whose operator is being called already is not changed.

        Args:
            account_id: the account.
            handoff_id: the handoff.
            user_id: the operator.
            origin: URL of this server for carriers.
            epoch: the claim; None: the present one.

        Raises:
            StaleClaim: the operator does not hold the handoff, or ``epoch`` is another claim.
            NotDialable: the operator has no telephone, or the caller cannot be connected.
            NotFound: the account has no such handoff.
        """
        handoff = await handoffs.get(self._db, account_id, handoff_id)
        if handoff.claimed_by != user_id or epoch not in (None, handoff.epoch):
            raise StaleClaim(handoff)
        draft = await self._draft(handoff, user_id, origin)
        earlier = await legs.open_of(self._db, account_id, handoff_id)
        if earlier is not None and earlier.epoch != handoff.epoch:
            await self._ends.end(earlier, "declined")  # that of a claim which has ended
        async with self._db.transaction() as transaction:
            leg = await leg_changes.create(transaction, draft)
            if leg is None:
                return handoff
            await handoff_transitions.renew(transaction, account_id, user_id, self._clock.now() + CLAIM_LEASE)
            claimed = await handoff_transitions.set_cause(transaction, handoff, None)
            if claimed is None or handoff.state != "claimed":
                raise StaleClaim(handoff)
            handoff = claimed
            await handoff_events.append_change(
                transaction, handoff, "handoff.dialing", leg.created_at, actor_id=user_id, leg_id=leg.id
            )
        self._tasks.start(self._place(leg), name=f"dialling leg {leg.id}")
        return handoff

    async def dial_destination(self, call: CallRecord, name: str, number: str, origin: str) -> UUID | None:
        """Call a destination of a template for a live call; the call itself is placed in the background.

        Args:
            call: the caller's call.
            name: the destination's name.
            number: its number (E.164).
            origin: URL of this server for carriers.

        Returns:
            The id of the leg; None: the destination cannot be called now.
        """
        ours = call.to_number if call.direction == "inbound" else call.from_number
        carrier = self._carriers.get(call.carrier)
        if carrier is None or isinstance(carrier, FlowCarrier) or ours is None:
            logger.warning("call {}: no person can be called through {}", call.id, call.carrier)
            return None
        now = self._clock.now()
        draft = LegDraft(
            id=new_id(),
            account_id=call.account_id,
            call_id=call.id,
            destination=name,
            carrier=call.carrier,
            from_number=ours,
            to_number=number,
            webhooks_url=origin + carrier.webhooks_path,
            deadline=now + DIAL_DEADLINE,
            created_at=now,
        )
        try:
            leg = await leg_changes.create(self._db, draft)
        except DatabaseError as error:
            logger.warning("call {}: {} is not called: {}", call.id, name, type(error).__name__)
            return None
        if leg is None:
            return None
        self._tasks.start(self._place(leg), name=f"dialling leg {leg.id}")
        return leg.id

    async def _draft(self, handoff: HandoffRecord, user_id: UUID, origin: str) -> LegDraft:
        if handoff.call_id is None or handoff.intent != "escalate":
            raise NotDialable("The handoff has no caller on the line.")
        line = await legs.operator_line(self._db, handoff.account_id, handoff.call_id, user_id)
        if line is None:
            raise NotDialable("The caller's call is not in progress.")
        if line.carrier not in self._carriers:
            raise NotDialable(f"The carrier {line.carrier} cannot connect a caller with a person.")
        if not can_transfer(self._carriers[line.carrier], was_dialled=line.was_dialled):
            raise NotDialable(
                "The call was dialled without a flow: nobody can join it by telephone. Use the browser."
            )
        if line.phone is None:
            raise NotDialable("You have no telephone number; set `phone`.")
        now = self._clock.now()
        return LegDraft(
            id=new_id(),
            account_id=handoff.account_id,
            handoff_id=handoff.id,
            epoch=handoff.epoch,
            call_id=handoff.call_id,
            user_id=user_id,
            carrier=line.carrier,
            from_number=line.from_number,
            to_number=line.phone,
            webhooks_url=origin + self._carriers[line.carrier].webhooks_path,
            deadline=now + DIAL_DEADLINE,
            created_at=now,
        )

    async def _place(self, leg: LegRecord) -> None:
        carrier = self._carriers[leg.carrier]
        if isinstance(carrier, FlowCarrier):
            # The flow dials the operator when the process with the call has closed its stream.
            await self.begin(leg, within=LED_OUT_DEADLINE)
            return
        request = DialRequest(
            to=leg.to_number,
            from_=leg.from_number,
            answer_url=f"{leg.webhooks_url}/whisper?leg={leg.id}",
            status_url=f"{leg.webhooks_url}/leg?leg={leg.id}",
            ring_timeout_s=RING_TIMEOUT_S,
            detect_machine=True,
        )
        try:
            carrier_leg_id = await carrier.dial(request)
        except CarrierError as error:
            logger.warning("leg {}: the carrier did not dial: {}", leg.id, error)
            await self._ends.end(leg, "carrier_error")
            if not error.uncertain:
                await leg_changes.left(self._db, leg.id, self._clock.now())
            return
        named = await leg_changes.named(self._db, leg.id, carrier_leg_id)
        await leg_changes.extend(self._db, leg, self._clock.now() + RING_DEADLINE)
        if named.ended_at is not None:
            await self._hang_up(named)

    async def accept(
        self, account_id: UUID, handoff_id: UUID, user_id: UUID, *, epoch: int | None = None
    ) -> HandoffRecord:
        """Accept over the API instead of by key: connect the operator, who hears the whisper.

        Raises:
            StaleClaim: the operator does not hold the handoff, or ``epoch`` is another claim.
            NotDialable: the operator's telephone has not been answered by a person.
            NotFound: the account has no such handoff.
        """
        leg = await self._leg_of(account_id, handoff_id, user_id, epoch)
        if leg is None or leg.state not in ("whispering", "accepted", "bridged"):
            raise NotDialable("Your telephone has not been answered by a person yet.")
        if leg.state == "whispering" and leg.carrier_leg_id is not None and await self.begin(leg):
            if await self._join(leg, leg.carrier_leg_id, "operator"):
                await self.connect(leg)
            else:
                await self._ends.end(leg, "hung_up")
        return await handoffs.get(self._db, account_id, handoff_id)

    async def give_back(
        self, account_id: UUID, handoff_id: UUID, user_id: UUID, *, epoch: int | None = None
    ) -> HandoffRecord:
        """Lead the caller back to the agent. Repeating it changes nothing.

        Raises:
            StaleClaim: the operator does not hold the handoff, or ``epoch`` is another claim.
            NotDialable: the caller is not connected with the operator.
            NotFound: the account has no such handoff.
        """
        handoff = await handoffs.get(self._db, account_id, handoff_id)
        if handoff.cause == "returned" and handoff.resolved_by == user_id:
            return handoff
        leg = await self._leg_of(account_id, handoff_id, user_id, epoch)
        if leg is None or leg.state != "bridged":
            raise NotDialable("The caller is not connected with you.")
        await self._ends.give_back(leg)
        return await handoffs.get(self._db, account_id, handoff_id)

    async def begin(self, leg: LegRecord, *, within: timedelta = ACCEPTED_DEADLINE) -> bool:
        """Record that the operator accepted and that the call leaves its agent. False: too late, or done.

        ``within`` is how long connecting them may take.
        """
        now = self._clock.now()
        try:
            async with self._db.transaction() as transaction:
                accepted = await leg_changes.accepted(transaction, leg, now, deadline=now + within)
                if accepted is None:
                    return False
                call = await bridged_calls.begin_transfer(
                    transaction, leg.account_id, leg.call_id, connect_to=leg.to_number
                )
                if call is None:
                    raise LostRace  # noqa: TRY301 - rolls the transaction back
                await leg_effects.accepted(transaction, leg, now)
        except LostRace:
            # The caller has left, or the claim has ended.
            await self._ends.end(leg, "caller_left")
            return False
        return True

    async def connect(self, leg: LegRecord) -> bool:
        """Connect the caller with the operator who has accepted; False: that failed."""
        call = await bridged_calls.transferring(self._db, leg.account_id, leg.call_id)
        if call is None or call.carrier_call_id is None:
            await self._ends.end(leg, "caller_left")
            return False
        return await self._join(leg, call.carrier_call_id, "caller") and await self.connected(leg)

    async def connected(self, leg: LegRecord) -> bool:
        """Record that the caller and the operator are connected; False: the leg has ended."""
        now = self._clock.now()
        for _ in range(3):
            try:
                async with self._db.transaction() as transaction:
                    bridged = await leg_changes.bridged(transaction, leg, now, deadline=now + BRIDGED_CHECK)
                    if bridged is None:
                        return False  # the operator has hung up meanwhile
                    await leg_effects.bridged(transaction, leg, now)
            except LostRace:
                continue
            return True
        return False

    async def _join(self, leg: LegRecord, carrier_call_id: str, party: Party) -> bool:
        """Move one of the two calls into the conference; if that fails, the end of the leg says why."""
        carrier = self._carriers[leg.carrier]
        if isinstance(carrier, FlowCarrier):
            return False
        try:
            await carrier.join(carrier_call_id, conference(leg, party))
        except CallIsOver:
            await self._ends.end(leg, "caller_left" if party == "caller" else "hung_up")
        except CarrierError as error:
            logger.warning("leg {}: the {} was not connected: {}", leg.id, party, error)
            if party == "caller" and not error.uncertain:
                await self._ends.stay(leg)
            await self._ends.end(leg, "carrier_error")
        else:
            return True
        return False

    async def _leg_of(
        self, account_id: UUID, handoff_id: UUID, user_id: UUID, epoch: int | None
    ) -> LegRecord | None:
        handoff = await handoffs.get(self._db, account_id, handoff_id)
        if handoff.claimed_by != user_id or epoch not in (None, handoff.epoch):
            raise StaleClaim(handoff)
        return await legs.open_of(self._db, account_id, handoff_id)

    async def _hang_up(self, leg: LegRecord) -> None:
        try:
            await self._carriers[leg.carrier].hang_up(leg.carrier_leg_id or "")
            await leg_changes.left(self._db, leg.id, self._clock.now())
        except (CarrierError, DatabaseError) as error:
            logger.warning("leg {}: not hung up: {}", leg.id, type(error).__name__)


def conference(leg: LegRecord, party: Party) -> ConferenceJoin:
    """The request with which a party joins the conference of a leg."""
    then = resume_url(leg) if party == "caller" else f"{leg.webhooks_url}/left?leg={leg.id}"
    return ConferenceJoin(
        name=str(leg.handoff_id or leg.id),
        party=party,
        then_url=then,
        events_url=f"{leg.webhooks_url}/conference?leg={leg.id}",
    )
