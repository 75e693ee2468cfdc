"""Delivery of the outbox: notices are claimed from committed rows, sent and recorded, at least once each.

Each medium has its own limit, so a mail server that is down does not delay webhooks. Within a medium,
accounts and destinations have their own limits, and slow destinations have a separate limit, so that no
destination delays the notices of another one. When a process dies while it sends, its lease expires and
another process sends again; recipients recognise repetitions by the id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from loguru import logger

from db import outbox
from db.errors import DatabaseError
from db.outbox import AttemptResult, ClaimLimits, Medium, NoticeRecord
from db.pool import Database, Transaction
from voicebot.clock import Clock

_LIMITS = ClaimLimits(total=64, per_account=8, per_destination=4)
_SLOW_LIMITS = ClaimLimits(total=16, per_account=2, per_destination=1)

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
    """A notice is dead after this many; with the pauses below, that is about an hour and a half."""
    first_pause: timedelta = timedelta(seconds=1)
    """Pause before the first retry; it is doubled after every attempt."""
    max_pause: timedelta = timedelta(minutes=15)
    max_retry_after: timedelta = timedelta(hours=24)
    """Limit of the pause that a recipient may ask for."""
    timeout_s: float = 20.0
    lease: timedelta = timedelta(seconds=60)
    """Longer than the timeout, so that a process that is still sending keeps its claim."""
    limits: ClaimLimits = _LIMITS
    """The most notices that are sent at once to fast destinations, per medium and process."""
    slow_limits: ClaimLimits = _SLOW_LIMITS
    """The same for slow destinations; notices that were already being sent may exceed it."""
    slow_after_s: float = 2.0
    """A destination that takes longer is slow until it answers faster."""
    poll_s: float = 30.0
    """The longest time between two claims; the process wakes the outbox when notices wait."""
    down_pause_s: float = 2.0
    """While no recipient of a medium can be reached, one notice is tried at this interval."""
    debounce_s: float = 0.02
    """Pause after a wake-up, so that notices that are committed together are claimed together."""


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A notice that is being sent."""

    notice: NoticeRecord
    started_ms: float
    """On the monotonic clock."""


class Outbox:
    """Sends due notices."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        senders: Mapping[Medium, Sender],
        settings: OutboxSettings | None = None,
    ) -> None:
        """Use ``senders`` by medium; notices of other media wait for a process that has a sender."""
        self._db = database
        self._clock = clock
        self._senders = senders
        self._settings = settings or OutboxSettings()
        self._wakeup = asyncio.Event()
        self._sending: dict[Medium, dict[asyncio.Task[None], _Attempt]] = {medium: {} for medium in senders}
        self._down = dict[Medium, float]()
        """The media of which no recipient can be reached, and when a notice is tried again, in ms."""
        self._slow = set[UUID]()

    def wake(self) -> None:
        """Claim due notices soon, because one may have been committed."""
        self._wakeup.set()

    async def run(self) -> None:
        """Send until cancelled; notices that are being sent then are sent again when their lease runs out."""
        try:
            while True:
                self._wakeup.clear()
                try:
                    await self._send_due()
                except DatabaseError as error:
                    logger.warning("the outbox waits for the database: {}", type(error).__name__)
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._settings.poll_s):
                        await self._wakeup.wait()
                await asyncio.sleep(self._settings.debounce_s)
        finally:
            tasks = [task for sending in self._sending.values() for task in sending]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send_due(self) -> None:
        """Start to send what is due. The media claim one after another, on one connection of the database."""
        due = await outbox.due(self._db, self._clock.now())
        for medium in self._senders:
            if medium in due and self._down.get(medium, 0.0) <= self._clock.monotonic_ms():
                await self._claim(medium)

    async def _claim(self, medium: Medium) -> None:
        now, sending = self._clock.now(), self._sending[medium]
        self._slow.update(one.notice.destination for one in sending.values() if self._is_late(one))
        for from_slow in (False, True) if self._slow else (False,):
            counted = [
                one.notice for one in sending.values() if (one.notice.destination in self._slow) == from_slow
            ]
            for notice in await outbox.claim(
                self._db,
                medium,
                now=now,
                lease_until=now + self._settings.lease,
                limits=self._limits(medium, from_slow=from_slow, used=len(sending)),
                sending=counted,
                slow=self._slow,
                from_slow=from_slow,
            ):
                attempt = _Attempt(notice, self._clock.monotonic_ms())
                task = asyncio.create_task(self._deliver(attempt))
                sending[task] = attempt
                task.add_done_callback(sending.pop)
                task.add_done_callback(lambda _: self.wake())  # its place is free

    def _limits(self, medium: Medium, *, from_slow: bool, used: int) -> ClaimLimits:
        if medium in self._down:
            # While no recipient can be reached, a single notice is tried.
            return ClaimLimits(total=0 if used else 1, per_account=1, per_destination=1)
        return self._settings.slow_limits if from_slow else self._settings.limits

    def _is_late(self, attempt: _Attempt) -> bool:
        return self._clock.monotonic_ms() - attempt.started_ms > self._settings.slow_after_s * 1000

    def _note_speed(self, attempt: _Attempt, *, answered: bool) -> None:
        if answered and not self._is_late(attempt):
            self._slow.discard(attempt.notice.destination)
        else:
            self._slow.add(attempt.notice.destination)

    async def _deliver(self, attempt: _Attempt) -> None:
        notice = attempt.notice
        effect: Effect | None = None
        answered = False
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                sent = await self._senders[notice.medium].send(notice)
        except NotSent as failure:
            self._set_reached(notice.medium, reached=not failure.medium_down)
            # A retryable failure without a status means that there was no answer.
            answered = failure.status_code is not None or not failure.retryable
            result = self._failed(notice, failure)
        except TimeoutError:
            result = self._failed(notice, NotSent("no answer in time"))
        except Exception as error:  # noqa: BLE001 - the top of a task
            # A bug in a sender counts as a failed attempt, so that the notice is retried with pauses.
            logger.opt(exception=error).error("the sender of {} notices failed", notice.medium)
            result = self._failed(notice, NotSent(type(error).__name__))
        else:
            self._set_reached(notice.medium, reached=True)
            answered = True
            effect = sent.effect
            result = AttemptResult(
                outcome="sent",
                at=self._clock.now(),
                status_code=sent.status_code,
                remote_id=sent.remote_id,
            )
        self._note_speed(attempt, answered=answered)
        try:
            await self._record(notice, result, effect)
        except DatabaseError as error:
            # The lease runs out and the notice is sent again: a repetition is better than a loss.
            logger.warning("notice {}: the result was not recorded: {}", notice.id, type(error).__name__)

    def _set_reached(self, medium: Medium, *, reached: bool) -> None:
        if reached:
            self._down.pop(medium, None)
        else:
            self._down[medium] = self._clock.monotonic_ms() + self._settings.down_pause_s * 1000

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
