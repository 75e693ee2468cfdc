"""Live calls are held by their process, and calls whose process died are ended by any other.

Every process renews, in one statement, the lease on all calls it has, and looks for those whose lease ran
out. A conditional statement keeps replicas apart; a terminal status that comes first is the end that stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from loguru import logger

from db import call_leases, events
from db.calls import CallRecord
from db.errors import DatabaseError
from db.events import EventRecord
from db.ids import new_id
from db.pool import Database
from voicebot.clock import Clock

_BATCH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """How long a call is held, and how often that is renewed."""

    length: timedelta = timedelta(seconds=90)
    every: timedelta = timedelta(seconds=15)


class LeaseReaper:
    """Holds the calls of one process, and looks after those that nobody holds."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        live: Callable[[], Collection[UUID]],
        ended: Callable[[CallRecord], None],
        lease: Lease,
    ) -> None:
        """``live`` names the calls of this process; ``ended`` is told of each call that is ended here."""
        self._db = database
        self._clock = clock
        self._live = live
        self._ended = ended
        self._lease = lease
        self._steady_since_ms: float | None = None

    async def run(self) -> None:
        """Hold and look, again and again, until cancelled."""
        while True:
            try:
                await self.look()
            except DatabaseError as error:
                self._steady_since_ms = None
                logger.warning("the calls of this process could not be held: {}", type(error).__name__)
            await asyncio.sleep(self._lease.every.total_seconds())

    async def look(self) -> None:
        """Hold what is ours, then end what is nobody's.

        Others are judged only after the database was there for as long as a lease: when it was away, nobody
        could renew theirs, and a process that just starts does not know whether it was.
        """
        await call_leases.hold(self._db, list(self._live()), self._lease.length)
        now_ms = self._clock.monotonic_ms()
        if self._steady_since_ms is None:
            self._steady_since_ms = now_ms
        if now_ms - self._steady_since_ms < self._lease.length.total_seconds() * 1000:
            return
        for call in await self._end_unheld():
            logger.warning("call {}: nobody has it any more ({})", call.id, call.end_reason)
            self._ended(call)

    async def _end_unheld(self) -> list[CallRecord]:
        """End calls together with the events that tell of it."""
        async with self._db.transaction() as transaction:
            ended = list(await call_leases.end_unheld(transaction, limit=_BATCH))
            for call in ended:
                await events.append(transaction, _end_of(call))
        return ended


def _end_of(call: CallRecord) -> EventRecord:
    return EventRecord(
        id=new_id(),
        account_id=call.account_id,
        call_id=call.id,
        seq=0,  # behind all others
        type="call.ended",
        at=call.ended_at or call.started_at,
        template_id=call.template_id,
        node=call.node,
        data={"ended_by": call.ended_by, "reason": call.end_reason},
    )
