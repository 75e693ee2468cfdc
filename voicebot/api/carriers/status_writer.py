"""Stores the statuses that carriers report of their calls.

Carriers send each status more than once, and those of many calls at once. What arrives while a statement runs
is stored by the next one, and what this process has stored already needs none.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from functools import partial

from db import carrier_calls
from db.calls import CarrierStatus
from db.carrier_calls import ReportedCall, StatusReport, Stored, advances
from db.errors import NotFound
from db.pool import Executor
from voicebot.background import BackgroundTasks
from voicebot.batches import Batches

MOST_KNOWN = 10_000
"""Of how many calls the stored status is remembered."""

INTERVAL_S = 0.01
"""The shortest time between two statements, so that those of many calls share one, also while it is fast."""

_Key = tuple[str, str]


class StatusWriter:
    """The only writer of a process for statuses that carriers report."""

    def __init__(self, database: Executor, background: BackgroundTasks) -> None:
        """Store in ``database``, in a task of ``background`` that runs while there is something to store."""
        self._database = database
        self._known = OrderedDict[_Key, CarrierStatus]()  # a dict searches for its first key
        self._reports = Batches(
            partial(carrier_calls.carrier_statuses, database),
            background,
            "storing statuses of carriers",
            interval_s=INTERVAL_S,
        )
        self._pending: dict[_Key, asyncio.Future[Stored]] = {}

    async def store(self, carrier: str, carrier_call_id: str, status: CarrierStatus) -> ReportedCall | None:
        """Store the status of a carrier's leg, as ``carrier_calls.carrier_status`` does; returns the call.

        Returns None if this process has stored a status that this one cannot change.

        Raises:
            NotFound: no such call.
            DatabaseError: the status is not stored.
        """
        key, report = (carrier, carrier_call_id), (carrier, carrier_call_id, status)
        while True:
            known = self._known.get(key)
            if known is not None and not advances(status, known):
                return None
            earlier = self._pending.get(key)
            if earlier is None:
                break
            await asyncio.wait([earlier])
        stored = await self._enqueue(key, report)
        if stored == "undecided":
            stored = await carrier_calls.carrier_status(self._database, *report)
        if not isinstance(stored, ReportedCall):
            raise NotFound("call", carrier_call_id)
        self._remember(key, stored.carrier_status)
        return stored

    def forget(self, carrier: str, carrier_call_id: str) -> None:
        """Forget the stored status: the next report of this call needs a statement."""
        self._known.pop((carrier, carrier_call_id), None)

    def _enqueue(self, key: _Key, report: StatusReport) -> asyncio.Future[Stored]:
        future = self._pending[key] = self._reports.put(report)
        future.add_done_callback(lambda _: self._pending.pop(key))
        return future

    def _remember(self, key: _Key, status: CarrierStatus) -> None:
        self._known[key] = status
        self._known.move_to_end(key)
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)
