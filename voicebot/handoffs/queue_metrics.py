"""The desk's figures for Prometheus, looked up now and then: a scrape does not wait for the database."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import get_args

from loguru import logger
from prometheus_client import CollectorRegistry, Gauge, Histogram

from db import handoff_metrics
from db.errors import DatabaseError
from db.handoffs import State
from db.outbox import NoticeState
from db.pool import Database
from voicebot.clock import Clock

EVERY_S = 5.0
_LAG_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 15.0)


class QueueMetrics:
    """Gauges of all accounts together."""

    def __init__(self, database: Database, clock: Clock, registry: CollectorRegistry) -> None:
        """Add them to ``registry``."""
        self._db = database
        self._clock = clock
        self._handoffs = Gauge(
            "voicebot_handoffs", "Handoffs by state, ended ones included.", ["state"], registry=registry
        )
        self._open = Gauge("voicebot_handoffs_open", "Handoffs that have not ended.", registry=registry)
        self._oldest = Gauge(
            "voicebot_handoffs_oldest_open_seconds", "Age of the oldest open handoff.", registry=registry
        )
        self._notices = Gauge("voicebot_notices", "Notices by state.", ["state"], registry=registry)
        self._waiting = Gauge(
            "voicebot_journal_waiting", "Events the journal has not written.", registry=registry
        )
        self._lag = Gauge(
            "voicebot_journal_lag_seconds",
            "Age of the oldest event the journal has not written.",
            registry=registry,
        )
        self.stream_lag = Histogram(
            "voicebot_stream_lag_seconds",
            "From an event's happening to its being handed to a follower who was up to date.",
            buckets=_LAG_BUCKETS,
            registry=registry,
        )

    async def run(self) -> None:
        """Look every few seconds, until cancelled."""
        while True:
            try:
                await self.look()
            except DatabaseError as error:
                logger.warning("the desk's figures could not be looked up: {}", type(error).__name__)
            await asyncio.sleep(EVERY_S)

    async def look(self) -> None:
        """Look once."""
        found = await handoff_metrics.standing(self._db)
        now = self._clock.now()
        _show(self._handoffs, get_args(State), {**found.open, **found.ended})
        _show(self._notices, get_args(NoticeState), found.notices)
        self._open.set(sum(found.open.values()))
        self._oldest.set(_age_s(found.oldest_open_at, now))
        self._waiting.set(found.unjournaled)
        self._lag.set(_age_s(found.oldest_unjournaled_at, now))


def _show(gauge: Gauge, names: tuple[str, ...], counts: Mapping[str, int]) -> None:
    for name in names:
        gauge.labels(name).set(counts.get(name, 0))


def _age_s(since: datetime | None, now: datetime) -> float:
    return 0.0 if since is None else max(0.0, (now - since).total_seconds())
