"""The composition root: the only place that constructs the parts of the server and connects them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from anyio import lowlevel
from fastapi import FastAPI

from db.events import EventRecord
from db.pool import Database
from db.utterances import UtteranceRecord
from handlers.registry import HANDLERS
from telephony.bridge import BridgeCarrier
from telephony.carrier import Carrier
from telephony.flow import FlowCarrier
from voicebot.admission import Admission
from voicebot.api.app_state import AppState, EndGrace
from voicebot.api.application import application
from voicebot.api.carriers import flow_sweep
from voicebot.api.carriers.call_ends import unanswered_ends
from voicebot.api.carriers.handshakes import Handshakes
from voicebot.api.carriers.media_tokens import MediaTokens
from voicebot.api.carriers.number_directory import NumberDirectory
from voicebot.api.carriers.status_writer import StatusWriter
from voicebot.api.connections import Connections
from voicebot.api.limits import Limits
from voicebot.api.open_streams import OpenStreams
from voicebot.api.signed_token import EVENT_STREAM, SignedTokens
from voicebot.authoring import Authoring, CheckPool
from voicebot.availability import ProviderState
from voicebot.background import BackgroundTasks
from voicebot.call.dependencies import CallFact
from voicebot.call.leases import Lease, LeaseReaper
from voicebot.call.registry import CallRegistry
from voicebot.call.replicas import Replicas
from voicebot.call.text.chats import Chats
from voicebot.call.text.chats import Limits as ChatLimits
from voicebot.carriers import carriers_of, credentials_of, rules_of
from voicebot.clock import Clock, SystemClock
from voicebot.config import Settings
from voicebot.database import open_database
from voicebot.dispatch.dispatch_runtime import DispatchDependencies, DispatchRuntime
from voicebot.dispatch.machines import AnsweringMachines
from voicebot.handoffs.handoff_runtime import HandoffDependencies, HandoffRuntime
from voicebot.handoffs.journal_chain import JournalKeys
from voicebot.handoffs.mail_sender import MailServer
from voicebot.metrics import Metrics
from voicebot.other_workers import OtherWorkers
from voicebot.providers.health import ProviderHealths
from voicebot.providers.registry import Providers
from voicebot.vault import Vault
from voicebot.workers import Worker

Application = FastAPI
"""The server as an ASGI application."""

_CLOSE_TIMEOUT_S = 5.0


def create_app(
    settings: Settings,
    *,
    grace: EndGrace | None = None,
    lease: Lease | None = None,
    limits: Limits | None = None,
    worker: Worker | None = None,
) -> Application:
    """The server as an ASGI application; its parts are opened when it starts.

    Args:
        settings: everything that the environment configures.
        grace: how long a carrier's status waits for a better source of how a call ended.
        lease: how long a call belongs to a process without a sign of life.
        limits: what clients may send and hold open; by default as ``settings`` says.
        worker: which of the server's processes this is; None: the only one.
    """
    limits = limits or Limits(
        connections=settings.max_connections, connections_per_address=settings.max_connections_per_address
    )

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await lowlevel.checkpoint()  # anyio imports its backend at its first use: no request waits for that
        parts = running(settings, grace or EndGrace(), lease or Lease(), limits, worker or Worker())
        async with parts as app_state:
            app.state.app_state = app_state
            yield

    return application(limits, settings.public_url, lifespan)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What the other parts of a server use."""

    settings: Settings
    secret_keys: Sequence[bytes]
    database: Database
    clock: Clock
    carriers: Mapping[str, Carrier]
    bridge_carriers: Mapping[str, BridgeCarrier]
    flow_carriers: Mapping[str, FlowCarrier]
    providers: Providers
    health: ProviderHealths
    vault: Vault
    metrics: Metrics
    background: BackgroundTasks


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """The parts that run calls."""

    registry: CallRegistry
    chats: Chats
    machines: AnsweringMachines
    replicas: Replicas


@contextlib.asynccontextmanager
async def running(
    settings: Settings, grace: EndGrace, lease: Lease, limits: Limits, worker: Worker
) -> AsyncIterator[AppState]:
    """The parts of a server, opened in the order of construction and closed in the opposite order."""
    async with contextlib.AsyncExitStack() as stack:
        shared = await open_shared(settings, worker, stack)
        handoffs = HandoffRuntime(shared.database, shared.clock, handoff_dependencies(shared))
        calls = open_calls(shared, handoffs, limits, stack)
        app_state = await open_app_state(shared, handoffs, calls, limits, worker, grace, stack)
        start_jobs(shared, calls, app_state, lease)
        dispatch_runtime = DispatchRuntime(
            shared.database, shared.clock, dispatch_dependencies(shared, handoffs, app_state)
        )
        stack.push_async_callback(dispatch_runtime.stop, _CLOSE_TIMEOUT_S)
        dispatch_runtime.start()
        handoffs.start(lambda: app_state.draining, calls.registry)
        yield app_state


async def open_shared(settings: Settings, worker: Worker, stack: contextlib.AsyncExitStack) -> Shared:
    """Open the database and construct what the other parts use."""
    database = await stack.enter_async_context(open_database(settings, create=True, processes=worker.count))
    carriers = carriers_of(settings)
    for carrier in carriers.values():
        stack.push_async_callback(carrier.aclose)
    clock = SystemClock()
    providers = Providers(settings)
    health = ProviderHealths(database, clock, providers.credentials())
    stack.push_async_callback(health.close)
    secret_keys = settings.fernet_keys()
    metrics = Metrics()
    metrics.watch_providers(providers.credentials(), get_args(ProviderState), health.state)
    return Shared(
        settings=settings,
        secret_keys=secret_keys,
        database=database,
        clock=clock,
        carriers=carriers,
        bridge_carriers={name: it for name, it in carriers.items() if isinstance(it, BridgeCarrier)},
        flow_carriers={name: it for name, it in carriers.items() if isinstance(it, FlowCarrier)},
        providers=providers,
        health=health,
        vault=Vault(*secret_keys),
        metrics=metrics,
        background=BackgroundTasks(),
    )


def open_calls(
    shared: Shared, handoffs: HandoffRuntime, limits: Limits, stack: contextlib.AsyncExitStack
) -> Calls:
    """Construct what runs calls. On shutdown calls end first, then the background jobs, then the handoffs."""
    database, settings, clock = shared.database, shared.settings, shared.clock
    replicas = Replicas(database, settings.server_url)
    stack.push_async_callback(replicas.stopped)
    machines = AnsweringMachines(database, clock, shared.carriers, lambda *how: registry.end_at_machine(*how))
    stack.push_async_callback(machines.finish, _CLOSE_TIMEOUT_S)
    registry = CallRegistry(
        database,
        settings,
        shared.providers,
        shared.carriers,
        clock,
        replicas,
        shared.health,
        handoffs.hand_off,
        handoffs.withdrawals.entry,
        handoffs.bridge.dial_destination,
        lambda fact: note(fact, shared.metrics, machines),
    )
    chats = Chats(
        database,
        settings,
        shared.providers,
        clock,
        ChatLimits(per_account=limits.chats_per_account, total=limits.chats),
        shared.health,
    )
    # The events of calls that end on shutdown, and of the lease reaper, belong in the journal.
    stack.push_async_callback(handoffs.stop)
    stack.push_async_callback(shared.background.finish, _CLOSE_TIMEOUT_S)
    stack.push_async_callback(registry.close, _CLOSE_TIMEOUT_S)
    stack.push_async_callback(chats.close)
    shared.metrics.watch_live(lambda: registry.live)
    return Calls(registry=registry, chats=chats, machines=machines, replicas=replicas)


async def open_app_state(
    shared: Shared,
    handoffs: HandoffRuntime,
    calls: Calls,
    limits: Limits,
    worker: Worker,
    grace: EndGrace,
    stack: contextlib.AsyncExitStack,
) -> AppState:
    """Construct what only the API uses, and read the numbers for calls that arrive without the database."""
    settings, database, clock, metrics = shared.settings, shared.database, shared.clock, shared.metrics
    checks = CheckPool()
    stack.push_async_callback(checks.close)
    other_workers = OtherWorkers(worker)
    stack.push_async_callback(other_workers.close)
    admission = Admission(
        clock,
        calls.registry.held,
        max_calls=settings.max_calls,
        max_lag_ms=settings.max_lag_ms,
        worker=worker,
    )
    metrics.watch_lag(lambda: admission.lag_ms / 1000)
    number_directory = NumberDirectory(database)
    await number_directory.refresh()
    connections = Connections(
        limits,
        lambda limit: metrics.limit_reached.labels(limit).inc(),
        lambda: clock.monotonic_ms() / 1000,
    )
    return AppState(
        settings=settings,
        database=database,
        carriers=shared.carriers,
        bridge_carriers=shared.bridge_carriers,
        flow_carriers=shared.flow_carriers,
        call_registry=calls.registry,
        admission=admission,
        other_workers=other_workers,
        authoring=Authoring(
            database,
            shared.vault,
            settings.http_allow,
            shared.providers.rules(),
            frozenset(HANDLERS),
            checks,
            rules_of(settings, shared.carriers),
        ),
        chats=calls.chats,
        clock=clock,
        metrics=metrics,
        background=shared.background,
        handoffs=handoffs,
        machines=calls.machines,
        vault=shared.vault,
        limits=limits,
        open_streams=OpenStreams(database, clock, limits),
        connections=connections,
        handshakes=Handshakes(
            limits.media_handshakes,
            lambda: connections.reached("media_handshakes", "sockets wait for their first message"),
        ),
        stream_tokens=SignedTokens(EVENT_STREAM, *shared.secret_keys),
        number_directory=number_directory,
        provider_health=shared.health,
        media_tokens=MediaTokens(database, shared.secret_keys, shared.background),
        status_writer=StatusWriter(database, shared.background),
        unanswered_ends=unanswered_ends(database, shared.background),
        grace=grace,
    )


def start_jobs(shared: Shared, calls: Calls, app_state: AppState, lease: Lease) -> None:
    """Start the background jobs of the process; the runtimes of handoffs and dispatch start their own."""
    run = shared.background.supervise
    reaper = LeaseReaper(
        shared.database,
        shared.clock,
        calls.registry.held,
        lambda call: shared.metrics.count_end(call.ended_by, call.end_reason),
        lease,
    )
    run(reaper.run, name="lease reaper")
    run(app_state.admission.run, name="measuring the event loop's lag")
    run(calls.replicas.run, name="reporting this process")
    run(app_state.number_directory.run, name="copying the numbers")
    run(shared.health.run, name="reading the health of the providers")
    run(app_state.open_streams.run, name="keys of open streams")
    if app_state.flow_carriers:
        run(lambda: flow_sweep.run(app_state), name="transferred calls")


def note(fact: CallFact, metrics: Metrics, machines: AnsweringMachines) -> None:
    """Count failures that are reported of calls, and listen for answering machines."""
    if isinstance(fact, EventRecord) and fact.type == "provider.failed":
        metrics.provider_failures.labels(fact.data["part"]).inc()
    elif isinstance(fact, UtteranceRecord):
        machines.heard(fact)


def dispatch_dependencies(
    shared: Shared, handoffs: HandoffRuntime, app_state: AppState
) -> DispatchDependencies:
    """What dialling and finalisation use; the model is optional."""
    settings, clock = shared.settings, shared.clock
    return DispatchDependencies(
        carriers=shared.carriers,
        credentials=credentials_of(settings),
        prepare=app_state.call_registry.prepare,
        on_notices=handoffs.outbox.wake,
        origin=settings.public_url if settings.dispatch == "on" else None,
        token=lambda call: app_state.media_tokens.issue_dialled(call, clock.now()),
        is_draining=lambda: app_state.draining,
        model=shared.providers.openai_client(),
        vault=shared.vault,
        http_allow=settings.http_allow,
    )


def handoff_dependencies(shared: Shared) -> HandoffDependencies:
    """What handoffs use; the mail server and the model are optional."""
    settings = shared.settings
    model, model_name = shared.providers.openai_client() or (None, "")
    return HandoffDependencies(
        vault=shared.vault,
        journal=settings.data_dir / "journal",
        journal_keys=JournalKeys(shared.secret_keys),
        registry=shared.metrics.registry,
        mail=MailServer.from_url(settings.smtp_url, settings.mail_from) if settings.smtp_url else None,
        model=model,
        model_name=model_name,
        http_allow=settings.http_allow,
        carriers={**shared.bridge_carriers, **shared.flow_carriers},
    )
