"""Exotel's applets and media socket at the HTTP face: every answer follows from the state of the call."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from websockets.asyncio.client import connect

from db import attempts, bridged_calls, calls
from db.ids import new_id
from tests.api.exotel import PATH, SECRET, Exotel, called
from tests.api.server_fixture import RunningServer, Tenant, closed_hours, create, http_client, serving
from tests.api.test_attempt_statuses import begun
from tests.api.twilio import StandIn, close_code
from voicebot.api.app_state import EndGrace
from voicebot.api.carriers.carrier_request import MAX_RESUMES
from voicebot.config import Settings

PERSON = "+919811111111"


@pytest.fixture(scope="module")
async def server(shared_settings: Settings) -> AsyncIterator[RunningServer]:
    """A server with Exotel, which waits only briefly for another process to say how a call ended."""
    settings = shared_settings.replace({"EXOTEL_WEBHOOK_SECRET": SECRET, "VOICEBOT_DISPATCH": "off"})
    async with serving(settings, grace=EndGrace(own_s=0.01, others_s=0.05)) as running:
        yield running


@pytest.fixture
async def exotel(server: RunningServer, tenant: Tenant, call_registry: StandIn) -> Exotel:
    """A call to a number that an orchestrator answers."""
    del call_registry  # in place before the call
    return await called(server, tenant)


async def test_whatever_repeats_makes_one_call_and_one_lead(exotel: Exotel, tenant: Tenant) -> None:
    """GET and POST, one after another and at once: one call, whose numbers are E.164."""
    answers = await asyncio.gather(*(exotel.ask("voice", method=method) for method in ("GET", "POST") * 2))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["url"] for answer in answers}) == 4
    found = (await tenant.owner.get("/calls")).json()["items"]
    assert [(call["from"], call["to"]) for call in found] == [("+919876543210", "+91" + exotel.to[1:])]
    assert len((await tenant.owner.get("/leads")).json()["items"]) == 1


@pytest.mark.parametrize("webhook", ["voice", "to-person", "again", "connect", "status"])
async def test_a_bad_secret_is_answered_with_404(exotel: Exotel, webhook: str) -> None:
    """The answer does not reveal whether the URL exists."""
    answer = await exotel.ask(webhook, secret="guessed")
    assert (answer.status_code, answer.text) == (404, "")


async def test_an_unknown_number_is_answered_with_404(server: RunningServer, call_registry: StandIn) -> None:
    """The flow continues without us, and ends."""
    del call_registry
    stranger = Exotel(server, "08012300000")
    assert (await stranger.ask("voice")).status_code == 404
    assert await stranger.branches() == (302, 302)


@pytest.mark.parametrize("failures", [0, 1])
async def test_the_token_is_good_for_one_retry(exotel: Exotel, call_registry: StandIn, failures: int) -> None:
    """A connection that broke before `start` uses nothing up; after it, the address opens nothing more."""
    url = await exotel.url()
    for _ in range(failures):
        broken = await connect(url)
        broken.transport.abort()
        await broken.wait_closed()
    async with exotel.media(url) as socket:
        async with asyncio.timeout(30):
            await call_registry.arrived.wait()
        async with exotel.media(url) as copy:
            assert await close_code(copy) == 1008
        assert call_registry.live == 1
        await call_registry.drain(0)
        assert await close_code(socket) == 1000


async def test_a_call_whose_stream_was_lost_comes_back_three_times(exotel: Exotel) -> None:
    """The second Passthru applet answers 200 as often as it asks; each new stream counts once."""
    call = await exotel.answered()
    app = exotel.server.app_state
    for number in range(1, MAX_RESUMES + 1):
        assert [await exotel.branches() for _ in range(2)] == [(302, 200)] * 2
        assert (await exotel.ask("voice")).status_code == 200
        assert (await exotel.record()).resumes == number
        await calls.answered(app.database, call.account_id, call.id, app.clock.now())
    assert await exotel.branches() == (302, 302)
    record = await exotel.record()
    assert (record.status, record.ended_by, record.end_reason) == ("ended", "carrier", "stream_lost")


async def test_a_call_whose_first_stream_never_began_is_tried_again(
    exotel: Exotel, call_registry: StandIn
) -> None:
    """Nothing was heard yet, so it is no resume: it is not counted, and has all of them left."""
    await exotel.ask("voice")
    failed = {"Stream[Status]": "failed", "Stream[DisconnectedBy]": "NA"}
    for _ in range(MAX_RESUMES + 1):
        assert await exotel.branches(**failed) == (302, 200)
        url = await exotel.url()
    async with exotel.media(url), asyncio.timeout(30):
        await call_registry.arrived.wait()
    [call] = call_registry.answered.values()
    assert call.resumes == 0


async def test_a_copy_of_the_first_request_is_no_resume(
    exotel: Exotel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the stream is open here, the Voicebot applet gets a new token, and nothing is counted."""
    await exotel.answered()
    monkeypatch.setattr(StandIn, "takeover", lambda registry, _: registry)
    assert (await exotel.ask("voice")).status_code == 200
    assert (await exotel.record()).resumes == 0


async def test_a_call_that_has_ended_is_hung_up(exotel: Exotel) -> None:
    """Both Passthru applets answer 302, and the Voicebot applet gets no address."""
    await exotel.answered()
    await exotel.ended()
    assert await exotel.branches() == (302, 302)
    assert (await exotel.ask("voice")).status_code == 302


@pytest.mark.parametrize("shape", ["fields", "json"])
async def test_a_passthru_that_reports_the_caller_ends_the_call(exotel: Exotel, shape: str) -> None:
    """DisconnectedBy user, in both shapes: the caller has hung up, although no `stop` came."""
    await exotel.answered()
    stream = {"Status": "completed", "DisconnectedBy": "user"}
    fields = {"Stream": json.dumps(stream)}
    if shape == "fields":
        fields = {f"Stream[{name}]": value for name, value in stream.items()}
    assert await exotel.branches(**fields) == (302, 302)
    async with asyncio.timeout(30):
        while (record := await exotel.record()).status != "ended":
            await asyncio.sleep(0.02)
    assert (record.ended_by, record.end_reason) == ("caller", "hangup")


async def test_a_transferred_call_is_connected_with_its_number(exotel: Exotel) -> None:
    """To a person: 200, the number as often as it is asked for, and 302 when they have talked."""
    call = await exotel.answered()
    app = exotel.server.app_state
    await bridged_calls.begin_transfer(app.database, call.account_id, call.id, PERSON)
    for _ in range(2):
        assert (await exotel.ask("to-person")).status_code == 200
        answer = (await exotel.ask("connect")).json()
        assert answer["destination"] == {"numbers": [PERSON]}
        assert answer["outgoing_phone_number"] == "+91" + exotel.to[1:]
    assert (await exotel.ask("again")).status_code == 302
    record = await exotel.record()
    assert (record.status, record.ended_by, record.end_reason) == ("ended", "agent", "transferred")


async def test_a_transfer_that_nobody_answers_comes_back(exotel: Exotel) -> None:
    """The agent has the caller again, and the event says what went wrong."""
    call = await exotel.answered()
    app = exotel.server.app_state
    await bridged_calls.begin_transfer(app.database, call.account_id, call.id, PERSON)
    assert await exotel.branches(DialCallStatus="no-answer") == (200, 200)
    record = await exotel.record()
    assert (record.status, record.connect_to, record.resumes) == ("in_progress", None, 1)
    assert (await exotel.ask("again")).status_code == 200
    assert (await exotel.ask("connect")).json()["destination"] == {"numbers": []}


@pytest.mark.parametrize(
    "reported", [{"CallType": "client-hangup", "DialCallStatus": "canceled"}, {"CallType": "client-hangup"}]
)
async def test_a_caller_who_hangs_up_while_a_number_rings_has_left(
    exotel: Exotel, reported: dict[str, str]
) -> None:
    """The flow continues to the second Passthru applet, which answers that the call has ended."""
    call = await exotel.answered()
    await bridged_calls.begin_transfer(exotel.server.app_state.database, call.account_id, call.id, PERSON)
    for _ in range(2):
        assert (await exotel.ask("again", **reported)).status_code == 302
    record = await exotel.record()
    assert (record.status, record.ended_by, record.end_reason) == ("ended", "caller", "hangup")


async def test_without_an_orchestrator_the_fallback_is_dialled(server: RunningServer, tenant: Tenant) -> None:
    """The Voicebot applet gets no address, and the flow connects the caller with the fallback number."""
    exotel = await called(server, tenant, template=False, fallback_number=PERSON)
    assert (await exotel.ask("voice")).status_code != 200
    assert await exotel.branches() == (200, 302)
    assert (await exotel.ask("connect")).json()["destination"] == {"numbers": [PERSON]}


async def test_a_call_without_capacity_goes_to_the_fallback(
    server: RunningServer, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full process answers with no address; the call has ended, and the fallback takes the caller."""
    exotel = await called(server, tenant, fallback_number=PERSON)
    monkeypatch.setattr(server.app_state.admission, "refusal", lambda: "max_calls")
    assert (await exotel.ask("voice")).status_code != 200
    assert (await exotel.record()).end_reason == "no_capacity"
    assert await exotel.branches() == (200, 302)


async def test_a_busy_tone_is_refused_when_it_is_saved(tenant: Tenant) -> None:
    """A flow has answered the call before we are asked; the error names the field and what to use instead."""
    busy = {"e164": "+918045600001", "carrier": "exotel", "inbound": {"refusal": {"action": "busy"}}}
    made = await tenant.owner.post("/numbers", json=busy)
    assert made.status_code == 422, made.text
    [fault] = made.json()["errors"]
    assert (fault["pointer"], fault["code"]) == ("/inbound/refusal/action", "not_possible_at_carrier")
    number = await create(tenant.owner, "/numbers", {"e164": busy["e164"], "carrier": "exotel"})
    patch = await tenant.owner.patch(
        f"/numbers/{number['id']}", json={"inbound": busy["inbound"]}, headers={"If-Match": "*"}
    )
    assert patch.status_code == 422, patch.text
    refusals = {"inbound": {"refusals": {"number_busy": {"action": "busy"}}}}
    patch = await tenant.owner.patch(f"/numbers/{number['id']}", json=refusals, headers={"If-Match": "*"})
    assert [each["pointer"] for each in patch.json()["errors"]] == ["/inbound/refusals/number_busy/action"]


async def test_a_number_whose_template_needs_a_busy_tone_does_not_move(tenant: Tenant) -> None:
    """The error names the template; with another refusal the number moves to Exotel."""
    number = await tenant.number()
    busy = {"accepting": False, "refusals": {"not_accepting": {"action": "busy"}}}
    agent = await tenant.agent("Night", number_id=number["id"], inbound=busy)
    path, headers = f"/numbers/{number['id']}", {"If-Match": "*"}
    refused = await tenant.owner.patch(path, json={"carrier": "exotel"}, headers=headers)
    assert refused.status_code == 422, refused.text
    [fault] = refused.json()["errors"]
    assert (fault["pointer"], fault["code"]) == ("/carrier", "not_possible_at_carrier")
    assert "'Night'" in fault["message"]
    assert "/inbound/refusals/not_accepting/action" in fault["remedy"]
    reject = {"inbound": {"refusals": {"not_accepting": None}}}
    saved = await tenant.owner.patch(f"/templates/{agent['id']}", json=reject, headers=headers)
    assert saved.status_code == 200, saved.text
    moved = await tenant.owner.patch(path, json={"carrier": "exotel"}, headers=headers)
    assert (moved.status_code, moved.json()["carrier"]) == (200, "exotel")


async def test_a_transfer_that_no_call_can_make_is_warned_of(server: RunningServer, tenant: Tenant) -> None:
    """When it is saved, and for the agent behind the orchestrator whenever it is read."""
    exotel = await called(server, tenant)
    [desk] = (await tenant.owner.get("/templates", params={"kind": "orchestrator"})).json()["items"]
    transfer = {
        "functions": [{"type": "builtin", "name": "transfer_to_number"}],
        "destinations": [{"name": "office", "number": PERSON, "mode": "attended"}],
    }
    for template_id in (desk["id"], desk["routes"][0]["template_id"]):
        path = f"/templates/{template_id}"
        saved = await tenant.owner.patch(path, json=transfer, headers={"If-Match": "*"})
        assert saved.status_code == 200, (exotel.to, saved.text)
        checked = await tenant.owner.post("/templates/check", json=saved.json())
        for warnings in (saved.json()["warnings"], checked.json()["warnings"]):
            [found] = [each for each in warnings if each["code"] == "not_possible_at_carrier"]
            assert (found["pointer"], "cold" in found["remedy"]) == ("/destinations/0/mode", True)


async def test_an_operator_cannot_be_dialled_for_a_call_that_was_dialled_without_a_flow(
    server: RunningServer, tenant: Tenant
) -> None:
    """Nothing could connect them: the request is refused, and says what works; the claim stays."""
    call = await begun(server, tenant, "exotel")
    database = server.app_state.database
    assert await attempts.placed(database, call.account_id, call.id, new_id().hex, timedelta(minutes=1))
    await calls.answered(database, call.account_id, call.id, server.app_state.clock.now())
    operator = tenant.clients["operator"]
    answer = await operator.patch("/operators/me", json={"phone": PERSON})
    assert answer.status_code == 200, answer.text
    handoff = await create(tenant.owner, "/handoffs", {"reason": "A refund.", "call_id": str(call.id)})
    claim = await operator.post(f"/handoffs/{handoff['id']}/claim")
    assert claim.status_code == 200, claim.text
    dial = await operator.post(f"/handoffs/{handoff['id']}/dial")
    assert (dial.status_code, dial.json()["code"]) == (409, "illegal_move")
    assert "browser" in dial.json()["detail"]
    assert (await tenant.owner.get(f"/handoffs/{handoff['id']}")).json()["state"] == "claimed"


@pytest.mark.parametrize("action", ["say", "callback"])
async def test_a_refusal_with_words_gets_a_media_socket(
    server: RunningServer, tenant: Tenant, call_registry: StandIn, action: str
) -> None:
    """They are said there; then the flow ends the call, and a caller to be called back is a lead, once."""
    del call_registry
    refusal = {"action": action, "text": "We are closed."}
    exotel = await called(server, tenant, inbound={"accepting": False, "refusal": refusal})
    url = await exotel.url()
    async with exotel.media(url) as socket:
        assert await close_code(socket) == 1000
        async with exotel.media(url) as copy:
            assert await close_code(copy) == 1008
    assert await exotel.branches() == (302, 302)
    record = await exotel.record()
    assert (record.status, record.end_reason) == ("ended", "refused")
    leads = (await tenant.owner.get("/leads", params={"direction": "outbound"})).json()["items"]
    assert [lead["phone"] for lead in leads] == ["+919876543210"] * (action == "callback")


async def test_a_caller_who_does_not_want_calls_is_promised_none(
    server: RunningServer, tenant: Tenant, call_registry: StandIn
) -> None:
    """On the media socket they hear only that the call is not taken, and no lead is made."""
    refusal = {"action": "callback", "text": "We will call you back."}
    exotel = await called(server, tenant, inbound={"accepting": False, "refusal": refusal})
    await create(tenant.owner, "/opt-outs", {"phone": "+919876543210"})
    async with exotel.media(await exotel.url()) as socket:
        assert await close_code(socket) == 1000
    assert await exotel.branches() == (302, 302)
    assert set(call_registry.announced) == {"We cannot take your call now."}
    assert (await tenant.owner.get("/leads", params={"direction": "outbound"})).json()["items"] == []


async def test_each_reason_has_its_action(
    server: RunningServer, tenant: Tenant, call_registry: StandIn
) -> None:
    """A caller outside the hours is forwarded by the flow, a blocked one hears a text on the media socket."""
    del call_registry
    policy = {
        "hours": closed_hours(),
        "refusals": {
            "outside_hours": {"action": "forward", "number": PERSON},
            "blocked": {"action": "say", "text": "We are closed."},
        },
    }
    exotel = await called(server, tenant, inbound=policy)
    assert (await exotel.ask("voice")).status_code != 200
    assert await exotel.branches() == (200, 302)
    assert (await exotel.ask("connect")).json()["destination"] == {"numbers": [PERSON]}
    assert (await exotel.record()).end_reason == "refused"
    blocked = await called(server, tenant, inbound={**policy, "blocked": ["+919876543210"]})
    async with blocked.media(await blocked.url()) as socket:
        assert await close_code(socket) == 1000
    assert await blocked.branches() == (302, 302)


async def test_a_template_refuses_on_the_media_socket_too(
    server: RunningServer, tenant: Tenant, call_registry: StandIn
) -> None:
    """Its words are said there, after the number's policy has taken the call; then the flow ends it."""
    del call_registry
    exotel = await called(server, tenant, template=False)
    number = (await tenant.owner.get("/numbers", params={"carrier": "exotel"})).json()["items"][0]
    refusal = {"action": "say", "text": "We are closed."}
    agent = await tenant.agent(number_id=number["id"], inbound={"accepting": False, "refusal": refusal})
    async with exotel.media(await exotel.url()) as socket:
        assert await close_code(socket) == 1000
    assert await exotel.branches() == (302, 302)
    record = await exotel.record()
    assert (record.status, record.end_reason) == ("ended", "refused")
    events = (await tenant.owner.get(f"/calls/{record.id}/events")).json()["items"]
    assert events[0]["data"] == {"reason": "not_accepting", "action": "say", "template_id": agent["id"]}


async def test_a_menu_that_nobody_hears_leads_to_the_first_agent(
    server: RunningServer, tenant: Tenant, call_registry: StandIn
) -> None:
    """When it cannot be spoken, the first agent answers; the flow comes back to the Voicebot applet."""
    del call_registry
    exotel = await called(server, tenant, template=False)
    number = (await tenant.owner.get("/numbers", params={"carrier": "exotel"})).json()["items"][0]
    first, _ = [await tenant.agent(name, number_id=number["id"]) for name in ("Alpha", "Beta")]
    async with exotel.media(await exotel.url()) as socket:
        assert await close_code(socket) == 1000
    assert await exotel.branches() == (302, 200)
    record = await exotel.record()
    assert (str(record.template_id), record.resumes) == (first["id"], 0)


async def test_twilio_has_none_of_these_webhooks(server: RunningServer) -> None:
    """A carrier's webhooks are its own."""
    async with http_client() as client:
        assert (await client.post(f"{server.url}/webhooks/twilio/again")).status_code == 404
        assert (await client.post(f"{server.url}/webhooks/exotel/{PATH}/whisper")).status_code == 404


async def test_a_call_that_is_not_taken_is_forwarded_by_the_flow(
    server: RunningServer, tenant: Tenant, call_registry: StandIn
) -> None:
    """A caller whom the number's policy refuses is connected with the policy's number, as on Twilio."""
    del call_registry
    refusal = {"action": "forward", "number": PERSON}
    exotel = await called(server, tenant, inbound={"accepting": False, "refusal": refusal})
    for _ in range(2):
        assert (await exotel.ask("voice")).status_code != 200
    assert await exotel.branches() == (200, 302)
    assert (await exotel.ask("connect")).json()["destination"] == {"numbers": [PERSON]}
    assert (await exotel.record()).end_reason == "refused"
