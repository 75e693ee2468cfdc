"""Keys over HTTP: made, listed, revoked."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from db.keys import Role
from tests.api.server_fixture import RunningServer, Tenant, client, create


async def person(tenant: Tenant, **more: Any) -> dict[str, Any]:
    return await create(tenant.owner, "/users", {"name": "Ada", "role": "author", **more})


async def audited(tenant: Tenant, key_id: str) -> list[str]:
    found = await tenant.owner.get("/audit", params={"resource": "key", "resource_id": key_id})
    return [each["action"] for each in found.json()["items"]]


async def test_a_key_is_shown_once(server: RunningServer, tenant: Tenant) -> None:
    """Who makes a key sees it in that answer alone; it opens the API with the role it was given."""
    key = await create(tenant.clients["admin"], "/keys", {"role": "author", "label": "laptop"})
    async with client(server.url, key["key"]) as bearer:
        assert (await bearer.post("/templates", json={"name": "Draft"})).status_code == 201
        assert (await bearer.get("/keys")).status_code == 403
    read = await tenant.owner.get(f"/keys/{key['id']}")
    listed = await tenant.owner.get("/keys")
    assert read.json()["last_used_at"] is not None
    assert read.json() in listed.json()["items"]
    assert read.json()["prefix"] == key["key"][:10]
    for answer in (read, listed, await tenant.owner.get("/audit")):
        assert key["key"] not in answer.text


async def test_a_revoked_key_is_refused_from_then_on(server: RunningServer, tenant: Tenant) -> None:
    """A revoked key is refused at once; revoking again changes nothing and adds no audit entry."""
    key = await create(tenant.owner, "/keys", {"role": "viewer"})
    async with client(server.url, key["key"]) as bearer:
        assert (await bearer.get("/templates")).status_code == 200
        for _ in range(2):
            assert (await tenant.clients["admin"].delete(f"/keys/{key['id']}")).status_code == 204
        for path in ("/templates", "/handoffs/stream"):
            assert (await bearer.get(path)).status_code == 401, path
    assert (await tenant.owner.get(f"/keys/{key['id']}")).json()["revoked_at"] is not None
    assert await audited(tenant, key["id"]) == ["revoke", "create"]


async def test_nobody_closes_their_own_way_in(tenant: Tenant) -> None:
    """A key does not revoke itself, and nobody demotes, deactivates or deletes themselves; another may."""
    owner, admin = tenant.owner, tenant.clients["admin"]
    me = (await admin.get("/operators/me")).json()["user_id"]
    key = next(each for each in (await owner.get("/keys")).json()["items"] if each["user_id"] == me)
    name = (await owner.get(f"/users/{me}")).json()["name"]
    for method, path, body in (
        ("DELETE", f"/keys/{key['id']}", None),
        ("DELETE", f"/users/{me}", None),
        ("PUT", f"/users/{me}", {"name": name, "role": "viewer"}),
        ("PUT", f"/users/{me}", {"name": name, "role": "admin", "active": False}),
    ):
        refused = await admin.request(method, path, json=body)
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden"), (method, path)
    renamed = await admin.put(f"/users/{me}", json={"name": "Ada", "role": "admin"})
    assert (renamed.status_code, renamed.json()["name"]) == (200, "Ada")
    assert (await owner.delete(f"/keys/{key['id']}")).status_code == 204
    assert (await admin.get("/templates")).status_code == 401


async def test_only_an_owner_deals_with_owners_keys(tenant: Tenant) -> None:
    """An admin makes and revokes no key that allows all, nor one that speaks for an owner."""
    admin = tenant.clients["admin"]
    boss = await person(tenant, role="owner")
    for body in ({"role": "owner"}, {"role": "viewer", "user_id": boss["id"]}):
        refused = await admin.post("/keys", json=body)
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        key = await create(tenant.owner, "/keys", body)
        assert (await admin.delete(f"/keys/{key['id']}")).status_code == 403
        assert (await tenant.owner.get(f"/keys/{key['id']}")).json()["revoked_at"] is None
        assert (await tenant.owner.delete(f"/keys/{key['id']}")).status_code == 204


@pytest.mark.parametrize(
    ("asked", "pointer", "code"),
    [
        ({"role": "admin"}, "/role", "role_above_user"),
        ({"role": "operator"}, "/role", "role_above_user"),
        ({"role": "god"}, "/role", "invalid_value"),
        ({"role": "viewer", "user_id": str(uuid4())}, "/user_id", "user_missing"),
        ({}, "/role", "missing_field"),
    ],
)
async def test_a_key_that_could_not_be_used_as_asked_is_refused(
    tenant: Tenant, asked: dict[str, Any], pointer: str, code: str
) -> None:
    """A role beyond the user's, a user who is not there, a role that is none: 422 at its place."""
    ada = await person(tenant)
    refused = await tenant.owner.post("/keys", json={"user_id": ada["id"], **asked})
    assert refused.status_code == 422
    [fault] = refused.json()["errors"]
    assert (fault["pointer"], fault["code"]) == (pointer, code)
    assert fault["remedy"]


async def test_no_key_is_made_for_somebody_who_is_out(tenant: Tenant) -> None:
    """A deactivated user gets no key."""
    ada = await person(tenant, active=False)
    refused = await tenant.owner.post("/keys", json={"role": "author", "user_id": ada["id"]})
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (422, "user_inactive")


@pytest.mark.parametrize(("role", "writes"), [("author", True), ("admin", True), ("viewer", False)])
async def test_a_key_follows_its_users_role(
    server: RunningServer, tenant: Tenant, role: Role, writes: bool
) -> None:
    """What a user may do now bounds their keys, from the next request on; their name is on what they make."""
    ada = await person(tenant)
    key = await create(tenant.owner, "/keys", {"role": "author", "user_id": ada["id"]})
    await tenant.owner.put(f"/users/{ada['id']}", json={"name": "Ada", "role": role})
    async with client(server.url, key["key"]) as bearer:
        status = (await bearer.post("/templates", json={"name": "Draft"})).status_code
        assert status == (201 if writes else 403)
        assert (await bearer.get("/keys")).status_code == 403


async def test_keys_are_listed_in_pages(tenant: Tenant) -> None:
    """Pages end to end give every key once, newest first."""
    for number in range(3):
        await create(tenant.owner, "/keys", {"role": "viewer", "label": str(number)})
    labels: list[str] = []
    cursor: str | None = None
    while True:
        query = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = (await tenant.clients["admin"].get("/keys", params=query)).json()
        labels += [item["label"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert labels == ["2", "1", "0", *[""] * len(tenant.keys)]
