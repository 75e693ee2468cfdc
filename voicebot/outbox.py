"""Delivery of the outbox: notices are claimed from committed rows, sent and recorded, at least once each.

Each medium has a loop of its own, so a mail server that is down delays no webhook. When a process dies while
it sends, its lease runs out and another process sends again; recipients recognise repetitions by the id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from loguru import logger

from db import outbox
from db.errors import DatabaseError
from db.outbox import AttemptResult, Medium, NoticeRecord
from db.pool import Database, Transaction
from voicebot.clock import Clock

Effect = Callable[[Transaction, NoticeRecord], Awaitable[None]]
"""A change to make in the transaction that records the delivery."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """The recipient accepted the notice."""

    status_code: int | None = None
    remote_id: str | None = None
    """The id that the recipient gave to it."""
    effect: Effect | None = None


class NotSent(Exception):
    """The notice was not delivered, as far as is known; ``retryable`` says whether a retry may help."""

    def __init__(
        self,
        reason: str,
        *,
        retryable: bool = True,
        status_code: int | None = None,
        retry_after: timedelta | None = None,
        medium_down: bool = False,
    ) -> None:
        self.retryable = retryable
        self.medium_down = medium_down
        """Whether no recipient of the medium can be reached at present, so that others are not tried."""
        self.status_code = status_code
        self.retry_after = retry_after
        """The pause that the recipient asked for; no retry comes earlier."""
        super().__init__(reason)


class Sender(Protocol):
    """Sends notices of one medium."""

    async def send(self, notice: NoticeRecord) -> Sent:
        """Send a notice; it may be called again for the same one.

        Raises:
            NotSent: the notice was not delivered.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxSettings:
    """Retries, pauses and limits."""

    max_attempts: int = 12
    """After this many a notice is dead; with the pauses below, after about an hour and a half."""
    first_pause: timedelta = timedelta(seconds=1)
    """Pause before the first retry; it is doubled after every attempt."""
    max_pause: timedelta = timedelta(minutes=15)
    max_retry_after: timedelta = timedelta(hours=24)
    """Limit of the pause that a recipient may ask for."""
    timeout_s: float = 20.0
    lease: timedelta = timedelta(seconds=60)
    """Longer than the timeout, so that a process that is still sending keeps its claim."""
    parallel: int = 8
    """Maximum number of notices being sent at once, per medium and process."""
    poll_s: float = 1.0
    down_pause_s: float = 2.0
    """While no recipient of a medium can be reached, one notice is tried at this interval."""
    debounce_s: float = 0.02
    """Pause after a wake-up, so that notices that are committed together are claimed together."""


class Outbox:
    """Sends due notices."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        senders: Mapping[Medium, Sender],
        settings: OutboxSettings | None = None,
    ) -> None:
        """Send by ``senders``; notices of other media wait for a process that has a sender."""
        self._db = database
        self._clock = clock
        self._senders = senders
        self._settings = settings or OutboxSettings()
        self._wakeups = {medium: asyncio.Event() for medium in senders}
        self._down = set[Medium]()

    def wake(self) -> None:
        """Claim due notices soon, because one may have been committed."""
        for event in self._wakeups.values():
            event.set()

    async def run(self) -> None:
        """Send until cancelled; notices that are being sent then are sent again when their lease runs out."""
        async with asyncio.TaskGroup() as loops:
            for medium in self._senders:
                loops.create_task(self._loop(medium))

    async def _loop(self, medium: Medium) -> None:
        wakeup, sending = self._wakeups[medium], set[asyncio.Task[None]]()
        try:
            while True:
                wakeup.clear()
                if medium in self._down:
                    await asyncio.sleep(self._settings.down_pause_s)
                # While no recipient can be reached, a single notice is tried.
                limit = 1 if medium in self._down else self._settings.parallel
                free = limit - len(sending)
                for notice in await self._claim(medium, free) if free > 0 else ():
                    task = asyncio.create_task(self._deliver(notice))
                    sending.add(task)
                    task.add_done_callback(sending.discard)
                    task.add_done_callback(lambda _: wakeup.set())
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._settings.poll_s):
                        await wakeup.wait()
                await asyncio.sleep(self._settings.debounce_s)
        finally:
            for task in sending:
                task.cancel()
            await asyncio.gather(*sending, return_exceptions=True)

    async def _claim(self, medium: Medium, limit: int) -> list[NoticeRecord]:
        now = self._clock.now()
        try:
            return list(
                await outbox.claim(
                    self._db, medium, now=now, lease_until=now + self._settings.lease, limit=limit
                )
            )
        except DatabaseError as error:
            logger.warning("the outbox cannot claim {} notices: {}", medium, type(error).__name__)
            return []

    async def _deliver(self, notice: NoticeRecord) -> None:
        effect: Effect | None = None
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                sent = await self._senders[notice.medium].send(notice)
        except NotSent as failure:
            self._set_reached(notice.medium, reached=not failure.medium_down)
            result = self._failed(notice, failure)
        except TimeoutError:
            result = self._failed(notice, NotSent("no answer in time"))
        except Exception as error:  # noqa: BLE001 - the top of a task
            # A bug in a sender counts as a failed attempt, so that the notice is retried with pauses.
            logger.opt(exception=error).error("the sender of {} notices failed", notice.medium)
            result = self._failed(notice, NotSent(type(error).__name__))
        else:
            self._set_reached(notice.medium, reached=True)
            effect = sent.effect
            result = AttemptResult(
                outcome="sent",
                at=self._clock.now(),
                status_code=sent.status_code,
                remote_id=sent.remote_id,
            )
        try:
            await self._record(notice, result, effect)
        except DatabaseError as error:
            # The lease runs out and the notice is sent again: a repetition is better than a loss.
            logger.warning("notice {}: the result was not recorded: {}", notice.id, type(error).__name__)

    def _set_reached(self, medium: Medium, *, reached: bool) -> None:
        if reached:
            self._down.discard(medium)
        else:
            self._down.add(medium)

    async def _record(self, notice: NoticeRecord, result: AttemptResult, effect: Effect | None) -> None:
        if effect is None:
            recorded = await outbox.finish(self._db, notice, result)
        else:
            async with self._db.transaction() as transaction:
                recorded = await outbox.finish(transaction, notice, result)
                if recorded is not None:
                    await effect(transaction, recorded)
        if recorded is not None and recorded.state == "dead":
            # An assessment is optional, a request for help is not.
            level = "WARNING" if notice.medium == "assessment" else "ERROR"
            logger.log(level, "notice {} by {} is dead: {}", notice.id, notice.medium, result.error)

    def _failed(self, notice: NoticeRecord, failure: NotSent) -> AttemptResult:
        now = self._clock.now()
        return AttemptResult(
            outcome="failed" if failure.retryable else "refused",
            at=now,
            next_at=self._next(notice, failure, now),
            status_code=failure.status_code,
            error=str(failure)[:500],
            retry_after_ms=_milliseconds(failure.retry_after),
        )

    def _next(self, notice: NoticeRecord, failure: NotSent, now: datetime) -> datetime | None:
        if not failure.retryable or notice.attempts >= self._settings.max_attempts:
            return None
        doubled: timedelta = self._settings.first_pause * 2 ** min(notice.attempts - 1, 30)
        pause = min(doubled, self._settings.max_pause)
        requested = min(failure.retry_after or timedelta(0), self._settings.max_retry_after)
        return now + max(pause, requested)


def _milliseconds(duration: timedelta | None) -> int | None:
    return None if duration is None else round(duration / timedelta(milliseconds=1))
