"""An account with one of everything, and how each operation of the API is asked for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from fastapi import FastAPI

from db import dispatch_records, events, inbound, model_requests, routes, utterances
from db.calls import CallRecord
from db.dispatch_records import Alert
from db.events import EventRecord
from db.ids import new_id
from db.inbound import InboundCall
from db.model_requests import ModelRequestRecord
from db.pool import Database
from db.routes import RouteRecord
from db.utterances import UtteranceRecord
from tests.api.server_fixture import Tenant, agent_document, create, new_e164, orchestrator_document
from voicebot.clock import SystemClock

PREFIX = "/api/v1"
STREAM = f"{PREFIX}/handoffs/stream"
"""Its answer has no end, so that it is asked in ways of its own."""

NOBODY = "01a1fb64-16ef-7341-baef-1bff17f7b0e5"
"""An id of nothing."""

WORD = "Zanzibar"
"""A word that is in every text of `build`'s rows and in no other."""

UUID_FORM = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

Ids = Mapping[str, str]
"""What a path is filled with, by the parameter's name."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the OpenAPI document."""

    method: str
    path: str
    document: Mapping[str, Any]

    @property
    def name(self) -> tuple[str, str]:
        """How it is called in a table: the path without its prefix."""
        return self.method, self.path.removeprefix(PREFIX)

    @property
    def changes(self) -> bool:
        """Whether its method is one that changes something."""
        return self.method != "GET"

    @property
    def parameters(self) -> frozenset[str]:
        """The names in its path."""
        return frozenset(re.findall(r"{(\w+)}", self.path))

    @property
    def filters(self) -> list[str]:
        """The parameters of its query that take an id."""
        given = self.document.get("parameters", ())
        return [each["name"] for each in given if each["in"] == "query" and "'uuid'" in str(each["schema"])]

    def about(self, ids: Ids) -> str:
        """The path, filled in."""
        return self.path.removeprefix(PREFIX).format_map(ids)


def operations(app: FastAPI) -> Iterator[Operation]:
    """Every operation of the API, as its OpenAPI document has them."""
    for path, methods in app.openapi()["paths"].items():
        for method, document in methods.items():
            if path.startswith(PREFIX):
                yield Operation(method.upper(), path, document)


def nothing(ids: Ids) -> dict[str, str]:
    """The same parameters, of nothing."""
    return {name: value if name == "revision" else NOBODY for name, value in ids.items()}


BODIES: Mapping[tuple[str, str], Callable[[Ids], Sequence[Any]]] = {
    ("POST", "/templates"): lambda ids: [orchestrator_document("Mine", ids["template_id"], ids["number_id"])],
    ("POST", "/templates/check"): lambda ids: [
        orchestrator_document("Mine", ids["template_id"], ids["number_id"]),
        {**agent_document("Mine"), "id": ids["template_id"]},
    ],
    ("PUT", "/templates/{template_id}"): lambda _: [agent_document("Mine")],
    ("PATCH", "/templates/{template_id}"): lambda _: [{"description": "Mine."}],
    ("POST", "/templates/{template_id}/chat"): lambda _: [{}],
    ("PATCH", "/numbers/{number_id}"): lambda _: [{"label": "Mine"}],
    ("POST", "/leads"): lambda ids: [
        {"phone": "+14155550100", "number_id": ids["number_id"], "template_id": ids["template_id"]}
    ],
    ("POST", "/templates/import"): lambda ids: [
        {"templates": [orchestrator_document("Mine", ids["template_id"], ids["number_id"])]}
    ],
    ("POST", "/handoffs"): lambda ids: [
        {"reason": "mine", "call_id": ids["call_id"]},
        {"reason": "mine", "lead_id": ids["lead_id"]},
    ],
    ("POST", "/handoffs/{handoff_id}/reschedule"): lambda _: [{"due_at": "2026-12-24T10:00:00Z"}],
    ("POST", "/handoffs/{handoff_id}/reassign"): lambda ids: [{"user_id": ids["user_id"]}],
    ("PUT", "/users/{user_id}"): lambda _: [{"name": "Mine"}],
    ("POST", "/keys"): lambda ids: [{"role": "viewer", "user_id": ids["user_id"]}],
}
"""Requests with the ids of `build`'s rows; to another account they are unknown ids."""

NAMES_NOTHING = {
    ("POST", "/numbers"): "a number of one's own",
    ("POST", "/users"): "a person of one's own",
    ("POST", "/channels"): "a channel of one's own",
    ("POST", "/leads/upload"): "its lines are checked as the body of a lead is",
    ("POST", "/dispatch/pause"): "one's own account",
    ("POST", "/dispatch/resume"): "one's own account",
    ("POST", "/dispatch/cancel"): "one's own account",
    ("POST", "/dispatch/kill-switch"): "one's own account",
    ("DELETE", "/dispatch/kill-switch"): "one's own account",
    ("POST", "/opt-outs"): "a person whom one's own account calls",
    ("PATCH", "/account"): "one's own account",
    ("POST", "/account/webhook-secret"): "one's own account",
    ("POST", "/handoffs/stream-token"): "a token for one's own stream",
    ("PATCH", "/operators/me"): "oneself",
    ("PUT", "/operators/me/presence"): "oneself",
    ("POST", "/operators/me/heartbeat"): "oneself",
}
"""Operations that can be asked for nothing of another account, and what they are about."""


async def build(tenant: Tenant, database: Database) -> dict[str, str]:
    """Put one of everything into an account; gives the ids by the names of path parameters."""
    call = await a_call(tenant, database)
    owner = tenant.owner
    agent = await tenant.agent(f"{WORD} returns")
    handoff = await create(owner, "/handoffs", {"reason": f"{WORD}, please", "call_id": str(call.id)})
    channel = await create(owner, "/channels", {"kind": "slack", "url": "https://example.com", "label": WORD})
    user = await create(owner, "/users", {"name": WORD, "email": f"ada@{WORD.lower()}.example"})
    key = await create(owner, "/keys", {"role": "operator", "user_id": user["id"], "label": WORD})
    opt_out = await create(owner, "/opt-outs", {"phone": new_e164(), "reason": WORD})
    alert = Alert(
        code="number_unavailable", carrier="twilio", detail=WORD, at=SystemClock().now(),
        throttle=timedelta(0),
    )  # fmt: skip
    await dispatch_records.alert(database, tenant.account_id, alert)
    prices = {"prices": {"stt": {WORD: {"per_minute": 1}}}}
    await owner.patch("/account", json=prices, headers={"If-Match": "*"})
    await database.execute(
        "INSERT INTO operators (account_id, user_id) VALUES ($1, $2)", tenant.account_id, UUID(user["id"])
    )
    return {
        "template_id": agent["id"],
        "revision": "1",
        "number_id": str(call.number_id),
        "lead_id": str(call.lead_id),
        "call_id": str(call.id),
        "handoff_id": handoff["id"],
        "user_id": user["id"],
        "key_id": key["id"],
        "opt_out_id": opt_out["id"],
        "channel_id": channel["id"],
        "notice_id": str(await a_dead_letter(tenant, database, UUID(handoff["id"]))),
    }


async def a_call(tenant: Tenant, database: Database) -> CallRecord:
    """A call of an account, with something said and done on it."""
    desk = await tenant.orchestrator(f"{WORD} desk")
    number = (await tenant.owner.get(f"/numbers/{desk['number_id']}")).json()
    now = SystemClock().now()
    began = await inbound.begin(
        database,
        InboundCall(
            carrier="twilio",
            carrier_call_id=f"CA{new_id().hex}",
            to_number=number["e164"],
            from_number=new_e164(),
            started_at=now,
        ),
    )
    call = began.call
    place: dict[str, Any] = {"id": new_id(), "account_id": call.account_id, "call_id": call.id, "seq": 1}
    said = UtteranceRecord(
        **place, speaker="caller", template_id=UUID(desk["id"]), node=None, text=f"{WORD}?", heard_text=None,
        interrupted=False, source="stt", started_ms=0, ended_ms=900,
    )  # fmt: skip
    happened = EventRecord(
        **place, type="call.started", at=now, template_id=None, node=None, data={"said": WORD}
    )
    refused = RouteRecord(
        **place, name=WORD, hop=1, from_template_id=UUID(desk["id"]), from_node=None, to_template_id=None,
        to_node=None, reason=WORD, context="full", announced=False, status="refused",
        error_code="unknown_agent", requested_at=now, switched_at=None, first_audio_at=None, gap_ms=None,
    )  # fmt: skip
    asked = ModelRequestRecord(
        **place, at=now, template_id=UUID(desk["id"]), node=None, shared=0,
        messages=[{"role": "user", "content": f"{WORD}?"}], tools=[], settings={}, text=WORD,
        function_calls=[], status="done", error=None, first_token_ms=1, total_ms=2, tokens=None,
        cost_usd=None,
    )  # fmt: skip
    await utterances.record(database, said)
    await model_requests.append(database, asked, same_tools=False)
    await events.record(database, happened)
    await routes.record(database, refused)
    return call


async def a_dead_letter(tenant: Tenant, database: Database, handoff_id: UUID) -> UUID:
    """A notice that could not be sent, with the attempt that failed."""
    notice_id = new_id()
    await database.execute(
        """
        INSERT INTO outbox (id, account_id, handoff_id, medium, message, next_at, created_at, state, attempts)
        VALUES ($2, $1, $3, 'email', '{}', now(), now(), 'dead', 1)
        """,
        tenant.account_id,
        notice_id,
        handoff_id,
    )
    await database.execute(
        """
        INSERT INTO outbox_attempts (account_id, notice_id, number, started_at, ended_at, outcome, error)
        VALUES ($1, $2, 1, now(), now(), 'failed', $3)
        """,
        tenant.account_id,
        notice_id,
        WORD,
    )
    return notice_id


async def rows_of(database: Database, account_id: UUID) -> dict[str, list[str]]:
    """Everything that is kept of an account, as text by table."""
    tables = await database.fetch(
        """
        SELECT table_name::text AS name FROM information_schema.columns
        WHERE table_schema = 'public' AND column_name = 'account_id'
        """
    )
    return {
        table["name"]: sorted(
            row["row"]
            for row in await database.fetch(
                # A line of the journal is numbered when it is written, whoever asks for what meanwhile.
                f"SELECT (to_jsonb(t) - 'line')::text AS row FROM {table['name']} t WHERE account_id = $1",  # noqa: S608
                account_id,
            )
        )
        for table in tables
    }
