"""/handoffs, /operators and /users over HTTP."""

from __future__ import annotations

import asyncio
from uuid import uuid4

from db.pool import Database
from tests.api.api_fixtures import a_call
from tests.api.conftest import NewTenant
from tests.api.server_fixture import Tenant, create

REASON = {"reason": "wants a person"}


async def test_a_handoff_is_claimed_briefed_and_resolved(tenant: Tenant) -> None:
    """An operator lists it, claims it with a briefing of four parts, and resolves it."""
    handoff = await create(tenant.owner, "/handoffs", {**REASON, "priority": "high"})
    operator = tenant.clients["operator"]

    queue = (await operator.get("/handoffs")).json()
    claim = await operator.post(f"/handoffs/{handoff['id']}/claim")
    resolved = await operator.post(
        f"/handoffs/{handoff['id']}/resolve", json={"epoch": 1, "resolution": "done"}
    )

    assert [one["id"] for one in queue["items"]] == [handoff["id"]]
    assert queue["as_of_seq"] >= 1
    assert claim.status_code == 200, claim.text
    assert set(claim.json()["briefing"]) == {"problem", "tried", "assessment", "start_here"}
    assert resolved.json()["state"] == "resolved"
    assert (await operator.get("/handoffs")).json()["items"] == []
    detail = (await operator.get(f"/handoffs/{handoff['id']}")).json()
    assert (detail["resolution"], detail["call_state"]) == ("done", "active")


async def test_a_call_has_a_handoff_state(tenant: Tenant, database: Database) -> None:
    """`escalated` until its escalation is claimed, `parked` until its park is, else null."""
    call = await a_call(tenant, database)

    async def handoff_states() -> list[str | None]:
        one = (await tenant.owner.get(f"/calls/{call.id}")).json()
        [listed] = (await tenant.owner.get("/calls")).json()["items"]
        return [one["handoff_state"], listed["handoff_state"]]

    async def escalated(*, claimed: str | None = None) -> str:
        handoff = await create(tenant.owner, "/handoffs", {**REASON, "call_id": str(call.id)})
        assert await handoff_states() == ["escalated", "escalated"]
        await tenant.owner.post(f"/handoffs/{handoff['id']}/claim")
        assert await handoff_states() == [claimed, claimed]
        return f"/handoffs/{handoff['id']}"

    assert await handoff_states() == [None, None]
    await tenant.owner.post(f"{await escalated()}/resolve")
    assert await handoff_states() == [None, None]
    body = {"due_at": "2026-12-24T10:00:00Z", "consent": True}
    await tenant.owner.post(f"{await escalated()}/reschedule", json=body)
    assert await handoff_states() == ["parked", "parked"]
    await tenant.owner.post(f"{await escalated(claimed='parked')}/resolve")
    assert await handoff_states() == ["parked", "parked"]


async def test_a_second_claim_names_the_holder(tenant: Tenant) -> None:
    """The second claim is 409 already_claimed with the holder; the first one's repetition is 200."""
    handoff = await create(tenant.owner, "/handoffs", REASON)
    path = f"/handoffs/{handoff['id']}/claim"
    won = await tenant.clients["operator"].post(path)
    lost = await tenant.clients["admin"].post(path)
    again = await tenant.clients["operator"].post(path)

    assert (won.status_code, again.status_code, lost.status_code) == (200, 200, 409)
    assert lost.json()["code"] == "already_claimed"
    assert lost.json()["claimed_by"] == won.json()["handoff"]["claimed_by"]
    assert again.json()["handoff"]["epoch"] == 1


async def test_a_stale_epoch_is_refused(tenant: Tenant) -> None:
    """A write with the epoch of an earlier claim is 409 stale_claim."""
    handoff = await create(tenant.owner, "/handoffs", REASON)
    operator, path = tenant.clients["operator"], f"/handoffs/{handoff['id']}"
    await operator.post(f"{path}/claim")
    await operator.post(f"{path}/release", json={"epoch": 1})
    await operator.post(f"{path}/claim")

    stale = await operator.post(f"{path}/resolve", json={"epoch": 1})

    assert (stale.status_code, stale.json()["code"], stale.json()["epoch"]) == (409, "stale_claim", 2)


async def test_an_escalation_is_rescheduled_into_a_park(tenant: Tenant) -> None:
    """The escalation is converted, and the park that continues it is scheduled."""
    handoff = await create(tenant.owner, "/handoffs", REASON)
    body = {"due_at": "2026-12-24T10:00:00+01:00", "time_zone": "Europe/Berlin"}

    parked = (await tenant.owner.post(f"/handoffs/{handoff['id']}/reschedule", json=body)).json()

    assert (parked["intent"], parked["state"], parked["continues_id"]) == ("park", "scheduled", handoff["id"])
    assert parked["due_at"] == "2026-12-24T09:00:00Z"
    assert (await tenant.owner.get(f"/handoffs/{handoff['id']}")).json()["state"] == "converted_to_park"
    claim = await tenant.owner.post(f"/handoffs/{parked['id']}/claim")
    assert (claim.status_code, claim.json()["code"]) == (409, "illegal_move")
    assert "due" in claim.json()["allowed"]


async def test_the_same_idempotency_key_creates_one_handoff(tenant: Tenant) -> None:
    """A repetition returns the first one; another body with the key is refused."""
    headers = {"Idempotency-Key": "k1"}
    first, second = [await tenant.owner.post("/handoffs", json=REASON, headers=headers) for _ in range(2)]
    other = await tenant.owner.post("/handoffs", json={"reason": "else"}, headers=headers)

    assert first.json()["id"] == second.json()["id"]
    assert second.headers["Idempotency-Replayed"] == "true"
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


async def test_an_idempotency_key_compares_what_identifies_the_request(tenant: Tenant) -> None:
    """Another priority, notes or team is the same request; another intent or reason is another one."""
    headers = {"Idempotency-Key": "k1"}
    first = (await tenant.owner.post("/handoffs", json=REASON, headers=headers)).json()

    for details in ({"priority": "urgent"}, {"notes": "calls again"}, {"team": "billing"}):
        again = await tenant.owner.post("/handoffs", json=REASON | details, headers=headers)
        assert (again.status_code, again.json()["id"]) == (201, first["id"]), details
        assert again.headers["Idempotency-Replayed"] == "true"
    for other in ({"intent": "park"}, {"reason": "else"}):
        refused = await tenant.owner.post("/handoffs", json=REASON | other, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused"), other


async def test_roles_for_handoffs(tenant: Tenant) -> None:
    """A viewer reads; an author creates handoffs and cannot claim."""
    handoff = await create(tenant.clients["author"], "/handoffs", REASON)
    path = f"/handoffs/{handoff['id']}"

    assert (await tenant.clients["viewer"].get(path)).status_code == 200
    assert (await tenant.clients["viewer"].post("/handoffs", json=REASON)).status_code == 403
    for role in ("viewer", "author"):
        assert (await tenant.clients[role].post(f"{path}/claim")).status_code == 403


async def test_another_account_has_no_access(new_tenant: NewTenant) -> None:
    """Handoffs, users and operators of another account are 404."""
    mine, theirs = await new_tenant(), await new_tenant()
    handoff = await create(mine.owner, "/handoffs", REASON)
    user = await create(mine.owner, "/users", {"name": "Ada"})

    for method, path in (
        ("GET", f"/handoffs/{handoff['id']}"),
        ("POST", f"/handoffs/{handoff['id']}/claim"),
        ("POST", f"/handoffs/{handoff['id']}/resolve"),
        ("GET", f"/users/{user['id']}"),
        ("DELETE", f"/users/{user['id']}"),
        ("POST", f"/operators/{user['id']}/relieve"),
    ):
        assert (await theirs.owner.request(method, path)).status_code == 404, path
    assert (await theirs.owner.get("/handoffs")).json()["items"] == []


async def test_presence_is_set_and_kept_by_heartbeats(tenant: Tenant) -> None:
    """An operator sets their presence; an illegal one is refused with the state and the allowed ones."""
    operator = tenant.clients["operator"]
    assert (await operator.get("/operators/me")).json()["state"] == "offline"
    put = await operator.put("/operators/me/presence", json={"status": "idle", "capacity": 1, "teams": ["a"]})
    assert (put.json()["state"], put.json()["capacity"]) == ("idle", 1)
    handoff = await create(tenant.owner, "/handoffs", REASON)
    await operator.post(f"/handoffs/{handoff['id']}/claim")
    beat = await operator.post("/operators/me/heartbeat")
    assert (beat.json()["state"], beat.json()["teams"]) == ("busy", ["a"])

    refused = await operator.put("/operators/me/presence", json={"status": "wrapping_up"})
    away = await operator.put("/operators/me/presence", json={"status": "away"})

    assert (refused.status_code, refused.json()["state"]) == (409, "busy")
    assert refused.json()["allowed"] == ["away", "exhausted", "offline"]
    assert (away.status_code, away.json()["state"], away.json()["holding"]) == (200, "away", 1)


async def test_an_operator_has_a_telephone_number(tenant: Tenant) -> None:
    """`phone` is set with the user or by the operator, answered for both, and refused unless it is E.164."""
    operator = tenant.clients["operator"]
    me = (await operator.get("/operators/me")).json()
    assert me["phone"] is None
    body = {"name": "Ada", "role": "operator", "phone": "+14155550111"}
    made = await create(tenant.owner, "/users", body)
    assert made["phone"] == "+14155550111"
    put = await tenant.owner.put(f"/users/{me['user_id']}", json=body)
    assert put.json()["phone"] == (await operator.get("/operators/me")).json()["phone"] == "+14155550111"

    patch = {"phone": "+14155550112", "languages": ["en", "es"], "teams": ["billing"]}
    patched = await operator.patch("/operators/me", json=patch)
    assert {name: patched.json()[name] for name in patch} == patch
    assert (await tenant.owner.get(f"/users/{me['user_id']}")).json()["phone"] == "+14155550112"
    listed = (await tenant.owner.get("/operators")).json()["items"]
    assert [one["phone"] for one in listed if one["user_id"] == me["user_id"]] == ["+14155550112"]
    refused = await operator.patch("/operators/me", json={"phone": "0123"})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/phone")
    removed = await operator.patch("/operators/me", json={"phone": None, "teams": None})
    assert (removed.json()["phone"], removed.json()["teams"]) == (None, [])
    assert removed.json()["languages"] == ["en", "es"]


async def test_keys_of_a_deactivated_user_are_refused(tenant: Tenant) -> None:
    """A deactivated user's key is 401; a deleted user is not listed."""
    operator = tenant.clients["operator"]
    me = (await operator.get("/operators/me")).json()["user_id"]
    user = (await tenant.owner.get(f"/users/{me}")).json()

    deleted = await tenant.owner.put(f"/users/{me}", json={"name": user["name"], "active": False})
    assert deleted.status_code == 200
    assert (await operator.get("/operators/me")).status_code == 401
    assert (await tenant.owner.delete(f"/users/{me}")).status_code == 204
    assert me not in [one["id"] for one in (await tenant.owner.get("/users")).json()["items"]]
    assert (await tenant.owner.get(f"/users/{me}")).status_code == 404


async def test_the_server_offers_a_queued_handoff(tenant: Tenant) -> None:
    """An idle operator gets the offer, and can decline it."""
    await tenant.clients["operator"].put("/operators/me/presence", json={"status": "idle"})
    handoff = await create(tenant.owner, "/handoffs", REASON)
    for _ in range(600):
        now = (await tenant.owner.get(f"/handoffs/{handoff['id']}")).json()
        if now["state"] == "offered":
            break
        await asyncio.sleep(0.05)

    assert now["state"] == "offered"
    declined = await tenant.clients["operator"].post(f"/handoffs/{handoff['id']}/decline")
    assert declined.json()["state"] == "queued"


async def test_invalid_references_are_refused(tenant: Tenant) -> None:
    """An unknown call is 404; an unknown time zone and a time years ahead are 422."""
    owner = tenant.owner
    assert (await owner.post("/handoffs", json={**REASON, "call_id": str(uuid4())})).status_code == 404
    bad = await owner.post("/handoffs", json={**REASON, "intent": "park", "time_zone": "Mars/Olympus"})
    assert (bad.status_code, bad.json()["errors"][0]["pointer"]) == (422, "/time_zone")
    late = {**REASON, "intent": "park", "due_at": "9999-01-01T00:00:00Z"}
    assert (await owner.post("/handoffs", json=late)).status_code == 422


async def test_handoff_metrics(tenant: Tenant) -> None:
    """Durations, service level and counts, as JSON and for Prometheus."""
    handoff = await create(tenant.owner, "/handoffs", REASON)
    await create(tenant.owner, "/handoffs", REASON)
    await tenant.owner.post(f"/handoffs/{handoff['id']}/claim")

    figures = (await tenant.clients["viewer"].get("/metrics/handoffs")).json()

    assert (figures["created"], figures["open"], figures["abandoned"]) == (2, 2, 0)
    assert figures["time_to_claim"]["count"] == 1
    assert figures["service_level"]["share"] == 1.0
    assert figures["oldest_open_ms"] >= 0
    root = str(tenant.owner.base_url).removesuffix("/api/v1/")
    text = (await tenant.owner.get(f"{root}/metrics")).text
    assert "voicebot_handoffs_open" in text
    assert 'voicebot_handoffs{state="abandoned"}' in text
