"""The composition root: the only place that constructs the parts of the server and connects them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from importlib.metadata import version
from typing import get_args

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from prometheus_client import CollectorRegistry

from db.events import EventRecord
from db.utterances import UtteranceRecord
from handlers.registry import HANDLERS
from telephony.bridge import BridgeCarrier
from telephony.flow import FlowCarrier, PersonCarrier
from voicebot.admission import Admission
from voicebot.api import error_handlers, flow_sweep, routers
from voicebot.api.app_state import AppState, EndGrace
from voicebot.api.connections import Connections
from voicebot.api.documentation import describe, serve_document
from voicebot.api.handshakes import Handshakes
from voicebot.api.limits import Limits
from voicebot.api.media_tokens import MediaTokens
from voicebot.api.number_directory import NumberDirectory
from voicebot.api.open_streams import OpenStreams
from voicebot.api.request_checks import RequestChecks
from voicebot.api.signed_token import EVENT_STREAM, SignedTokens
from voicebot.api.status_writer import StatusWriter
from voicebot.authoring import Authoring, CheckPool
from voicebot.availability import ProviderState
from voicebot.background import BackgroundTasks
from voicebot.call.dependencies import CallFact
from voicebot.call.leases import Lease, LeaseReaper
from voicebot.call.registry import CallRegistry
from voicebot.call.replicas import Replicas
from voicebot.call.text.chats import Chats
from voicebot.call.text.chats import Limits as ChatLimits
from voicebot.carriers import carriers_of, rules_of
from voicebot.clock import SystemClock
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
        parts = running(settings, grace or EndGrace(), lease or Lease(), limits, worker or Worker())
        async with parts as app_state:
            app.state.app_state = app_state
            yield

    app = FastAPIOffline(
        title="voicebot",
        version=version("voicebot"),
        summary="Voice agents for phone calls that are routed mid-call between authored agents.",
        lifespan=lifespan,
        redirect_slashes=False,
        redoc_url=None,
        static_url="/docs-assets",
        generate_unique_id_function=lambda route: route.name,
    )
    app.add_middleware(
        RequestChecks, limits=limits, api_prefix=routers.API_PREFIX, open_paths=routers.OPEN_PATHS
    )
    error_handlers.install(app)
    routers.install(app)
    describe(app, settings.public_url)
    serve_document(app)
    return app


def app_state_of(app: Application) -> AppState:
    """The state of an application that has been started."""
    app_state: AppState = app.state.app_state
    return app_state


@contextlib.asynccontextmanager
async def running(
    settings: Settings, grace: EndGrace, lease: Lease, limits: Limits, worker: Worker
) -> AsyncIterator[AppState]:
    """The parts of a server, opened in the order of construction and closed in the opposite order."""
    async with contextlib.AsyncExitStack() as stack:
        database = await stack.enter_async_context(
            open_database(settings, create=True, processes=worker.count)
        )
        carriers = carriers_of(settings)
        bridge_carriers = {
            name: carrier for name, carrier in carriers.items() if isinstance(carrier, BridgeCarrier)
        }
        flow_carriers = {
            name: carrier for name, carrier in carriers.items() if isinstance(carrier, FlowCarrier)
        }
        for carrier in carriers.values():
            stack.push_async_callback(carrier.aclose)
        clock = SystemClock()
        providers = Providers(settings)
        metrics = Metrics()
        secret_keys = settings.fernet_keys()
        vault = Vault(*secret_keys)
        handoff_runtime = HandoffRuntime(
            database,
            clock,
            handoff_dependencies(
                settings, providers, vault, metrics.registry, {**bridge_carriers, **flow_carriers}
            ),
        )
        health = ProviderHealths(database, clock, providers.credentials())
        stack.push_async_callback(health.close)
        replicas = Replicas(database, settings.server_url)
        stack.push_async_callback(replicas.stopped)
        machines = AnsweringMachines(
            database, clock, carriers, lambda *how: call_registry.end_at_machine(*how)
        )
        stack.push_async_callback(machines.finish, _CLOSE_TIMEOUT_S)
        call_registry = CallRegistry(
            database,
            settings,
            providers,
            carriers,
            clock,
            replicas,
            health,
            handoff_runtime.hand_off,
            handoff_runtime.withdrawals.entry,
            handoff_runtime.bridge.dial_destination,
            lambda fact: note(fact, metrics, machines),
        )
        chats = Chats(
            database,
            settings,
            providers,
            clock,
            ChatLimits(per_account=limits.chats_per_account, total=limits.chats),
            health,
        )
        background = BackgroundTasks()
        # After the calls have ended and the lease reaper has stopped: their events belong in the journal.
        stack.push_async_callback(handoff_runtime.stop)
        stack.push_async_callback(background.finish, _CLOSE_TIMEOUT_S)
        stack.push_async_callback(call_registry.close, _CLOSE_TIMEOUT_S)
        stack.push_async_callback(chats.close)
        checks = CheckPool()
        stack.push_async_callback(checks.close)
        authoring = Authoring(
            database,
            vault,
            settings.http_allow,
            providers.rules(),
            frozenset(HANDLERS),
            checks,
            rules_of(settings, carriers),
        )
        metrics.watch_live(lambda: call_registry.live)
        admission = Admission(
            clock,
            call_registry.held,
            max_calls=settings.max_calls,
            max_lag_ms=settings.max_lag_ms,
            worker=worker,
        )
        other_workers = OtherWorkers(worker)
        stack.push_async_callback(other_workers.close)
        metrics.watch_lag(lambda: admission.lag_ms / 1000)
        background.supervise(admission.run, name="measuring the event loop's lag")
        number_directory = NumberDirectory(database)
        await number_directory.refresh()
        background.supervise(replicas.run, name="reporting this process")
        background.supervise(number_directory.run, name="copying the numbers")
        background.supervise(health.run, name="reading the health of the providers")
        metrics.watch_providers(providers.credentials(), get_args(ProviderState), health.state)
        connections = Connections(
            limits,
            lambda limit: metrics.limit_reached.labels(limit).inc(),
            lambda: clock.monotonic_ms() / 1000,
        )
        media_tokens = MediaTokens(database, secret_keys, background)
        app_state = AppState(
            settings=settings,
            database=database,
            carriers=carriers,
            bridge_carriers=bridge_carriers,
            flow_carriers=flow_carriers,
            call_registry=call_registry,
            admission=admission,
            other_workers=other_workers,
            authoring=authoring,
            chats=chats,
            clock=clock,
            metrics=metrics,
            background=background,
            handoffs=handoff_runtime,
            machines=machines,
            vault=vault,
            limits=limits,
            open_streams=OpenStreams(database, clock, limits),
            connections=connections,
            handshakes=Handshakes(
                limits.media_handshakes,
                lambda: connections.reached("media_handshakes", "sockets wait for their first message"),
            ),
            stream_tokens=SignedTokens(EVENT_STREAM, *secret_keys),
            number_directory=number_directory,
            provider_health=health,
            media_tokens=media_tokens,
            status_writer=StatusWriter(database, background),
            grace=grace,
        )
        reaper = LeaseReaper(
            database,
            clock,
            call_registry.held,
            lambda call: metrics.count_end(call.ended_by, call.end_reason),
            lease,
        )
        background.supervise(reaper.run, name="lease reaper")
        if flow_carriers:
            background.supervise(lambda: flow_sweep.run(app_state), name="callers led out")
        background.supervise(app_state.open_streams.run, name="keys of open streams")
        dispatch_dependencies = DispatchDependencies(
            carriers=carriers, prepare=call_registry.prepare, on_notices=handoff_runtime.outbox.wake,
            origin=settings.public_url if settings.dispatch == "on" else None,
            token=lambda call: media_tokens.issue_dialled(call, clock.now()),
            is_draining=lambda: app_state.draining,
            model=providers.openai_client(), vault=vault, http_allow=settings.http_allow,
        )  # fmt: skip
        dispatch_runtime = DispatchRuntime(database, clock, dispatch_dependencies)
        stack.push_async_callback(dispatch_runtime.stop, _CLOSE_TIMEOUT_S)
        dispatch_runtime.start()
        handoff_runtime.start(lambda: app_state.draining, call_registry)
        yield app_state


def note(fact: CallFact, metrics: Metrics, machines: AnsweringMachines) -> None:
    """Count failures that are reported of calls, and listen for answering machines."""
    if isinstance(fact, EventRecord) and fact.type == "provider.failed":
        metrics.provider_failures.labels(fact.data["part"]).inc()
    elif isinstance(fact, UtteranceRecord):
        machines.heard(fact)


def handoff_dependencies(
    settings: Settings,
    providers: Providers,
    vault: Vault,
    registry: CollectorRegistry,
    carriers: Mapping[str, PersonCarrier],
) -> HandoffDependencies:
    """What handoffs need from the settings; the mail server and the model are optional."""
    model, model_name = providers.openai_client() or (None, "")
    return HandoffDependencies(
        vault=vault,
        journal=settings.data_dir / "journal",
        journal_keys=JournalKeys(settings.fernet_keys()),
        registry=registry,
        mail=MailServer.from_url(settings.smtp_url, settings.mail_from) if settings.smtp_url else None,
        model=model,
        model_name=model_name,
        http_allow=settings.http_allow,
        carriers=carriers,
    )
