"""Handles a carrier's reports of legs. Reports may be repeated and arrive in any order."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta

from loguru import logger

from db import bridged_calls, calls, leg_changes, legs
from db.calls import CallRecord
from db.errors import DatabaseError, NotFound
from db.legs import LegRecord, LegState
from db.pool import Database
from telephony.bridge import AnsweredBy, BridgeCarrier, Whisper
from telephony.errors import CarrierError
from telephony.flow import FlowCarrier, PersonCarrier
from telephony.webhook import CallStatus, EndReason, WebhookReply
from voicebot.clock import Clock
from voicebot.handoffs import leg_effects
from voicebot.handoffs.bridge import BRIDGED_CHECK, RING_DEADLINE, Bridge, conference
from voicebot.handoffs.leg_ends import LegEnds, Why

KEY_TIMEOUT_S = 8
"""How long an operator may take to press a key after the whisper."""
WHISPER_DEADLINE = timedelta(seconds=15 + KEY_TIMEOUT_S + 7)
SWEEP_S = 0.4
"""The interval at which legs are checked until all are closed; after its call, a leg ends within a second."""

_BATCH = 100
DECIDED_WITHIN_S = 0.5
_POLL_S = 0.05
_ACCEPT = "1"
_WHY: Mapping[EndReason, Why] = {
    "busy": "busy",
    "no_answer": "no_answer",
    "canceled": "no_answer",
    "failed": "carrier_error",
    "completed": "hung_up",
}
_LATE: Mapping[LegState, Why] = {
    "dialing": "process_lost",
    "ringing": "no_answer",
    "answered": "timeout",
    "whispering": "timeout",
    "accepted": "process_lost",
}
"""The end of a leg that stayed in a state beyond its deadline, by state."""


class LegReports:
    """Handles the carrier's reports of legs, and checks legs that are not reported."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        carriers: Mapping[str, PersonCarrier],
        bridge: Bridge,
        ends: LegEnds,
        *,
        decided_within_s: float = DECIDED_WITHIN_S,
    ) -> None:
        """``bridge`` connects legs, and ``ends`` ends them.

        ``decided_within_s`` is how long a caller who left a conference waits for a report of the operator's
        call, in seconds, before the carrier is asked.
        """
        self._decided_within_s = decided_within_s
        self._db = database
        self._clock = clock
        self._carriers = carriers
        self._bridge = bridge
        self._ends = ends
        self._wakeup = asyncio.Event()

    # ------------------------------------------------------------------------- the operator's call

    async def status(self, leg: LegRecord, status: CallStatus, answered_by: AnsweredBy) -> None:
        """The carrier reports the progress or the end of the call to the operator."""
        leg = await leg_changes.named(self._db, leg.id, status.carrier_call_id)
        if status.terminal:
            await leg_changes.left(self._db, leg.id, self._clock.now())
            machine = answered_by == "machine"
            why = _WHY[status.end_reason or "completed"]
            await self._ends.end(leg, "voicemail" if machine and leg.accepted_at is None else why)
        elif leg.ended_at is not None:
            await self._end_late(leg)
        elif status.status == "in_progress":
            await self._progress(leg, "answered", RING_DEADLINE)
        elif status.carrier_status == "ringing":
            await self._progress(leg, "ringing", RING_DEADLINE)
        else:
            await leg_changes.extend(self._db, leg, self._clock.now() + RING_DEADLINE)

    async def _progress(self, leg: LegRecord, state: LegState, within: timedelta) -> LegRecord | None:
        """Move a leg forward."""
        now = self._clock.now()
        async with self._db.transaction() as transaction:
            moved = await leg_changes.progressed(transaction, leg, state, deadline=now + within)
            if moved is None:
                return None
            await leg_effects.progressed(transaction, leg, now)
        return moved

    async def _end_late(self, leg: LegRecord) -> None:
        """End a call to an operator that continues although its leg has ended."""
        if leg.carrier_leg_id is None:
            return
        try:
            await self._carriers[leg.carrier].hang_up(leg.carrier_leg_id)
        except CarrierError as error:
            logger.warning("leg {}: not hung up: {}", leg.id, error)

    async def answered(self, leg: LegRecord, carrier_leg_id: str, answered_by: AnsweredBy) -> WebhookReply:
        """The operator's telephone was answered: whisper to a person, and hang up on a machine."""
        carrier = self._bridge_carrier(leg)
        leg = await leg_changes.named(self._db, leg.id, carrier_leg_id)
        if answered_by == "machine":
            await self._ends.end(leg, "voicemail")
            return carrier.hang_up_reply()
        if leg.ended_at is None:
            await self._progress(leg, "whispering", WHISPER_DEADLINE)
            leg = await legs.get(self._db, leg.id)
        if leg.ended_at is not None:
            return carrier.hang_up_reply()
        if leg.accepted_at is not None:
            return carrier.join_reply(conference(leg, "operator"))
        said = await leg_effects.whisper(self._db, leg)
        whisper = Whisper(
            text=said.text,
            language=said.language,
            key_url=f"{leg.webhooks_url}/key?leg={leg.id}",
            silence_url=f"{leg.webhooks_url}/key?leg={leg.id}",
            key_timeout_s=KEY_TIMEOUT_S,
        )
        return carrier.whisper_reply(whisper)

    async def key(self, leg: LegRecord, carrier_leg_id: str, key: str | None) -> WebhookReply:
        """The operator pressed a key, or none in time: 1 accepts, every other one declines."""
        carrier = self._bridge_carrier(leg)
        leg = await leg_changes.named(self._db, leg.id, carrier_leg_id)
        if leg.accepted_at is None and leg.ended_at is None:
            if key != _ACCEPT:
                await self._ends.end(leg, "timeout" if key is None else "declined", only_from=leg)
            elif await self._bridge.begin(leg):
                await self._bridge.connect(leg)
            leg = await legs.get(self._db, leg.id)
        if leg.accepted_at is None or leg.ended_at is not None:
            return carrier.hang_up_reply()
        return carrier.join_reply(conference(leg, "operator"))

    def _bridge_carrier(self, leg: LegRecord) -> BridgeCarrier:
        """The carrier of a leg whose operator is called by a call of their own."""
        carrier = self._carriers[leg.carrier]
        if isinstance(carrier, FlowCarrier):
            raise NotFound("leg", leg.id)
        return carrier

    async def operator_left(self, leg: LegRecord, status: CallStatus) -> WebhookReply:
        """The operator has left the conference: they hung up, pressed a key, or the caller has left."""
        leg = await legs.get(self._db, leg.id)
        if leg.ended_at is None:
            if status.terminal:
                await leg_changes.left(self._db, leg.id, self._clock.now())
                await self._ends.end(leg, "hung_up")
            else:
                await self._ends.end(leg, "returned" if await self._has_caller(leg) else "caller_left")
        return self._carriers[leg.carrier].hang_up_reply()

    async def _has_caller(self, leg: LegRecord) -> bool:
        """Whether the caller is on the line, according to the carrier."""
        call = await calls.get(self._db, leg.account_id, leg.call_id)
        if call.status == "ended" or call.carrier_call_id is None:
            return False
        try:
            return await self._carriers[leg.carrier].is_live(call.carrier_call_id)
        except CarrierError:
            return True

    # --------------------------------------------------------------------------- the caller's call

    async def caller_left(self, call: CallRecord) -> None:
        """The caller has hung up: end the leg of the call, if it has one that is open."""
        for leg in await legs.of_call(self._db, call.account_id, call.id):
            if leg.ended_at is None:
                await self._ends.end(leg, "caller_left")

    async def caller_back(self, leg: LegRecord) -> CallRecord | None:
        """The carrier asks what to do with a caller who was connected with an operator.

        Returns:
            The call, if it goes back to its agent; None: the caller is to be hung up on.
        """
        leg = await self._decided(leg)
        if leg.result == "resolved":
            return None
        return await bridged_calls.return_to_agent(self._db, leg.account_id, leg.call_id)

    async def connection_over(self, leg: LegRecord, outcome: EndReason) -> CallRecord | None:
        """A flow has connected the caller with an operator, and asks for the call again.

        Returns:
            The call, if it goes back to its agent; None: the caller is to be hung up on.
        """
        if leg.ended_at is None and outcome == "completed":
            await self._bridge.connected(leg)
            await self._ends.end(leg, "hung_up")
        leg = await legs.get(self._db, leg.id)
        if leg.result == "resolved":
            return None
        # Before the leg ends: its end does not touch a caller who has already returned.
        back = await bridged_calls.return_to_agent(self._db, leg.account_id, leg.call_id)
        if leg.ended_at is None:
            await self._ends.end(leg, _WHY[outcome])
        return back

    async def _decided(self, leg: LegRecord) -> LegRecord:
        """The leg once it has ended. If the operator's call is not reported, the carrier is asked."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + self._decided_within_s
        while leg.ended_at is None and loop.time() < until_s:
            await asyncio.sleep(_POLL_S)
            leg = await legs.get(self._db, leg.id)
        if leg.ended_at is None:
            is_live = False
            try:
                is_live = leg.carrier_leg_id is not None and await self._carriers[leg.carrier].is_live(
                    leg.carrier_leg_id
                )
            except CarrierError as error:
                logger.warning("leg {}: not asked for: {}", leg.id, error)
            await self._ends.end(leg, "returned" if is_live else "hung_up")
            leg = await legs.get(self._db, leg.id)
        return leg

    # -------------------------------------------------------------------- of which nothing is reported

    def wake(self) -> None:
        """Check the legs now: a handoff or a call has changed."""
        self._wakeup.set()

    async def run(self) -> None:
        """Check the legs of all processes after each wake-up, and again until all are closed."""
        while True:
            self._wakeup.clear()
            are_closed = False
            try:
                are_closed = await self.sweep()
            except DatabaseError as error:
                logger.warning("the legs wait for the database: {}", type(error).__name__)
            with suppress(TimeoutError):
                async with asyncio.timeout(None if are_closed else SWEEP_S):
                    await self._wakeup.wait()

    async def sweep(self) -> bool:
        """End legs that are overdue or whose claim or call has ended, and do what remains for ended ones.

        Returns:
            Whether all legs were closed before.
        """
        if not await legs.are_unclosed(self._db):
            return True
        now = self._clock.now()
        for leg, caller_left in await legs.overdue(self._db, now, limit=_BATCH):
            if caller_left:
                await self._ends.end(leg, "caller_left")
            elif leg.state == "bridged" and leg.deadline is not None and leg.deadline <= now:
                await self._check_bridged(leg)
            elif leg.deadline is not None and leg.deadline <= now:
                await self._ends.end(leg, _LATE[leg.state], only_from=leg)
            else:  # the claim has ended
                await self._ends.end(leg, "declined")
        await self._ends.sweep(limit=_BATCH)
        return False

    async def _check_bridged(self, leg: LegRecord) -> None:
        """A bridge was not reported for some time: ask the carrier whether both sides are connected."""
        await leg_changes.extend(self._db, leg, self._clock.now() + BRIDGED_CHECK)
        try:
            if leg.carrier_leg_id is not None and not await self._carriers[leg.carrier].is_live(
                leg.carrier_leg_id
            ):
                await self._ends.end(leg, "hung_up", only_from=leg)
            elif not await self._has_caller(leg):
                await self._ends.end(leg, "caller_left", only_from=leg)
        except CarrierError as error:
            logger.warning("leg {}: not checked: {}", leg.id, error)
