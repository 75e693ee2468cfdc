"""Leases on live calls: a process renews the leases of its calls and ends calls whose lease has expired.

Renewing is one statement for all calls of the process. A call whose process died is ended by any other
process, by one conditional statement, so that only one of them ends it; the first terminal status stays.
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
from db.pool import Database
from voicebot.clock import Clock

_BATCH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The length of a lease, and the interval at which it is renewed."""

    length: timedelta = timedelta(seconds=90)
    every: timedelta = timedelta(seconds=15)


class LeaseReaper:
    """Renews the leases of this process's calls, and ends calls whose lease has expired."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        live: Callable[[], Collection[UUID]],
        on_end: Callable[[CallRecord], None],
        lease: Lease,
    ) -> None:
        """``live`` returns the calls of this process; ``on_end`` is called with each call that is ended."""
        self._db = database
        self._clock = clock
        self._live = live
        self._on_end = on_end
        self._lease = lease
        self._connected_since_ms: float | None = None

    async def run(self) -> None:
        """Renew and end at the lease's interval until cancelled."""
        while True:
            try:
                await self.run_once()
            except DatabaseError as error:
                self._connected_since_ms = None
                logger.warning(
                    "the leases of this process's calls were not renewed: {}", type(error).__name__
                )
            await asyncio.sleep(self._lease.every.total_seconds())

    async def run_once(self) -> None:
        """Renew the leases of our calls, then end calls whose lease has expired.

        Calls are ended only when the database has been reachable for the length of a lease: while it is not,
        no process can renew, and a process that has just started does not know whether it was.
        """
        await call_leases.renew(self._db, list(self._live()), self._lease.length)
        now_ms = self._clock.monotonic_ms()
        if self._connected_since_ms is None:
            self._connected_since_ms = now_ms
        if now_ms - self._connected_since_ms < self._lease.length.total_seconds() * 1000:
            return
        for call in await self._end_expired():
            logger.warning("call {}: ended because its lease expired ({})", call.id, call.end_reason)
            self._on_end(call)

    async def _end_expired(self) -> list[CallRecord]:
        """End calls and write their events in one transaction."""
        async with self._db.transaction() as transaction:
            ended = list(await call_leases.end_expired(transaction, limit=_BATCH))
            for call in ended:
                data = {"ended_by": call.ended_by, "reason": call.end_reason}
                at = call.ended_at or call.started_at
                await events.append(transaction, EventRecord.unnumbered(call, "call.ended", data, at))
        return ended
