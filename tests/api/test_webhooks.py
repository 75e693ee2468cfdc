from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from uuid import UUID

import pytest

from db import bridged_calls, calls, carrier_calls, events
from db.call_ends import EndWithEvent, Finished, finish_unanswered
from db.calls import CallRecord, CarrierStatus
from db.carrier_calls import ReportedCall
from db.pool import Database
from tests.api.server_fixture import (
    AUTH_TOKEN,
    PUBLIC_URL,
    RunningServer,
    Tenant,
    create_tenant,
    http_client,
    metric,
    new_e164,
    serving,
    signed,
)
from tests.api.twilio import Reply, Twilio, called
from voicebot.api.app_state import EndGrace
from voicebot.api.carriers.carrier_request import MAX_RESUMES
from voicebot.batches import Batches
from voicebot.config import Settings

IMPATIENT = EndGrace(own_s=0.01, others_s=0.05)


@pytest.fixture(scope="module")
async def server(shared_settings: Settings) -> AsyncIterator[RunningServer]:
    """A server that waits only briefly for another process to say how a call ended."""
    async with serving(shared_settings, grace=IMPATIENT) as running:
        yield running


@pytest.fixture
async def twilio(server: RunningServer, tenant: Tenant) -> Twilio:
    """A call to a number that an orchestrator answers."""
    return await called(server, tenant)


async def call_of(twilio: Twilio, database: Database) -> CallRecord:
    """The call's record."""
    return await carrier_calls.by_carrier_id(database, "twilio", twilio.call_sid)


async def ended(twilio: Twilio, database: Database) -> CallRecord:
    """The call's record as soon as it has ended and was finalised, which derives its outcome."""
    async with asyncio.timeout(30):
        while (call := await call_of(twilio, database)).status != "ended" or call.outcome is None:
            await asyncio.sleep(0.01)
    return call


async def test_a_call_is_led_to_the_media_socket(twilio: Twilio, tenant: Tenant) -> None:
    """The voice webhook makes a call and its lead, and answers with stream, token and the way back."""
    reply = await twilio.post("voice")
    stream = reply.twiml.find("./Connect/Stream")
    redirect = reply.twiml.find("./Redirect")
    assert stream is not None
    assert redirect is not None
    assert stream.get("url") == "wss://bot.example.com/media/twilio"
    assert stream.get("statusCallback") == f"{PUBLIC_URL}/webhooks/twilio/stream"
    assert (redirect.text, redirect.get("method")) == (
        f"{PUBLIC_URL}/webhooks/twilio/resume?resumes=0",
        "POST",
    )
    call = (await tenant.owner.get("/calls")).json()["items"][0]
    assert (call["carrier_call_id"], call["from"], call["to"], call["status"]) == (
        twilio.call_sid,
        twilio.form["From"],
        twilio.form["To"],
        "ringing",
    )
    lead = (await tenant.owner.get("/leads")).json()["items"][0]
    assert (lead["id"], lead["call_ids"], lead["phone"]) == (call["lead_id"], [call["id"]], call["from"])


@pytest.mark.parametrize("webhook", ["voice", "status", "stream", "resume"])
async def test_a_forged_webhook_is_refused_without_a_word(
    twilio: Twilio, tenant: Tenant, webhook: str
) -> None:
    """Unsigned, signed with another token or for another URL: 403, an empty body, and nothing is kept."""
    url = f"{twilio.server.url}/webhooks/twilio/{webhook}"
    forgeries = [
        {},
        signed(f"{PUBLIC_URL}/webhooks/twilio/{webhook}", twilio.form, "another token"),
        signed(f"https://elsewhere.example.com/webhooks/twilio/{webhook}", twilio.form, AUTH_TOKEN),
        signed(f"{PUBLIC_URL}/webhooks/twilio/{webhook}", {**twilio.form, "To": "+1"}, AUTH_TOKEN),
    ]
    async with http_client() as client:
        for headers in forgeries:
            response = await client.post(url, data=twilio.form, headers=headers)
            assert (response.status_code, response.content) == (403, b"")
    assert (await tenant.owner.get("/calls")).json()["items"] == []


async def test_a_number_that_nobody_answers_is_rejected(server: RunningServer, tenant: Tenant) -> None:
    """An unknown number, one without an orchestrator and one that is off: 200 with Reject."""
    off = await tenant.orchestrator()
    number = (await tenant.owner.get(f"/numbers/{off['number_id']}")).json()
    await tenant.owner.patch(f"/numbers/{number['id']}", json={"active": False}, headers={"If-Match": "*"})
    for to in (new_e164(), (await tenant.number())["e164"], number["e164"]):
        reply = await Twilio(server, to).post("voice")
        assert (reply.response.status_code, reply.verbs) == (200, ["Reject"])


async def test_calls_that_nothing_answers_go_to_the_fallback(server: RunningServer, tenant: Tenant) -> None:
    """A number without an orchestrator, but with a fallback number, is connected to that."""
    number = await tenant.number()
    body = {"fallback_number": "+14155559999"}
    await tenant.owner.patch(f"/numbers/{number['id']}", json=body, headers={"If-Match": "*"})
    reply = await Twilio(server, number["e164"]).post("voice")
    assert reply.twiml.findtext("./Dial/Number") == "+14155559999"


async def test_a_webhook_without_its_fields_is_told_so(server: RunningServer) -> None:
    """A signed webhook that lacks the called number is a 400 that names the field."""
    twilio = Twilio(server, "")
    reply = await twilio.post("voice")
    assert (reply.response.status_code, reply.response.json()["code"]) == (400, "invalid_webhook")
    assert "To" in reply.response.json()["detail"]


async def test_a_call_whose_stream_was_lost_is_connected_again(twilio: Twilio, database: Database) -> None:
    """Each resume counts and gives a fresh token, up to a bound; then the call is hung up."""
    tokens = {(await twilio.post("voice")).token}
    for resumes in range(1, MAX_RESUMES + 1):
        tokens.add((await twilio.post("resume")).token)
        assert (await call_of(twilio, database)).resumes == resumes
    assert len(tokens) == MAX_RESUMES + 1
    assert (await twilio.post("resume")).verbs == ["Hangup"]


async def test_a_call_that_was_handed_over_is_connected_again_however_often(
    twilio: Twilio, database: Database
) -> None:
    """Processes that stop and hand a call over do not count as lost streams."""
    await twilio.post("voice")
    call = await call_of(twilio, database)
    for handovers in range(1, MAX_RESUMES + 2):
        await calls.handed_over(database, call.account_id, call.id, handovers)
        assert (await twilio.post("resume")).token
    for _ in range(MAX_RESUMES):
        assert (await twilio.post("resume")).token
    assert (await twilio.post("resume")).verbs == ["Hangup"]


async def test_a_call_whose_process_was_lost_as_it_transferred_is_with_the_agent(
    twilio: Twilio, database: Database
) -> None:
    """The carrier was not told to dial: the stream's end leads back to the agent, and an event says why."""
    await twilio.post("voice")
    call = await call_of(twilio, database)
    await calls.answered(database, call.account_id, call.id, datetime.now(UTC))
    assert await bridged_calls.begin_transfer(database, call.account_id, call.id, "+14155550100")
    assert (await twilio.post("resume?resumes=0")).token
    call = await call_of(twilio, database)
    assert (call.status, call.resumes) == ("in_progress", 1)
    recorded = await events.of_call(database, call.account_id, call.id)
    assert [each.data for each in recorded if each.type == "transfer.failed"] == [{"outcome": "process_lost"}]


async def test_a_captured_request_sent_again_changes_nothing(twilio: Twilio, database: Database) -> None:
    """A copy of a resume, or of the voice webhook of an answered call, is answered Hangup."""
    await twilio.post("voice")
    new = await call_of(twilio, database)
    await calls.answered(database, new.account_id, new.id, datetime.now(UTC))
    assert (await twilio.post("voice")).verbs == ["Hangup"]
    redirect = (await twilio.post("resume?resumes=0")).twiml.findtext("./Redirect")
    assert redirect == f"{PUBLIC_URL}/webhooks/twilio/resume?resumes=1"
    resumed = await call_of(twilio, database)
    assert resumed.resumes == 1
    for _ in range(MAX_RESUMES + 1):
        assert (await twilio.post("resume?resumes=0")).verbs == ["Hangup"]
        assert (await twilio.post("voice")).verbs == ["Hangup"]
    assert await call_of(twilio, database) == resumed
    assert (await twilio.post("resume?resumes=0&waiting_since=1")).token, "it was counted, but not answered"
    assert await call_of(twilio, database) == resumed
    assert (await twilio.post("resume?resumes=1")).token


async def test_a_call_that_is_over_is_hung_up(twilio: Twilio, database: Database) -> None:
    """Resume and voice of an ended call, and resume of an unknown one, answer Hangup."""
    assert (await twilio.post("resume")).verbs == ["Hangup"]
    await twilio.post("voice")
    await twilio.post("status", CallStatus="completed")
    await ended(twilio, database)
    assert (await twilio.post("resume")).verbs == ["Hangup"]
    assert (await twilio.post("voice")).verbs == ["Hangup"]


async def test_a_terminal_status_wins(twilio: Twilio, database: Database) -> None:
    """Callbacks after a terminal one, late or repeated, change nothing."""
    await twilio.post("voice")
    await twilio.post("status", CallStatus="busy")
    call = await ended(twilio, database)
    for late in ("in-progress", "ringing", "completed", "failed"):
        assert (await twilio.post("status", CallStatus=late)).response.status_code == 204
    await asyncio.sleep(3 * IMPATIENT.others_s)
    assert await call_of(twilio, database) == call


async def test_a_status_that_overtakes_its_call_ends_it(
    twilio: Twilio, server: RunningServer, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller who hangs up while the voice webhook is under way leaves no ringing call."""
    writer, stored, is_made = server.app_state.status_writer, list[str](), asyncio.Event()
    store = writer.store

    async def late(carrier: str, carrier_call_id: str, status: CarrierStatus) -> ReportedCall | None:
        stored.append(carrier_call_id)
        if stored.count(carrier_call_id) > 1:
            await is_made.wait()
        return await store(carrier, carrier_call_id, status)

    monkeypatch.setattr(writer, "store", late)
    assert (await twilio.post("status", CallStatus="completed")).response.status_code == 204
    await twilio.post("voice")
    is_made.set()
    call = await ended(twilio, database)
    assert (call.ended_by, call.end_reason) == ("caller", "hangup")


async def test_a_call_that_could_not_be_ended_is_ended_by_a_repetition(
    twilio: Twilio, server: RunningServer, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repeated terminal status changes nothing, unless what the first one started has failed."""
    await twilio.post("voice")
    failed = asyncio.Event()

    async def failing(*_: object, **__: object) -> bool:
        failed.set()
        raise RuntimeError("the call cannot be ended")

    with monkeypatch.context() as patched:
        patched.setattr(server.app_state.call_registry, "end", failing)
        await twilio.post("status", CallStatus="busy")
        async with asyncio.timeout(30):
            await failed.wait()
    assert (await call_of(twilio, database)).status == "ringing"
    await twilio.post("status", CallStatus="busy")
    call = await ended(twilio, database)
    assert (call.ended_by, call.end_reason) == ("carrier", "busy")


async def test_an_end_holds_up_no_answer(
    twilio: Twilio, server: RunningServer, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The carrier is answered before the call ends; an end that was undecided is given again."""
    is_given, may_end = asyncio.Event(), asyncio.Event()

    async def finish(ends: Sequence[EndWithEvent]) -> Sequence[Finished]:
        if not may_end.is_set():
            is_given.set()
            await may_end.wait()
            return ["undecided"] * len(ends)
        return await finish_unanswered(database, ends)

    await twilio.post("voice")
    ends = Batches(finish, server.app_state.background, "ends")
    monkeypatch.setattr(server.app_state, "unanswered_ends", ends)
    for _ in range(2):
        assert (await twilio.post("status", CallStatus="busy")).response.status_code == 204
    async with asyncio.timeout(30):
        await is_given.wait()
    assert (await call_of(twilio, database)).status == "ringing"
    may_end.set()
    assert (await ended(twilio, database)).end_reason == "busy"


async def test_news_of_unknown_calls_is_ignored(server: RunningServer) -> None:
    """A status or stream callback of a call that was never here is taken note of."""
    twilio = Twilio(server, new_e164())
    assert (await twilio.post("status", CallStatus="completed")).response.status_code == 204
    assert (
        await twilio.post("stream", StreamSid="MZ1", StreamEvent="stream-stopped")
    ).response.status_code == 204


async def test_a_failed_stream_is_counted(twilio: Twilio) -> None:
    """A stream error that Twilio reports shows in the metrics."""
    counters = (
        'voicebot_stream_errors_total{carrier="twilio"}',
        'voicebot_webhook_seconds_count{carrier="twilio",status="200",webhook="voice"}',
    )
    before = [await metric(twilio.server.url, counter) for counter in counters]
    await twilio.post("voice")
    await twilio.post("stream", StreamSid="MZ1", StreamEvent="stream-error", StreamError="Socket gone")
    assert [await metric(twilio.server.url, counter) for counter in counters] == [one + 1 for one in before]


async def test_a_failed_stream_is_an_event_of_its_call(twilio: Twilio, database: Database) -> None:
    """A stream error of a call in another process is written after its events, with the carrier's text."""
    await twilio.post("voice")
    for error in ("Socket gone", "x" * 9000):
        reply = await twilio.post("stream", StreamSid="MZ1", StreamEvent="stream-error", StreamError=error)
        assert reply.response.status_code == 204
    call = await call_of(twilio, database)
    happened = await events.of_call(database, call.account_id, call.id)
    assert [(event.seq, event.type) for event in happened] == [(1, "stream.failed"), (2, "stream.failed")]
    assert happened[0].data == {"error": "Socket gone"}
    assert len(happened[1].data["error"]) < 1000


async def test_a_captured_stream_error_sent_again_changes_nothing(twilio: Twilio, database: Database) -> None:
    """A copy of a stream error adds no event and is not counted again, also if copies arrive at once."""
    counter = 'voicebot_stream_errors_total{carrier="twilio"}'
    before = await metric(twilio.server.url, counter)
    await twilio.post("voice")

    async def failed(stream: str) -> Reply:
        words = {"StreamEvent": "stream-error", "StreamError": "Socket gone"}
        return await twilio.post("stream", headers=None, StreamSid=stream, **words)

    for count in (1, 1, 8):
        replies = await asyncio.gather(*(failed("MZ1") for _ in range(count)))
        assert {reply.response.status_code for reply in replies} == {204}
    call = await call_of(twilio, database)
    happened = await events.of_call(database, call.account_id, call.id)
    assert [(event.seq, event.data) for event in happened] == [(1, {"error": "Socket gone"})]
    assert happened[0].id.version == 7
    assert await metric(twilio.server.url, counter) == before + 1
    await failed("MZ2")
    assert len(await events.of_call(database, call.account_id, call.id)) == 2


@contextlib.asynccontextmanager
async def without_public_url(settings: Settings, database: Database) -> AsyncIterator[Twilio]:
    """A call to a server without a public URL."""
    async with (
        serving(settings.model_copy(update={"public_url": None})) as server,
        create_tenant(server.url, database) as tenant,
    ):
        desk = await tenant.orchestrator()
        number = (await tenant.owner.get(f"/numbers/{desk['number_id']}")).json()
        yield Twilio(server, number["e164"])


async def test_without_a_public_url_the_seen_url_is_signed(settings: Settings, database: Database) -> None:
    """A server without a public URL checks signatures against the URL of the request."""
    async with without_public_url(settings, database) as twilio:
        reply = await twilio.post("voice", origin=twilio.server.url)
        stream = reply.twiml.find("./Connect/Stream")
        assert stream is not None
        assert stream.get("url") == twilio.server.url.replace("http:", "ws:") + "/media/twilio"
        assert (await twilio.post("voice", origin=PUBLIC_URL)).response.status_code == 403


async def test_a_proxy_on_this_machine_is_believed(settings: Settings, database: Database) -> None:
    """Behind a local proxy that says it was https, signatures and the stream's URL are those of https."""
    async with without_public_url(settings, database) as twilio:
        headers = {"Host": "calls.example.com", "X-Forwarded-Proto": "https"}
        reply = await twilio.post("voice", origin="https://calls.example.com", headers=headers)
        stream = reply.twiml.find("./Connect/Stream")
        assert stream is not None
        assert stream.get("url") == "wss://calls.example.com/media/twilio"


async def test_a_proxy_that_strips_a_prefix(settings: Settings, database: Database) -> None:
    """With a prefix in PUBLIC_URL, signatures and the URLs of the answer have it."""
    prefixed = f"{PUBLIC_URL}/voice/v2"
    async with (
        serving(settings.model_copy(update={"public_url": prefixed})) as server,
        create_tenant(server.url, database) as tenant,
    ):
        desk = await tenant.orchestrator()
        number = (await tenant.owner.get(f"/numbers/{desk['number_id']}")).json()
        reply = await Twilio(server, number["e164"]).post("voice", origin=prefixed)
        assert reply.twiml.findtext("./Redirect") == f"{prefixed}/webhooks/twilio/resume?resumes=0"
        stream = reply.twiml.find("./Connect/Stream")
        assert stream is not None
        assert stream.get("url") == "wss://bot.example.com/voice/v2/media/twilio"


async def test_an_operator_ends_a_call_that_nobody_holds(
    twilio: Twilio, tenant: Tenant, database: Database
) -> None:
    """POST /calls/{id}/end ends the call as the operator, even if the carrier cannot be reached."""
    await twilio.post("voice")
    call = await call_of(twilio, database)
    first = await tenant.clients["operator"].post(f"/calls/{call.id}/end")
    assert (first.status_code, first.json()["code"]) == (502, "carrier_failed")  # no Twilio here to tell
    again = await tenant.clients["operator"].post(f"/calls/{call.id}/end")
    assert (again.status_code, again.json()["ended_by"]) == (200, "operator")
    assert UUID(again.json()["id"]) == call.id
