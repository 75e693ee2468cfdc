"""An account keeps an owner, whoever changes users and keys at the same time."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tests.api.conftest import NewTenant
from tests.api.server_fixture import RunningServer, Tenant, client, create


async def owner_with_key(tenant: Tenant, name: str) -> tuple[dict[str, Any], str]:
    """Create an owner and a key of theirs; returns both."""
    user = await create(tenant.owner, "/users", {"name": name, "role": "owner"})
    key = await create(tenant.owner, "/keys", {"role": "owner", "user_id": user["id"]})
    return user, key["key"]


async def active_owners(tenant: Tenant) -> list[str]:
    """Names of the owners who are active."""
    users = (await tenant.owner.get("/users")).json()["items"]
    return [user["name"] for user in users if user["role"] == "owner" and user["active"]]


def change(kind: str, http: httpx.AsyncClient, user: dict[str, Any]) -> Any:
    """A request that takes the role of an owner from a user."""
    path = f"/users/{user['id']}"
    if kind == "delete":
        return http.delete(path)
    demoted = {"role": "viewer"} if kind == "demote" else {"role": "owner", "active": False}
    return http.put(path, json={"name": user["name"], **demoted})


@pytest.mark.parametrize("kind", ["demote", "deactivate", "delete"])
async def test_owners_who_remove_each_other_leave_one(
    server: RunningServer, new_tenant: NewTenant, kind: str
) -> None:
    """Of two owners who remove each other at the same time one remains, who cannot be removed."""
    for _ in range(5):
        tenant = await new_tenant()
        (ada, ada_key), (bob, bob_key) = (
            await owner_with_key(tenant, "Ada"),
            await owner_with_key(tenant, "Bob"),
        )
        async with client(server.url, ada_key) as as_ada, client(server.url, bob_key) as as_bob:
            answers = await asyncio.gather(change(kind, as_ada, bob), change(kind, as_bob, ada))
        [remaining] = await active_owners(tenant)
        # The other one no longer had the role, or the key, when their request was decided.
        assert sum(answer.status_code in (401, 403) for answer in answers) == 1
        last = ada if remaining == "Ada" else bob
        refused = await change(kind, tenant.owner, last)
        assert (refused.status_code, refused.json()["code"]) == (409, "last_owner")


async def test_an_admin_and_an_owner_racing_leave_an_owner(tenant: Tenant) -> None:
    """An admin demotes a user whom an owner makes an owner at the same time: the user is an owner."""
    for race in range(10):
        heir = await create(tenant.owner, "/users", {"name": f"Heir {race}", "role": "admin"})
        path = f"/users/{heir['id']}"
        await asyncio.gather(
            tenant.owner.put(path, json={"name": heir["name"], "role": "owner"}),
            tenant.clients["admin"].put(path, json={"name": heir["name"], "role": "viewer"}),
        )
        assert (await tenant.owner.get(path)).json()["role"] == "owner"


async def test_keys_that_revoke_each_other_leave_one(server: RunningServer, new_tenant: NewTenant) -> None:
    """Of the last two keys of an owner, which revoke each other at the same time, one remains."""
    for _ in range(5):
        tenant = await new_tenant()
        [first] = [key for key in (await tenant.owner.get("/keys")).json()["items"] if key["role"] == "owner"]
        second = await create(tenant.owner, "/keys", {"role": "owner"})
        async with client(server.url, second["key"]) as other:
            await asyncio.gather(
                tenant.owner.delete(f"/keys/{second['id']}"), other.delete(f"/keys/{first['id']}")
            )
            working = [(await http.get("/keys")).status_code for http in (tenant.owner, other)]
        assert sorted(working) == [200, 401]
