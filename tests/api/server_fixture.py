"""A server in this process, accounts with keys of every role, and templates that pass the check."""

from __future__ import annotations

import asyncio
import contextlib
import io
import signal
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any, get_args
from uuid import UUID

import httpx
from fastapi import FastAPI
from twilio.request_validator import RequestValidator

from db import accounts, keys
from db.keys import Role
from db.pool import Database
from templates.outbound import DAYS
from voicebot.api.app_state import AppState, EndGrace
from voicebot.api.limits import Limits
from voicebot.app import create_app
from voicebot.config import Settings
from voicebot.server import CallServer

PUBLIC_URL = "https://bot.example.com"
AUTH_TOKEN = "a token that only Twilio and we know"
ROLES: tuple[Role, ...] = get_args(Role)

_WITHOUT_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_numbers = count(2_000_000)


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A running server and its parts."""

    url: str
    app: FastAPI
    app_state: AppState
    call_server: CallServer


@dataclass(frozen=True, slots=True)
class Tenant:
    """An account, with a key and a client of the API for each role."""

    account_id: UUID
    keys: Mapping[Role, str]
    clients: Mapping[Role, httpx.AsyncClient]

    @property
    def owner(self) -> httpx.AsyncClient:
        """Client of the API with the owner's key."""
        return self.clients["owner"]

    async def number(self) -> dict[str, Any]:
        """Create a number."""
        return await create(self.owner, "/numbers", {"e164": new_e164()})

    async def agent(self, name: str = "Billing", **more: Any) -> dict[str, Any]:
        """Create an active agent; `more` overrides fields of the template."""
        return await create(self.owner, "/templates", {**agent_document(name), **more})

    async def orchestrator(self, name: str = "Front desk", **more: Any) -> dict[str, Any]:
        """Create an active orchestrator with a number and an agent to route to."""
        target = await self.agent(f"{name}'s billing")
        number = await self.number()
        document = orchestrator_document(name, target["id"], number["id"])
        return await create(self.owner, "/templates", {**document, **more})


def agent_document(name: str) -> dict[str, Any]:
    """Return an agent that passes the check."""
    return {
        "name": name,
        "status": "active",
        "description": "Answers questions about invoices.",
        "prompt": "You are the billing agent of Acme.",
    }


def orchestrator_document(name: str, target_id: str, number_id: str) -> dict[str, Any]:
    """Return an orchestrator that passes the check."""
    return {
        "name": name,
        "kind": "orchestrator",
        "status": "active",
        "number_id": number_id,
        "prompt": "You answer Acme's telephone.",
        "routes": [{"name": "billing", "template_id": target_id, "when": "The caller asks about money."}],
    }


def new_e164() -> str:
    """Return a phone number that no other test of this worker uses."""
    return f"+1415{next(_numbers)}"


def closed_hours() -> dict[str, Any]:
    """Hours of an inbound policy that are over now, in every time zone."""
    return {"days": [DAYS[(datetime.now(UTC).weekday() + 3) % 7]]}


async def create(client: httpx.AsyncClient, path: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """Create a resource by POST and return it; the answer must be 201."""
    response = await client.post(path, json=document)
    assert response.status_code == 201, response.text
    answer: dict[str, Any] = response.json()
    return answer


class _InProcessServer(CallServer):
    """The server without the effects on its process: signal handlers and the frozen heap."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def freeze_heap(self) -> None:
        """Leave the heap alone: a frozen application would never be collected."""

    def collect_ended_calls(self) -> None:
        """Leave them to the end of the test: a collection here visits the objects of all tests."""


@contextlib.asynccontextmanager
async def serving(
    settings: Settings, *, grace: EndGrace | None = None, limits: Limits | None = None
) -> AsyncIterator[RunningServer]:
    """Run a server in this process on a free port; at the end it stops as after SIGTERM, or two."""
    app = create_app(settings, grace=grace, limits=limits)
    server = _InProcessServer(app, settings, out=io.StringIO())
    task = asyncio.create_task(server.serve())
    try:
        while not server.started:
            await asyncio.sleep(0.01)
            if task.done():
                task.result()
        yield RunningServer(server.url, app, app.state.app_state, server)
    finally:
        server.handle_exit(signal.SIGTERM, None)
        await asyncio.wait({task}, timeout=settings.drain_timeout_ms / 1000 + 1)
        if not task.done():  # calls that go on
            server.handle_exit(signal.SIGTERM, None)
        await task
        # FastAPI's process-wide caches of callables keep closures over the application for ever.
        vars(app).clear()


@contextlib.asynccontextmanager
async def create_tenant(url: str, database: Database) -> AsyncIterator[Tenant]:
    """Create an account with a key and a client for every role."""
    account = await accounts.create(database, "Acme")
    made_keys = {role: (await keys.create(database, account.id, role)).key for role in ROLES}
    async with contextlib.AsyncExitStack() as stack:
        clients = {}
        for role, key in made_keys.items():
            clients[role] = await stack.enter_async_context(client(url, key))
        yield Tenant(account.id, made_keys, clients)


def client(url: str, key: str | None) -> httpx.AsyncClient:
    """Return a client of the API; it sends no key if ``key`` is None."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return http_client(base_url=f"{url}/api/v1", headers=headers)


def http_client(**options: Any) -> httpx.AsyncClient:
    """Return a client for servers on this machine.

    It has no certificates: to load them, as httpx does for each client, takes 60 ms. An idle connection is
    given up before the server closes it: a request on it would fail in that moment. A busy machine may need
    long for an answer; a test that hangs is ended by its own timeout.
    """
    idle = httpx.Limits(keepalive_expiry=1.0)
    return httpx.AsyncClient(**{"verify": _WITHOUT_CERTIFICATES, "timeout": 100.0, "limits": idle, **options})


async def metric(url: str, name: str) -> float:
    """Return a metric of a server, 0 if it is not there; ``name`` includes the labels."""
    async with http_client() as anybody:
        lines = (await anybody.get(f"{url}/metrics")).raise_for_status().text.splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} ")), 0.0)


def signed(url: str, form: Mapping[str, str], token: str = AUTH_TOKEN) -> dict[str, str]:
    """Return the signature header that Twilio sends with a form."""
    signature = RequestValidator(token).compute_signature(url, dict(form))
    return {"X-Twilio-Signature": signature}
