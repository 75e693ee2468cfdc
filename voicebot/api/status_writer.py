"""Stores the statuses that carriers report of their calls.

Carriers send each status more than once, and those of many calls at once. What arrives while a statement runs
is stored by the next one, and what this process has stored already needs none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from db import carrier_calls
from db.calls import CarrierStatus
from db.carrier_calls import ReportedCall, StatusReport, Stored, advances
from db.errors import DatabaseError, NotFound
from db.pool import Executor
from voicebot.background import BackgroundTasks

MOST_AT_ONCE = 100
"""How many statuses one statement stores at most."""

MOST_KNOWN = 10_000
"""Of how many calls the stored status is remembered."""

_Key = tuple[str, str]


class StatusWriter:
    """The one writer of a process for statuses that carriers report."""

    def __init__(self, database: Executor, background: BackgroundTasks) -> None:
        """Store in ``database``, in a task of ``background`` that runs while there is something to store."""
        self._database = database
        self._background = background
        self._known: dict[_Key, CarrierStatus] = {}
        self._queue: list[StatusReport] = []
        self._pending: dict[_Key, asyncio.Future[Stored]] = {}
        self._writing: asyncio.Task[None] | None = None

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
        stored = await asyncio.shield(self._enqueue(key, report))
        if stored == "undecided":
            stored = await carrier_calls.carrier_status(self._database, *report)
        if not isinstance(stored, ReportedCall):
            raise NotFound("call", carrier_call_id)
        self._remember(key, stored.carrier_status)
        return stored

    def forget(self, carrier: str, carrier_call_id: str) -> None:
        """Ask the database about the next report of this call, whatever it is."""
        self._known.pop((carrier, carrier_call_id), None)

    def _enqueue(self, key: _Key, report: StatusReport) -> asyncio.Future[Stored]:
        future = asyncio.get_running_loop().create_future()
        self._pending[key] = future
        self._queue.append(report)
        if self._writing is None or self._writing.done():
            self._writing = self._background.start(self._write(), name="storing statuses of carriers")
        return future

    async def _write(self) -> None:
        while self._queue:
            batch = self._queue[:MOST_AT_ONCE]
            del self._queue[:MOST_AT_ONCE]
            outcome = await self._store(batch)
            for place, (carrier, carrier_call_id, _) in enumerate(batch):
                future = self._pending.pop((carrier, carrier_call_id))
                if isinstance(outcome, Exception):
                    future.set_exception(outcome)
                else:
                    future.set_result(outcome[place])

    async def _store(self, batch: Sequence[StatusReport]) -> Sequence[Stored] | Exception:
        try:
            return await carrier_calls.carrier_statuses(self._database, batch)
        except DatabaseError as error:
            if error.retryable or len(batch) == 1:
                return error
            return ["undecided"] * len(batch)  # one of them cannot be stored, so each is stored by itself
        except Exception as error:  # noqa: BLE001 - the top of a task: each request reports it
            return error

    def _remember(self, key: _Key, status: CarrierStatus) -> None:
        self._known.pop(key, None)
        self._known[key] = status
        if len(self._known) > MOST_KNOWN:
            del self._known[next(iter(self._known))]
