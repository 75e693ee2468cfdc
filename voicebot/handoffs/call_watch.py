"""Reports the status of handoffs and of called destinations to the live calls of this process.

One query serves all live calls, every second and after each notification of an event. A call thus learns of a
handoff that the API created, of a claim, and of a return to the queue, whichever process caused it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Literal, Protocol
from uuid import UUID

from loguru import logger

from db import handoff_metrics, legs, open_handoffs, operators
from db.errors import DatabaseError
from db.handoffs import HandoffRecord
from db.open_handoffs import QueuedHandoff
from db.pool import Database
from handlers.context import HandoffStatus
from voicebot import availability
from voicebot.clock import Clock
from voicebot.handoffs.matching import PRESENT, matches

INTERVAL_S = 1.0
CALLING_INTERVAL_S = 0.2
"""The interval while a destination is being called; its refusal sends no notification."""
DEBOUNCE_S = 0.05
"""Pause after a notification, so that one query serves several events."""

WAIT_PERIOD = timedelta(days=1)
WAIT_LATEST = 20
WAIT_AT_LEAST = 3
"""The expected wait is the median of the latest 20 waits of a day; fewer than 3 say nothing."""


class LiveCalls(Protocol):
    """The live calls of this process."""

    def held(self) -> Collection[UUID]:
        """The ids of the live calls."""
        ...

    def handoff_changed(self, call_id: UUID, status: HandoffStatus) -> None:
        """Report the present status of a call's request for a person; must return at once."""
        ...

    def calling_destinations(self) -> Collection[UUID]:
        """The ids of the live calls for which a destination is being called."""
        ...

    def not_accepted(self, call_id: UUID, leg_id: UUID, cause: str) -> None:
        """Report that nobody accepted the caller there; must return at once."""
        ...


class CallWatch:
    """Reports the status of handoffs to live calls."""

    def __init__(self, database: Database, clock: Clock) -> None:
        """Read ``database``; ``run`` reports."""
        self._db = database
        self._clock = clock
        self._wakeup = asyncio.Event()

    def wake(self) -> None:
        """An event was committed: query at once."""
        self._wakeup.set()

    async def run(self, calls: LiveCalls) -> None:
        """Report to ``calls`` again and again, and after each wake-up, until cancelled."""
        while True:
            self._wakeup.clear()
            try:
                await self.run_once(calls)
            except DatabaseError as error:
                logger.warning("the status of handoffs waits for the database: {}", type(error).__name__)
            with suppress(TimeoutError):
                async with asyncio.timeout(
                    CALLING_INTERVAL_S if calls.calling_destinations() else INTERVAL_S
                ):
                    await self._wakeup.wait()
                    await asyncio.sleep(DEBOUNCE_S)

    async def run_once(self, calls: LiveCalls) -> None:
        """Report the present status of every live call that asked for a person."""
        held = calls.held()
        if not held:
            return
        calling = calls.calling_destinations()
        for leg in await legs.to_destinations(self._db, calling) if calling else ():
            if leg.result == "failed":
                calls.not_accepted(leg.call_id, leg.id, leg.cause or "failed")
        waiting: dict[UUID, list[QueuedHandoff]] = defaultdict(list)
        for queued in await open_handoffs.of_live_calls(self._db, held):
            handoff = queued.handoff
            if handoff.ended_at is None and handoff.claimed_by is None:
                waiting[handoff.account_id].append(queued)
            elif handoff.call_id is not None:
                calls.handoff_changed(handoff.call_id, _status(handoff))
        for account_id, found in waiting.items():
            await self._report_waiting(calls, account_id, found)

    async def _report_waiting(
        self, calls: LiveCalls, account_id: UUID, found: Sequence[QueuedHandoff]
    ) -> None:
        now = self._clock.now()
        present = [
            operator
            for operator in await operators.signed_on(self._db, account_id)
            if availability.state(operator, now) in PRESENT
        ]
        wait_ms = await handoff_metrics.usual_wait_ms(
            self._db, account_id, now - WAIT_PERIOD, latest=WAIT_LATEST, at_least=WAIT_AT_LEAST
        )
        for queued in found:
            handoff = queued.handoff
            if handoff.call_id is None:
                continue
            status = HandoffStatus(
                handoff_id=handoff.id,
                phase="waiting",
                cause=handoff.cause,
                someone_is_there=any(matches(operator, queued) for operator in present),
                expected_wait_ms=wait_ms,
            )
            calls.handoff_changed(handoff.call_id, status)


def _status(handoff: HandoffRecord) -> HandoffStatus:
    if handoff.ended_at is not None:
        return HandoffStatus(handoff_id=handoff.id, phase="ended", cause=handoff.cause or handoff.state)
    phase: Literal["connected", "claimed"] = "connected" if handoff.state == "bridged" else "claimed"
    return HandoffStatus(
        handoff_id=handoff.id, phase=phase, leaves=handoff.state == "transferring", cause=handoff.cause
    )
