"""The audit list: who changed what, whichever way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from db import audit, keys, users
from db.audit import AuditFilter
from db.pool import Database
from db.users import UserDraft
from tests.api import api_fixtures
from tests.api.api_fixtures import UUID_FORM, Ids
from tests.api.processes import VOICEBOT, said
from tests.api.server_fixture import RunningServer, Tenant, agent_document, new_e164
from tests.api.test_api_templates import HTTP_FUNCTION

LATER = {"due_at": "2026-12-24T10:00:00Z"}
EMAIL = "grace@example.com"


@dataclass(frozen=True, slots=True)
class Step:
    """A change over the API, and the line it leaves in the list."""

    method: str
    path: str
    line: tuple[str, str]
    """Action and resource."""
    body: Callable[[Ids], Any] | Mapping[str, Any] | None = None
    makes: str | None = None
    """The parameter that paths after it are filled with."""
    status: int | None = None
    """The status of the response, where it is not a success."""


WALK = [
    Step("POST", "/numbers", ("create", "number"), lambda _: {"e164": new_e164()}, makes="number_id"),
    Step("PATCH", "/numbers/{number_id}", ("update", "number"), {"label": "Main"}),
    Step(
        "POST", "/templates", ("create", "template"),
        {**agent_document("New"), "functions": [HTTP_FUNCTION]}, makes="template_id",
    ),
    Step("PUT", "/templates/{template_id}", ("update", "template"), agent_document("Newer")),
    Step("PATCH", "/templates/{template_id}", ("update", "template"), {"description": "Other."}),
    Step("POST", "/templates/{template_id}/deactivate", ("deactivate", "template")),
    Step("POST", "/templates/{template_id}/activate", ("activate", "template")),
    Step("POST", "/templates/{template_id}/revisions/{revision}/restore", ("restore", "template")),
    Step("POST", "/templates/{template_id}/duplicate", ("duplicate", "template"), {}),
    Step(
        "POST", "/templates/import", ("import", "template"), {"templates": [agent_document("Imported")]}
    ),
    Step(
        "POST", "/leads", ("create", "lead"),
        lambda ids: {"phone": new_e164(), "number_id": ids["number_id"], "template_id": ids["template_id"]},
        makes="lead_id",
    ),
    Step("POST", "/leads/{lead_id}/pause", ("pause", "lead")),
    Step("POST", "/leads/{lead_id}/resume", ("resume", "lead")),
    Step("POST", "/leads/{lead_id}/dial-now", ("dial_now", "lead")),
    Step("POST", "/leads/{lead_id}/cancel", ("cancel", "lead")),
    Step("POST", "/templates/{template_id}/pause", ("pause", "template")),
    Step("POST", "/templates/{template_id}/resume", ("resume", "template")),
    Step("POST", "/templates/{template_id}/cancel", ("cancel", "template")),
    Step("POST", "/dispatch/cancel", ("cancel", "dispatch")),
    Step("POST", "/dispatch/pause", ("pause", "dispatch")),
    Step("POST", "/dispatch/resume", ("resume", "dispatch")),
    Step("POST", "/dispatch/kill-switch", ("pause", "dispatch")),
    Step("DELETE", "/dispatch/kill-switch", ("resume", "dispatch")),
    Step("POST", "/opt-outs", ("create", "opt_out"), lambda _: {"phone": new_e164()}, makes="opt_out_id"),
    Step("DELETE", "/opt-outs/{opt_out_id}", ("delete", "opt_out")),
    Step("PATCH", "/account", ("update", "account"), {"prices": {"currency": "EUR"}}),
    Step("POST", "/account/webhook-secret", ("replace_webhook_secret", "account")),
    Step("DELETE", "/templates/{template_id}", ("delete", "template")),
    Step("DELETE", "/numbers/{number_id}", ("delete", "number")),
    Step("POST", "/handoffs/{handoff_id}/claim", ("claim", "handoff")),
    Step("POST", "/handoffs/{handoff_id}/release", ("release", "handoff")),
    Step(
        "POST", "/handoffs/{handoff_id}/reassign", ("reassign", "handoff"),
        lambda ids: {"user_id": ids["user_id"]},
    ),
    Step("POST", "/handoffs/{handoff_id}/release", ("release", "handoff")),
    Step("POST", "/handoffs/{handoff_id}/reschedule", ("reschedule", "handoff"), LATER),
    Step("POST", "/handoffs", ("create", "handoff"), {"reason": "A person, please."}, makes="handoff_id"),
    Step("POST", "/handoffs/{handoff_id}/decline", ("decline", "handoff")),
    Step("POST", "/handoffs/{handoff_id}/claim", ("claim", "handoff")),
    Step("POST", "/handoffs/{handoff_id}/resolve", ("resolve", "handoff"), {"resolution": "done"}),
    Step("POST", "/handoffs", ("create", "handoff"), {"reason": "A person, please."}, makes="handoff_id"),
    Step("POST", "/handoffs/{handoff_id}/cancel", ("cancel", "handoff")),
    Step("POST", "/operators/{user_id}/relieve", ("relieve", "operator")),
    Step("PATCH", "/operators/me", ("update", "operator"), {"phone": "+14155550101"}),
    Step("POST", "/users", ("create", "user"), {"name": "Grace", "email": EMAIL}, makes="user_id"),
    Step("PUT", "/users/{user_id}", ("update", "user"), {"name": "Grace", "role": "viewer", "email": EMAIL}),
    Step(
        "POST", "/keys", ("create", "key"),
        lambda ids: {"role": "viewer", "user_id": ids["user_id"]}, makes="key_id",
    ),
    Step("DELETE", "/keys/{key_id}", ("revoke", "key")),
    Step("DELETE", "/users/{user_id}", ("delete", "user")),
    Step(
        "POST", "/channels", ("create", "channel"),
        {"kind": "webhook", "url": "https://example.com/hook"}, makes="channel_id",
    ),
    Step("POST", "/channels/{channel_id}/test", ("test", "channel")),
    Step("DELETE", "/channels/{channel_id}", ("delete", "channel")),
    Step("POST", "/notices/{notice_id}/retry", ("retry", "notice")),
    # The carrier of these tests cannot be reached; the call is ended here all the same.
    Step("POST", "/calls/{call_id}/end", ("end", "call"), status=502),
]  # fmt: skip

NO_LINE = {
    ("POST", "/templates/check"): "saves nothing",
    ("POST", "/leads/upload"): "one line for every 200 leads; test_dispatch",
    ("POST", "/templates/{template_id}/chat"): "a conversation of the author's, of which nothing is kept",
    ("POST", "/handoffs/stream-token"): "a token for a minute, no more than its key allows",
    ("POST", "/handoffs/{handoff_id}/dial"): "the handoff's events tell of it",
    ("POST", "/handoffs/{handoff_id}/accept"): "the handoff's events tell of it",
    ("POST", "/handoffs/{handoff_id}/return"): "the handoff's events tell of it",
    ("PUT", "/operators/me/presence"): "what somebody is at the moment; the desk's events tell of it",
    ("POST", "/operators/me/heartbeat"): "a sign of life every minute",
}
"""Changes that leave no line, and why."""


async def test_every_change_leaves_a_line(tenant: Tenant, database: Database) -> None:
    """Each change of the API adds one line: what was done, to what, by which key."""
    ids = await api_fixtures.build(tenant, database)
    owner = next(
        key["id"] for key in (await tenant.owner.get("/keys")).json()["items"] if key["role"] == "owner"
    )
    count = len(await lines(tenant))
    for step in WALK:
        path = step.path.format_map(ids)
        body = step.body(ids) if callable(step.body) else step.body
        answer = await tenant.owner.request(step.method, path, json=body, headers={"If-Match": "*"})
        assert answer.status_code == step.status or answer.is_success, (step.path, answer.text)
        if step.makes:
            ids[step.makes] = answer.json()["id"]
        rows = await lines(tenant)
        known = {*ids.values(), str(tenant.account_id)}
        count += 1
        assert len(rows) == count, step.path
        assert (rows[0]["action"], rows[0]["resource"]) == step.line
        assert rows[0]["key_id"] == owner
        assert rows[0]["resource_id"] in known | {*UUID_FORM.findall(answer.text)}


async def test_the_walk_goes_everywhere(server: RunningServer) -> None:
    """A change without a line in the list has a reason for it."""
    changes = {operation.name for operation in api_fixtures.operations(server.app) if operation.changes}
    walked = {(step.method, step.path) for step in WALK}
    assert walked | NO_LINE.keys() == changes
    assert not walked & NO_LINE.keys()


async def test_the_list_has_no_secrets(tenant: Tenant) -> None:
    """Neither keys nor what templates keep secret nor people's addresses can be read from the list."""
    key = (await tenant.owner.post("/keys", json={"role": "viewer"})).json()["key"]
    await tenant.agent(functions=[HTTP_FUNCTION])
    hook = {"kind": "webhook", "url": "https://example.com/hook"}
    secret = (await tenant.owner.post("/channels", json=hook)).json()["signing_secret"]
    await tenant.owner.post("/users", json={"name": "Grace", "email": EMAIL})
    text = (await tenant.clients["viewer"].get("/audit")).text
    assert text.count('"action":"create"') == 4
    for hidden in (key, secret, EMAIL, "deep secret", "sealed:"):
        assert hidden not in text


async def test_the_list_is_filtered_and_paged(tenant: Tenant) -> None:
    """By what was changed, by which one of them and by how; newest first, page by page."""
    desk = await tenant.orchestrator()
    await tenant.owner.post(f"/templates/{desk['id']}/deactivate")
    for query, expected in (
        ({"resource": "number"}, [("create", desk["number_id"])]),
        ({"resource_id": desk["id"]}, [("deactivate", desk["id"]), ("create", desk["id"])]),
        ({"resource": "template", "action": "deactivate"}, [("deactivate", desk["id"])]),
        ({"resource": "key"}, []),
    ):
        assert [(each["action"], each["resource_id"]) for each in await lines(tenant, **query)] == expected
    everything = await lines(tenant)
    first = (await tenant.owner.get("/audit", params={"limit": 3})).json()
    rest = (await tenant.owner.get("/audit", params={"cursor": first["next_cursor"]})).json()
    assert first["items"] + rest["items"] == everything
    assert (len(everything), rest["next_cursor"]) == (4, None)


@pytest.mark.parametrize(
    "query", [{"resource": "nonsense"}, {"resource_id": "1"}, {"actions": "create"}, {"cursor": "?"}]
)
async def test_a_filter_that_makes_no_sense_is_refused(tenant: Tenant, query: dict[str, str]) -> None:
    """Unknown resources, ids and parameters are 422 rather than a list of everything."""
    refused = await tenant.owner.get("/audit", params=query)
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")


async def test_commands_leave_lines_too(database: Database, database_url: str, tmp_path: Path) -> None:
    """Accounts and keys made on the command line are in the list, by no key."""
    environment = {"DATABASE_URL": database_url, "VOICEBOT_DATA_DIR": str(tmp_path)}
    create_account = ("accounts", "create", "--name", "Acme", "--json")
    account = (await said((*VOICEBOT, *create_account), environment, tmp_path))["account_id"]
    user = await users.create(database, UUID(account), UserDraft(name="Ada", role="operator"))
    create_key = (
        "keys",
        "create",
        "--account",
        account,
        "--role",
        "operator",
        "--user",
        str(user.id),
        "--json",
    )
    made = await said((*VOICEBOT, *create_key), environment, tmp_path)
    key = made["key_id"]
    assert (await keys.get(database, UUID(account), UUID(key))).user_id == user.id
    found = await audit.list_changes(database, UUID(account), AuditFilter(), limit=9)
    assert [(each.action, each.resource, str(each.resource_id), each.key_id) for each in found.items] == [
        ("create", "key", key, None),
        ("create", "account", account, None),
    ]


async def lines(tenant: Tenant, **query: str) -> list[dict[str, Any]]:
    """The list, narrowed as asked."""
    answer = await tenant.owner.get("/audit", params={"limit": "200", **query})
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items
