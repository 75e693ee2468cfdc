"""Export and import: a set of templates as files have them, all or none of it."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import httpx
import pytest
import yaml
from hypothesis import HealthCheck, given, settings

from db import audit, keys, templates
from db.audit import AuditFilter
from db.pool import Database
from handlers.registry import HANDLERS
from templates.sets import dump_text, read_text
from templates.sets.documents import FileFormat
from tests.api.conftest import NewTenant
from tests.api.server_fixture import RunningServer, Tenant, agent_document, create
from tests.templates.sample_accounts import NUMBER_ID, SampleAccount, sample_accounts
from voicebot.authoring import MAX_TEMPLATES
from voicebot.vault import HIDDEN

VOICE = {"voice_id": "EXAVITQu4vr4xnSDxMaL"}


def agent(name: str = "Billing", **more: Any) -> dict[str, Any]:
    """An agent as a file has it."""
    return {**agent_document(name), "tts": VOICE, **more}


def desk(name: str = "Desk", *targets: str, **more: Any) -> dict[str, Any]:
    """An orchestrator as a file has it."""
    return {
        "name": name,
        "kind": "orchestrator",
        "status": "active",
        "prompt": "You answer Acme's telephone.",
        "tts": VOICE,
        "routes": [
            {"name": f"route{index}", "template": target, "when": f"The caller asks for {target}."}
            for index, target in enumerate(targets)
        ],
        **more,
    }


def lookup(secret: str) -> dict[str, Any]:
    """A function with a secret."""
    return {
        "type": "http",
        "name": "find_order",
        "description": "Looks an order up.",
        "url": "https://orders.example.com/find",
        "secret_headers": {"Authorization": secret},
    }


async def put(
    client: httpx.AsyncClient, *documents: Any, dry_run: bool = False, **more: Any
) -> httpx.Response:
    """Ask for an import."""
    params = {"dry_run": "true"} if dry_run else {}
    return await client.post("/templates/import", json={"templates": documents, **more}, params=params)


async def imported(client: httpx.AsyncClient, *documents: Any, **more: Any) -> dict[str, str]:
    """What was done to each template of an import that is to succeed, by name."""
    response = await put(client, *documents, **more)
    assert response.status_code == 200, response.text
    return {each["name"]: each["action"] for each in response.json()["templates"]}


async def exported(client: httpx.AsyncClient, **params: Any) -> list[dict[str, Any]]:
    """The templates of an export."""
    response = await client.get("/templates/export", params=params)
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["templates"]
    return found


async def test_a_set_is_made_in_one_go(tenant: Tenant) -> None:
    """A new orchestrator and new agents become active together; routes name them, in any order."""
    number = await tenant.number()
    answer = await put(
        tenant.owner, desk("Desk", "Billing", "Sales", number=number["e164"]), agent(), agent("Sales")
    )
    assert answer.status_code == 200, answer.text
    answered = answer.json()["templates"]
    assert [(each["name"], each["action"], each["revision"]) for each in answered] == [
        ("Desk", "created", 1), ("Billing", "created", 1), ("Sales", "created", 1)
    ]  # fmt: skip
    saved = (await tenant.owner.get(f"/templates/{answered[0]['id']}")).json()
    assert (saved["status"], saved["number_id"]) == ("active", number["id"])
    assert [route["template_id"] for route in saved["routes"]] == [answered[1]["id"], answered[2]["id"]]


async def test_agents_that_route_in_a_circle_are_saved_together(tenant: Tenant) -> None:
    """Agents may route to agents, in a circle too; what an active agent routes to stays active."""
    to_sales = {"name": "sales", "template": "Sales", "when": "The caller wants to buy something."}
    to_billing = {"name": "billing", "template": "Billing", "when": "The caller asks for an invoice."}
    done = await imported(
        tenant.owner, desk("Desk", "Billing"), agent("Billing", routes=[to_sales]),
        agent("Sales", routes=[to_billing]),
    )  # fmt: skip
    assert set(done.values()) == {"created"}
    found = {each["name"]: each for each in (await tenant.owner.get("/templates")).json()["items"]}
    answer = await tenant.owner.post(f"/templates/{found['Sales']['id']}/deactivate")
    assert (answer.status_code, answer.json()["code"]) == (409, "template_in_use")
    assert answer.json()["template_ids"] == [found["Billing"]["id"]]
    warned = (await tenant.owner.get(f"/templates/{found['Sales']['id']}")).json()["warnings"]
    assert "agent_unreached" not in {each["code"] for each in warned}
    names = {each["name"] for each in await exported(tenant.owner, name="Desk")}
    assert names == {"Desk", "Billing", "Sales"}


async def test_what_is_exported_can_be_imported(tenant: Tenant) -> None:
    """Importing an export changes nothing."""
    number = await tenant.number()
    sent = [desk("Desk", "Billing", number=number["e164"]), agent(functions=[lookup("Bearer x")])]
    await imported(tenant.owner, *sent)
    found = await exported(tenant.owner)
    assert [each["name"] for each in found] == ["Billing", "Desk"]
    assert found[1] == {**sent[0]}
    assert found[0]["functions"][0]["secret_headers"] == {"Authorization": HIDDEN}
    assert set((await imported(tenant.owner, *found)).values()) == {"unchanged"}
    assert set((await imported(tenant.owner, *sent)).values()) == {"unchanged"}
    assert (await tenant.owner.get("/templates")).json()["items"][0]["revision"] == 1


async def test_an_export_has_the_targets_of_what_is_asked_for(tenant: Tenant) -> None:
    """By id or name, with the templates that are routed to; what the account has not is a 404."""
    await imported(tenant.owner, desk("Desk", "Billing"), agent(), agent("Sales"))
    assert [each["name"] for each in await exported(tenant.owner, name="Desk")] == ["Billing", "Desk"]
    sales = (await tenant.owner.get("/templates", params={"name": "Sales"})).json()["items"][0]
    assert [each["name"] for each in await exported(tenant.owner, id=sales["id"])] == ["Sales"]
    for params in ({"name": "Nobody"}, {"id": NUMBER_ID}, {"name": ["Desk", "Nobody"]}):
        assert (await tenant.owner.get("/templates/export", params=params)).status_code == 404
    assert (await tenant.owner.get("/templates/export", params={"nme": "Desk"})).status_code == 422


@pytest.mark.parametrize(
    ("accept", "params", "kind"),
    [
        ("*/*", {}, "application/json"),
        ("application/yaml", {}, "application/yaml"),
        ("application/json, application/yaml;q=0.5", {}, "application/json"),
        ("text/yaml, */*;q=0.1", {}, "application/yaml"),
        ("application/yaml", {"format": "json"}, "application/json"),
        ("application/json", {"format": "yaml"}, "application/yaml"),
    ],
)
async def test_json_or_yaml(tenant: Tenant, accept: str, params: dict[str, str], kind: str) -> None:
    """The format is the one asked for by name, else the one accepted; both say the same."""
    await imported(tenant.owner, agent(prompt="You are Ada.\nYou are brief.\n"))
    response = await tenant.owner.get("/templates/export", headers={"Accept": accept}, params=params)
    assert response.headers["Content-Type"].startswith(kind)
    read = response.json() if kind.endswith("json") else yaml.safe_load(response.text)
    assert read["templates"][0]["prompt"] == "You are Ada.\nYou are brief.\n"
    if kind.endswith("yaml"):
        assert "prompt: |\n      You are Ada.\n      You are brief.\n" in response.text


async def test_yaml_is_imported(tenant: Tenant) -> None:
    """A file is sent unchanged, with one template or several; the error for bad text names the line."""
    headers = {"Content-Type": "application/yaml"}
    one = await tenant.owner.post("/templates/import", content=dump_text(agent()), headers=headers)
    assert [each["action"] for each in one.json()["templates"]] == ["created"], one.text
    text = dump_text({"templates": [agent(), agent("Sales")]})
    several = await tenant.owner.post("/templates/import", content=text, headers=headers)
    assert [each["action"] for each in several.json()["templates"]] == ["unchanged", "created"]
    bomb = "a: &a [x]\nb: [*a, *a]\n"
    refused = await tenant.owner.post("/templates/import", content=bomb, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_yaml")
    assert "Line 2" in refused.json()["detail"]
    other = await tenant.owner.post("/templates/import", content=text, headers={"Content-Type": "text/csv"})
    assert other.status_code == 415
    broken = await tenant.owner.post(
        "/templates/import", content="{", headers={"Content-Type": "application/json"}
    )
    assert (broken.status_code, broken.json()["code"]) == (400, "invalid_json")


async def test_a_set_is_saved_as_a_whole_or_not_at_all(tenant: Tenant) -> None:
    """All faults are reported together, by pointers into the request, and nothing is saved."""
    response = await put(
        tenant.owner,
        agent(),
        desk("Desk", "Biling", number="+14155559999"),
        agent("Sales", lanugage="en"),
        agent(),
    )
    assert (response.status_code, response.json()["code"]) == (422, "invalid_template")
    found = {(error["pointer"], error["code"]) for error in response.json()["errors"]}
    assert found == {
        ("/templates/1/routes/0/template", "target_missing"),
        ("/templates/1/number", "number_unknown"),
        ("/templates/2/lanugage", "unknown_field"),
        ("/templates/3/name", "name_duplicate"),
    }
    assert (await tenant.owner.get("/templates")).json()["items"] == []
    alone = await tenant.owner.post("/templates/import", json=agent(lanugage="en"))
    assert [error["pointer"] for error in alone.json()["errors"]] == ["/lanugage"]


async def test_drafts_may_have_faults(tenant: Tenant) -> None:
    """A draft is saved with what it lacks; a name that stands for nothing yet is kept, and found later."""
    draft = desk("Desk", "Billing", status="draft")
    response = await put(tenant.owner, draft)
    [answered] = response.json()["templates"]
    assert [(problem["pointer"], problem["code"]) for problem in answered["problems"]] == [
        ("/routes/0/template", "target_missing")
    ]
    assert (await exported(tenant.owner))[0]["routes"] == draft["routes"]
    assert await imported(tenant.owner, draft, agent()) == {"Desk": "updated", "Billing": "created"}
    saved = (await tenant.owner.get("/templates", params={"kind": "orchestrator"})).json()["items"][0]
    assert saved["problems"] == []


async def test_a_set_can_change_everything_at_once(tenant: Tenant) -> None:
    """Numbers change hands, an agent gives way to another, and one becomes an orchestrator."""
    first, second = await tenant.number(), await tenant.number()
    one = desk("One", "Billing", number=first["e164"])
    other = desk("Other", "Billing", "Sales", number=second["e164"])
    await imported(tenant.owner, one, other, agent(), agent("Sales"))
    again = [
        {**one, "number": second["e164"], "routes": desk("One", "Parcels")["routes"]},
        {**other, "number": first["e164"], "routes": desk("Other", "Parcels")["routes"]},
        agent(status="draft"),
        desk("Sales", "Parcels"),
        agent("Parcels"),
    ]
    assert await imported(tenant.owner, *again) == {
        "One": "updated", "Other": "updated", "Billing": "updated", "Sales": "updated", "Parcels": "created"
    }  # fmt: skip
    assert {each["name"]: each.get("number") for each in await exported(tenant.owner)} == {
        "One": second["e164"], "Other": first["e164"], "Billing": None, "Sales": None, "Parcels": None
    }  # fmt: skip
    back = [one, other, agent(), agent("Sales"), agent("Parcels", status="draft")]
    assert set((await imported(tenant.owner, *back)).values()) == {"updated"}


async def test_a_dry_run_changes_nothing(tenant: Tenant) -> None:
    """It answers what an import would, and leaves templates, revisions and the audit list as they were."""
    await imported(tenant.owner, agent())
    before = (await tenant.owner.get("/templates")).json()
    answer = await put(tenant.owner, agent(description="New."), desk("Desk", "Billing"), dry_run=True)
    assert answer.json()["dry_run"] is True
    billing, front = answer.json()["templates"]
    assert (billing["action"], billing["revision"], billing["changed"]) == ("updated", 2, ["description"])
    assert (front["action"], front["id"]) == ("created", None)
    assert (await tenant.owner.get("/templates")).json() == before


async def test_what_was_expected_is_held_to(tenant: Tenant) -> None:
    """An import says which revisions it knows; one that has moved is named, and nothing saved."""
    await imported(tenant.owner, agent(), agent("Sales"))
    document = (await tenant.owner.get("/templates/export", params={"revisions": "true"})).json()
    assert document["expect"] == {"Billing": 1, "Sales": 1}
    sales = (await tenant.owner.get("/templates", params={"name": "Sales"})).json()["items"][0]
    await tenant.owner.patch(
        f"/templates/{sales['id']}", json={"description": "Mine."}, headers={"If-Match": "*"}
    )
    document["templates"][0]["description"] = "Theirs."
    document["expect"]["Parcels"] = 4
    refused = await tenant.owner.post("/templates/import", json=document)
    assert (refused.status_code, refused.json()["code"]) == (412, "precondition_failed")
    assert [error["pointer"] for error in refused.json()["errors"]] == ["/expect/Sales", "/expect/Parcels"]
    assert "saved by the key" in refused.json()["errors"][0]["message"]
    assert (await exported(tenant.owner, name="Billing"))[0]["description"] == agent()["description"]
    fresh = await put(tenant.owner, agent("Billing"), expect={"Billing": None})
    assert fresh.status_code == 412
    assert (await put(tenant.owner, agent("New"), expect={"New": None})).status_code == 200


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"templates": 5}, "/templates"),
        ({"templates": [], "expct": {}}, "/expct"),
        ({"templates": [], "expect": {"a": "1"}}, "/expect/a"),
        ({"templates": [{"name": str(index)} for index in range(MAX_TEMPLATES + 1)]}, "/templates"),
    ],
)
async def test_what_is_around_the_templates_is_checked(tenant: Tenant, body: Any, pointer: str) -> None:
    """A list that is none, unknown members, revisions that are none, and too many at once are refused."""
    response = await tenant.owner.post("/templates/import", json=body)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
    assert [error["pointer"].removesuffix("/int") for error in response.json()["errors"]] == [pointer]


async def test_secrets_of_a_set(tenant: Tenant, database: Database) -> None:
    """`***` keeps the stored secret of the template of that name; without one, the pointer is reported."""
    refused = await put(tenant.owner, agent(functions=[lookup(HIDDEN)]))
    assert [(error["pointer"], error["code"]) for error in refused.json()["errors"]] == [
        ("/templates/0/functions/0/secret_headers/Authorization", "secret_missing")
    ]
    await imported(tenant.owner, agent(functions=[lookup("Bearer abyss")]))
    before = await templates.by_name(database, tenant.account_id, "Billing")
    await imported(tenant.owner, agent(functions=[lookup(HIDDEN)], description="New."))
    after = await templates.by_name(database, tenant.account_id, "Billing")
    assert after.revision == before.revision + 1
    assert after.content["functions"] == before.content["functions"]
    assert "abyss" not in str(after.content)


async def test_templates_outside_the_set_are_not_broken(tenant: Tenant) -> None:
    """A set that would break an active template is refused, with a pointer to the template of the set."""
    await imported(tenant.owner, desk("Desk", "Billing"), agent())
    needy = agent(variables=[{"name": "order", "required": True}], prompt="{{ order }}")
    broken = await put(tenant.owner, agent("Sales"), needy)
    assert [(error["pointer"], error["code"]) for error in broken.json()["errors"]] == [
        ("/templates/1", "breaks_active_template")
    ]
    used = await put(tenant.owner, agent("Sales"), agent(status="draft"))
    assert (used.status_code, used.json()["code"]) == (409, "template_in_use")
    assert [error["pointer"] for error in used.json()["errors"]] == ["/templates/1"]
    assert len(used.json()["template_ids"]) == 1
    assert (await exported(tenant.owner, name="Billing"))[0]["status"] == "active"


async def test_a_number_that_another_answers(tenant: Tenant) -> None:
    """The orchestrator of a number is named, with the place of the one in the set that wants it too."""
    number = await tenant.number()
    await imported(tenant.owner, desk("Desk", "Billing", number=number["e164"]), agent())
    refused = await put(tenant.owner, agent(), desk("Other", "Billing", number=number["e164"]))
    assert (refused.status_code, refused.json()["code"]) == (409, "orchestrator_exists")
    assert [error["pointer"] for error in refused.json()["errors"]] == ["/templates/1/number"]


async def test_drafts_outside_the_set_keep_what_they_lack(tenant: Tenant) -> None:
    """A draft of the account that routes to a changed template is checked again."""
    await imported(tenant.owner, agent(), desk("Desk", "Billing", status="draft"))
    await imported(tenant.owner, agent(status="draft"))
    draft = (await tenant.owner.get("/templates", params={"kind": "orchestrator"})).json()["items"][0]
    assert [problem["code"] for problem in draft["problems"]] == ["target_inactive"]


async def test_an_import_is_in_the_audit_list(tenant: Tenant, database: Database) -> None:
    """Each template that was written has a line; one that is as it was has none."""
    await imported(tenant.owner, agent(), agent("Sales"))
    await imported(tenant.owner, agent(), agent("Sales", description="New."))
    changes = (await audit.list_changes(database, tenant.account_id, AuditFilter(), limit=9)).items
    key = await keys.authenticate(database, tenant.keys["owner"])
    assert [(each.action, each.data["name"], each.data["changed"]) for each in changes] == [
        ("import", "Sales", ["description"]), ("import", "Sales", []), ("import", "Billing", [])
    ]  # fmt: skip
    assert {each.key_id for each in changes} == {key.id}


async def test_the_same_set_at_the_same_time(tenant: Tenant) -> None:
    """Imports that meet wait for each other: each is whole, none fails, and one of them is the last."""
    number = await tenant.number()

    def version(index: int) -> list[dict[str, Any]]:
        words = f"Version {index}."
        return [
            agent(description=words),
            desk("Desk", "Billing", "Sales", number=number["e164"], description=words),
            agent("Sales", description=words),
        ]

    for begin in (0, 10):
        answers = await asyncio.gather(*(put(tenant.owner, *version(begin + index)) for index in range(5)))
        assert {answer.status_code for answer in answers} <= {200, 503}, [each.text for each in answers]
        assert 200 in {answer.status_code for answer in answers}
        found = await exported(tenant.owner)
        assert len({each["description"] for each in found}) == 1
        assert len(found) == 3


async def test_imports_and_other_saves_at_the_same_time(tenant: Tenant) -> None:
    """During concurrent saves an active orchestrator routes to active agents only."""
    await imported(tenant.owner, agent(), agent("Sales"), desk("Desk", "Sales"))
    [billing] = (await tenant.owner.get("/templates", params={"name": "Billing"})).json()["items"]
    for round_ in range(6):
        first, second = await asyncio.gather(
            put(tenant.owner, desk("Desk", "Billing" if round_ % 2 else "Sales", description=str(round_))),
            tenant.owner.post(f"/templates/{billing['id']}/deactivate"),
        )
        assert first.status_code in (200, 422), first.text
        assert second.status_code in (200, 409, 422), second.text
        found = {each["name"]: each for each in await exported(tenant.owner)}
        targets = [route["template"] for route in found["Desk"]["routes"]]
        assert {found[target].get("status", "draft") for target in targets} == {"active"}
        await tenant.owner.post(f"/templates/{billing['id']}/activate")


async def test_a_checked_template_may_have_names(tenant: Tenant) -> None:
    """POST /templates/check takes a template as files have it, and points at the names."""
    await imported(tenant.owner, agent())
    fine = (await tenant.owner.post("/templates/check", json=desk("Desk", "Billing"))).json()
    assert fine["ok"] is True
    wrong = (
        await tenant.owner.post("/templates/check", json=desk("Desk", "Biling", number="+14155559999"))
    ).json()
    assert {(error["pointer"], error["code"]) for error in wrong["errors"]} == {
        ("/routes/0/template", "target_missing"), ("/number", "number_unknown")
    }  # fmt: skip
    assert "Did you mean 'Billing'?" in str(wrong["errors"])


async def test_the_schema_of_files(tenant: Tenant) -> None:
    """The schema of the file form knows names; that of the API does not."""
    file = (await tenant.owner.get("/templates/schema", params={"form": "file"})).json()
    api = (await tenant.owner.get("/templates/schema")).json()
    assert "template" in file["$defs"]["FileRoute"]["properties"]
    assert "template" not in api["$defs"]["Route"]["properties"]
    assert "transfer_to_number" in str(api["$defs"]["BuiltinFunction"]["properties"]["name"]["enum"])
    assert (await tenant.owner.get("/templates/schema", params={"form": "x"})).status_code == 422


@pytest.mark.long
@pytest.mark.timeout(300)
@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)
@given(scene=sample_accounts())
async def test_an_account_can_be_carried_to_another(new_tenant: NewTenant, scene: SampleAccount) -> None:
    """An account that imports the export of another exports the same documents, apart from secrets."""
    theirs, mine = await new_tenant(), await new_tenant()
    number = await theirs.number()
    await create(mine.owner, "/numbers", {"e164": number["e164"], "carrier": "exotel"})
    names = {key: document["name"] for key, document in scene.documents.items()}
    sent = []
    for document in scene.documents.values():
        document["functions"] = [
            each for each in document["functions"] if each["name"] in HANDLERS or "url" in each
        ]
        routes = [{**route, "template": names[route["template_id"]]} for route in document["routes"]]
        for route in routes:
            del route["template_id"]
        sent.append({**document, "routes": routes, "number_id": None})
        if document["number_id"]:
            sent[-1]["number"] = number["e164"]
    await imported(theirs.owner, *sent)
    first = await exported(theirs.owner)
    carried = yaml.safe_load(dump_text(first).replace(f"'{HIDDEN}'", "Bearer x"))
    assert set((await imported(mine.owner, *carried)).values()) == {"created"}
    assert await exported(mine.owner) == first
    assert set((await imported(mine.owner, *first)).values()) == {"unchanged"}


async def test_a_template_s_greeting_is_prepared(
    server: RunningServer, tenant: Tenant, monkeypatch: Any
) -> None:
    """Active templates that were written have their greetings made; unchanged ones and drafts do not."""
    prepared: list[tuple[UUID, UUID]] = []

    async def prepare(account_id: UUID, template_id: UUID) -> None:
        prepared.append((account_id, template_id))

    monkeypatch.setattr(server.app_state.call_registry, "prepare_greetings", prepare)
    await imported(tenant.owner, agent(), agent("Sales", status="draft"))
    await imported(tenant.owner, agent(), agent("Parcels"))
    found = {
        each["name"]: UUID(each["id"]) for each in (await tenant.owner.get("/templates")).json()["items"]
    }
    assert prepared == [(tenant.account_id, found["Billing"]), (tenant.account_id, found["Parcels"])]


async def test_an_export_is_sent_template_by_template(tenant: Tenant) -> None:
    """A set of several batches is exported whole, in both formats, with and without templates."""
    forms: tuple[FileFormat, ...] = ("json", "yaml")
    for form in forms:
        empty = await tenant.owner.get("/templates/export", params={"format": form, "revisions": True})
        assert read_text(empty.content, form).document == {"templates": [], "expect": {}}
    large = "x" * 20_000
    names = [f"Agent {n:02}" for n in range(20)]
    await imported(tenant.owner, *(agent(name, prompt=large) for name in names))
    for form in forms:
        query = f"?format={form}&revisions=true"
        async with tenant.owner.stream("GET", f"/templates/export{query}") as response:
            chunks = [chunk async for chunk in response.aiter_raw()]
        document = read_text(b"".join(chunks), form).document
        assert [each["name"] for each in document["templates"]] == names
        assert document["expect"] == dict.fromkeys(names, 1)
        assert max(map(len, chunks)) < 10 * len(large)
