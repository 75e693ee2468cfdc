from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest

from db import leads
from db.leads import LeadDraft
from db.pool import Database
from tests.api.conftest import NewTenant
from tests.api.server_fixture import Tenant, new_e164

NOBODY = "01a1fb64-16ef-7341-baef-1bff17f7b0e5"
VARIABLES = [
    {"name": "customer", "required": True},
    {"name": "visits", "type": "integer", "default": 0},
]


@pytest.fixture
async def lead(tenant: Tenant) -> dict[str, Any]:
    """A person whom an agent with variables is to call."""
    agent = await tenant.agent(variables=VARIABLES, prompt="You greet {{ customer }}.")
    number = await tenant.number()
    return {
        "phone": new_e164(),
        "number_id": number["id"],
        "template_id": agent["id"],
        "payload": {"customer": "Ada", "visits": "3", "shoe_size": 39},
    }


async def test_a_lead_is_recorded_with_its_values(tenant: Tenant, lead: dict[str, Any]) -> None:
    """A lead keeps its payload as it came, and the template's variables as values of their types."""
    response = await tenant.owner.post("/leads", json=lead)
    made = response.json()
    assert (response.status_code, made["status"], made["direction"]) == (201, "queued", "outbound")
    assert made["payload"] == lead["payload"]
    assert made["variables"] == {"customer": "Ada", "visits": 3}
    assert (made["call_ids"], made["routes"]) == ([], [])
    assert (await tenant.owner.get(response.headers["Location"].removeprefix("/api/v1"))).json() == made


async def test_a_request_sent_twice_makes_one_lead(tenant: Tenant, lead: dict[str, Any]) -> None:
    """With an Idempotency-Key the same request, even at once, is answered with the same lead."""
    headers = {"Idempotency-Key": "order 7"}
    answers = await asyncio.gather(
        *(tenant.owner.post("/leads", json=lead, headers=headers) for _ in range(6))
    )
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert [answer.headers.get("Idempotency-Replayed") for answer in answers].count("true") == 5
    assert len((await tenant.owner.get("/leads")).json()["items"]) == 1


async def test_a_key_serves_one_request(tenant: Tenant, lead: dict[str, Any]) -> None:
    """The same Idempotency-Key with another body is refused; without a key every request makes a lead."""
    headers = {"Idempotency-Key": "order 7"}
    await tenant.owner.post("/leads", json=lead, headers=headers)
    other = await tenant.owner.post("/leads", json={**lead, "phone": new_e164()}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    for _ in range(2):
        assert (await tenant.owner.post("/leads", json=lead)).status_code == 201
    assert len((await tenant.owner.get("/leads")).json()["items"]) == 3


async def test_keys_of_two_accounts_do_not_meet(new_tenant: NewTenant) -> None:
    """An Idempotency-Key is the account's own."""
    ids = set()
    for tenant in (await new_tenant(), await new_tenant()):
        agent, number = await tenant.agent(), await tenant.number()
        body = {"phone": "+14155550199", "number_id": number["id"], "template_id": agent["id"]}
        answer = await tenant.owner.post("/leads", json=body, headers={"Idempotency-Key": "1"})
        ids.add(answer.json()["id"])
    assert len(ids) == 2


@pytest.mark.parametrize(
    ("change", "pointer", "code"),
    [
        ({"payload": {}}, "/payload/customer", "invalid_payload"),
        ({"payload": {"customer": "Ada", "visits": "many"}}, "/payload/visits", "invalid_payload"),
        ({"phone": "0800"}, "/phone", "invalid_request"),
        ({"number_id": NOBODY}, "/number_id", "invalid_request"),
        ({"template_id": NOBODY}, "/template_id", "invalid_request"),
        ({"due": "now"}, "/due", "invalid_request"),
    ],
)
async def test_a_lead_that_could_not_be_called_is_refused(
    tenant: Tenant, lead: dict[str, Any], change: dict[str, Any], pointer: str, code: str
) -> None:
    """What would fail on the call is refused when the lead is made, at its place."""
    response = await tenant.owner.post("/leads", json={**lead, **change})
    problem = response.json()
    assert (response.status_code, problem["code"]) == (422, code)
    assert [error["pointer"] for error in problem["errors"]] == [pointer]


async def test_a_draft_calls_nobody(tenant: Tenant, lead: dict[str, Any]) -> None:
    """A lead needs an active template."""
    await tenant.owner.post(f"/templates/{lead['template_id']}/deactivate")
    response = await tenant.owner.post("/leads", json=lead)
    assert (response.status_code, response.json()["errors"][0]["code"]) == (422, "template_inactive")


async def test_leads_are_filtered(tenant: Tenant, lead: dict[str, Any]) -> None:
    """Leads are found by phone, status, direction, number and template."""
    made = (await tenant.owner.post("/leads", json=lead)).json()
    for query in (
        {"phone": lead["phone"]},
        {"status": "queued"},
        {"direction": "outbound"},
        {"number_id": lead["number_id"]},
        {"template_id": lead["template_id"]},
    ):
        found = (await tenant.owner.get("/leads", params=query)).json()["items"]
        assert [each["id"] for each in found] == [made["id"]]
    for query in ({"phone": "+1"}, {"status": "finished"}, {"direction": "inbound"}, {"number_id": NOBODY}):
        assert (await tenant.owner.get("/leads", params=query)).json()["items"] == []


def nested(levels: int) -> dict[str, Any]:
    """Return an object with that many levels."""
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"in": value}
    return value


async def test_a_payload_of_many_levels_is_refused_with_its_place(
    tenant: Tenant, lead: dict[str, Any]
) -> None:
    """A payload with more levels or values than allowed is refused, with a pointer, and not stored."""
    most = {**lead["payload"], "order": nested(16)}
    assert (await tenant.owner.post("/leads", json={**lead, "payload": most})).status_code == 201
    for more, place in (
        ({"order": nested(17)}, "/payload/order" + "/in" * 16),
        ({"order": [0] * 1000}, "/payload/order"),
        ({"order": "x" * 64 * 1024}, "/payload/order"),
    ):
        response = await tenant.owner.post("/leads", json={**lead, "payload": {**lead["payload"], **more}})
        assert (response.status_code, response.json()["code"]) == (422, "invalid_payload")
        assert response.json()["errors"][0]["pointer"] == place
    for levels, status, depth in ((50, 422, 16), (300, 413, 62)):
        payload = {**lead["payload"], "order": nested(levels)}
        response = await tenant.owner.post("/leads", json={**lead, "payload": payload})
        assert response.status_code == status
        assert response.json()["errors"][0]["pointer"] == "/payload/order" + "/in" * depth
    assert len((await tenant.owner.get("/leads")).json()["items"]) == 1


async def test_a_payload_300_deep_of_an_earlier_version_does_not_break_the_list(
    tenant: Tenant, lead: dict[str, Any], database: Database
) -> None:
    """A lead with a payload that is too deep to be answered is answered without what is too deep."""
    usual = (await tenant.owner.post("/leads", json=lead)).json()
    draft = LeadDraft(
        direction="outbound",
        phone=lead["phone"],
        number_id=UUID(lead["number_id"]),
        template_id=UUID(lead["template_id"]),
        payload={"order": nested(300), "customer": "Ada"},
        variables={},
    )
    stored = (await leads.create(database, tenant.account_id, draft)).lead

    listed = await tenant.owner.get("/leads")
    one = await tenant.owner.get(f"/leads/{stored.id}")

    assert (listed.status_code, one.status_code) == (200, 200)
    assert {each["id"] for each in listed.json()["items"]} == {usual["id"], str(stored.id)}
    assert one.json()["payload"]["customer"] == "Ada"
    assert one.json()["payload"]["order"]["in"]["in"]


async def test_several_leads_are_stored_together(tenant: Tenant, lead: dict[str, Any]) -> None:
    """A list is answered in its order; sent again with its key it makes no other leads."""
    people = [{**lead, "phone": new_e164(), "priority": place} for place in range(3)]
    headers = {"Idempotency-Key": "order 8"}
    response = await tenant.owner.post("/leads", json=people, headers=headers)
    assert response.status_code == 201
    made = response.json()["items"]
    assert [(each["phone"], each["priority"], each["variables"]["visits"]) for each in made] == [
        (each["phone"], each["priority"], 3) for each in people
    ]
    again = await tenant.owner.post("/leads", json=people, headers=headers)
    assert (again.json()["items"], again.headers["Idempotency-Replayed"]) == (made, "true")
    assert "Idempotency-Replayed" not in response.headers
    other = await tenant.owner.post("/leads", json=people[::-1], headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    stored = (await tenant.owner.get("/leads")).json()["items"]
    assert sorted(each["id"] for each in stored) == sorted(each["id"] for each in made)
    [change] = (await tenant.owner.get("/audit", params={"resource": "lead"})).json()["items"]
    assert (change["action"], change["data"]) == ("create", {"leads": [each["id"] for each in made]})


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"phone": "12"}, "/1/phone"),
        ({"payload": {}}, "/1/payload/customer"),
        ({"number_id": NOBODY}, "/1/number_id"),
    ],
)
async def test_a_list_with_a_fault_is_refused(
    tenant: Tenant, lead: dict[str, Any], wrong: dict[str, Any], pointer: str
) -> None:
    """The fault has a pointer with the place of its lead, and none of the leads is stored."""
    response = await tenant.owner.post("/leads", json=[lead, {**lead, **wrong}])
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, pointer)
    assert (await tenant.owner.get("/leads")).json()["items"] == []


async def test_a_list_of_leads_is_bounded(tenant: Tenant, lead: dict[str, Any]) -> None:
    """A list has 1 to 200 leads."""
    for people in ([], [lead] * 201):
        response = await tenant.owner.post("/leads", json=people)
        assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, "")
