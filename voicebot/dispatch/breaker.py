"""A circuit breaker for each carrier and credential: after failures in a row, one attempt at a time is made.

All processes dial with the same credentials, so they share its facts, which are rows of ``provider_health``.
Each process reads them before it claims leads, and stores what it learns from the carrier; while nothing is
wrong, nothing is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from loguru import logger

from db import provider_health as stored
from db.errors import DatabaseError
from db.pool import Database
from db.provider_health import ProviderHealth
from telephony.errors import CarrierError
from voicebot.clock import Clock

FAILURES = 5
"""Failures in a row after which the breaker opens."""

FIRST_PAUSE = timedelta(seconds=5)
MAX_PAUSE = timedelta(minutes=5)

MAX_ASKED = timedelta(hours=1)
"""The longest pause that a carrier gets because it asked for it."""

TEST = timedelta(seconds=60)
"""How long the result of a test attempt is waited for; its process may have died."""

SHORTEST_WAIT = timedelta(seconds=1)

_HEALTHY = ProviderHealth()


def is_open(health: ProviderHealth, now: datetime) -> bool:
    """Whether nobody dials now: a pause is not over, or the result of a test attempt is waited for."""
    if health.until is not None and now < health.until:
        return True
    return is_tested(health) and health.probe_until is not None and now < health.probe_until


def is_tested(health: ProviderHealth) -> bool:
    """Whether only a test attempt may be made when the breaker is not open."""
    return health.failures >= FAILURES


def after_success(health: ProviderHealth, now: datetime) -> ProviderHealth | None:
    """The carrier took a call, or refused it for a reason of its own. A pause lasts until its end."""
    if health == replace(health, failures=0, probe_until=None, fault=None, until=None):
        return None
    lasts = health.until is not None and now < health.until
    new = replace(health, failures=0, probe_until=None)
    return new if lasts else replace(new, fault=None, until=None)


def after_refusal(health: ProviderHealth, now: datetime, error: CarrierError) -> ProviderHealth | None:
    """The carrier did not take a call."""
    if error.retry_after_s is not None:
        asked = now + timedelta(seconds=min(error.retry_after_s, MAX_ASKED.total_seconds()))
        until = asked if health.until is None else max(asked, health.until)
        return replace(
            health, fault=health.fault or "rate_limited", until=until, probe_until=None, reason=str(error),
            failed_at=now,
        )  # fmt: skip
    if not (error.retryable or error.uncertain or error.account_refused):
        return after_success(health, now)  # it answered: the fault is the request's
    if health.until is not None and now < health.until:
        return replace(health, probe_until=None)  # of calls that were placed before it opened
    failures = health.failures + 1
    new = replace(
        health, failures=failures, probe_until=None, fault=None, until=None, reason=str(error), failed_at=now
    )
    if failures < FAILURES:
        return new
    pause = min(FIRST_PAUSE * 2 ** min(failures - FAILURES, 10), MAX_PAUSE)
    return replace(new, fault="unauthorized" if error.account_refused else "outage", until=now + pause)


def begin_test(health: ProviderHealth, now: datetime) -> ProviderHealth | None:
    """A test attempt is made; None: there is one already, or none is needed."""
    if is_open(health, now) or not is_tested(health):
        return None
    return replace(health, probe_until=now + TEST)


class Breakers:
    """The breakers of the carriers of this process."""

    def __init__(self, database: Database, clock: Clock, credentials: Mapping[str, str]) -> None:
        """Every carrier is dialled with until a fault is read or reported.

        Args:
            database: where the other processes read it.
            clock: the time.
            credentials: what tells the credentials of each carrier apart from others, by its name.
        """
        self._db = database
        self._clock = clock
        self._credentials = credentials
        self._known: dict[str, ProviderHealth] = {}
        self._tests = set[str]()
        """The carriers that an attempt of this process tests."""

    async def refresh(self) -> None:
        """Read what all processes have stored.

        Raises:
            DatabaseError: it cannot be read; what is known stays.
        """
        self._known = {
            row.provider: row
            for row in await stored.all_of(self._db)
            if row.kind == "carrier" and self._credentials.get(row.provider) == row.credential
        }

    def open(self) -> Collection[str]:
        """The carriers with which nobody dials now."""
        now = self._clock.now()
        return [name for name, health in self._known.items() if is_open(health, now)]

    def tested(self) -> Collection[str]:
        """The carriers with which one attempt at a time is made."""
        return [name for name, health in self._known.items() if is_tested(health)]

    def next_end(self, after: datetime) -> datetime | None:
        """When the next of the open ones may be dialled with; None: no known pause ends after a moment."""
        ends = [end for health in self._known.values() for end in (health.until, health.probe_until) if end]
        return min((end for end in ends if end > after), default=None)

    def wait(self, carrier: str) -> timedelta:
        """How long to wait before a carrier is asked again."""
        until, now = self._of(carrier).until, self._clock.now()
        return SHORTEST_WAIT if until is None else max(until - now, SHORTEST_WAIT)

    async def admits(self, carrier: str) -> bool:
        """Whether a call may be placed now. Afterwards ``unused``, ``worked`` or ``refused`` is called.

        Raises:
            DatabaseError: it is not known whether another process makes a test attempt.
        """
        now = self._clock.now()
        if is_open(self._of(carrier), now):
            return False
        if not is_tested(self._of(carrier)):
            return True
        begun = await self._store(carrier, partial(begin_test, now=now))
        if begun:
            self._tests.add(carrier)
        return begun

    async def unused(self, carrier: str) -> None:
        """No call was placed after all."""
        if carrier in self._tests:
            await self._learn(carrier, lambda health: replace(health, probe_until=None))

    async def worked(self, carrier: str) -> None:
        """The carrier took a call."""
        now = self._clock.now()
        if after_success(self._of(carrier), now) is not None:
            await self._learn(carrier, partial(after_success, now=now))

    async def refused(self, carrier: str, error: CarrierError) -> None:
        """The carrier did not take a call."""
        now = self._clock.now()
        if after_refusal(self._of(carrier), now, error) is not None:
            await self._learn(carrier, partial(after_refusal, now=now, error=error))

    def _of(self, carrier: str) -> ProviderHealth:
        return self._known.get(carrier, _HEALTHY)

    async def _learn(self, carrier: str, rule: Callable[[ProviderHealth], ProviderHealth | None]) -> None:
        """Apply a rule to what is known, and to what all processes know."""
        self._tests.discard(carrier)
        self._known[carrier] = rule(self._of(carrier)) or self._of(carrier)
        try:
            await self._store(carrier, rule)
        except DatabaseError as error:
            logger.warning("other processes do not learn how {} is: {}", carrier, type(error).__name__)

    async def _store(self, carrier: str, rule: Callable[[ProviderHealth], ProviderHealth | None]) -> bool:
        row = await stored.change(self._db, "carrier", carrier, self._credentials[carrier], rule)
        if row is not None:
            self._known[carrier] = row
        return row is not None
