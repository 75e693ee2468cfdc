from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import UUID

import pytest
from typer.testing import CliRunner

from db import audit
from db.audit import AuditFilter
from db.pool import Database
from tests.api.conftest import NewTenant
from tests.api.server_fixture import RunningServer, Tenant, create, create_tenant, new_e164, serving
from voicebot.cli import app
from voicebot.config import Settings


async def test_a_number_has_sensible_defaults(tenant: Tenant) -> None:
    """A number alone is an active Twilio number in UTC, at revision 1."""
    e164 = new_e164()
    number = await create(tenant.owner, "/numbers", {"e164": e164})
    expected = {
        "e164": e164,
        "carrier": "twilio",
        "label": "",
        "time_zone": "UTC",
        "fallback_number": None,
        "patience_ms": 30_000,
        "active": True,
        "revision": 1,
    }
    assert {name: number[name] for name in expected} == expected
    response = await tenant.owner.get(f"/numbers/{number['id']}")
    assert (response.json(), response.headers["ETag"]) == (number, '"1"')
    cached = await tenant.owner.get(f"/numbers/{number['id']}", headers={"If-None-Match": 'W/"1"'})
    assert cached.status_code == 304


async def test_what_was_read_can_be_sent_as_a_patch(tenant: Tenant) -> None:
    """A number as it was answered, with a change in it, is a valid merge patch."""
    number = await tenant.number()
    response = await tenant.owner.patch(
        f"/numbers/{number['id']}",
        json={**number, "time_zone": "Europe/Berlin"},
        headers={"If-Match": '"1"'},
    )
    assert (response.status_code, response.headers["ETag"]) == (200, '"2"')
    assert response.json()["time_zone"] == "Europe/Berlin"


async def test_null_takes_a_number_back_to_the_default(tenant: Tenant) -> None:
    """A merge patch with null removes what was set."""
    number = await tenant.number()
    path, headers = f"/numbers/{number['id']}", {"If-Match": "*"}
    await tenant.owner.patch(path, json={"fallback_number": new_e164(), "label": "Main"}, headers=headers)
    patched = (
        await tenant.owner.patch(path, json={"fallback_number": None, "label": None}, headers=headers)
    ).json()
    assert (patched["fallback_number"], patched["label"]) == (None, "")


@pytest.mark.parametrize(
    ("patch", "pointer"),
    [
        ({"e164": "12"}, "/e164"),
        ({"colour": "blue"}, "/colour"),
        ({"active": "yes"}, "/active"),
        ({"carrier": "acme"}, "/carrier"),
        ({"e164": None}, "/e164"),
        ([], ""),
    ],
)
async def test_a_patch_that_leaves_no_valid_number_is_refused(
    tenant: Tenant, patch: object, pointer: str
) -> None:
    """What would not be a valid number is refused at its place, and nothing is changed."""
    number = await tenant.number()
    response = await tenant.owner.patch(f"/numbers/{number['id']}", json=patch, headers={"If-Match": "*"})
    assert response.status_code == 422
    assert [error["pointer"] for error in response.json()["errors"]] == ([pointer] if pointer else [])
    assert (await tenant.owner.get(f"/numbers/{number['id']}")).json() == number


async def test_a_number_does_not_lead_to_itself(tenant: Tenant) -> None:
    """Neither as its fallback nor when it refuses calls: the carrier would place calls without end."""
    number = await tenant.number()
    forward = {"action": "forward", "number": number["e164"]}
    patch = {
        "fallback_number": number["e164"],
        "inbound": {"refusal": forward, "refusals": {"outside_hours": forward}},
    }
    response = await tenant.owner.patch(f"/numbers/{number['id']}", json=patch, headers={"If-Match": "*"})
    assert response.status_code == 422
    places = [error["pointer"] for error in response.json()["errors"]]
    assert places == [
        "/fallback_number",
        "/inbound/refusal/number",
        "/inbound/refusals/outside_hours/number",
    ]


async def test_a_number_is_busy_by_itself(tenant: Tenant) -> None:
    """The reason with which only templates refuse calls is refused; the error names the number's own."""
    number = await tenant.number()
    patch = {"inbound": {"refusals": {"template_busy": {"action": "busy"}}}}
    response = await tenant.owner.patch(f"/numbers/{number['id']}", json=patch, headers={"If-Match": "*"})
    assert response.status_code == 422
    [fault] = response.json()["errors"]
    assert fault["pointer"] == "/inbound/refusals/template_busy"
    assert "number_busy" in fault["remedy"]


async def test_a_number_that_cannot_dial_calls_nobody_back(tenant: Tenant) -> None:
    """Neither by its own policy nor by that of a template that answers it; the errors name the places."""
    number = await tenant.number()
    path, headers = f"/numbers/{number['id']}", {"If-Match": "*"}
    callback = {"refusals": {"outside_hours": {"action": "callback"}}}
    reserved = {"channels": 2, "reserved_inbound": 2}
    refused = await tenant.owner.patch(path, json=reserved | {"inbound": callback}, headers=headers)
    [fault] = refused.json()["errors"]
    assert (refused.status_code, fault["pointer"]) == (422, "/inbound/refusals/outside_hours/action")
    assert fault["code"] == "call_back_impossible"
    assert "reserved_inbound" in fault["remedy"]
    await tenant.agent("Night", number_id=number["id"], inbound=callback)
    refused = await tenant.owner.patch(path, json=reserved, headers=headers)
    [fault] = refused.json()["errors"]
    assert (refused.status_code, fault["pointer"]) == (422, "/reserved_inbound")
    assert "'Night'" in fault["message"]
    assert "/inbound/refusals/outside_hours/action" in fault["remedy"]
    assert (await tenant.owner.patch(path, json={"channels": 3}, headers=headers)).status_code == 200


async def test_calls_do_not_wait_for_the_check_of_a_changed_number(
    server: RunningServer, tenant: Tenant, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No lock of the number is held meanwhile; a template that is saved meanwhile refuses the change."""
    number = await tenant.number()
    checks = server.app_state.authoring.checks
    lock, run = "SELECT FROM numbers WHERE id = $1 FOR NO KEY UPDATE NOWAIT", checks.run

    async def meanwhile(*check: Any, **named: Any) -> Any:
        monkeypatch.setattr(checks, "run", run)
        await database.fetchrow(lock, UUID(number["id"]))
        await tenant.agent("Night", number_id=number["id"])
        return await run(*check, **named)

    monkeypatch.setattr(checks, "run", meanwhile)
    path, patch = f"/numbers/{number['id']}", {"channels": 3}
    answer = await tenant.owner.patch(path, json=patch, headers={"If-Match": "*"})
    assert (answer.status_code, answer.json()["retryable"]) == (503, True)
    answer = await tenant.owner.patch(path, json=patch, headers={"If-Match": "*"})
    assert (answer.status_code, answer.json()["channels"]) == (200, 3)


async def test_a_call_back_needs_no_payload(tenant: Tenant) -> None:
    """Its lead has none: a template that needs one answers no number that has callers called back."""
    number, other = await tenant.number(), await tenant.number()
    headers = {"If-Match": "*"}
    needs = {"variables": [{"name": "customer", "required": True}]}
    agent = await tenant.agent("Reminder", number_id=number["id"], **needs)
    callback = {"inbound": {"refusal": {"action": "callback"}}}
    refused = await tenant.owner.patch(f"/numbers/{number['id']}", json=callback, headers=headers)
    [fault] = refused.json()["errors"]
    assert (refused.status_code, fault["pointer"]) == (422, "/inbound")
    assert "'Reminder'" in fault["message"]
    refused = await tenant.owner.patch(f"/templates/{agent['id']}", json=callback, headers=headers)
    [fault] = refused.json()["errors"]
    assert (fault["pointer"], fault["code"]) == ("/variables/0/required", "payload_on_call_back")
    saved = await tenant.owner.patch(f"/numbers/{other['id']}", json=callback, headers=headers)
    assert saved.status_code == 200, saved.text
    moved = await tenant.owner.patch(
        f"/templates/{agent['id']}", json={"number_id": other["id"]}, headers=headers
    )
    assert [each["code"] for each in moved.json()["errors"]] == ["payload_on_call_back"]


async def test_an_action_of_one_reason_is_removed(tenant: Tenant) -> None:
    """A merge patch adds an action and removes it with null; the others stay."""
    number = await tenant.number()
    path, headers = f"/numbers/{number['id']}", {"If-Match": "*"}
    for reason, written in (
        ("number_busy", {"action": "busy"}),
        ("blocked", {"action": "busy"}),
        ("blocked", None),
    ):
        patch = {"inbound": {"refusals": {reason: written}}}
        saved = await tenant.owner.patch(path, json=patch, headers=headers)
        assert saved.status_code == 200, saved.text
    refusals = saved.json()["inbound"]["refusals"]
    assert {reason: written["action"] for reason, written in refusals.items() if written} == {
        "number_busy": "busy"
    }


async def test_a_number_of_another_account_is_taken(new_tenant: NewTenant) -> None:
    """Two accounts cannot have one number; the error does not name the owner."""
    mine, theirs = await new_tenant(), await new_tenant()
    number = await theirs.number()
    response = await mine.owner.post("/numbers", json={"e164": number["e164"]})
    assert (response.status_code, response.json()["code"]) == (409, "number_taken")
    assert str(theirs.account_id) not in response.text
    assert number["id"] not in response.text


async def test_a_paused_number_stays_its_owners(new_tenant: NewTenant) -> None:
    """While its owner has paused it, another account is refused; the owner resumes it."""
    mine, theirs = await new_tenant(), await new_tenant()
    number = await theirs.number()
    path, headers = f"/numbers/{number['id']}", {"If-Match": "*"}
    await theirs.owner.patch(path, json={"active": False}, headers=headers)
    response = await mine.owner.post("/numbers", json={"e164": number["e164"]})
    assert (response.status_code, response.json()["code"]) == (409, "number_taken")
    resumed = await theirs.owner.patch(path, json={"active": True}, headers=headers)
    assert resumed.json()["active"] is True


async def test_accounts_register_only_the_numbers_that_were_assigned_to_them(
    shared_settings: Settings, database: Database
) -> None:
    """With `VOICEBOT_NUMBERS=assigned`, an account gets the numbers of `voicebot numbers assign` only."""
    e164, other_e164 = new_e164(), new_e164()
    settings = shared_settings.model_copy(update={"numbers": "assigned"})
    async with serving(settings) as server, create_tenant(server.url, database) as tenant:
        refused = await tenant.owner.post("/numbers", json={"e164": e164})
        assert (refused.status_code, refused.json()["code"]) == (409, "number_not_assigned")
        assert "voicebot numbers assign" in refused.json()["errors"][0]["remedy"]

        assigned = await asyncio.to_thread(
            CliRunner().invoke,
            app,
            ["numbers", "assign", "--account", str(tenant.account_id), "--number", e164, "--json"],
            env={"DATABASE_URL": settings.database_url},
        )
        assert json.loads(assigned.output) == {"account_id": str(tenant.account_id), "number": e164}
        number = await create(tenant.owner, "/numbers", {"e164": e164})
        moved = await tenant.owner.patch(
            f"/numbers/{number['id']}", json={"e164": other_e164}, headers={"If-Match": "*"}
        )
        assert (moved.status_code, moved.json()["code"]) == (409, "number_not_assigned")


async def test_a_number_in_use_stays(tenant: Tenant) -> None:
    """A number with templates attached is not given up; afterwards it is, and can be had again."""
    desk = await tenant.orchestrator()
    path, headers = f"/numbers/{desk['number_id']}", {"If-Match": "*"}
    number = (await tenant.owner.get(path)).json()
    refused = await tenant.owner.delete(path, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (409, "number_in_use")
    assert refused.json()["template_ids"] == [desk["id"]]
    await tenant.owner.delete(f"/templates/{desk['id']}", headers=headers)
    assert (await tenant.owner.delete(path, headers=headers)).status_code == 204
    assert (await tenant.owner.get(path)).status_code == 404
    await create(tenant.owner, "/numbers", {"e164": number["e164"]})


async def test_numbers_are_listed_filtered_and_paged(tenant: Tenant) -> None:
    """Filters narrow the list, and a cursor continues after the last item of a page."""
    numbers = [await tenant.number() for _ in range(3)]
    first = (await tenant.owner.get("/numbers", params={"limit": "2"})).json()
    rest = (await tenant.owner.get("/numbers", params={"cursor": first["next_cursor"]})).json()
    assert [each["id"] for each in first["items"] + rest["items"]] == [each["id"] for each in numbers[::-1]]
    assert rest["next_cursor"] is None
    found = (await tenant.owner.get("/numbers", params={"e164": numbers[0]["e164"]})).json()["items"]
    assert found == [numbers[0]]
    assert (await tenant.owner.get("/numbers", params={"active": "false"})).json()["items"] == []


async def test_a_number_is_switched_off_with_its_orchestrator_on_it(tenant: Tenant) -> None:
    """Only an admin deactivates a number, and the audit list shows it."""
    desk = await tenant.orchestrator()
    path, headers = f"/numbers/{desk['number_id']}", {"If-Match": "*"}
    off = await tenant.clients["admin"].patch(path, json={"active": False}, headers=headers)
    assert (off.status_code, off.json()["active"]) == (200, False)
    query = {"resource_id": desk["number_id"], "action": "update"}
    [line] = (await tenant.owner.get("/audit", params=query)).json()["items"]
    assert line["data"]["changed"] == ["active"]
    warnings = (await tenant.owner.post("/templates/check", json=desk)).json()["warnings"]
    assert "number_inactive" in {warning["code"] for warning in warnings}


async def test_changes_of_numbers_are_in_the_audit_list(tenant: Tenant, database: Database) -> None:
    """Who made, changed and gave up a number is kept."""
    number = await tenant.number()
    path, headers = f"/numbers/{number['id']}", {"If-Match": "*"}
    await tenant.owner.patch(path, json={"label": "Main"}, headers=headers)
    await tenant.clients["admin"].delete(path, headers=headers)
    found = await audit.list_changes(
        database, tenant.account_id, AuditFilter(resource_id=UUID(number["id"])), limit=9
    )
    assert [(each.action, each.revision_before, each.revision_after) for each in found.items] == [
        ("delete", 2, None),
        ("update", 1, 2),
        ("create", None, 1),
    ]
