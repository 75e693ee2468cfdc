"""What a template was: read, compared, restored; and what another one begins with."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest

from db import templates
from db.pool import Database
from tests.api.server_fixture import Tenant, agent_document, create, orchestrator_document
from tests.api.test_api_templates import HTTP_FUNCTION
from voicebot.vault import HIDDEN, Vault

ANY = {"If-Match": "*"}


async def patched(tenant: Tenant, template: dict[str, Any], **members: Any) -> dict[str, Any]:
    response = await tenant.owner.patch(f"/templates/{template['id']}", json=members, headers=ANY)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def restored(tenant: Tenant, template: dict[str, Any], revision: int) -> dict[str, Any]:
    response = await tenant.owner.post(f"{history(template)}/{revision}/restore", headers=ANY)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def history(template: dict[str, Any]) -> str:
    return f"/templates/{template['id']}/revisions"


def written(template: dict[str, Any]) -> dict[str, Any]:
    """A template without what the server says of it."""
    return {
        name: value
        for name, value in template.items()
        if name not in ("id", "revision", "updated_at", "created_at", "problems", "warnings")
    }


async def secrets(database: Database, vault: Vault, tenant: Tenant, template_id: str) -> list[dict[str, str]]:
    """The secret headers of each function as they are stored, opened."""
    stored = await templates.get(database, tenant.account_id, UUID(template_id))
    return [
        {name: vault.open(value) for name, value in function["secret_headers"].items()}
        for function in stored.content["functions"]
    ]


@pytest.fixture
def vault(server: Any) -> Vault:
    opened: Vault = server.app_state.vault
    return opened


async def test_every_save_is_listed_with_what_it_changed(tenant: Tenant) -> None:
    """Newest first: who saved, under which name and status, and which members are others than before."""
    agent = await tenant.agent()
    await patched(tenant, agent, prompt="Be brief.", greeting={"text": "Hello."})
    await tenant.clients["author"].post(f"/templates/{agent['id']}/deactivate")
    keys = {key["role"]: key["id"] for key in (await tenant.owner.get("/keys")).json()["items"]}

    first = (await tenant.clients["viewer"].get(history(agent), params={"limit": 2})).json()
    rest = (await tenant.owner.get(history(agent), params={"cursor": first["next_cursor"]})).json()

    assert [(each["revision"], each["status"], each["changed"]) for each in first["items"]] == [
        (3, "draft", ["status"]),
        (2, "active", ["greeting", "prompt"]),
    ]
    assert [each["saved_by"] for each in first["items"]] == [keys["author"], keys["owner"]]
    assert [(each["revision"], each["name"]) for each in rest["items"]] == [(1, agent["name"])]
    assert rest["next_cursor"] is None


async def test_a_revision_shows_what_the_template_was(tenant: Tenant) -> None:
    """The whole document of that time, without its secrets; another revision is compared place by place."""
    agent = await tenant.agent(functions=[HTTP_FUNCTION])
    other = {**HTTP_FUNCTION, "secret_headers": {"Authorization": "Bearer other"}}
    now = await patched(tenant, agent, greeting={"text": "Hello."}, functions=[other], turns={"min_words": 2})

    kept = (await tenant.owner.get(f"{history(agent)}/1")).json()
    compared = (await tenant.owner.get(f"{history(agent)}/2", params={"against": 1})).json()

    assert kept["template"] == written(agent)
    assert kept["template"]["functions"][0]["secret_headers"] == {"Authorization": HIDDEN}
    assert kept["differences"] is None
    assert compared["template"] == written(now)
    place = "/functions/0/secret_headers/Authorization"
    assert {each["pointer"]: (each["before"], each["after"]) for each in compared["differences"]} == {
        "/greeting": (None, now["greeting"]),
        place: (HIDDEN, HIDDEN),
        "/turns/min_words": (0, 2),
    }


@pytest.mark.parametrize("place", ["7", "0", "99999999999", "x", "1?against=7", "7/restore"])
async def test_a_revision_that_never_was_is_not_found(tenant: Tenant, place: str) -> None:
    """Unknown revision numbers, and values that are not numbers, are 404."""
    agent = await tenant.agent()
    method = "POST" if place.endswith("restore") else "GET"
    response = await tenant.owner.request(method, f"{history(agent)}/{place}", headers=ANY)
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


async def test_a_restored_revision_is_the_newest(tenant: Tenant) -> None:
    """Restoring saves the old document as a new revision and records that; old revisions do not change."""
    agent = await tenant.agent(greeting={"text": "Hello."})
    await patched(tenant, agent, greeting=None, prompt="Other.", name="Renamed")

    back = await restored(tenant, agent, 1)

    assert back["revision"] == 3
    assert written(back) == written(agent)
    items = (await tenant.owner.get(history(agent))).json()["items"]
    assert [each["changed"] for each in items[:2]] == [["greeting", "name", "prompt"]] * 2
    [change, *_] = (await tenant.owner.get("/audit", params={"resource_id": agent["id"]})).json()["items"]
    assert (change["action"], change["revision_before"], change["revision_after"]) == ("restore", 2, 3)
    assert change["data"]["restored"] == 1


async def test_restoring_keeps_whether_it_is_active(tenant: Tenant) -> None:
    """Restoring changes the document only: an active template stays active, and a draft stays a draft."""
    agent = await tenant.agent()
    await tenant.owner.post(f"/templates/{agent['id']}/deactivate")
    assert (await restored(tenant, agent, 1))["status"] == "draft"
    await tenant.owner.post(f"/templates/{agent['id']}/activate")
    assert (await restored(tenant, agent, 2))["status"] == "active"


async def test_an_active_template_is_restored_to_what_passes_the_check(tenant: Tenant) -> None:
    """An invalid old draft is not restored over an active template; its errors are returned."""
    draft = await create(tenant.owner, "/templates", {"name": "Later"})
    await patched(tenant, draft, **agent_document("Later"))
    response = await tenant.owner.post(f"{history(draft)}/1/restore", headers=ANY)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_template")
    assert (await tenant.owner.get(f"/templates/{draft['id']}")).json()["revision"] == 2


async def test_a_restore_names_the_revision_it_knows(tenant: Tenant) -> None:
    """Without If-Match 428, with a stale one 412."""
    agent = await tenant.agent()
    await patched(tenant, agent, prompt="Other.")
    path = f"{history(agent)}/1/restore"
    missing = await tenant.owner.post(path)
    stale = await tenant.owner.post(path, headers={"If-Match": '"1"'})
    assert (missing.status_code, missing.json()["code"]) == (428, "precondition_required")
    assert (stale.status_code, stale.json()["code"]) == (412, "precondition_failed")
    assert (await tenant.owner.post(path, headers={"If-Match": '"2"'})).status_code == 200


async def test_a_name_that_another_has_by_now_is_taken(tenant: Tenant) -> None:
    """A restore does not take a name away from the template that has it now."""
    agent = await tenant.agent("Billing")
    await patched(tenant, agent, name="Invoices")
    await tenant.agent("Billing")
    response = await tenant.owner.post(f"{history(agent)}/1/restore", headers=ANY)
    assert (response.status_code, response.json()["code"]) == (409, "name_taken")


async def test_a_target_in_use_is_not_restored_to_something_else(tenant: Tenant) -> None:
    """What an active orchestrator routes to cannot become an orchestrator again."""
    target = await tenant.orchestrator("Target")
    await tenant.owner.put(f"/templates/{target['id']}", json=agent_document("Target"), headers=ANY)
    number = await tenant.number()
    desk = await create(tenant.owner, "/templates", orchestrator_document("Desk", target["id"], number["id"]))
    response = await tenant.owner.post(f"{history(target)}/1/restore", headers=ANY)
    assert (response.status_code, response.json()["code"]) == (409, "template_in_use")
    assert response.json()["template_ids"] == [desk["id"]]


async def test_secrets_come_back_with_their_revision(
    tenant: Tenant, database: Database, vault: Vault
) -> None:
    """A secret that was removed or changed since is what it was, for each of two functions of one name."""
    twin = {**HTTP_FUNCTION, "secret_headers": {"X-Key": "second"}}
    draft = await create(
        tenant.owner, "/templates", {"name": "Draft", "status": "draft", "functions": [HTTP_FUNCTION, twin]}
    )
    before = await secrets(database, vault, tenant, draft["id"])
    assert before == [{"Authorization": "Bearer deep secret"}, {"X-Key": "second"}]
    other = {**HTTP_FUNCTION, "secret_headers": {"Authorization": "Bearer new"}}
    for functions in ([other], []):
        await patched(tenant, draft, functions=functions)

    back = await restored(tenant, draft, 1)

    assert await secrets(database, vault, tenant, draft["id"]) == before
    assert "deep secret" not in str(back)


async def test_a_duplicate_is_a_draft_of_its_own(tenant: Tenant, database: Database, vault: Vault) -> None:
    """The copy has everything of the template but its name and status, secrets too, and its own history."""
    agent = await tenant.agent(functions=[HTTP_FUNCTION])
    response = await tenant.owner.post(f"/templates/{agent['id']}/duplicate")
    copy = response.json()
    assert (response.status_code, response.headers["ETag"]) == (201, '"1"')
    assert response.headers["Location"] == f"/api/v1/templates/{copy['id']}"
    assert copy["id"] != agent["id"]
    assert written(copy) == {**written(agent), "name": "Billing (copy)", "status": "draft"}
    assert await secrets(database, vault, tenant, copy["id"]) == [{"Authorization": "Bearer deep secret"}]
    [change] = (await tenant.owner.get("/audit", params={"action": "duplicate"})).json()["items"]
    assert (change["resource_id"], change["data"]["of"]) == (copy["id"], agent["id"])


async def test_copies_find_names_of_their_own(tenant: Tenant) -> None:
    """Many copies at once, and copies of copies and of endless names, are all called something else."""
    agent = await tenant.agent()
    long = await tenant.agent("x" * 120)
    paths = [f"/templates/{agent['id']}/duplicate"] * 3
    names = {response.json()["name"] for response in await asyncio.gather(*map(tenant.owner.post, paths))}
    assert names == {"Billing (copy)", "Billing (copy 2)", "Billing (copy 3)"}
    [copy] = (await tenant.owner.get("/templates", params={"name": "(copy 2)"})).json()["items"]
    again = await create(tenant.owner, f"/templates/{copy['id']}/duplicate", {})
    assert again["name"] == "Billing (copy 4)"
    cut = [(await create(tenant.owner, f"/templates/{long['id']}/duplicate", {}))["name"] for _ in range(2)]
    assert [name.lstrip("x") for name in cut] == [" (copy)", " (copy 2)"]


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [("Billing", 409, "name_taken"), ("  ", 422, "invalid_template"), ("x" * 121, 422, "invalid_template")],
)
async def test_a_copys_name_can_be_chosen(tenant: Tenant, name: str, status: int, code: str) -> None:
    """A free name is taken as it is; one that is taken, empty or endless is refused."""
    agent = await tenant.agent("Billing")
    path = f"/templates/{agent['id']}/duplicate"
    refused = await tenant.owner.post(path, json={"name": name})
    assert (refused.status_code, refused.json()["code"]) == (status, code)
    assert (await create(tenant.owner, path, {"name": "Mine"}))["name"] == "Mine"


async def test_an_orchestrators_copy_takes_no_calls(tenant: Tenant) -> None:
    """The copy keeps number and routes as a draft, beside the one that answers; activating it is refused."""
    desk = await tenant.orchestrator()
    copy = await create(tenant.owner, f"/templates/{desk['id']}/duplicate", {})
    assert (copy["number_id"], copy["routes"], copy["problems"]) == (desk["number_id"], desk["routes"], [])
    refused = await tenant.owner.post(f"/templates/{copy['id']}/activate")
    assert (refused.status_code, refused.json()["code"]) == (409, "orchestrator_exists")
