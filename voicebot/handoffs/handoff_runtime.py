"""The parts of the desk of one process, and what runs in the background."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from loguru import logger
from openai import AsyncOpenAI
from prometheus_client import CollectorRegistry

from db import notify
from db.outbox import Medium
from db.pool import Database, Executor
from handlers.context import HandoffRequest
from voicebot.clock import Clock
from voicebot.handoffs.assessment import Assessor
from voicebot.handoffs.create import CallFacts, entry
from voicebot.handoffs.event_broker import EventBroker
from voicebot.handoffs.handoff_service import HandoffService
from voicebot.handoffs.journal import Journal
from voicebot.handoffs.mail_sender import MailSender, MailServer
from voicebot.handoffs.presence import PresenceService
from voicebot.handoffs.queue_metrics import QueueMetrics
from voicebot.handoffs.scheduler import Scheduler
from voicebot.handoffs.webhook_sender import WebhookSender
from voicebot.outbox import Outbox, Rules, Sender
from voicebot.vault import Vault

_PAUSE_S = 1.0
_LAST_LINES_S = 5.0
"""How long the journal may take at the end; what it does not manage waits in the database."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandoffRuntime:
    """What the outside may ask the desk of this process."""

    desk: HandoffService
    presence: PresenceService
    scheduler: Scheduler
    broker: EventBroker
    outbox: Outbox
    posting: WebhookSender
    journal: Journal
    metrics: QueueMetrics
    hand_off: Callable[[CallFacts, HandoffRequest], Callable[[Executor], Awaitable[None]]]
    """For the calls: how one hands itself to people."""

    def wake(self, account_id: UUID, seq: int) -> None:
        """Something was committed at the desk of an account."""
        self.broker.wake(account_id, seq)
        self.outbox.stir()
        self.journal.stir()


@dataclass(frozen=True, slots=True, kw_only=True)
class HandoffDependencies:
    """What the desk needs of the outside."""

    vault: Vault
    journal: Path
    """The directory of its files."""
    registry: CollectorRegistry
    mail: MailServer | None = None
    """None: mails are dead letters."""
    model: AsyncOpenAI | None = None
    """None: handoffs are served without an assessment."""
    model_name: str = ""
    http_allow: frozenset[str] = frozenset()
    rules: Rules = field(default_factory=Rules)


def build(database: Database, clock: Clock, supplies: HandoffDependencies) -> HandoffRuntime:
    """The desk's parts on a database."""
    metrics = QueueMetrics(database, clock, supplies.registry)
    broker = EventBroker(
        database,
        told=lambda event: metrics.stream_lag.observe(max(0.0, (clock.now() - event.at).total_seconds())),
    )
    stirring = asyncio.Event()
    desk = HandoffService(database, clock, assess=supplies.model is not None, stir=stirring.set)
    presence = PresenceService(database, clock, stir=stirring.set)
    posting = WebhookSender(database, supplies.vault, clock, allow=supplies.http_allow)
    senders: dict[Medium, Sender] = {
        "email": MailSender(supplies.mail),
        "slack": posting,
        "webhook": posting,
        "ticket": posting,
    }
    if supplies.model is not None:
        senders["assessment"] = Assessor(database, clock, supplies.model, supplies.model_name)
    return HandoffRuntime(
        desk=desk,
        presence=presence,
        scheduler=Scheduler(database, clock, desk, presence, stirring),
        broker=broker,
        outbox=Outbox(database, clock, senders, supplies.rules),
        posting=posting,
        journal=Journal(database, clock, supplies.journal),
        metrics=metrics,
        hand_off=entry(clock, assess=supplies.model is not None, stir=stirring.set),
    )


@contextlib.asynccontextmanager
async def running(
    office: HandoffRuntime,
    database: Database,
    leaving: Callable[[], bool],
    more: Sequence[Callable[[], Background]],
) -> AsyncIterator[None]:
    """Run what the desk does by itself while the block runs: keeper, listener, stream, and ``more``."""
    jobs: list[Callable[[], Background]] = [
        office.scheduler.run,
        lambda: notify.listen(database.dsn, office.wake),
        lambda: office.broker.run(leaving),
        office.outbox.run,
        office.metrics.run,
        *more,
    ]
    writing = asyncio.create_task(_until_done(office.journal.run))
    tasks = [writing, *(asyncio.create_task(_again_and_again(job)) for job in jobs)]
    try:
        yield
    finally:
        office.broker.close()
        office.journal.stop()
        await asyncio.wait({writing}, timeout=_LAST_LINES_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await office.posting.close()


Background = Coroutine[Any, Any, None]


async def _again_and_again(job: Callable[[], Background]) -> None:
    while True:
        await _until_done(job)
        await asyncio.sleep(_PAUSE_S)


async def _until_done(job: Callable[[], Background]) -> None:
    """The edge of a background job: what it did not foresee is logged, and it begins anew."""
    while True:
        try:
            await job()
        except Exception as error:
            logger.opt(exception=error).error("a job of the desk failed and begins anew")
            await asyncio.sleep(_PAUSE_S)
        else:
            return
