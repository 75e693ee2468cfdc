from __future__ import annotations

from collections import defaultdict

import pytest

from db import keys
from db.pool import Database
from tests.api.api_fixtures import NOBODY, WORD, a_call, operations
from tests.api.server_fixture import RunningServer, Tenant, client

ADMINS = {"owner", "admin"}
WRITERS = {"owner", "admin", "author"}
DIALLERS = {"owner", "admin", "author", "operator"}
DESK = {"owner", "admin", "operator"}
EVERYBODY = {"owner", "admin", "author", "operator", "viewer"}

PUBLIC = "/templates/schema"
"""The only operation that needs no key."""

MATRIX: list[tuple[str, str, set[str]]] = [
    ("GET", "/templates", EVERYBODY),
    ("POST", "/templates", WRITERS),
    ("POST", "/templates/check", EVERYBODY),
    ("GET", "/templates/schema", EVERYBODY),
    ("GET", "/templates/export", EVERYBODY),
    ("POST", "/templates/import", WRITERS),
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
    ("POST", "/numbers", ADMINS),
    ("GET", f"/numbers/{NOBODY}", EVERYBODY),
    ("PATCH", f"/numbers/{NOBODY}", ADMINS),
    ("DELETE", f"/numbers/{NOBODY}", ADMINS),
    ("GET", "/leads", EVERYBODY),
    ("POST", "/leads", DIALLERS),
    ("POST", "/leads/upload", DIALLERS),
    ("GET", f"/leads/{NOBODY}", EVERYBODY),
    ("POST", f"/leads/{NOBODY}/cancel", DIALLERS),
    ("POST", f"/leads/{NOBODY}/pause", DIALLERS),
    ("POST", f"/leads/{NOBODY}/resume", DIALLERS),
    ("POST", f"/leads/{NOBODY}/dial-now", DIALLERS),
    ("POST", f"/templates/{NOBODY}/pause", WRITERS),
    ("POST", f"/templates/{NOBODY}/resume", WRITERS),
    ("POST", f"/templates/{NOBODY}/cancel", WRITERS),
    ("GET", "/dispatch", EVERYBODY),
    ("POST", "/dispatch/pause", ADMINS),
    ("POST", "/dispatch/resume", ADMINS),
    ("POST", "/dispatch/cancel", ADMINS),
    ("POST", "/dispatch/kill-switch", ADMINS),
    ("DELETE", "/dispatch/kill-switch", ADMINS),
    ("GET", "/alerts", EVERYBODY),
    ("GET", "/opt-outs", EVERYBODY),
    ("POST", "/opt-outs", DIALLERS),
    ("DELETE", f"/opt-outs/{NOBODY}", ADMINS),
    ("GET", "/calls", EVERYBODY),
    ("GET", f"/calls/{NOBODY}", EVERYBODY),
    ("GET", f"/calls/{NOBODY}/transcript", EVERYBODY),
    ("GET", f"/calls/{NOBODY}/events", EVERYBODY),
    ("GET", f"/calls/{NOBODY}/turns", EVERYBODY),
    ("GET", f"/calls/{NOBODY}/routes", EVERYBODY),
    ("GET", f"/calls/{NOBODY}/turns", EVERYBODY),
    ("POST", f"/calls/{NOBODY}/end", DESK),
    ("GET", "/handoffs", EVERYBODY),
    ("POST", "/handoffs", DIALLERS),
    ("POST", "/handoffs/stream-token", EVERYBODY),
    ("GET", "/handoffs/stream", EVERYBODY),
    ("GET", f"/handoffs/{NOBODY}", EVERYBODY),
    ("POST", f"/handoffs/{NOBODY}/claim", DESK),
    ("POST", f"/handoffs/{NOBODY}/dial", DESK),
    ("POST", f"/handoffs/{NOBODY}/accept", DESK),
    ("POST", f"/handoffs/{NOBODY}/return", DESK),
    ("POST", f"/handoffs/{NOBODY}/release", DESK),
    ("POST", f"/handoffs/{NOBODY}/decline", DESK),
    ("POST", f"/handoffs/{NOBODY}/resolve", DESK),
    ("POST", f"/handoffs/{NOBODY}/reschedule", DESK),
    ("POST", f"/handoffs/{NOBODY}/cancel", DESK),
    ("POST", f"/handoffs/{NOBODY}/reassign", DESK),
    ("GET", "/operators", EVERYBODY),
    ("GET", "/operators/me", DESK),
    ("PATCH", "/operators/me", DESK),
    ("PUT", "/operators/me/presence", DESK),
    ("POST", "/operators/me/heartbeat", DESK),
    ("POST", f"/operators/{NOBODY}/relieve", ADMINS),
    ("GET", "/users", EVERYBODY),
    ("POST", "/users", ADMINS),
    ("GET", f"/users/{NOBODY}", EVERYBODY),
    ("PUT", f"/users/{NOBODY}", ADMINS),
    ("DELETE", f"/users/{NOBODY}", ADMINS),
    ("GET", "/keys", ADMINS),
    ("POST", "/keys", ADMINS),
    ("GET", f"/keys/{NOBODY}", ADMINS),
    ("DELETE", f"/keys/{NOBODY}", ADMINS),
    ("GET", "/channels", ADMINS),
    ("POST", "/channels", ADMINS),
    ("DELETE", f"/channels/{NOBODY}", ADMINS),
    ("POST", f"/channels/{NOBODY}/test", ADMINS),
    ("GET", "/account", EVERYBODY),
    ("PATCH", "/account", ADMINS),
    ("POST", "/account/webhook-secret", ADMINS),
    ("GET", "/notices", ADMINS),
    ("GET", f"/notices/{NOBODY}/attempts", ADMINS),
    ("POST", f"/notices/{NOBODY}/retry", ADMINS),
    ("GET", "/metrics/handoffs", EVERYBODY),
    ("GET", "/audit", EVERYBODY),
    ("GET", "/providers", EVERYBODY),
]


async def test_the_matrix_names_every_operation(server: RunningServer) -> None:
    """No operation of the API is missing from it."""
    ids = defaultdict(lambda: NOBODY, revision="1")
    assert {(method, path) for method, path, _ in MATRIX} == {
        (operation.method, operation.about(ids)) for operation in operations(server.app)
    }


async def test_roles_are_held_to_the_matrix(tenant: Tenant) -> None:
    """A role that may do something is answered anything but 403, every other role exactly that."""
    for method, path, allowed in MATRIX:
        body = None if method in ("GET", "DELETE") else {"name": "", "phone": 1}
        for role, asking in tenant.clients.items():
            # The stream's answer has no end: nothing is read but how it begins.
            async with asking.stream(method, path, json=body) as answer:
                status = answer.status_code
            assert (status != 403) is (role in allowed), (method, path, role, status)
            assert status < 500, (method, path, role)


@pytest.mark.parametrize(
    "header", [None, "Bearer", "Bearer vb_wrong", "vb_wrong", "Basic dmI6", "Bearer öäü"]
)
async def test_a_bad_key_is_refused_everywhere(server: RunningServer, header: str | None) -> None:
    """Without a good key every operation is answered 401, but that of the JSON Schemas."""
    headers = {} if header is None else {b"Authorization": header.encode()}
    async with client(server.url, None) as nobody:
        for method, path, _ in MATRIX:
            expected = 200 if path == PUBLIC else 401
            assert (await nobody.request(method, path, headers=headers)).status_code == expected, (
                method,
                path,
            )


async def test_a_revoked_key_is_refused(tenant: Tenant, database: Database) -> None:
    """From the moment it is revoked, a key is answered 401."""
    assert (await tenant.owner.get("/templates")).status_code == 200
    key = (await keys.authenticate(database, tenant.keys["owner"])).id
    await keys.revoke(database, tenant.account_id, key)
    assert (await tenant.owner.get("/templates")).status_code == 401


async def test_the_owner_of_a_call_finds_all_of_it(tenant: Tenant, database: Database) -> None:
    """The paths that hide a call from other accounts show it to its own account."""
    call = await a_call(tenant, database)
    for path, member, value in (
        ("transcript", "text", f"{WORD}?"),
        ("events", "type", "call.started"),
        ("routes", "error_code", "unknown_agent"),
    ):
        items = (await tenant.owner.get(f"/calls/{call.id}/{path}")).json()["items"]
        assert [each[member] for each in items] == [value]
