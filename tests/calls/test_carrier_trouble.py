"""A carrier that repeats itself, forges, and loses the line."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime

import pytest

from db import carrier_calls, events
from db.events import EventRecord
from tests.api.server_fixture import http_client, signed
from tests.calls.harness import BILL, PUBLIC_URL, WELCOME, CallHarness, hear
from voicebot.sandbox.caller import HangUp, Say, Wait
from voicebot.sandbox.carrier import Misbehaviour
from voicebot.sandbox.environment import TWILIO_AUTH_TOKEN


async def test_a_lost_stream_is_resumed_in_the_same_call(harness: CallHarness) -> None:
    """When the media socket breaks, the carrier's next stream goes on with the same call: resumes is 1."""
    number = await harness.orchestrator(harness.route("billing", await harness.agent()))
    call = await harness.place_with_lost_stream([hear()], [Say(text=BILL), hear(), HangUp()], to=number)

    assert call.outcome.ok, call.outcome.failure
    assert len(call.carrier.streams) == 2
    assert call.record["resumes"] == 1
    assert (call.record["ended_by"], call.record["end_reason"]) == ("caller", "hangup")
    assert [route["status"] for route in call.routes] == ["done"]
    assert call.words()[-1] == "Billing here."
    assert len(call.events("call.started")) == 1
    assert len(call.events("call.resumed")) == 1


@pytest.mark.long
async def test_a_stream_lost_after_a_route_goes_on_with_the_same_agent(
    harness: CallHarness,
) -> None:
    """A resumed call is still with the agent it was routed to, who knows what was said."""
    billing = await harness.agent()
    number = await harness.orchestrator(harness.route("billing", billing))
    before, after = (hear(), Say(text=BILL), hear()), (Say(text=BILL), hear(), HangUp())
    call = await harness.place_with_lost_stream(before, after, to=number)

    assert call.record["resumes"] == 1
    assert call.transcript[-1]["template_id"] == billing["id"]
    assert len([route for route in call.routes if route["status"] == "done"]) == 1
    asked = harness.asked(containing="You are billing")[-1]
    assert "Billing here." in str(asked["messages"])


@pytest.mark.long
async def test_a_hang_up_that_breaks_the_stream_is_a_hang_up(harness: CallHarness) -> None:
    """The socket broke without a `stop`, but the carrier says that the call is completed."""
    number = await harness.orchestrator(harness.route("billing", await harness.agent()))
    call, person = harness.dial(hear(), Wait(ms=60_000), to=number)
    while call.stream is None or (await harness.record(call.sid) or {}).get("status") != "in_progress":
        await asyncio.sleep(0.05)
    call.stream.drop()
    call.hang_up()
    await call.ended()
    record = (await harness.facts(call, person)).record
    assert (record["ended_by"], record["end_reason"]) == ("caller", "hangup")


async def test_a_reported_stream_error_is_in_the_calls_events(harness: CallHarness) -> None:
    """What the carrier reports, here or to another process, is in order among the call's own events."""
    number = await harness.orchestrator(harness.route("billing", await harness.agent()))
    call, person = harness.dial(hear(), Wait(ms=1500), Say(text=BILL), hear(), HangUp(), to=number)
    while (record := await harness.record(call.sid)) is None or record["status"] != "in_progress":
        await asyncio.sleep(0.05)
    form = {"CallSid": call.sid, "StreamSid": "MZ1", "StreamEvent": "stream-error", "StreamError": "noise"}
    headers = signed(f"{PUBLIC_URL}/webhooks/twilio/stream", form, TWILIO_AUTH_TOKEN)
    async with http_client() as twilio:
        url = f"{harness.server.url}/webhooks/twilio/stream"
        assert (await twilio.post(url, data=form, headers=headers)).status_code == 204
    database = harness.server.app_state.database
    known = await carrier_calls.by_carrier_id(database, "twilio", call.sid)
    await events.append(
        database, EventRecord.unnumbered(known, "stream.failed", {"error": "elsewhere"}, datetime.now(UTC))
    )
    await call.ended()
    facts = await harness.facts(call, person)

    assert facts.data("stream.failed") == [{"error": "noise"}, {"error": "elsewhere"}]
    assert facts.all_events[-1]["type"] == "call.ended"
    assert [route["status"] for route in facts.routes] == ["done"]


async def test_a_repeated_voice_webhook_is_the_same_call(harness: CallHarness) -> None:
    """Three voice webhooks for one call make one call and one lead."""
    number = await harness.orchestrator(harness.route("billing", await harness.agent()))
    call = await harness.place(hear(), HangUp(), to=number, wrong=Misbehaviour(voice_webhooks=3))

    assert call.outcome.ok, call.outcome.failure
    assert call.words() == [WELCOME]
    assert len((await harness.api.get("/calls")).json()["items"]) == 1
    assert len((await harness.api.get("/leads")).json()["items"]) == 1


async def test_a_token_opens_one_stream_once(harness: CallHarness) -> None:
    """A media socket that brings a used token is closed with 1008, and the token's call is untouched."""
    number = await harness.orchestrator(harness.route("billing", await harness.agent()))
    first = await harness.place(hear(), HangUp(), to=number)
    body = str(first.carrier_event("webhook")["body"])
    used = re.search(r'name="token" value="([^"]+)"', body)
    assert used is not None
    thief, _ = harness.dial(hear(), HangUp(), to=number, wrong=Misbehaviour(parameters={"token": used[1]}))
    await thief.ended()

    closed = next(event for event in thief.events if event.name == "stream.closed")
    assert closed.data["code"] == 1008
    assert not thief.line.heard.sounded().any()
    known = await harness.record(first.carrier.sid)
    assert known == first.record
