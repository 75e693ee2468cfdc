from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from db import audit, revisions, templates
from db.audit import AuditFilter
from db.pool import Database
from tests.api.conftest import NewTenant
from tests.api.server_fixture import (
    RunningServer,
    Tenant,
    agent_document,
    create,
    metric,
    orchestrator_document,
)
from tests.authoring.checks_in_a_process import touch, wait_for
from voicebot.authoring.check_pool import MAX_WAITING
from voicebot.vault import HIDDEN, Vault

HTTP_FUNCTION: dict[str, Any] = {
    "type": "http",
    "name": "find_order",
    "description": "Looks an order up.",
    "method": "GET",
    "url": "https://orders.example.com/find",
    "secret_headers": {"Authorization": "Bearer deep secret"},
}


async def test_a_draft_needs_nothing_but_a_name(tenant: Tenant) -> None:
    """A name alone is saved as a draft, answered whole, with what it still lacks in `problems`."""
    draft = await create(tenant.owner, "/templates", {"name": "Later"})
    assert (draft["status"], draft["kind"], draft["revision"]) == ("draft", "agent", 1)
    assert "conversation_missing" in {problem["code"] for problem in draft["problems"]}
    assert (await tenant.owner.get(f"/templates/{draft['id']}")).json() == draft


async def test_nodes_are_answered_in_their_authors_order(tenant: Tenant) -> None:
    """A flow reads as it was written: after a save, and after a patch of something else."""
    names = ["welcome", "ask", "zone", "bye", "b"]
    nodes = {name: {"role_message": "You are Ada."} for name in names}
    draft = await create(
        tenant.owner, "/templates", {"name": "Order", "flow": {"initial_node": "ask", "nodes": nodes}}
    )
    headers = {"If-Match": '"1"', "Content-Type": "application/merge-patch+json"}
    patched = await tenant.owner.patch(
        f"/templates/{draft['id']}", headers=headers, json={"language": "de-DE"}
    )
    assert patched.status_code == 200, patched.text
    for answer in (draft, patched.json(), (await tenant.owner.get(f"/templates/{draft['id']}")).json()):
        assert list(answer["flow"]["nodes"]) == names


async def test_an_active_template_must_pass_the_check(tenant: Tenant) -> None:
    """All faults of a template that is to be active are answered at once, each with its pointer."""
    response = await tenant.owner.post(
        "/templates", json={"name": "Desk", "kind": "orchestrator", "status": "active"}
    )
    problem = response.json()
    assert (response.status_code, problem["code"]) == (422, "invalid_template")
    assert {"/prompt", "/routes"} == {error["pointer"] for error in problem["errors"]}


async def test_a_fault_of_shape_is_refused_even_in_a_draft(tenant: Tenant) -> None:
    """Unknown fields and wrong types cannot be saved, and every one of them is named."""
    document = {"name": "Draft", "promt": "x", "turns": {"barge_in": "yes"}, "routes": [{"when": 1}]}
    response = await tenant.owner.post("/templates", json=document)
    assert response.status_code == 422
    pointers = {error["pointer"] for error in response.json()["errors"]}
    assert {"/promt", "/turns/barge_in", "/routes/0/when", "/routes/0/name"} <= pointers


@pytest.mark.parametrize("name", ["", "   ", "x" * 10_000])
async def test_a_draft_needs_a_name_that_can_be_told(tenant: Tenant, name: str) -> None:
    """Even a draft is refused with an empty or an endless name."""
    response = await tenant.owner.post("/templates", json={"name": name})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_template")
    assert [error["pointer"] for error in response.json()["errors"]] == ["/name"]


async def test_the_check_saves_nothing(tenant: Tenant) -> None:
    """POST /templates/check returns errors and warnings, and saves no template."""
    report = (await tenant.owner.post("/templates/check", json={"nme": "x"})).json()
    assert report["ok"] is False
    assert {"/name", "/nme"} <= {error["pointer"] for error in report["errors"]}
    fine = (await tenant.owner.post("/templates/check", json=agent_document("Fine"))).json()
    assert (fine["ok"], fine["errors"]) == (True, [])
    assert (await tenant.owner.get("/templates")).json()["items"] == []


async def test_what_was_read_can_be_put_back(tenant: Tenant) -> None:
    """The document of a GET is a valid PUT, and changes nothing but the revision."""
    desk = await tenant.orchestrator()
    response = await tenant.owner.put(f"/templates/{desk['id']}", json=desk, headers={"If-Match": '"1"'})
    assert response.status_code == 200, response.text
    server_side = ("revision", "updated_at")
    assert {k: v for k, v in response.json().items() if k not in server_side} == {
        k: v for k, v in desk.items() if k not in server_side
    }
    assert response.headers["ETag"] == '"2"'


async def test_a_merge_patch_merges(tenant: Tenant) -> None:
    """PATCH replaces what it names, removes what is null, and keeps the rest (RFC 7396)."""
    agent = await tenant.agent(greeting={"text": "Hello."}, tts={"voice_id": "ada", "model": "m"})
    response = await tenant.owner.patch(
        f"/templates/{agent['id']}",
        json={"tts": {"voice_id": "bob"}, "greeting": None},
        headers={"If-Match": '"1"', "Content-Type": "application/merge-patch+json"},
    )
    patched = response.json()
    assert patched["tts"] == {**agent["tts"], "voice_id": "bob"}
    assert patched["greeting"] is None
    assert patched["prompt"] == agent["prompt"]


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_a_change_names_the_revision_it_knows(tenant: Tenant, method: str) -> None:
    """Without If-Match 428, with a stale one 412 and the current ETag, with the right one it is done."""
    agent = await tenant.agent()
    path = f"/templates/{agent['id']}"
    body = None if method == "DELETE" else {**agent_document("Billing"), "description": "New."}

    async def attempt(**headers: str) -> tuple[int, str | None]:
        response = await tenant.owner.request(method, path, json=body, headers=headers)
        code = response.json()["code"] if response.status_code >= 400 else None
        return response.status_code, code

    assert await attempt() == (428, "precondition_required")
    assert await attempt(**{"If-Match": '"7"'}) == (412, "precondition_failed")
    assert await attempt(**{"If-Match": 'W/"1"'}) == (412, "precondition_failed")
    assert (await attempt(**{"If-Match": '"9", "1"'}))[0] in (200, 204)


async def test_an_unchanged_template_is_not_sent_again(tenant: Tenant) -> None:
    """GET with the ETag in If-None-Match is answered 304 until the template changes."""
    agent = await tenant.agent()
    path = f"/templates/{agent['id']}"
    assert (await tenant.owner.get(path, headers={"If-None-Match": '"1"'})).status_code == 304
    assert (await tenant.owner.get(path, headers={"If-None-Match": '"2"'})).status_code == 200


async def test_activation_and_deactivation(tenant: Tenant) -> None:
    """A draft is activated once, a second time changes nothing, and it can be taken out of service again."""
    draft = await create(tenant.owner, "/templates", {**agent_document("Billing"), "status": "draft"})
    path = f"/templates/{draft['id']}"
    for _ in range(2):
        active = (await tenant.owner.post(f"{path}/activate")).json()
        assert (active["status"], active["revision"]) == ("active", 2)
    stale = await tenant.owner.post(f"{path}/deactivate", headers={"If-Match": '"1"'})
    assert stale.status_code == 412
    assert (await tenant.owner.post(f"{path}/deactivate")).json()["status"] == "draft"


async def test_a_faulty_draft_is_not_activated(tenant: Tenant) -> None:
    """Activation runs the check and names the faults."""
    draft = await create(tenant.owner, "/templates", {"name": "Later"})
    response = await tenant.owner.post(f"/templates/{draft['id']}/activate")
    assert (response.status_code, response.json()["code"]) == (422, "invalid_template")


async def test_a_target_in_use_stays(tenant: Tenant) -> None:
    """A template that an active orchestrator routes to is neither deactivated nor deleted."""
    desk = await tenant.orchestrator()
    target = desk["routes"][0]["template_id"]
    headers = {"If-Match": "*"}
    attempts = [
        await tenant.owner.post(f"/templates/{target}/deactivate"),
        await tenant.owner.delete(f"/templates/{target}", headers=headers),
        await tenant.owner.patch(f"/templates/{target}", json={"status": "draft"}, headers=headers),
    ]
    for response in attempts:
        problem = response.json()
        assert (response.status_code, problem["code"]) == (409, "template_in_use")
        assert problem["template_ids"] == [desk["id"]]


async def test_a_number_has_one_active_orchestrator(tenant: Tenant) -> None:
    """A second active orchestrator of a number is refused with the first one's id."""
    desk = await tenant.orchestrator()
    target, number = desk["routes"][0]["template_id"], desk["number_id"]
    response = await tenant.owner.post("/templates", json=orchestrator_document("Rival", target, number))
    problem = response.json()
    assert (response.status_code, problem["code"]) == (409, "orchestrator_exists")
    assert problem["conflicting_template_id"] == desk["id"]
    draft = {**orchestrator_document("Rival", target, number), "status": "draft"}
    assert (await tenant.owner.post("/templates", json=draft)).status_code == 201


async def test_a_name_is_taken_once(tenant: Tenant) -> None:
    """Two templates of an account do not share a name."""
    await tenant.agent("Billing")
    response = await tenant.owner.post("/templates", json={"name": "Billing"})
    assert (response.status_code, response.json()["code"]) == (409, "name_taken")
    assert response.json()["errors"][0]["pointer"] == "/name"


async def test_secrets_are_sealed_and_never_answered(
    tenant: Tenant, database: Database, server: RunningServer
) -> None:
    """A secret header is stored encrypted and answered as `***`, wherever the template is answered."""
    agent = await tenant.agent(functions=[HTTP_FUNCTION])
    assert agent["functions"][0]["secret_headers"] == {"Authorization": HIDDEN}
    listed = await tenant.owner.get("/templates")
    assert "deep secret" not in listed.text
    stored = await templates.get(database, tenant.account_id, UUID(agent["id"]))
    sealed = stored.content["functions"][0]["secret_headers"]["Authorization"]
    assert "deep secret" not in str(stored.content)
    assert Vault(*server.app_state.settings.fernet_keys()).open(sealed) == "Bearer deep secret"


async def test_three_stars_keep_a_secret(tenant: Tenant, database: Database, server: RunningServer) -> None:
    """A PUT or PATCH with `***` keeps the stored secret; a new value replaces it."""
    agent = await tenant.agent(functions=[HTTP_FUNCTION])
    path, vault = f"/templates/{agent['id']}", Vault(*server.app_state.settings.fernet_keys())

    async def secret() -> str:
        stored = await templates.get(database, tenant.account_id, UUID(agent["id"]))
        return vault.open(stored.content["functions"][0]["secret_headers"]["Authorization"])

    await tenant.owner.put(path, json=agent, headers={"If-Match": "*"})
    await tenant.owner.patch(path, json={"description": "Other."}, headers={"If-Match": "*"})
    assert await secret() == "Bearer deep secret"
    function = {**HTTP_FUNCTION, "secret_headers": {"Authorization": "Bearer new"}}
    await tenant.owner.patch(path, json={"functions": [function]}, headers={"If-Match": "*"})
    assert await secret() == "Bearer new"


@pytest.mark.parametrize(
    "change",
    [
        {"url": "https://thief.example.net/find"},
        {"url": f"{HTTP_FUNCTION['url']}/echo"},
        {"secret_headers": {"X-Other": HIDDEN}},
    ],
)
async def test_a_kept_secret_goes_nowhere_else(tenant: Tenant, change: dict[str, Any]) -> None:
    """`***` keeps nothing for another host, path or header: the secret must be sent again."""
    agent = await tenant.agent(functions=[HTTP_FUNCTION])
    function = {**agent["functions"][0], **change}
    response = await tenant.owner.patch(
        f"/templates/{agent['id']}", json={"functions": [function]}, headers={"If-Match": "*"}
    )
    assert response.status_code == 422
    assert response.json()["errors"][0]["code"] == "secret_missing"
    assert response.json()["errors"][0]["pointer"].startswith("/functions/0/secret_headers/")


async def test_templates_are_listed_filtered_and_paged(tenant: Tenant) -> None:
    """Filters narrow the list, and pages end to end give every template once, newest first."""
    desk = await tenant.orchestrator()
    for index in range(5):
        await tenant.agent(f"Agent {index}")
    names: list[str] = []
    cursor: str | None = None
    while True:
        query = {"limit": "3"} | ({"cursor": cursor} if cursor else {})
        page = (await tenant.owner.get("/templates", params=query)).json()
        names += [item["name"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert names == [*(f"Agent {index}" for index in range(4, -1, -1)), "Front desk", "Front desk's billing"]
    for query, expected in (
        ({"kind": "orchestrator"}, [desk["id"]]),
        ({"number_id": desk["number_id"]}, [desk["id"]]),
        ({"name": "FRONT", "kind": "orchestrator"}, [desk["id"]]),
        ({"status": "draft"}, []),
    ):
        found = (await tenant.owner.get("/templates", params=query)).json()["items"]
        assert [item["id"] for item in found] == expected


async def test_every_change_is_in_the_audit_list(tenant: Tenant, database: Database) -> None:
    """Who changed a template, how, and from which revision to which, is kept, and its revisions as well."""
    agent = await tenant.agent()
    path = f"/templates/{agent['id']}"
    await tenant.owner.patch(path, json={"description": "Other."}, headers={"If-Match": "*"})
    await tenant.owner.post(f"{path}/deactivate")
    await tenant.owner.delete(path, headers={"If-Match": "*"})
    changes = await audit.list_changes(
        database, tenant.account_id, AuditFilter(resource_id=UUID(agent["id"])), limit=10
    )
    assert [(each.action, each.revision_before, each.revision_after) for each in changes.items] == [
        ("delete", 3, None),
        ("deactivate", 2, 3),
        ("update", 1, 2),
        ("create", None, 1),
    ]
    assert all(each.key_id is not None for each in changes.items)
    kept = await revisions.list_revisions(database, tenant.account_id, UUID(agent["id"]), limit=10)
    assert [list(each.changed) for each in kept.items][:2] == [["status"], ["description"]]


async def test_a_change_that_would_break_an_active_user_is_refused(tenant: Tenant) -> None:
    """An agent cannot come to require what an active orchestrator does not give; the refusal names it."""
    desk = await tenant.orchestrator()
    response = await tenant.owner.patch(
        f"/templates/{desk['routes'][0]['template_id']}",
        json={"variables": [{"name": "account_number", "required": True}]},
        headers={"If-Match": "*"},
    )
    (error,) = response.json()["errors"]
    assert (response.status_code, error["code"]) == (422, "breaks_active_template")
    assert desk["id"] in error["message"]
    assert "account_number" in error["message"]


async def test_drafts_learn_what_becomes_of_their_targets(tenant: Tenant) -> None:
    """The problems of a draft follow its targets: deactivated, activated, and deleted."""
    desk = await tenant.orchestrator(status="draft")
    target = f"/templates/{desk['routes'][0]['template_id']}"

    async def problems() -> set[str]:
        found = (await tenant.owner.get(f"/templates/{desk['id']}")).json()["problems"]
        return {problem["code"] for problem in found}

    assert await problems() == set()
    await tenant.owner.post(f"{target}/deactivate")
    assert await problems() == {"target_inactive"}
    await tenant.owner.post(f"{target}/activate")
    assert await problems() == set()
    await tenant.owner.delete(target, headers={"If-Match": "*"})
    assert await problems() == {"target_missing"}


async def test_a_foreign_target_looks_like_a_missing_one(new_tenant: NewTenant) -> None:
    """A route to another account's template is refused in the same words as one to nothing."""
    mine, theirs = await new_tenant(), await new_tenant()
    foreign, number = await theirs.agent(), await mine.number()
    missing = "01a1fb64-16ef-7341-baef-1bff17f7b0e5"
    answers = []
    for target in (foreign["id"], missing):
        response = await mine.owner.post(
            "/templates", json=orchestrator_document("Desk", target, number["id"])
        )
        assert response.status_code == 422
        answers.append(response.text.replace(target, "…"))
    assert answers[0] == answers[1]


async def test_a_draft_may_name_what_does_not_exist(tenant: Tenant) -> None:
    """A draft with a number and a target that are not there is saved as it was written, with its problems."""
    missing = "01a1fb64-16ef-7341-baef-1bff17f7b0e5"
    document = {**orchestrator_document("Desk", missing, missing), "status": "draft"}
    draft = await create(tenant.owner, "/templates", document)
    assert (draft["number_id"], draft["routes"][0]["template_id"]) == (missing, missing)
    assert {"/number_id", "/routes/0/template_id"} <= {problem["pointer"] for problem in draft["problems"]}


async def test_settings_that_no_vendor_may_get_are_refused_when_saved(tenant: Tenant) -> None:
    """An active template with an unknown setting is refused with pointer and suggestion; a draft keeps it."""
    document = {**agent_document("Billing"), "llm": {"settings": {"temprature": 0.2, "temperature": 9}}}
    refused = await tenant.owner.post("/templates", json=document)
    assert refused.status_code == 422
    found = {error["pointer"]: error for error in refused.json()["errors"]}
    assert found.keys() == {"/llm/settings/temprature", "/llm/settings/temperature"}
    assert "Did you mean 'temperature'?" in found["/llm/settings/temprature"]["message"]
    assert "at most 2" in found["/llm/settings/temperature"]["message"]
    draft = await create(tenant.owner, "/templates", {**document, "status": "draft"})
    assert {problem["code"] for problem in draft["problems"]} == {"setting_unknown", "setting_invalid"}


async def test_the_schema_describes_the_settings_of_each_provider(tenant: Tenant) -> None:
    """GET /templates/schema lists the providers and the settings that each of them takes."""
    definitions = (await tenant.owner.get("/templates/schema")).json()["$defs"]
    assert definitions["Stt"]["properties"]["provider"]["enum"] == ["deepgram", "elevenlabs"]
    assert definitions["OpenAILlmSettings"]["properties"]["temperature"]["anyOf"][0]["maximum"] == 2


async def test_the_schema_describes_what_an_author_writes(tenant: Tenant) -> None:
    """GET /templates/schema is a JSON Schema with the fields of a template and their descriptions."""
    schema = (await tenant.owner.get("/templates/schema")).json()
    assert schema["required"] == ["name"]
    assert schema["properties"]["routes"]["description"]


async def test_checks_beyond_the_limit_of_an_account_are_refused(
    new_tenant: NewTenant, server: RunningServer, tmp_path: Path
) -> None:
    """An account with 100 checks at once gets 429 with Retry-After, which is counted; others go on."""
    busy, other, checks = await new_tenant(), await new_tenant(), server.app_state.authoring.checks
    release = tmp_path / "release"
    running = [
        asyncio.create_task(checks.run(busy.account_id, wait_for, release)) for _ in range(MAX_WAITING)
    ]
    try:
        await asyncio.sleep(0)
        before = await metric(server.url, 'voicebot_limit_reached_total{limit="checks"}')
        refused = await busy.owner.post("/templates/check", json={"name": "Billing"})
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        assert int(refused.headers["Retry-After"]) > 0
        assert await metric(server.url, 'voicebot_limit_reached_total{limit="checks"}') == before + 1
        waiting = asyncio.create_task(other.owner.post("/templates/check", json={"name": "Billing"}))
        touch(release)
        assert (await waiting).status_code == 200
    finally:
        touch(release)
        await asyncio.gather(*running)


async def test_every_save_answers_warnings(tenant: Tenant) -> None:
    """POST, PUT, PATCH and activation answer what the check warns of, and so does reading."""
    document = {**agent_document("Warned"), "language": "en-UK"}
    saved = await tenant.owner.post("/templates", json=document)
    assert {"pointer": "/language", "code": "language_unknown"}.items() <= saved.json()["warnings"][0].items()
    template, url = saved.json(), f"/templates/{saved.json()['id']}"
    for method, body in (("PUT", template), ("PATCH", {"description": "Knows it."})):
        headers = {"If-Match": saved.headers["ETag"]}
        if method == "PATCH":
            headers["Content-Type"] = "application/merge-patch+json"
        saved = await tenant.owner.request(method, url, json=body, headers=headers)
        assert saved.status_code == 200, saved.text
        assert "language_unknown" in {each["code"] for each in saved.json()["warnings"]}
    assert (await tenant.owner.get(url)).json() == saved.json()
