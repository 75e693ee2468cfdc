"""What the tests of the HTTP face start and hold: a server, accounts, and the templates they begin with."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, get_args
from uuid import UUID

import httpx
from fastapi import FastAPI
from twilio.request_validator import RequestValidator

from db import accounts, keys
from db.keys import Role
from db.pool import Database
from voicebot.api.app_state import AppState, EndGrace
from voicebot.app import create_app
from voicebot.authoring import PRECHECKS, Precheck
from voicebot.config import Settings
from voicebot.server import CallServer

PUBLIC_URL = "https://bot.example.com"
AUTH_TOKEN = "a token that only Twilio and we know"
ROLES: tuple[Role, ...] = get_args(Role)

_numbers = count(2_000_000)


@dataclass(frozen=True, slots=True)
class House:
    """A running server, and the parts it was made of."""

    url: str
    app: FastAPI
    app_state: AppState
    server: CallServer


@dataclass(frozen=True, slots=True)
class Tenant:
    """An account, as the holders of its keys see the API."""

    account_id: UUID
    keys: Mapping[Role, str]
    clients: Mapping[Role, httpx.AsyncClient]

    @property
    def owner(self) -> httpx.AsyncClient:
        """The API to the owner."""
        return self.clients["owner"]

    async def number(self) -> dict[str, Any]:
        """A new number."""
        return await made(self.owner, "/numbers", {"e164": new_e164()})

    async def agent(self, name: str = "Billing", **more: Any) -> dict[str, Any]:
        """A new active agent."""
        return await made(self.owner, "/templates", {**agent_document(name), **more})

    async def desk(self, name: str = "Front desk", **more: Any) -> dict[str, Any]:
        """A new active orchestrator on a number of its own, with an agent to route to."""
        target = await self.agent(f"{name}'s billing")
        number = await self.number()
        document = desk_document(name, target["id"], number["id"])
        return await made(self.owner, "/templates", {**document, **more})


def agent_document(name: str) -> dict[str, Any]:
    """An agent that passes the check."""
    return {
        "name": name,
        "status": "active",
        "description": "Answers questions about invoices.",
        "prompt": "You are the billing agent of Acme.",
    }


def desk_document(name: str, target_id: str, number_id: str) -> dict[str, Any]:
    """An orchestrator that passes the check."""
    return {
        "name": name,
        "kind": "orchestrator",
        "status": "active",
        "number_id": number_id,
        "prompt": "You answer Acme's telephone.",
        "routes": [{"name": "billing", "template_id": target_id, "when": "The caller asks about money."}],
    }


def new_e164() -> str:
    """A number that no other test of this process uses."""
    return f"+1415{next(_numbers)}"


async def made(client: httpx.AsyncClient, path: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """What was created, which is to succeed."""
    response = await client.post(path, json=document)
    assert response.status_code == 201, response.text
    answer: dict[str, Any] = response.json()
    return answer


class _QuietServer(CallServer):
    """The server without its signal handlers, which belong to pytest here."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serving(
    settings: Settings, *, prechecks: Sequence[Precheck] = PRECHECKS, grace: EndGrace | None = None
) -> AsyncIterator[House]:
    """A server in this process, on a free port, stopped at the end as SIGTERM would."""
    app = create_app(settings, prechecks=prechecks, grace=grace)
    server = _QuietServer(app, settings, out=io.StringIO())
    task = asyncio.create_task(server.serve())
    try:
        while not server.started:
            await asyncio.sleep(0.01)
            if task.done():
                task.result()
        yield House(server.url, app, app.state.app_state, server)
    finally:
        server.should_exit = True
        await task


@contextlib.asynccontextmanager
async def move_in(url: str, database: Database) -> AsyncIterator[Tenant]:
    """A new account with a key and a client for every role."""
    account = await accounts.create(database, "Acme")
    made_keys = {role: (await keys.create(database, account.id, role)).key for role in ROLES}
    async with contextlib.AsyncExitStack() as stack:
        clients = {}
        for role, key in made_keys.items():
            clients[role] = await stack.enter_async_context(client(url, key))
        yield Tenant(account.id, made_keys, clients)


def client(url: str, key: str | None) -> httpx.AsyncClient:
    """The API to the holder of a key."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return httpx.AsyncClient(base_url=f"{url}/api/v1", headers=headers, timeout=30)


def signed(url: str, form: Mapping[str, str], token: str = AUTH_TOKEN) -> dict[str, str]:
    """The header that Twilio sends with a form."""
    signature = RequestValidator(token).compute_signature(url, dict(form))
    return {"X-Twilio-Signature": signature}
