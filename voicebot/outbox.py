"""What leaves the building: claimed from committed rows, sent, recorded. At least once, by a stable id.

Each medium has its own loop, so that a dead mail server delays no webhook. A process that dies while sending
leaves a lease that runs out, and another one sends again; the recipient tells repetitions by the notice's id.
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
from db.outbox import Ended, Medium, NoticeRecord
from db.pool import Database, Transaction
from voicebot.clock import Clock

Effect = Callable[[Transaction, NoticeRecord], Awaitable[None]]
"""What a delivery brings about here, in the transaction that records it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """The recipient has it."""

    status_code: int | None = None
    remote_id: str | None = None
    """What the recipient calls it."""
    effect: Effect | None = None


class NotSent(Exception):
    """The recipient does not have it, as far as we know; `again` says whether a retry may help."""

    def __init__(
        self,
        reason: str,
        *,
        again: bool = True,
        status_code: int | None = None,
        retry_after: timedelta | None = None,
        nobody_can: bool = False,
    ) -> None:
        self.again = again
        self.nobody_can = nobody_can
        """Whatever leads to all recipients of the medium is down: the others need not be tried now."""
        self.status_code = status_code
        self.retry_after = retry_after
        """What the recipient asked for; never tried earlier."""
        super().__init__(reason)


class Sender(Protocol):
    """Takes notices of one medium to their recipients."""

    async def send(self, notice: NoticeRecord) -> Sent:
        """Send it; may be called again for the same notice.

        Raises:
            NotSent: it was not.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How patient the outbox is."""

    most_attempts: int = 12
    """Then it is a dead letter; with the pauses below, after about an hour and a half."""
    first_pause: timedelta = timedelta(seconds=1)
    """Doubled after every attempt."""
    last_pause: timedelta = timedelta(minutes=15)
    longest_wait: timedelta = timedelta(hours=24)
    """A recipient that wants to be left alone for longer is asked then all the same."""
    timeout_s: float = 20.0
    lease: timedelta = timedelta(seconds=60)
    """Longer than the timeout: who is still sending is not taken for dead."""
    parallel: int = 8
    """Notices under way at once, per medium and process."""
    look_s: float = 1.0
    rest_s: float = 2.0
    """When nobody can be reached by a medium, how long until one notice tries again for all."""
    settle_s: float = 0.02
    """What is committed together is taken together: so long after a stir, its medium is looked at."""


class Outbox:
    """Sends what is due, in the background."""

    def __init__(
        self, database: Database, clock: Clock, senders: Mapping[Medium, Sender], rules: Rules | None = None
    ) -> None:
        """Send by ``senders``; notices of other media wait for a process that has one."""
        self._db = database
        self._clock = clock
        self._senders = senders
        self._rules = rules or Rules()
        self._stirred = {medium: asyncio.Event() for medium in senders}
        self._resting = set[Medium]()

    def stir(self) -> None:
        """Look now: something may have been committed."""
        for event in self._stirred.values():
            event.set()

    async def run(self) -> None:
        """Send until cancelled. What is under way then is sent again by whoever comes next."""
        async with asyncio.TaskGroup() as loops:
            for medium in self._senders:
                loops.create_task(self._loop(medium))

    async def _loop(self, medium: Medium) -> None:
        stirred, under_way = self._stirred[medium], set[asyncio.Task[None]]()
        try:
            while True:
                stirred.clear()
                if medium in self._resting:
                    await asyncio.sleep(self._rules.rest_s)
                # One tries for all as long as nobody can be reached.
                most = 1 if medium in self._resting else self._rules.parallel
                free = most - len(under_way)
                for notice in await self._claim(medium, free) if free > 0 else ():
                    task = asyncio.create_task(self._deliver(notice))
                    under_way.add(task)
                    task.add_done_callback(under_way.discard)
                    task.add_done_callback(lambda _: stirred.set())
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._rules.look_s):
                        await stirred.wait()
                await asyncio.sleep(self._rules.settle_s)
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def _claim(self, medium: Medium, limit: int) -> list[NoticeRecord]:
        now = self._clock.now()
        try:
            return list(
                await outbox.claim(
                    self._db, medium, now=now, lease_until=now + self._rules.lease, limit=limit
                )
            )
        except DatabaseError as error:
            logger.warning("the outbox could not look for {}: {}", medium, type(error).__name__)
            return []

    async def _deliver(self, notice: NoticeRecord) -> None:
        effect: Effect | None = None
        try:
            async with asyncio.timeout(self._rules.timeout_s):
                sent = await self._senders[notice.medium].send(notice)
        except NotSent as failure:
            self._note(notice.medium, reached=not failure.nobody_can)
            ended = self._failed(notice, failure)
        except TimeoutError:
            ended = self._failed(notice, NotSent("no answer in time"))
        except Exception as error:
            # The edge: a sender's fault must not leave the notice to be tried for ever at full speed.
            logger.opt(exception=error).error("a sender of {} failed", notice.medium)
            ended = self._failed(notice, NotSent(type(error).__name__))
        else:
            self._note(notice.medium, reached=True)
            effect = sent.effect
            ended = Ended(
                outcome="sent",
                at=self._clock.now(),
                status_code=sent.status_code,
                remote_id=sent.remote_id,
            )
        try:
            await self._record(notice, ended, effect)
        except DatabaseError as error:
            # The lease runs out and it is sent again: rather twice than never.
            logger.warning("notice {}: how it ended is not recorded: {}", notice.id, type(error).__name__)

    def _note(self, medium: Medium, *, reached: bool) -> None:
        if reached:
            self._resting.discard(medium)
        else:
            self._resting.add(medium)

    async def _record(self, notice: NoticeRecord, ended: Ended, effect: Effect | None) -> None:
        if effect is None:
            recorded = await outbox.finish(self._db, notice, ended)
        else:
            async with self._db.transaction() as transaction:
                recorded = await outbox.finish(transaction, notice, ended)
                if recorded is not None:
                    await effect(transaction, recorded)
        if recorded is not None and recorded.state == "dead":
            # An assessment may be missing; a call for help may not.
            level = "WARNING" if notice.medium == "assessment" else "ERROR"
            logger.log(level, "notice {} by {} is a dead letter: {}", notice.id, notice.medium, ended.error)

    def _failed(self, notice: NoticeRecord, failure: NotSent) -> Ended:
        now = self._clock.now()
        return Ended(
            outcome="failed" if failure.again else "refused",
            at=now,
            next_at=self._next(notice, failure, now),
            status_code=failure.status_code,
            error=str(failure)[:500],
            retry_after_ms=_milliseconds(failure.retry_after),
        )

    def _next(self, notice: NoticeRecord, failure: NotSent, now: datetime) -> datetime | None:
        if not failure.again or notice.attempts >= self._rules.most_attempts:
            return None
        doubled: timedelta = self._rules.first_pause * 2 ** min(notice.attempts - 1, 30)
        pause = min(doubled, self._rules.last_pause)
        asked = min(failure.retry_after or timedelta(0), self._rules.longest_wait)
        return now + max(pause, asked)


def _milliseconds(duration: timedelta | None) -> int | None:
    return None if duration is None else round(duration / timedelta(milliseconds=1))
