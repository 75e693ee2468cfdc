"""The handoff components of one process and their background jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from loguru import logger
from openai import AsyncOpenAI
from prometheus_client import CollectorRegistry, Gauge

from db import handoff_work, notify
from db.errors import DatabaseError
from db.handoff_events import CHANNEL, HandoffEventRecord
from db.outbox import Medium
from db.pool import Database
from telephony.flow import PersonCarrier
from voicebot.availability import OFFLINE_AFTER
from voicebot.background import BackgroundTasks
from voicebot.clock import Clock
from voicebot.handoffs.assessment import Assessor
from voicebot.handoffs.bridge import Bridge
from voicebot.handoffs.browser_bridge import BrowserBridge
from voicebot.handoffs.call_watch import CallWatch, LiveCalls
from voicebot.handoffs.create import call_hand_off
from voicebot.handoffs.event_broker import EventBroker
from voicebot.handoffs.handoff_service import HandoffService
from voicebot.handoffs.journal import Journal
from voicebot.handoffs.journal_chain import JournalKeys
from voicebot.handoffs.leg_ends import LegEnds
from voicebot.handoffs.leg_reports import LegReports
from voicebot.handoffs.mail_sender import MailSender, MailServer
from voicebot.handoffs.presence import PresenceService
from voicebot.handoffs.queue_metrics import QueueMetrics
from voicebot.handoffs.scheduler import Scheduler
from voicebot.handoffs.supervision import Supervision
from voicebot.handoffs.webhook_sender import WebhookSender
from voicebot.handoffs.withdrawals import Withdrawals
from voicebot.outbox import Outbox, OutboxSettings, Sender
from voicebot.vault import Vault

LOOK_S = 1.0
"""The interval at which the database is asked whether there is work."""

_JOURNAL_FLUSH_S = 5.0
"""How long the journal may write at shutdown; unwritten events stay in the database."""


_LEGS_S = 5.0
"""How long requests to carriers about legs may take at shutdown; another process repeats them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandoffDependencies:
    """The dependencies of the components."""

    vault: Vault
    journal: Path
    """Directory of the journal's files."""
    journal_keys: JournalKeys
    registry: CollectorRegistry
    mail: MailServer | None = None
    """None: e-mail notices fail."""
    model: AsyncOpenAI | None = None
    """None: handoffs have no assessment."""
    model_name: str = ""
    http_allow: frozenset[str] = frozenset()
    """``host:port`` of private addresses that webhooks may reach."""
    outbox: OutboxSettings = field(default_factory=OutboxSettings)
    carriers: Mapping[str, PersonCarrier] = field(default_factory=dict)
    """The carriers that can connect a caller with an operator, by name."""


class HandoffRuntime:
    """Creates the components and runs their background jobs."""

    def __init__(self, database: Database, clock: Clock, dependencies: HandoffDependencies) -> None:
        """Create the components on ``database``; ``start`` runs their jobs."""
        self._db = database
        self._clock = clock
        self._background = BackgroundTasks("handoffs")
        self._journal_writer = BackgroundTasks("handoffs")
        self._writing: asyncio.Task[None] | None = None
        assess = dependencies.model is not None
        self._wakeup = wakeup = asyncio.Event()
        self.metrics = QueueMetrics(database, clock, dependencies.registry)
        self.service = HandoffService(database, clock, assess=assess, wake=wakeup.set)
        self.browser = BrowserBridge(database, clock, self.service)
        self.presence = PresenceService(database, clock, wake=wakeup.set)
        ends = LegEnds(database, clock, dependencies.carriers, self._background)
        self.bridge = Bridge(database, clock, dependencies.carriers, ends, self._background)
        self.legs = LegReports(database, clock, dependencies.carriers, self.bridge, ends)
        self.scheduler = Scheduler(database, clock, self.service, self.presence, wakeup)
        self.hand_off = call_hand_off(clock, assess=assess, wake=wakeup.set)
        """For live calls: makes the write that creates a handoff."""
        self.withdrawals = Withdrawals(database, clock, self.service)
        self.supervision = Supervision(database, clock, self.service, wake=wakeup.set)
        self.call_watch = CallWatch(database, clock)

        def observe_lag(event: HandoffEventRecord) -> None:
            self.metrics.stream_lag.observe(max(0.0, (clock.now() - event.at).total_seconds()))

        self.broker = EventBroker(database, on_delivery=observe_lag)
        self.journal = Journal(database, clock, dependencies.journal, dependencies.journal_keys)
        Gauge(
            "voicebot_journal_alarm",
            "1 while this process cannot write the journal, because its files are altered or unusable.",
            registry=dependencies.registry,
        ).set_function(lambda: float(self.journal.alarm is not None))
        self._webhooks = WebhookSender(database, dependencies.vault, clock, allow=dependencies.http_allow)
        senders: dict[Medium, Sender] = {
            "email": MailSender(dependencies.mail),
            "slack": self._webhooks,
            "webhook": self._webhooks,
            "ticket": self._webhooks,
        }
        if dependencies.model is not None:
            senders["assessment"] = Assessor(database, clock, dependencies.model, dependencies.model_name)
        self.outbox = Outbox(database, clock, senders, dependencies.outbox)

    def start(self, is_draining: Callable[[], bool], calls: LiveCalls) -> None:
        """Start the background jobs.

        Args:
            is_draining: tells whether the process is shutting down.
            calls: the live calls, which get the status of their handoffs.
        """
        run = self._background.supervise
        run(lambda: self.call_watch.run(calls), name="status of handoffs")
        run(self.scheduler.run, name="scheduler")
        run(self.legs.run, name="legs")
        run(lambda: notify.listen(self._db.dsn, CHANNEL, self._on_notify), name="listener")
        run(lambda: self.broker.run(is_draining), name="event broker")
        run(self.outbox.run, name="outbox")
        run(self.metrics.run, name="queue metrics")
        run(self._look, name="looking for work")
        self._writing = self._journal_writer.supervise(self.journal.run, name="journal", until_done=True)

    async def stop(self) -> None:
        """End the streams, cancel the jobs, then let the journal write their events for some seconds."""
        self.broker.close()
        await self._background.finish(_LEGS_S)
        self.journal.stop()
        if self._writing is not None:
            await asyncio.wait({self._writing}, timeout=_JOURNAL_FLUSH_S)
        await self._journal_writer.finish()
        await self._webhooks.close()

    async def _look(self) -> None:
        """Wake the jobs that may have work, also if their notification was lost or time made it due."""
        while True:
            await asyncio.sleep(LOOK_S)
            now = self._clock.now()
            try:
                found = await handoff_work.find(self._db, now, silent_since=now - OFFLINE_AFTER)
            except DatabaseError as error:
                logger.warning("the work on handoffs waits for the database: {}", type(error).__name__)
                continue
            if found.handoffs:
                self._wakeup.set()
            if found.legs:
                self.legs.wake()
            if found.notices:
                self.outbox.wake()
            if found.events:
                self.journal.wake()

    def _on_notify(self, payload: str) -> None:
        account, _, seq = payload.partition(":")
        self.broker.wake(UUID(account), int(seq))
        self.outbox.wake()
        self.legs.wake()
        self.journal.wake()
        self.call_watch.wake()
