"""The composition root: the only place that builds things and hands them to each other."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from importlib.metadata import version

from fastapi import APIRouter, Depends, FastAPI
from fastapi_offline import FastAPIOffline
from openai import AsyncOpenAI
from prometheus_client import CollectorRegistry

from db.events import EventRecord
from telephony.twilio.carrier import TwilioAccount, TwilioCarrier
from voicebot.api import (
    audit_list,
    calls,
    channels,
    chat,
    desk_metrics,
    failures,
    handoff_stream,
    handoffs,
    keys,
    leads,
    media,
    numbers,
    operations,
    operators,
    revisions,
    template_sets,
    templates,
    users,
    webhooks,
)
from voicebot.api.body_limit import BodyLimit
from voicebot.api.documentation import describe
from voicebot.api.media_types import json_only
from voicebot.api.stream_token import StreamTokens
from voicebot.api.wiring import Patience, Wiring
from voicebot.authoring import PRECHECKS, Authoring, Precheck
from voicebot.call.keeping import CallKeeper, Lease
from voicebot.call.line import Happening
from voicebot.call.reception import Reception
from voicebot.call.text.chats import Chats
from voicebot.clock import SystemClock
from voicebot.config import Settings
from voicebot.database import open_database
from voicebot.errands import Errands
from voicebot.escalation import office as desk_office
from voicebot.escalation.mail import MailServer
from voicebot.escalation.office import Supplies
from voicebot.metrics import Metrics
from voicebot.vault import Vault

Application = FastAPI
"""The server as uvicorn runs it."""

API_PREFIX = "/api/v1"
_LAST_WORDS_S = 5.0


def create_app(
    settings: Settings,
    *,
    prechecks: Sequence[Precheck] = PRECHECKS,
    patience: Patience | None = None,
    lease: Lease | None = None,
) -> Application:
    """The server as an ASGI application; it opens what it needs when it is started.

    Args:
        settings: everything the environment decides.
        prechecks: friendly looks before a template is saved; the database decides without them as well.
        patience: how long to wait for better knowledge of how a call ended.
        lease: how long a call is held by a process that may have died.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with running(settings, prechecks, patience or Patience(), lease or Lease()) as wiring:
            app.state.wiring = wiring
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
    app.add_middleware(BodyLimit)
    failures.install(app)
    resources = APIRouter(prefix=API_PREFIX, dependencies=[Depends(json_only)])
    for resource in (
        templates,
        revisions,
        chat,
        numbers,
        leads,
        calls,
        handoff_stream,
        handoffs,
        operators,
        users,
        keys,
        channels,
        desk_metrics,
        audit_list,
    ):
        resources.include_router(resource.router)
    # Takes YAML too, so it is not among those that take JSON only.
    app.include_router(template_sets.router, prefix=API_PREFIX)
    for router in (resources, operations.router, webhooks.router, media.router):
        app.include_router(router)
    describe(app)
    return app


def wiring_of(app: Application) -> Wiring:
    """The parts of an application that has been started."""
    wiring: Wiring = app.state.wiring
    return wiring


@contextlib.asynccontextmanager
async def running(
    settings: Settings, prechecks: Sequence[Precheck], patience: Patience, lease: Lease
) -> AsyncIterator[Wiring]:
    """All parts of a server, opened in their order and closed in the opposite one."""
    async with contextlib.AsyncExitStack() as stack:
        database = await stack.enter_async_context(open_database(settings))
        carriers = carriers_of(settings)
        for carrier in carriers.values():
            stack.push_async_callback(carrier.aclose)
        clock = SystemClock()
        metrics = Metrics()
        vault = Vault(settings.fernet_key())
        office = desk_office.furnish(database, clock, desk_supplies(settings, vault, metrics.registry))
        reception = Reception(
            database, settings, carriers, clock, office.hand_off, lambda happening: count(happening, metrics)
        )
        chats = Chats(database, settings, clock)
        errands = Errands()
        stack.push_async_callback(errands.finish, _LAST_WORDS_S)
        stack.push_async_callback(reception.drain, _LAST_WORDS_S)
        stack.push_async_callback(chats.close)
        metrics.watch_live(lambda: reception.live)
        wiring = Wiring(
            settings=settings,
            database=database,
            carriers=carriers,
            reception=reception,
            authoring=Authoring(
                database,
                vault,
                http_allow=settings.http_allow,
                prechecks=prechecks,
            ),
            chats=chats,
            clock=clock,
            metrics=metrics,
            errands=errands,
            office=office,
            vault=vault,
            stream_tokens=StreamTokens(settings.fernet_key()),
            patience=patience,
        )
        keeper = CallKeeper(
            database,
            clock,
            reception.held,
            lambda call: metrics.count_end(call.ended_by, call.end_reason),
            lease,
        )
        await stack.enter_async_context(
            desk_office.staffed(office, database, lambda: wiring.draining, more=(keeper.run,))
        )
        yield wiring


def count(happening: Happening, metrics: Metrics) -> None:
    """What happens on calls, as figures."""
    if isinstance(happening, EventRecord) and happening.type == "provider.failed":
        metrics.provider_failures.labels(happening.data["part"]).inc()


def desk_supplies(settings: Settings, vault: Vault, registry: CollectorRegistry) -> Supplies:
    """What the desk may use: a mail server and a model where they are set."""
    model = None
    if settings.openai_api_key is not None:
        model = AsyncOpenAI(
            api_key=settings.openai_api_key.get_secret_value(),
            base_url=settings.openai_base_url,
            max_retries=0,
        )
    return Supplies(
        vault=vault,
        journal=settings.data_dir / "journal",
        registry=registry,
        mail=MailServer.of(settings.smtp_url, settings.mail_from) if settings.smtp_url else None,
        model=model,
        model_name=settings.openai_model,
        http_allow=settings.http_allow,
    )


def carriers_of(settings: Settings) -> Mapping[str, TwilioCarrier]:
    """The carriers whose credentials are set; the webhooks of others do not exist."""
    carriers: dict[str, TwilioCarrier] = {}
    if settings.twilio_account_sid and settings.twilio_auth_token:
        account = TwilioAccount(
            account_sid=settings.twilio_account_sid,
            auth_token=settings.twilio_auth_token.get_secret_value(),
            public_url=settings.public_url,
            api_url=settings.twilio_api_url,
        )
        carriers[TwilioCarrier.name] = TwilioCarrier(account)
    return carriers
