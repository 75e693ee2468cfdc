"""Control of dialling by the API, and uploads of leads."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.api.server_fixture import Tenant

PERSON = "+14155550199"


async def new_lead(tenant: Tenant, **more: Any) -> dict[str, Any]:
    """A lead of a template that asks for a name."""
    agent = await tenant.agent(variables=[{"name": "customer", "type": "string", "required": True}])
    number = await tenant.number()
    body = {
        "phone": PERSON, "number_id": number["id"], "template_id": agent["id"],
        "payload": {"customer": "Ada"}, **more,
    }  # fmt: skip
    response = await tenant.owner.post("/leads", json=body)
    assert response.status_code == 201, response.text
    lead: dict[str, Any] = response.json()
    return lead


async def moved(client: httpx.AsyncClient, lead: dict[str, Any], action: str) -> tuple[int, str]:
    response = await client.post(f"/leads/{lead['id']}/{action}")
    answer = response.json()
    return response.status_code, answer.get("status") if response.is_success else answer["code"]


async def test_a_lead_is_paused_resumed_and_cancelled(tenant: Tenant) -> None:
    """Each move answers the lead; a move that its status does not allow is refused."""
    lead = await new_lead(tenant)
    assert (lead["status"], lead["attempts"]) == ("queued", 0)
    moves = ("pause", "pause", "resume", "dial-now", "pause", "dial-now", "cancel", "resume", "dial-now")
    assert [await moved(tenant.owner, lead, action) for action in moves] == [
        (200, "held"), (409, "lead_over"), (200, "queued"), (200, "queued"), (200, "held"),
        (200, "queued"), (200, "cancelled"), (409, "lead_over"), (409, "lead_over"),
    ]  # fmt: skip
    assert await moved(tenant.clients["viewer"], lead, "cancel") == (403, "forbidden")


async def test_times_and_priority_of_a_lead(tenant: Tenant) -> None:
    """A lead is dialled from its earliest time on; impossible times are refused with their field."""
    times = {"earliest_at": "2027-01-01T09:00:00Z", "latest_at": "2027-01-02T09:00:00Z"}
    lead = await new_lead(tenant, **times, priority=5, time_zone="Asia/Kolkata")
    assert (lead["next_attempt_at"], lead["priority"]) == (times["earliest_at"], 5)
    for wrong in (
        {"latest_at": "2020-01-01T00:00:00Z"},
        {"earliest_at": times["latest_at"], "latest_at": times["earliest_at"]},
        {"time_zone": "Mars/Base"},
        {"time_zone": "localtime"},
        {"priority": 101},
    ):
        body = {"phone": PERSON, "number_id": lead["number_id"], "template_id": lead["template_id"]}
        response = await tenant.owner.post("/leads", json={**body, "payload": {"customer": "A"}, **wrong})
        assert response.status_code == 422
        assert response.json()["errors"][0]["pointer"].strip("/") in wrong


@pytest.mark.parametrize(
    ("change", "code", "named"),
    [
        ({"active": False}, "number_inactive", "`active`"),
        ({"channels": 2, "reserved_inbound": 2}, "channels_reserved", "`reserved_inbound`"),
    ],
)
async def test_leads_of_a_number_that_cannot_dial_are_refused(
    tenant: Tenant, change: dict[str, Any], code: str, named: str
) -> None:
    """A single one, a list and a line of an upload: the fault names the field and what to change."""
    number, agent = await tenant.number(), await tenant.agent()
    patched = await tenant.owner.patch(
        f"/numbers/{number['id']}", json=change,
        headers={"If-Match": "*", "Content-Type": "application/merge-patch+json"},
    )  # fmt: skip
    assert patched.is_success, patched.text
    body = {"phone": PERSON, "number_id": number["id"], "template_id": agent["id"]}
    one = await tenant.owner.post("/leads", json=body)
    several = await tenant.owner.post("/leads", json=[body])
    lines = await tenant.owner.post(
        "/leads/upload", content=json.dumps(body), headers={"Content-Type": "application/x-ndjson"}
    )
    assert (one.status_code, several.status_code, lines.status_code) == (422, 422, 200)
    faults = {
        "/number_id": one.json()["errors"],
        "/0/number_id": several.json()["errors"],
        "line": lines.json()["refused"][0]["errors"],
    }
    for place, [fault] in faults.items():
        pointer = "/number_id" if place == "line" else place
        assert (fault["pointer"], fault["code"]) == (pointer, code)
        assert named in fault["remedy"]
    assert lines.json()["accepted"] == 0


async def test_pauses_and_the_kill_switch(tenant: Tenant) -> None:
    """Pausing a template or the account and the kill switch are separate, and may be repeated."""
    agent = await tenant.agent()
    assert (await tenant.owner.get("/dispatch")).json() == {
        "paused": False, "kill_switch": False, "paused_template_ids": [],
    }  # fmt: skip
    for _ in range(2):
        await tenant.owner.post("/dispatch/pause")
        await tenant.owner.post("/dispatch/kill-switch")
        state = (await tenant.owner.post(f"/templates/{agent['id']}/pause")).json()
        assert state == {"paused": True, "kill_switch": True, "paused_template_ids": [agent["id"]]}
    await tenant.owner.post("/dispatch/resume")
    await tenant.owner.post(f"/templates/{agent['id']}/resume")
    assert (await tenant.owner.delete("/dispatch/kill-switch")).json()["kill_switch"] is False
    assert (await tenant.clients["operator"].post("/dispatch/kill-switch")).status_code == 403


async def test_all_leads_of_a_template_or_an_account_are_cancelled(tenant: Tenant) -> None:
    """The answer says how many there were, and each is reported to the webhook of its template."""
    hook = {"outbound": {"webhook_url": "https://example.com/hook"}}
    number = await tenant.number()
    for name, path in (("One", "/templates/{}/cancel"), ("Two", "/dispatch/cancel")):
        agent = await tenant.agent(name, **hook)
        body = {"number_id": number["id"], "template_id": agent["id"]}
        people = [{**body, "phone": f"+1415555010{n}"} for n in range(3)]
        assert (await tenant.owner.post("/leads", json=people)).is_success
        for cancelled in (3, 0):
            response = await tenant.owner.post(path.format(agent["id"]))
            assert (response.status_code, response.json()) == (200, {"cancelled": cancelled})
    stored = (await tenant.owner.get("/leads")).json()["items"]
    assert {lead["status"] for lead in stored} == {"cancelled"}
    sent = (await tenant.owner.get("/notices")).json()["items"]
    assert len(sent) == 6


async def test_people_opt_out(tenant: Tenant) -> None:
    """An opt-out exists once a person, and an admin can lift it."""
    first = await tenant.owner.post("/opt-outs", json={"phone": PERSON, "reason": "asked"})
    again = await tenant.owner.post("/opt-outs", json={"phone": PERSON})
    assert (first.status_code, again.json()) == (201, first.json())
    assert [each["phone"] for each in (await tenant.owner.get("/opt-outs")).json()["items"]] == [PERSON]
    assert (await tenant.owner.delete(f"/opt-outs/{first.json()['id']}")).status_code == 204
    assert (await tenant.owner.get("/opt-outs")).json()["items"] == []


@pytest.mark.parametrize("kind", ["text/csv", "application/x-ndjson"])
async def test_an_upload_stores_the_good_lines(tenant: Tenant, kind: str) -> None:
    """Bad lines are answered with number, pointer and remedy; good ones are stored once whatever repeats."""
    agent = await tenant.agent(
        variables=[{"name": "customer", "required": True}, {"name": "due", "type": "integer"}]
    )
    number = await tenant.number()
    rows: list[dict[str, Any]] = [
        {"phone": "+14155550101", "idempotency_key": "a", "customer": "Ada, Countess", "due": 3},
        {"phone": "4155550102", "idempotency_key": "b", "customer": "Bo", "due": 3},
        {"phone": "+14155550103", "idempotency_key": "c", "customer": "", "due": 3},
        {"phone": "+14155550104", "idempotency_key": "d", "customer": "Di", "due": "soon"},
        {"phone": "+14155550105", "idempotency_key": "e", "customer": "Ed", "due": 4},
    ]
    if kind == "text/csv":
        lines = ["phone,idempotency_key,customer,due"]
        lines += [f'{row["phone"]},{row["idempotency_key"]},"{row["customer"]}",{row["due"]}' for row in rows]
    else:
        lines = [""]
        for row in rows:
            payload = {name: row.pop(name) for name in ("customer", "due")}
            lines.append(json.dumps({**row, "payload": payload}))
    for _ in range(2):
        response = await tenant.owner.post(
            "/leads/upload",
            params={"number_id": number["id"], "template_id": agent["id"]},
            content="\n".join(lines),
            headers={"Content-Type": kind},
        )
        assert response.status_code == 200, response.text
        answer = response.json()
        assert (answer["accepted"], answer["refused_total"]) == (2, 3)
        assert [(each["line"], each["errors"][0]["pointer"]) for each in answer["refused"]] == [
            (3, "/phone"), (4, "/payload/customer"), (5, "/payload/due"),
        ]  # fmt: skip
    changes = (await tenant.owner.get("/audit", params={"action": "upload"})).json()["items"]
    assert [change["data"] for change in changes] == [{"lines": 2}, {"lines": 2}]
    stored = (await tenant.owner.get("/leads")).json()["items"]
    assert sorted((lead["phone"], lead["variables"]["due"]) for lead in stored) == [
        ("+14155550101", 3), ("+14155550105", 4),
    ]  # fmt: skip


async def test_a_key_of_an_upload_is_one_lead(tenant: Tenant) -> None:
    """A line that repeats the key of another person's lead is refused, in the order of the lines."""
    number, agent = await tenant.number(), await tenant.agent()
    lines = [
        {"phone": "+14155550101", "idempotency_key": "a"},
        {"phone": "+14155550101", "idempotency_key": "a"},
        {"phone": "+14155550102", "idempotency_key": "a"},
        {"phone": "no number"},
        {"phone": "+14155550103"},
    ]
    response = await tenant.owner.post(
        "/leads/upload",
        params={"number_id": number["id"], "template_id": agent["id"]},
        content="\n".join(json.dumps(line) for line in lines),
        headers={"Content-Type": "application/x-ndjson"},
    )
    answer = response.json()
    assert answer["accepted"] == 3
    refused = [(each["line"], each["errors"][0]["pointer"]) for each in answer["refused"]]
    assert refused == [(3, "/idempotency_key"), (4, "/phone")]
    stored = (await tenant.owner.get("/leads")).json()["items"]
    assert sorted(lead["phone"] for lead in stored) == ["+14155550101", "+14155550103"]


@pytest.mark.parametrize(
    ("content", "pointers"),
    [
        ("phone,priority\n{0},5\n{0},--5\n{0},²\n".encode(), ["/priority", "/priority"]),
        (b'phone,note\n{0},"one\ntwo"\n{0},x\ry\n', [""]),
        ("phone,note\n{0},Jörg\n{0},Ada\n".encode("latin-1"), [""]),
    ],
)
async def test_cells_that_cannot_be_read_are_refused(
    tenant: Tenant, content: bytes, pointers: list[str]
) -> None:
    """The lines before and after them are stored, as they were written."""
    number, agent = await tenant.number(), await tenant.agent(variables=[{"name": "note"}])
    response = await tenant.owner.post(
        "/leads/upload",
        params={"number_id": number["id"], "template_id": agent["id"]},
        content=content.replace(b"{0}", PERSON.encode()),
        headers={"Content-Type": "text/csv"},
    )
    assert response.status_code == 200, response.text
    answer = response.json()
    assert (answer["accepted"], answer["refused_total"]) == (1, len(pointers))
    assert [each["errors"][0]["pointer"] for each in answer["refused"]] == pointers
    [stored] = (await tenant.owner.get("/leads")).json()["items"]
    assert "\ufffd" not in str(stored["payload"])


@pytest.mark.parametrize(
    ("header", "pointer"), [("phone,name,name", "/name"), ('phone,"name', ""), ("phone;name", "/phone")]
)
async def test_a_header_that_cannot_be_used_is_refused(tenant: Tenant, header: str, pointer: str) -> None:
    """A column twice, an open quote, and other separators are named; nothing is stored."""
    response = await tenant.owner.post(
        "/leads/upload", content=f"{header}\n{PERSON},Ada,Bo\n", headers={"Content-Type": "text/csv"}
    )
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, pointer)


async def test_an_upload_of_something_else_is_refused(tenant: Tenant) -> None:
    """Another media type and CSV without numbers are named; lines that cannot be read are refused each."""
    response = await tenant.owner.post("/leads/upload", json={})
    assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")
    response = await tenant.owner.post(
        "/leads/upload", content="telephone,name\n+14155550101,Ada\n", headers={"Content-Type": "text/csv"}
    )
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, "/phone")
    lines = ["{", "[]", '{"phone":"' + "1" * 20_000 + '"}', "[" * 10_000]
    lines += ['{"idempotency_key":"a\\u0000"}', '{"payload":{"a":"\\ud800"}}', '{"payload":{"a":NaN}}']
    response = await tenant.owner.post(
        "/leads/upload", content="\n".join(lines), headers={"Content-Type": "application/x-ndjson"}
    )
    assert [each["line"] for each in response.json()["refused"]] == [1, 2, 3, 4, 5, 6, 7]
    places = [each["errors"][0]["pointer"] for each in response.json()["refused"][4:]]
    assert places == ["/idempotency_key", "/payload/a", "/payload/a"]
