"""The health of each provider and credential, shared by all processes through PostgreSQL.

Calls read and report without waiting. A report changes the copy of this process at once and the row in the
background. Each process reads the rows every two seconds. The rules are in ``voicebot.availability``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from loguru import logger

from db import provider_health as stored
from db.errors import DatabaseError
from db.pool import Database
from db.provider_health import ProviderHealth, ProviderKind
from voicebot.availability import (
    ProviderState,
    begin_probe,
    is_provider_usable,
    provider_connected,
    provider_failed,
    provider_state,
    provider_worked,
)
from voicebot.background import BackgroundTasks
from voicebot.clock import Clock
from voicebot.providers.faults import refusal
from voicebot.providers.provider import Credential

REFRESH_S = 2.0
PROBE_CLAIM_TIMEOUT_S = 1.0

Rule = Callable[[ProviderHealth], ProviderHealth | None]
Key = tuple[ProviderKind, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderStatus:
    """The state of one provider now."""

    kind: ProviderKind
    provider: str
    credential: str
    configured: bool
    state: ProviderState
    health: ProviderHealth
    probing: bool


class ProviderHealths:
    """The health of the providers that this process can use."""

    def __init__(
        self, database: Database, clock: Clock, credentials: Mapping[Key, tuple[Credential, bool]]
    ) -> None:
        """Every provider is healthy until a fault is read or reported.

        Args:
            database: where the other processes read it.
            clock: the source of all times.
            credentials: the credential of each provider of a kind, and whether it is configured.
        """
        self._database = database
        self._clock = clock
        self._credentials = credentials
        self._known: dict[Key, ProviderHealth] = {}
        self._writing: set[Key] = set()
        """Providers with unwritten reports, whose stored facts are out of date."""
        self._reports: dict[Key, list[Rule]] = {}
        self._tasks = BackgroundTasks("provider health")

    def is_usable(self, kind: ProviderKind, provider: str) -> bool:
        """Whether a call may use the provider; otherwise it uses a backup if there is one."""
        return is_provider_usable(self._of((kind, provider)), self._clock.now())

    def state(self, kind: str, provider: str) -> str:
        """The state of a provider now."""
        found = next((h for key, h in self._known.items() if key == (kind, provider)), ProviderHealth())
        return provider_state(found, self._clock.now())

    def failed(self, kind: ProviderKind, provider: str, error: BaseException | None, reason: str) -> None:
        """A provider failed or refused; ``reason`` is shown if ``error`` has no status."""
        now = self._clock.now()
        found = refusal(error, now, "" if error is not None else reason)
        logger.warning("{} provider {}: {} ({})", kind, provider, found.fault, found.reason)
        self._change(
            (kind, provider),
            lambda health: provider_failed(health, found.fault, now, reason=found.reason, until=found.until),
        )

    def connected(self, kind: ProviderKind, provider: str) -> None:
        """A provider accepted a connection."""
        if self._of((kind, provider)).fault is not None:
            self._change((kind, provider), provider_connected)

    def worked(self, kind: ProviderKind, provider: str) -> None:
        """A provider fulfilled a request."""
        health = self._known.get((kind, provider))
        if health is not None and (health.fault is not None or health.failures):
            self._change((kind, provider), provider_worked)

    async def may_probe(self, kind: ProviderKind, provider: str) -> bool:
        """Whether this call is to probe a provider whose fault may be over; one of all processes does."""
        key, now = (kind, provider), self._clock.now()
        begun = begin_probe(self._of(key), now)
        if begun is None:
            return False
        self._known[key] = begun
        work = self._store(key, lambda health: begin_probe(health, now))
        try:
            return await self._tasks.in_time(work, PROBE_CLAIM_TIMEOUT_S, name="claiming a probe")
        except (DatabaseError, TimeoutError):
            return True  # the other processes cannot know, and one probe of each does no harm

    def statuses(self) -> Sequence[ProviderStatus]:
        """The status of every provider of this server, by kind and name."""
        now = self._clock.now()
        return [
            ProviderStatus(
                kind=key[0],
                provider=key[1],
                credential=credential.variable,
                configured=configured,
                state=provider_state(self._of(key), now),
                health=self._of(key),
                probing=(until := self._of(key).probe_until) is not None and now < until,
            )
            for key, (credential, configured) in sorted(self._credentials.items())
        ]

    async def run(self) -> None:
        """Read what the other processes report, until cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(REFRESH_S)

    async def refresh(self) -> None:
        """Read the stored health of all providers.

        Raises:
            DatabaseError: it cannot be read; what is known stays.
        """
        rows = {(row.kind, row.provider, row.credential): row for row in await stored.all_of(self._database)}
        for key, (credential, _) in self._credentials.items():
            row = rows.get((*key, credential.stored_as))
            if row is not None and key not in self._writing:
                self._known[key] = row

    async def close(self) -> None:
        """Write the reports."""
        await self._tasks.finish(PROBE_CLAIM_TIMEOUT_S)

    def _of(self, key: Key) -> ProviderHealth:
        return self._known.get(key) or ProviderHealth()

    def _change(self, key: Key, rule: Rule) -> None:
        if key not in self._credentials:
            return
        self._known[key] = rule(self._of(key)) or self._of(key)
        self._reports.setdefault(key, []).append(rule)
        if key not in self._writing:
            self._writing.add(key)
            self._tasks.start(self._write(key), name="reporting a provider's health")

    async def _write(self, key: Key) -> None:
        """Write the reports of one provider in their order."""
        try:
            while reports := self._reports.pop(key, []):
                await self._store(key, partial(_applied, reports))
        except DatabaseError as error:
            logger.warning("the health of a provider was not stored: {}", type(error).__name__)
        finally:
            self._writing.discard(key)

    async def _store(self, key: Key, rule: Rule) -> bool:
        credential, _ = self._credentials[key]
        row = await stored.change(self._database, *key, credential.stored_as, rule)
        if row is not None and key not in self._reports:
            self._known[key] = row
        return row is not None


def _applied(rules: Sequence[Rule], health: ProviderHealth) -> ProviderHealth:
    for rule in rules:
        health = rule(health) or health
    return health
