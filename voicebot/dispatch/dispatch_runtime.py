"""The parts of dialling and finalisation in one process, and their background jobs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from openai import AsyncOpenAI

from db import notify
from db.calls import CallRecord
from db.dispatch import CHANNEL
from db.pool import Database
from handlers.http import CheckedNetwork, HttpClient
from telephony.carrier import Carrier
from voicebot.background import BackgroundTasks
from voicebot.clock import Clock
from voicebot.dispatch.breaker import Breakers
from voicebot.dispatch.dispatcher import DialUrls, Dispatcher
from voicebot.dispatch.finaliser import Finaliser
from voicebot.dispatch.output_fields import OutputModel
from voicebot.dispatch.precheck import Prechecks
from voicebot.dispatch.retention import Retention
from voicebot.vault import Vault


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchDependencies:
    """The dependencies of the parts."""

    carriers: Mapping[str, Carrier]
    credentials: Mapping[str, str]
    """What tells the credentials of each carrier apart from others (``voicebot.carriers.credentials_of``)."""
    prepare: Callable[[CallRecord], Awaitable[None]]
    """Prepares the first words of a call."""
    on_notices: Callable[[], None]
    """Called when webhooks were written to the outbox."""
    origin: str | None
    """The URL under which carriers reach this server; None: this process does not dial."""
    token: Callable[[CallRecord], str]
    """Issues a token that opens the media stream of a dialled call."""
    vault: Vault
    http_allow: frozenset[str]
    """``host:port`` of private addresses that pre-checks may reach."""
    is_draining: Callable[[], bool]
    """Whether the process is stopping; then it dials no more leads."""
    model: tuple[AsyncOpenAI, str] | None
    """The client and the name of the model that fills output fields; None: there are none."""


class DispatchRuntime:
    """Creates the parts and runs their jobs."""

    def __init__(self, database: Database, clock: Clock, dependencies: DispatchDependencies) -> None:
        """Create the parts on ``database``; ``start`` runs their jobs."""
        self._dsn = database.dsn
        self._background = BackgroundTasks("dispatch")
        carriers = dependencies.carriers
        breakers = Breakers(database, clock, dependencies.credentials)
        output = None if dependencies.model is None else OutputModel(*dependencies.model, clock)
        self._finaliser = Finaliser(database, clock, carriers, breakers, output, dependencies.on_notices)
        self._client = HttpClient(CheckedNetwork(dependencies.http_allow))
        prechecks = Prechecks(database, clock, dependencies.vault, self._client)
        self._retention = Retention(database, clock)
        self._dispatcher: Dispatcher | None = None
        if carriers and dependencies.origin is not None:
            urls = DialUrls(origin=dependencies.origin, token=dependencies.token)
            self._dispatcher = Dispatcher(
                database, clock, carriers, breakers, urls, dependencies.prepare, prechecks,
                dependencies.is_draining,
            )  # fmt: skip

    def start(self) -> None:
        """Start the jobs."""
        run = self._background.supervise
        run(self._finaliser.run, name="finalising calls")
        run(self._retention.run, name="deleting what is old")
        if self._dispatcher is not None:
            run(self._dispatcher.run, name="dispatcher")
        run(lambda: notify.listen(self._dsn, CHANNEL, self._wake), name="listener")

    async def stop(self, timeout_s: float) -> None:
        """End the jobs, and wait up to ``timeout_s`` seconds for work that has begun."""
        await self._background.finish(timeout_s)
        if self._dispatcher is not None:
            await self._dispatcher.finish(timeout_s)
        await self._finaliser.finish(timeout_s)
        await self._client.close()

    def _wake(self, _: str) -> None:
        self._finaliser.wake()
        if self._dispatcher is not None:
            self._dispatcher.wake()
