"""The end of a leg: the decision, its effect on the handoff, and the requests to the carrier that follow.

The decision is one transaction. The requests (end the operator's call, return the caller to the agent) are
sent at once, and repeated by any process until the leg is closed.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Literal

from loguru import logger

from db import bridged_calls, calls, leg_changes, legs
from db.calls import CallEnd
from db.errors import DatabaseError
from db.legs import LegCause, LegRecord, LegResult, UnclosedLeg
from db.pool import Database, Transaction
from telephony.bridge import BridgeCarrier
from telephony.carrier import CLOCKS_DIFFER
from telephony.errors import CallIsOver, CarrierError
from telephony.flow import FlowCarrier, PersonCarrier
from voicebot.background import BackgroundTasks
from voicebot.clock import Clock
from voicebot.handoffs import leg_effects
from voicebot.handoffs.transitions import LostRace

Why = LegCause | Literal["hung_up", "returned"]
"""Why a leg ends. `hung_up`: the operator hung up; `returned`: they gave the caller back to the agent."""

_TRIES = 20
OWN_END = timedelta(milliseconds=800)
"""How long a conference may take to end on its own, and the caller to return, before the carrier is asked."""
RETRY = timedelta(seconds=2)
ALONE_RETRY = timedelta(milliseconds=600)
"""The time after which the return of a caller is requested again. With ``OWN_END`` and the time between two
sweeps, a caller whose return was refused or lost twice is alone for at most 2 s."""
LOST_FOR = timedelta(seconds=60)
"""How long the carrier is asked for a leg whose dial request was not answered."""


class LegEnds:
    """Ends legs."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        carriers: Mapping[str, PersonCarrier],
        tasks: BackgroundTasks,
    ) -> None:
        """``tasks`` run the requests to the carrier."""
        self._db = database
        self._clock = clock
        self._carriers = carriers
        self._tasks = tasks

    async def end(self, leg: LegRecord, why: Why, *, only_from: LegRecord | None = None) -> LegRecord | None:
        """End a leg, with the effect on its handoff; return it as it is afterwards.

        Args:
            leg: the leg, perhaps as it was some time ago.
            why: why it ends.
            only_from: end it only if it is still in the state of this record.

        Returns:
            None if it had ended before, or has moved on.
        """
        for _ in range(_TRIES):
            leg = await legs.get(self._db, leg.id)
            if leg.ended_at is not None or (only_from is not None and leg.state != only_from.state):
                return None
            try:
                async with self._db.transaction() as transaction:
                    ended = await self._decide(transaction, leg, why)
            except LostRace:
                continue
            logger.info("call {}: the leg {} has ended ({})", leg.call_id, leg.id, why)
            fetches = ended.accepted_at is not None and ended.result == "failed"
            work = self._clean_up(ended, fetches=fetches)
            self._tasks.start(work, name=f"ending leg {leg.id}")
            return ended
        return None

    async def give_back(self, leg: LegRecord) -> LegRecord | None:
        """End a bridged leg, so that the caller goes back to the agent; None: it had ended before."""
        ended = await self.end(leg, "returned")
        if ended is not None:
            await self._fetch_caller(ended)
        return ended

    async def _decide(self, transaction: Transaction, leg: LegRecord, why: Why) -> LegRecord:
        now = self._clock.now()
        if leg.state == "bridged":
            result: LegResult = "returned" if why == "returned" else "resolved"
            cause = _cause(why)
        else:
            # Connecting an operator who has accepted is too fast for them to hang up meanwhile.
            unnamed: LegCause = "declined" if leg.accepted_at is None else "process_lost"
            result, cause = "failed", _cause(why) or unnamed
        ended = await leg_changes.end(
            transaction,
            leg,
            result=result,
            cause=cause,
            at=now,
            retry_at=now + OWN_END,
        )
        if ended is None:
            raise LostRace
        await leg_effects.ended(transaction, ended, now)
        return ended

    # ------------------------------------------------------------------ what remains at the carrier

    async def sweep(self, *, limit: int) -> None:
        """Send the remaining requests for legs that have ended; failed ones are repeated later."""
        now = self._clock.now()
        for unclosed in await legs.take_unclosed(
            self._db, now, now + RETRY, alone_retry_at=now + ALONE_RETRY, limit=limit
        ):
            self._tasks.start(self._close(unclosed), name=f"closing leg {unclosed.leg.id}")

    async def _clean_up(self, leg: LegRecord, *, fetches: bool) -> None:
        if fetches:
            await self._fetch_caller(leg)
        if leg.left_at is None:
            await self._end_operators_call(leg)

    async def _close(self, unclosed: UnclosedLeg) -> None:
        leg = unclosed.leg
        has_left = leg.left_at is not None or await self._end_operators_call(leg)
        if unclosed.is_away:
            await self._fetch_caller(leg)
        elif has_left:
            await leg_changes.close(self._db, leg.id, self._clock.now())

    async def _end_operators_call(self, leg: LegRecord) -> bool:
        """End the call to the operator; False: try again later."""
        carrier = self._carriers[leg.carrier]
        try:
            if isinstance(carrier, FlowCarrier):
                pass  # the operator's call is a part of the caller's
            elif leg.carrier_leg_id is not None:
                await carrier.hang_up(leg.carrier_leg_id)
            elif not await self._end_lost_call(carrier, leg):
                return False
            await leg_changes.left(self._db, leg.id, self._clock.now())
        except (CarrierError, DatabaseError) as error:
            logger.warning("leg {}: the operator's call was not ended: {}", leg.id, type(error).__name__)
            return False
        return True

    async def _end_lost_call(self, carrier: BridgeCarrier, leg: LegRecord) -> bool:
        """End a call whose carrier id is unknown; False: it may still appear."""
        since = leg.created_at - CLOCKS_DIFFER
        found = await carrier.find_calls(from_=leg.from_number, to=leg.to_number, since=since)
        unknown = await legs.unknown_of(self._db, leg.carrier, found)
        live = [carrier_leg_id for carrier_leg_id in unknown if await carrier.is_live(carrier_leg_id)]
        for carrier_leg_id in live:
            await carrier.hang_up(carrier_leg_id)
        return bool(live) or self._clock.now() - leg.created_at > LOST_FOR

    async def _fetch_caller(self, leg: LegRecord) -> None:
        """Have the carrier return the caller to the agent; a caller who has hung up ends the call."""
        call = await calls.get(self._db, leg.account_id, leg.call_id)
        if call.status != "transferring" or call.carrier_call_id is None:
            return
        carrier = self._carriers[leg.carrier]
        if isinstance(carrier, FlowCarrier):  # it comes back by itself
            await self.stay(leg)
            return
        try:
            await carrier.redirect(call.carrier_call_id, resume_url(leg))
        except CallIsOver:
            end = CallEnd(ended_by="caller", end_reason="hangup", outcome=None, ended_at=self._clock.now())
            await calls.finish(self._db, call.account_id, call.id, end)
        except CarrierError as error:
            logger.warning("call {}: not led back to the agent: {}", call.id, type(error).__name__)

    async def stay(self, leg: LegRecord) -> None:
        """Record that the caller did not leave the agent, because the carrier refused to connect them."""
        with suppress(DatabaseError):
            await bridged_calls.cancel_transfer(self._db, leg.account_id, leg.call_id)


def resume_url(leg: LegRecord) -> str:
    """The URL at which the carrier asks for instructions after the connection with a person."""
    return f"{leg.webhooks_url}/resume?leg={leg.id}"


def _cause(why: Why) -> LegCause | None:
    if why == "hung_up" or why == "returned":
        return None
    return why
