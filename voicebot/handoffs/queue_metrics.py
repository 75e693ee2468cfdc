"""Prometheus metrics of handoffs, read from the database periodically, not on a scrape."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import get_args

from loguru import logger
from prometheus_client import CollectorRegistry, Gauge, Histogram

from db import handoff_metrics
from db.errors import DatabaseError
from db.handoff_metrics import History
from db.handoffs import State
from db.outbox import NoticeState
from db.pool import Database
from voicebot.clock import Clock

INTERVAL_S = 5.0
HISTORY = timedelta(minutes=1)
"""How often ended handoffs and notices are counted: each time all of them are read."""
_LAG_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 15.0)


class QueueMetrics:
    """Metrics over all accounts."""

    def __init__(self, database: Database, clock: Clock, registry: CollectorRegistry) -> None:
        """Register the metrics in ``registry``."""
        self._db = database
        self._clock = clock
        self._history = History(handoffs={}, notices={})
        self._next_history_at: datetime | None = None
        self._handoffs = Gauge(
            "voicebot_handoffs",
            "Handoffs by state; ended ones are counted each minute.",
            ["state"],
            registry=registry,
        )
        self._open = Gauge("voicebot_handoffs_open", "Handoffs that have not ended.", registry=registry)
        self._oldest = Gauge(
            "voicebot_handoffs_oldest_open_seconds", "Age of the oldest open handoff.", registry=registry
        )
        self._notices = Gauge("voicebot_notices", "Notices by state.", ["state"], registry=registry)
        self._waiting = Gauge(
            "voicebot_journal_waiting", "Events that the journal has not written.", registry=registry
        )
        self._lag = Gauge(
            "voicebot_journal_lag_seconds",
            "Age of the oldest event that the journal has not written.",
            registry=registry,
        )
        self.stream_lag = Histogram(
            "voicebot_stream_lag_seconds",
            "Delay from an event to its delivery to a waiting subscriber.",
            buckets=_LAG_BUCKETS,
            registry=registry,
        )

    async def run(self) -> None:
        """Update every few seconds, until cancelled."""
        while True:
            try:
                await self.update()
            except DatabaseError as error:
                logger.warning("the handoff metrics could not be read: {}", type(error).__name__)
            await asyncio.sleep(INTERVAL_S)

    async def update(self) -> None:
        """Update once; what is over is counted again after ``HISTORY`` only."""
        now = self._clock.now()
        if self._next_history_at is None or now >= self._next_history_at:
            self._history = await handoff_metrics.history(self._db)
            self._next_history_at = now + HISTORY
        totals, over = await handoff_metrics.totals(self._db), self._history
        _set_labels(self._handoffs, get_args(State), {**totals.open, **over.handoffs})
        _set_labels(self._notices, get_args(NoticeState), {**totals.waiting_notices, **over.notices})
        self._open.set(sum(totals.open.values()))
        self._oldest.set(_age_s(totals.oldest_open_at, now))
        self._waiting.set(totals.unjournaled)
        self._lag.set(_age_s(totals.oldest_unjournaled_at, now))


def _set_labels(gauge: Gauge, names: tuple[str, ...], counts: Mapping[str, int]) -> None:
    for name in names:
        gauge.labels(name).set(counts.get(name, 0))


def _age_s(since: datetime | None, now: datetime) -> float:
    return 0.0 if since is None else max(0.0, (now - since).total_seconds())
