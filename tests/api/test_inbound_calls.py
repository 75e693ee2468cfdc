"""Inbound calls that are not taken, and numbers with several agents, over the carrier's webhooks."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from db.pool import Database
from tests.api.server_fixture import RunningServer, Tenant, closed_hours, create, new_e164
from tests.api.twilio import Reply, Twilio


async def with_policy(tenant: Tenant, inbound: dict[str, Any], agents: int = 1) -> str:
    """A number with a policy and active agents; returns its E.164."""
    number = await tenant.number()
    for index in range(agents):
        await tenant.agent(f"Team {index + 1}", number_id=number["id"])
    changed = await tenant.owner.patch(
        f"/numbers/{number['id']}", json={"inbound": inbound}, headers={"If-Match": "*"}
    )
    assert changed.status_code == 200, changed.text
    e164: str = number["e164"]
    return e164


async def records(tenant: Tenant) -> list[dict[str, Any]]:
    """The account's calls, newest first, each with its events."""
    items: list[dict[str, Any]] = (await tenant.owner.get("/calls")).json()["items"]
    for item in items:
        item["events"] = (await tenant.owner.get(f"/calls/{item['id']}/events")).json()["items"]
    return items


def said(reply: Reply) -> str:
    """What the carrier says."""
    return "".join(verb.text or "" for verb in reply.twiml.iter("Say"))


async def test_the_only_agent_of_a_number_answers(server: RunningServer, tenant: Tenant) -> None:
    """Without an orchestrator, and without a policy."""
    number = await tenant.number()
    agent = await tenant.agent(number_id=number["id"])
    twilio = Twilio(server, number["e164"])
    assert (await twilio.post("voice")).token
    [call] = await records(tenant)
    assert (call["template_id"], call["status"]) == (agent["id"], "ringing")
    again = await twilio.post("voice")
    assert again.token
    assert len(await records(tenant)) == 1


@pytest.mark.parametrize(
    ("refusal", "twiml"),
    [
        ({"action": "reject"}, "<Reject />"),
        ({"action": "busy"}, '<Reject reason="busy" />'),
        ({"action": "say", "text": "We are closed."}, '<Say language="en-US">We are closed.</Say><Hangup />'),
        ({"action": "forward", "number": "+14155550111"}, "<Number>+14155550111</Number>"),
    ],
)
async def test_a_call_outside_the_hours_is_refused(
    server: RunningServer, tenant: Tenant, refusal: dict[str, Any], twiml: str
) -> None:
    """With the number's own action; the call ends at once, and its events say why."""
    to = await with_policy(tenant, {"accepting": False, "refusal": refusal})
    twilio = Twilio(server, to)
    for _ in range(2):  # a copy of the webhook changes nothing
        assert twiml in (await twilio.post("voice")).response.text
    [call] = await records(tenant)
    assert (call["status"], call["ended_by"], call["end_reason"]) == ("ended", "system", "refused")
    assert [(event["type"], event["data"]) for event in call["events"]] == [
        ("inbound.refused", {"reason": "not_accepting", "action": refusal["action"]}),
        ("call.ended", {"ended_by": "system", "reason": "refused"}),
    ]


async def test_numbers_that_forward_to_each_other_end_a_call(server: RunningServer, tenant: Tenant) -> None:
    """Both are closed: a call that comes back again and again is rejected, another caller's is not."""
    closed = {"accepting": False, "refusal": {"action": "forward", "number": "+14155550111"}}
    to = await with_policy(tenant, closed)
    first, other = Twilio(server, to), Twilio(server, to)
    for hop in range(5):
        call = Twilio(server, to)
        call.form["From"] = first.form["From"]
        for _ in range(2):  # a copy of the webhook gets the same answer
            answer = (await call.post("voice")).response.text
            assert ("<Number>" in answer, "<Reject />" in answer) == (hop < 3, hop >= 3)
    assert "<Number>" in (await other.post("voice")).response.text
    refused = [data for call in await records(tenant) for type_, data in told(call) if "refused" in type_]
    forward = {"reason": "not_accepting", "action": "forward"}
    reject = {"reason": "not_accepting", "action": "reject", "instead_of": "forward"}
    assert sorted(refused, key=str) == [forward] * 4 + [reject] * 2


async def test_a_call_back_is_offered(server: RunningServer, tenant: Tenant) -> None:
    """A lead for the number's agent is made, and named by the event; a second call makes no second one."""
    to = await with_policy(tenant, {"accepting": False, "refusal": {"action": "callback"}})
    twilio, second = Twilio(server, to), Twilio(server, to)
    second.form["From"] = twilio.form["From"]
    for call in (twilio, twilio, second):
        assert "call you back" in said(await call.post("voice"))
    [lead] = (await tenant.owner.get("/leads", params={"direction": "outbound"})).json()["items"]
    assert (lead["phone"], lead["status"]) == (twilio.form["From"], "queued")
    refused = {"reason": "not_accepting", "action": "callback", "lead_id": lead["id"]}
    assert [call["events"][0]["data"] for call in await records(tenant)] == [refused] * 2
    cancelled = await tenant.owner.post(f"/leads/{lead['id']}/cancel")
    assert cancelled.status_code == 200, cancelled.text
    third = Twilio(server, to)
    third.form["From"] = twilio.form["From"]
    await third.post("voice")
    leads = (await tenant.owner.get("/leads", params={"direction": "outbound"})).json()["items"]
    assert [each["status"] for each in leads] == ["queued", "cancelled"]


async def test_each_reason_has_its_action(server: RunningServer, tenant: Tenant) -> None:
    """Callers outside the hours are called back, blocked ones hear a text, others get what is for all."""
    to = await with_policy(tenant, {})
    blocked, late, limited = Twilio(server, to), Twilio(server, to), Twilio(server, to)
    policy: dict[str, Any] = {
        "blocked": [blocked.form["From"]],
        "per_caller": {"calls": 1, "per_ms": 3_600_000},
        "refusal": {"action": "say", "text": "You have called already."},
        "refusals": {
            "blocked": {"action": "busy"},
            "outside_hours": {"action": "callback"},
            "number_busy": {"action": "forward", "number": "+14155550111"},
        },
    }
    [number] = (await tenant.owner.get("/numbers")).json()["items"]
    path = f"/numbers/{number['id']}"

    async def change(**more: Any) -> None:
        saved = await tenant.owner.patch(path, json={"inbound": policy | more}, headers={"If-Match": "*"})
        assert saved.status_code == 200, saved.text

    await change(hours=closed_hours())
    for _ in range(2):  # a copy of the webhook gets the same answer
        assert '<Reject reason="busy" />' in (await blocked.post("voice")).response.text
        assert "call you back" in said(await late.post("voice"))
    await change(hours=None)
    assert (await limited.post("voice")).token
    again, other = Twilio(server, to), Twilio(server, to)
    again.form["From"] = limited.form["From"]
    assert said(await again.post("voice")) == "You have called already."
    await change(hours=None, max_concurrent=1)
    for _ in range(2):
        assert "<Number>+14155550111</Number>" in (await other.post("voice")).response.text
    refused = [data for call in await records(tenant) for type_, data in told(call) if "refused" in type_]
    assert [(data["reason"], data["action"]) for data in refused] == [
        ("number_busy", "forward"),
        ("caller_limit", "say"),
        ("outside_hours", "callback"),
        ("blocked", "busy"),
    ]


async def test_each_reason_has_its_action_in_a_template(server: RunningServer, tenant: Tenant) -> None:
    """An agent with a call already sends the next caller elsewhere, and is closed with other words."""
    number = await tenant.number()
    policy = {
        "max_concurrent": 1,
        "refusal": {"action": "say", "text": "Sales is closed."},
        "refusals": {"template_busy": {"action": "busy"}},
    }
    await tenant.agent(number_id=number["id"], inbound=policy)
    assert (await Twilio(server, number["e164"]).post("voice")).token
    assert '<Reject reason="busy" />' in (await Twilio(server, number["e164"]).post("voice")).response.text
    call, _ = await records(tenant)
    [data] = [data for type_, data in told(call) if type_ == "inbound.refused"]
    assert (data["reason"], data["action"]) == ("template_busy", "busy")


@pytest.mark.parametrize("caller", ["anonymous", "+266696687", "client:alice"])
@pytest.mark.parametrize("text", ["", "We will call you back tomorrow."])
async def test_a_caller_without_a_number_is_promised_no_call_back(
    server: RunningServer, tenant: Tenant, caller: str, text: str
) -> None:
    """They cannot be called back, so they hear only that the call is not accepted, also on a repetition."""
    refusal = {"action": "callback", "text": text}
    twilio = Twilio(server, await with_policy(tenant, {"accepting": False, "refusal": refusal}))
    twilio.form["From"] = caller
    for _ in range(2):
        assert said(await twilio.post("voice")) == "We cannot take your call now."
    assert (await tenant.owner.get("/leads", params={"direction": "outbound"})).json()["items"] == []


@pytest.mark.parametrize("text", ["", "We will call you back tomorrow."])
async def test_a_caller_who_does_not_want_calls_is_promised_none(
    server: RunningServer, tenant: Tenant, text: str
) -> None:
    """Nobody would call them: they hear only that the call is not accepted, until they want calls again."""
    refusal = {"action": "callback", "text": text}
    to = await with_policy(tenant, {"accepting": False, "refusal": refusal})
    twilio, later = Twilio(server, to), Twilio(server, to)
    later.form["From"] = phone = twilio.form["From"]
    opt_out = await create(tenant.owner, "/opt-outs", {"phone": phone})
    for _ in range(2):
        assert said(await twilio.post("voice")) == "We cannot take your call now."
    assert (await tenant.owner.get("/leads", params={"direction": "outbound"})).json()["items"] == []
    removed = await tenant.owner.delete(f"/opt-outs/{opt_out['id']}")
    assert removed.status_code == 204
    assert said(await twilio.post("voice")) == "We cannot take your call now."  # the same call
    assert "call you back" in said(await later.post("voice"))
    refused = [call["events"][0]["data"] for call in await records(tenant)]
    assert ["lead_id" in data for data in refused] == [True, False]


async def test_a_number_that_cannot_dial_promises_no_call_back(
    server: RunningServer, tenant: Tenant, database: Database
) -> None:
    """If all its channels are reserved all the same, its lead would end, and nobody would be called."""
    to = await with_policy(tenant, {"accepting": False, "refusal": {"action": "callback"}})
    await database.execute("UPDATE numbers SET reserved_inbound = channels WHERE e164 = $1", to)
    assert said(await Twilio(server, to).post("voice")) == "We cannot take your call now."
    assert (await tenant.owner.get("/leads", params={"direction": "outbound"})).json()["items"] == []


@pytest.mark.parametrize("refusal", [{"action": "callback"}, {"action": "forward", "number": "+14155550111"}])
async def test_a_blocked_caller_is_connected_with_nobody(
    server: RunningServer, tenant: Tenant, refusal: dict[str, Any]
) -> None:
    """They are rejected, also when they ask again, where others would be forwarded or called back."""
    twilio = Twilio(server, await with_policy(tenant, {}))
    [number] = (await tenant.owner.get("/numbers")).json()["items"]
    policy = {"blocked": [twilio.form["From"]], "refusal": refusal}
    path = f"/numbers/{number['id']}"
    await tenant.owner.patch(path, json={"inbound": policy}, headers={"If-Match": "*"})
    for _ in range(2):
        assert (await twilio.post("voice")).verbs == ["Reject"]
    [call] = await records(tenant)
    assert call["events"][0]["data"] == {"reason": "blocked", "action": "reject"}
    assert (await tenant.owner.get("/leads", params={"direction": "outbound"})).json()["items"] == []


async def test_a_caller_may_call_so_often(server: RunningServer, tenant: Tenant) -> None:
    """Calls that were refused do not count; other callers are taken."""
    policy = {"per_caller": {"calls": 1, "per_ms": 3_600_000}}
    to = await with_policy(tenant, policy)
    caller = new_e164()
    replies = []
    for _ in range(3):
        twilio = Twilio(server, to)
        twilio.form["From"] = caller
        replies.append((await twilio.post("voice")).verbs)
    assert replies == [["Connect", "Redirect"], ["Reject"], ["Reject"]]
    assert (await Twilio(server, to).post("voice")).token


@pytest.mark.parametrize("withheld", ["anonymous", "+266696687"])
async def test_withheld_callers_are_not_one_caller(
    server: RunningServer, tenant: Tenant, withheld: str
) -> None:
    """They are neither limited nor blocked, also where the carrier writes "anonymous" as a number."""
    policy = {"per_caller": {"calls": 1, "per_ms": 3_600_000}, "blocked": ["+266696687"]}
    to = await with_policy(tenant, policy)
    for _ in range(2):
        twilio = Twilio(server, to)
        twilio.form["From"] = withheld
        assert (await twilio.post("voice")).token
    assert [lead["phone"] for lead in (await tenant.owner.get("/leads")).json()["items"]] == [None, None]


async def test_two_calls_do_not_both_find_the_last_place(server: RunningServer, tenant: Tenant) -> None:
    """Calls that arrive at once are counted one after the other."""
    to = await with_policy(tenant, {"max_concurrent": 2, "refusal": {"action": "busy"}})

    async def decided(twilio: Twilio) -> str:
        while (verb := (await twilio.post("voice")).verbs[0]) == "Pause":
            pass  # the database was not quick enough: the carrier asks again
        return verb

    verbs = sorted(await asyncio.gather(*(decided(Twilio(server, to)) for _ in range(6))))
    assert verbs == ["Connect"] * 2 + ["Reject"] * 4


async def test_a_policy_holds_for_orchestrators_too(server: RunningServer, tenant: Tenant) -> None:
    """A blocked caller does not reach them; anybody else does."""
    desk = await tenant.orchestrator()
    number = (await tenant.owner.get(f"/numbers/{desk['number_id']}")).json()
    twilio, other = Twilio(server, number["e164"]), Twilio(server, number["e164"])
    await tenant.owner.patch(
        f"/numbers/{number['id']}",
        json={"inbound": {"blocked": [twilio.form["From"]]}},
        headers={"If-Match": "*"},
    )
    assert (await twilio.post("voice")).verbs == ["Reject"]
    assert (await other.post("voice")).token


async def test_a_caller_chooses_between_agents(server: RunningServer, tenant: Tenant) -> None:
    """The menu says their names; the key connects, and the call's events tell of it."""
    to = await with_policy(tenant, {}, agents=2)
    twilio = Twilio(server, to)
    reply = await twilio.post("voice")
    assert said(reply) == "For Team 1, press 1. For Team 2, press 2."
    gather = reply.twiml.find("Gather")
    assert gather is not None
    assert gather.get("action", "").endswith("/webhooks/twilio/menu?attempt=1")
    for _ in range(2):  # a copy of the request changes nothing
        assert (await twilio.post("menu?attempt=1", Digits="2")).token
    assert (await twilio.post("menu?attempt=1", Digits="1")).token
    [call] = await records(tenant)
    templates = (await tenant.owner.get("/templates")).json()["items"]
    first, chosen = sorted(each["id"] for each in templates)
    lead = (await tenant.owner.get(f"/leads/{call['lead_id']}")).json()
    assert {call["template_id"], lead["template_id"], lead["initial_template_id"]} == {chosen}
    assert told(call) == [
        ("inbound.menu", {"template_ids": [first, chosen]}),
        ("inbound.chosen", {"template_id": chosen, "key": "2"}),
    ]


async def test_a_call_is_recorded_while_its_caller_hears_a_menu(
    server: RunningServer, tenant: Tenant
) -> None:
    """It counts for the number, not for an agent; a caller who hangs up there has abandoned the call."""
    to = await with_policy(tenant, {"max_concurrent": 1}, agents=2)
    twilio, second = Twilio(server, to), Twilio(server, to)
    assert (await twilio.post("voice")).verbs == ["Gather", "Redirect"]
    assert (await second.post("voice")).verbs == ["Reject"]
    await twilio.post("status", CallStatus="completed")
    async with asyncio.timeout(60):
        while (call := (await records(tenant))[1])["outcome"] is None:
            await asyncio.sleep(0.05)
    assert (call["status"], call["ended_by"], call["end_reason"]) == ("ended", "caller", "hangup")
    assert call["outcome"] == "abandoned"
    assert [type_ for type_, _ in told(call)] == ["inbound.menu", "call.ended"]
    assert (await twilio.post("menu?attempt=1", Digits="1")).verbs == ["Hangup"]


async def test_a_key_means_what_the_menu_has_said(server: RunningServer, tenant: Tenant) -> None:
    """Agents that are deactivated meanwhile do not move the others; one of them is no choice any more."""
    number = await tenant.number()
    first, second, third = [await tenant.agent(name, number_id=number["id"]) for name in "ABC"]
    early, late = Twilio(server, number["e164"]), Twilio(server, number["e164"])
    for twilio in (early, late):
        await twilio.post("voice")
    await tenant.owner.post(f"/templates/{first['id']}/deactivate", headers={"If-Match": "*"})
    assert (await early.post("menu?attempt=1", Digits="2")).token
    again = await late.post("menu?attempt=1", Digits="1")
    assert said(again) == "For B, press 1. For C, press 2."
    assert (await late.post("menu?attempt=2", Digits="2")).token
    calls = await records(tenant)
    assert [call["template_id"] for call in calls] == [third["id"], second["id"]]
    assert [type_ for type_, _ in told(calls[0])] == ["inbound.menu", "inbound.menu", "inbound.chosen"]


async def test_after_three_attempts_the_first_agent_answers(server: RunningServer, tenant: Tenant) -> None:
    """No key and wrong keys have the menu said again."""
    to = await with_policy(tenant, {}, agents=2)
    twilio = Twilio(server, to)
    await twilio.post("voice")
    for attempt, key in (("1", ""), ("2", "9")):
        reply = await twilio.post(f"menu?attempt={attempt}", Digits=key)
        assert reply.verbs == ["Gather", "Redirect"]
    assert (await twilio.post("menu?attempt=3", Digits="0")).token
    [call] = await records(tenant)
    assert [data["key"] for type_, data in told(call) if type_ == "inbound.chosen"] == [None]


async def test_a_policy_is_checked_and_answered(tenant: Tenant) -> None:
    """Faults name their place; what was left out is answered with its default."""
    number = await tenant.number()
    policy = number["inbound"]
    assert (policy["accepting"], policy["hours"], policy["refusal"]["action"]) == (True, None, "reject")
    path, headers = f"/numbers/{number['id']}", {"If-Match": "*"}
    hours = {"hours": {"from": "09:00", "to": "17:00", "holidays": ["2026-12-25"]}}
    changed = await tenant.owner.patch(path, json={"inbound": hours}, headers=headers)
    assert changed.json()["inbound"]["hours"]["holidays"] == ["2026-12-25"]
    wrong = {"inbound": {"refusal": {"action": "forward"}}}
    refused = await tenant.owner.patch(path, json=wrong, headers=headers)
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == "/inbound/refusal"


@pytest.mark.parametrize(
    ("policy", "place", "message"),
    [
        ({"hours": {"from": "9 am"}}, "/hours/from", "must be a time of day, such as 09:00"),
        ({"hours": {"holidays": ["25.12.2026"]}}, "/hours/holidays/0", "must be a date, such as 2026-12-25"),
        ({"hours": {"holidays": ["2026-02-30"]}}, "/hours/holidays/0", "must be a date, such as 2026-12-25"),
        ({"hours": "9-5"}, "/hours", "an object"),
        ({"hours": {"days": []}}, "/hours/days", "ist should have at least 1 item, not 0"),
        ({"blocked": "+14155550666"}, "/blocked", "a list"),
        ({"hours": {"until": "17:00"}}, "/hours/until", ""),
        ({"refusals": {"too_late": {"action": "busy"}}}, "/refusals/too_late", ""),
        ({"refusals": {"outside_hours": {"action": "ring"}}}, "/refusals/outside_hours/action", "'reject'"),
        ({"refusals": {"outside_hours": {"action": "say"}}}, "/refusals/outside_hours", "needs a `text`"),
        (
            {"refusals": {"blocked": {"action": "callback"}}},
            "/refusals/blocked",
            "use `reject`, `busy` or `say`",
        ),
    ],
)
async def test_a_fault_of_a_policy_is_explained(
    tenant: Tenant, policy: dict[str, Any], place: str, message: str
) -> None:
    """At its place, in the words of the document, in a number and in a template."""
    number, agent = await tenant.number(), await tenant.agent()
    for path in (f"/numbers/{number['id']}", f"/templates/{agent['id']}"):
        refused = await tenant.owner.patch(path, json={"inbound": policy}, headers={"If-Match": "*"})
        assert refused.status_code == 422
        [fault] = refused.json()["errors"]
        assert fault["pointer"] == f"/inbound{place}"
        assert message in fault["message"]
        assert not any(word in fault["message"] for word in ("tuple", "dictionary", "instance", "from_"))
        assert fault["remedy"]


SAY = {"accepting": False, "refusal": {"action": "say", "text": "Sales is closed."}}


def told(call: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The types and data of a call's events."""
    return [(event["type"], event["data"]) for event in call["events"]]


async def test_a_template_has_a_policy_of_its_own(server: RunningServer, tenant: Tenant) -> None:
    """It refuses with its own words, for a copy of the webhook too, and the events name the template."""
    desk = await tenant.orchestrator(inbound=SAY)
    number = (await tenant.owner.get(f"/numbers/{desk['number_id']}")).json()
    twilio = Twilio(server, number["e164"])
    for _ in range(2):
        assert said(await twilio.post("voice")) == "Sales is closed."
    [call] = await records(tenant)
    assert (call["template_id"], call["status"], call["end_reason"]) == (desk["id"], "ended", "refused")
    assert told(call) == [
        ("inbound.refused", {"reason": "not_accepting", "action": "say", "template_id": desk["id"]}),
        ("call.ended", {"ended_by": "system", "reason": "refused"}),
    ]


async def test_the_policy_of_the_number_decides_first(server: RunningServer, tenant: Tenant) -> None:
    """Its action counts where both refuse; where it takes the call, that of the template counts."""
    number = await tenant.number()
    await tenant.agent(number_id=number["id"], inbound=SAY)
    blocked, other = Twilio(server, number["e164"]), Twilio(server, number["e164"])
    await tenant.owner.patch(
        f"/numbers/{number['id']}",
        json={"inbound": {"blocked": [blocked.form["From"]], "refusal": {"action": "busy"}}},
        headers={"If-Match": "*"},
    )
    assert (await blocked.post("voice")).verbs == ["Reject"]
    assert said(await other.post("voice")) == "Sales is closed."


async def test_the_agent_that_was_chosen_may_not_take_the_call(server: RunningServer, tenant: Tenant) -> None:
    """The menu has answered the call, so a rejection hangs it up; the other agents take theirs."""
    number = await tenant.number()
    await tenant.agent("Sales", number_id=number["id"])
    closed = await tenant.agent("Billing", number_id=number["id"], inbound={"accepting": False})
    refused, taken = Twilio(server, number["e164"]), Twilio(server, number["e164"])
    for twilio in (refused, taken):
        assert (await twilio.post("voice")).verbs[0] == "Gather"
    for _ in range(2):
        assert (await refused.post("menu?attempt=1", Digits="2")).verbs == ["Hangup"]
    assert (await taken.post("menu?attempt=1", Digits="1")).token
    _, call = await records(tenant)
    assert told(call)[1:] == [
        ("inbound.chosen", {"template_id": closed["id"], "key": "2"}),
        ("inbound.refused", {"reason": "not_accepting", "action": "reject", "template_id": closed["id"]}),
        ("call.ended", {"ended_by": "system", "reason": "refused"}),
    ]


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        ({"max_concurrent": 1}, "template_busy"),
        ({"per_caller": {"calls": 1, "per_ms": 60_000}}, "caller_limit"),
    ],
)
async def test_a_template_counts_its_own_calls(
    server: RunningServer, tenant: Tenant, policy: dict[str, Any], reason: str
) -> None:
    """Those of another agent at the same number do not count."""
    number, caller = await tenant.number(), new_e164()
    await tenant.agent("Sales", number_id=number["id"])
    await tenant.agent("Billing", number_id=number["id"], inbound=policy)
    replies = []
    for key in ("1", "2", "2", "1"):
        twilio = Twilio(server, number["e164"])
        twilio.form["From"] = caller
        await twilio.post("voice")
        replies.append((await twilio.post("menu?attempt=1", Digits=key)).verbs[0])
    assert replies == ["Connect", "Connect", "Hangup", "Connect"]
    _, refused, _, _ = await records(tenant)
    assert [data["reason"] for type_, data in told(refused) if type_ == "inbound.refused"] == [reason]


async def test_a_template_s_policy_is_checked_and_answered(tenant: Tenant) -> None:
    """It has the shape of a number's; what cannot be kept is refused, and what has no effect is warned of."""
    agent = await tenant.agent(inbound={"hours": {"from": "09:00", "to": "17:00"}})
    assert agent["inbound"]["hours"]["from"] == "09:00"
    assert agent["inbound"]["refusal"] == {"action": "reject", "text": "", "number": None}
    assert "inbound_unused" in [each["code"] for each in agent["warnings"]]
    assert (await tenant.agent("Other"))["inbound"] is None
    number = await tenant.owner.post("/numbers", json={"e164": "+918045600002", "carrier": "exotel"})
    for wrong, place in (
        ({"refusal": {"action": "forward"}}, "/inbound/refusal"),
        ({"refusal": {"action": "busy"}}, "/inbound/refusal/action"),  # Exotel has no busy tone
        ({"refusals": {"blocked": {"action": "busy"}}}, "/inbound/refusals/blocked/action"),
        ({"refusals": {"number_busy": {"action": "reject"}}}, "/inbound/refusals/number_busy"),
    ):
        patch = {"number_id": number.json()["id"], "inbound": wrong}
        refused = await tenant.owner.patch(f"/templates/{agent['id']}", json=patch, headers={"If-Match": "*"})
        assert refused.status_code == 422, refused.text
        assert [each["pointer"] for each in refused.json()["errors"]] == [place]
