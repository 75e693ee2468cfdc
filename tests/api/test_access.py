from __future__ import annotations

import re
from typing import Any
from uuid import UUID

import pytest

from db import call_tokens, calls, events, inbound, keys, utterances
from db.calls import CallRecord
from db.events import EventRecord
from db.ids import new_id
from db.inbound import InboundCall
from db.pool import Database
from db.utterances import UtteranceRecord
from tests.api.conftest import NewTenant
from tests.api.house import House, Tenant, client, new_e164
from voicebot.clock import SystemClock

NOBODY = "01a1fb64-16ef-7341-baef-1bff17f7b0e5"
WRITERS = {"owner", "admin", "author"}
DIALLERS = {"owner", "admin", "author", "operator"}
DESK = {"owner", "admin", "operator"}
EVERYBODY = {"owner", "admin", "author", "operator", "viewer"}

MATRIX: list[tuple[str, str, set[str]]] = [
    ("GET", "/templates", EVERYBODY),
    ("POST", "/templates", WRITERS),
    ("POST", "/templates/check", EVERYBODY),
    ("GET", "/templates/schema", EVERYBODY),
    ("GET", f"/templates/{NOBODY}", EVERYBODY),
    ("PUT", f"/templates/{NOBODY}", WRITERS),
    ("PATCH", f"/templates/{NOBODY}", WRITERS),
    ("DELETE", f"/templates/{NOBODY}", WRITERS),
    ("POST", f"/templates/{NOBODY}/activate", WRITERS),
    ("POST", f"/templates/{NOBODY}/deactivate", WRITERS),
    ("POST", f"/templates/{NOBODY}/chat", WRITERS),
    ("POST", f"/templates/{NOBODY}/duplicate", WRITERS),
    ("GET", f"/templates/{NOBODY}/revisions", EVERYBODY),
    ("GET", f"/templates/{NOBODY}/revisions/1", EVERYBODY),
    ("POST", f"/templates/{NOBODY}/revisions/1/restore", WRITERS),
    ("GET", "/numbers", EVERYBODY),
    ("POST", "/numbers", {"owner", "admin"}),
    ("GET", f"/numbers/{NOBODY}", EVERYBODY),
    ("PATCH", f"/numbers/{NOBODY}", {"owner", "admin"}),
    ("DELETE", f"/numbers/{NOBODY}", {"owner", "admin"}),
    ("GET", "/leads", EVERYBODY),
    ("POST", "/leads", DIALLERS),
    ("GET", f"/leads/{NOBODY}", EVERYBODY),
    ("GET", "/calls", EVERYBODY),
    ("GET", f"/calls/{NOBODY}", EVERYBODY),
    ("GET", f"/calls/{NOBODY}/transcript", EVERYBODY),
    ("GET", f"/calls/{NOBODY}/events", EVERYBODY),
    ("GET", f"/calls/{NOBODY}/routes", EVERYBODY),
    ("GET", f"/calls/{NOBODY}/recording", EVERYBODY),
    ("POST", f"/calls/{NOBODY}/end", DESK),
    ("GET", "/handoffs", EVERYBODY),
    ("POST", "/handoffs", DIALLERS),
    ("POST", "/handoffs/stream-token", EVERYBODY),
    ("GET", f"/handoffs/{NOBODY}", EVERYBODY),
    ("POST", f"/handoffs/{NOBODY}/claim", DESK),
    ("POST", f"/handoffs/{NOBODY}/release", DESK),
    ("POST", f"/handoffs/{NOBODY}/decline", DESK),
    ("POST", f"/handoffs/{NOBODY}/resolve", DESK),
    ("POST", f"/handoffs/{NOBODY}/reschedule", DESK),
    ("GET", "/operators", EVERYBODY),
    ("GET", "/operators/me", DESK),
    ("PUT", "/operators/me/presence", DESK),
    ("POST", "/operators/me/heartbeat", DESK),
    ("POST", f"/operators/{NOBODY}/relieve", {"owner", "admin"}),
    ("GET", "/users", EVERYBODY),
    ("POST", "/users", {"owner", "admin"}),
    ("GET", f"/users/{NOBODY}", EVERYBODY),
    ("PUT", f"/users/{NOBODY}", {"owner", "admin"}),
    ("DELETE", f"/users/{NOBODY}", {"owner", "admin"}),
    ("GET", "/keys", {"owner", "admin"}),
    ("POST", "/keys", {"owner", "admin"}),
    ("GET", f"/keys/{NOBODY}", {"owner", "admin"}),
    ("DELETE", f"/keys/{NOBODY}", {"owner", "admin"}),
    ("GET", "/audit", EVERYBODY),
]


async def test_the_matrix_names_every_operation(house: House) -> None:
    """No operation of a resource in the matrix is missing from it."""
    documented = {
        (method.upper(), re.sub(r"{\w+}", NOBODY, path.removeprefix("/api/v1").replace("{revision}", "1")))
        for path, operations in house.app.openapi()["paths"].items()
        for method in operations
    }
    resources = {resource_of(path) for _, path, _ in MATRIX}
    assert {(method, path) for method, path, _ in MATRIX} == {
        (method, path) for method, path in documented if resource_of(path) in resources
    }


async def test_roles_are_held_to_the_matrix(tenant: Tenant) -> None:
    """A role that may do something is answered anything but 403, every other role exactly that."""
    for method, path, allowed in MATRIX:
        body = None if method in ("GET", "DELETE") else {"name": "", "phone": 1}
        for role, asking in tenant.clients.items():
            status = (await asking.request(method, path, json=body)).status_code
            assert (status != 403) is (role in allowed), (method, path, role, status)
            assert status < 500, (method, path, role)


@pytest.mark.parametrize(
    "header", [None, "Bearer", "Bearer vb_wrong", "vb_wrong", "Basic dmI6", "Bearer öäü"]
)
async def test_a_bad_key_is_refused_everywhere(house: House, header: str | None) -> None:
    """Without a good key every operation is answered 401."""
    headers = {} if header is None else {"Authorization": header.encode()}
    async with client(house.url, None) as nobody:
        for method, path, _ in MATRIX:
            assert (await nobody.request(method, path, headers=headers)).status_code == 401, (method, path)


async def test_a_revoked_key_opens_nothing(house: House, tenant: Tenant, database: Database) -> None:
    """From the moment it is revoked, a key is answered 401."""
    assert (await tenant.owner.get("/templates")).status_code == 200
    key = (await keys.authenticate(database, tenant.keys["owner"])).id
    await keys.revoke(database, tenant.account_id, key)
    assert (await tenant.owner.get("/templates")).status_code == 401


async def test_an_account_finds_nothing_of_another(new_tenant: NewTenant, database: Database) -> None:
    """Over every path, another account's ids are answered as ids of nothing are, and lists stay empty."""
    theirs, mine = await new_tenant(), await new_tenant()
    call = await one_call(theirs, database)
    lead = (await theirs.owner.get("/leads")).json()["items"][0]
    ids = {
        "templates": str(call.template_id),
        "numbers": str(call.number_id),
        "leads": lead["id"],
        "calls": str(call.id),
    }
    for method, path, _ in MATRIX:
        resource = resource_of(path)
        if resource not in ids:
            continue
        foreign = path.replace(NOBODY, ids[resource])
        body: Any = None if method in ("GET", "DELETE") else a_body(path)
        headers = {"If-Match": "*"}
        answer = await mine.owner.request(method, foreign, json=body, headers=headers)
        if NOBODY in path:
            nothing = await mine.owner.request(method, path, json=body, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), (method, path)
            assert answer.text.replace(ids[resource], NOBODY) == nothing.text
        elif method == "GET" and path != "/templates/schema":
            assert answer.json() == {"items": [], "next_cursor": None}
            for name, value in ids.items():
                key = {"templates": "template_id", "numbers": "number_id", "leads": "lead_id"}.get(name)
                narrowed = await mine.owner.get(path, params={key: value}) if key else answer
                assert value not in narrowed.text.replace(f"/{value}", "") or narrowed.status_code == 422
    assert (await theirs.owner.get(f"/calls/{call.id}")).json()["status"] == "ringing"


async def test_the_owner_of_a_call_finds_all_of_it(tenant: Tenant, database: Database) -> None:
    """The same paths that hide a call from others tell its own account everything about it."""
    call = await one_call(tenant, database)
    for path, item in (("transcript", "text"), ("events", "type"), ("routes", None)):
        items = (await tenant.owner.get(f"/calls/{call.id}/{path}")).json()["items"]
        assert (len(items), [each.get(item) for each in items] if item else []) == (
            (1, ["Hello?" if path == "transcript" else "call.started"]) if item else (0, [])
        )


def a_body(path: str) -> dict[str, str]:
    """What an operation takes; the parts of a template or a number where it changes one."""
    return {} if path.endswith("/chat") else {"label": "mine", "description": "mine"}


def resource_of(path: str) -> str:
    """The first part of a path: what it is about."""
    return path.split("/")[1]


async def one_call(tenant: Tenant, database: Database) -> CallRecord:
    """A call of an account, with something said on it."""
    desk = await tenant.desk()
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
    await call_tokens.issue(database, call.account_id, call.id, calls.timedelta(seconds=60))
    said = UtteranceRecord(
        id=new_id(),
        account_id=call.account_id,
        call_id=call.id,
        seq=1,
        speaker="caller",
        template_id=UUID(desk["id"]),
        node=None,
        text="Hello?",
        heard_text=None,
        interrupted=False,
        source="stt",
        started_ms=0,
        ended_ms=900,
    )
    await utterances.record(database, said)
    happened = EventRecord(
        id=new_id(),
        account_id=call.account_id,
        call_id=call.id,
        seq=1,
        type="call.started",
        at=now,
        template_id=None,
        node=None,
        data={},
    )
    await events.record(database, happened)
    return call
