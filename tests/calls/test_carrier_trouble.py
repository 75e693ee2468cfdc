"""A carrier that repeats itself, forges, and loses the line."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime

from db import calls, events
from tests.api.server_fixture import http_client, signed
from tests.calls.server import BILL, PUBLIC_URL, WELCOME, World, hear
from voicebot.api.webhooks import stream_failure
from voicebot.sandbox.caller import HangUp, Say, Wait
from voicebot.sandbox.carrier import Misbehaviour
from voicebot.sandbox.environment import TWILIO_AUTH_TOKEN


async def test_a_lost_stream_is_resumed_in_the_same_call(world: World) -> None:
    """When the media socket breaks, the carrier's next stream goes on with the same call: resumes is 1."""
    desk = await world.desk(world.route("billing", await world.agent()))
    script = (hear(), Wait(ms=2500), Say(text=BILL), hear(), HangUp())
    call = await world.place(*script, to=desk, wrong=Misbehaviour(drop_after_ms=2000))

    assert call.outcome.ok, call.outcome.failure
    assert len(call.carrier.streams) == 2
    assert call.record["resumes"] == 1
    assert (call.record["ended_by"], call.record["end_reason"]) == ("caller", "hangup")
    assert [route["status"] for route in call.routes] == ["done"]
    assert call.words()[-1] == "Billing here."
    assert len(call.events("call.started")) == 1
    assert len(call.events("call.resumed")) == 1


async def test_a_stream_lost_after_a_route_goes_on_with_the_agent_who_had_the_call(world: World) -> None:
    """A resumed call is still with the agent it was routed to, who knows what was said."""
    billing = await world.agent()
    desk = await world.desk(world.route("billing", billing))
    script = (hear(), Say(text=BILL), hear(), Wait(ms=3500), Say(text=BILL), hear(), HangUp())
    call = await world.place(*script, to=desk, wrong=Misbehaviour(drop_after_ms=6000))

    assert call.record["resumes"] == 1
    assert call.transcript[-1]["template_id"] == billing["id"]
    assert len([route for route in call.routes if route["status"] == "done"]) == 1
    asked = world.asked(containing="You are billing")[-1]
    assert "Billing here." in str(asked["messages"])


async def test_a_reported_stream_error_is_in_the_calls_events(world: World) -> None:
    """What the carrier reports, here or to another process, is in order among the call's own events."""
    desk = await world.desk(world.route("billing", await world.agent()))
    call, person = world.dial(hear(), Wait(ms=1500), Say(text=BILL), hear(), HangUp(), to=desk)
    while (record := await world.record(call.sid)) is None or record["status"] != "in_progress":
        await asyncio.sleep(0.05)
    form = {"CallSid": call.sid, "StreamSid": "MZ1", "StreamEvent": "stream-error", "StreamError": "noise"}
    headers = signed(f"{PUBLIC_URL}/webhooks/twilio/stream", form, TWILIO_AUTH_TOKEN)
    async with http_client() as twilio:
        url = f"{world.server.url}/webhooks/twilio/stream"
        assert (await twilio.post(url, data=form, headers=headers)).status_code == 204
    database = world.server.app_state.database
    known = await calls.by_carrier_id(database, "twilio", call.sid)
    await events.append(database, stream_failure(known, "elsewhere", datetime.now(UTC)))
    await call.ended()
    facts = await world.facts(call, person)

    assert facts.data("stream.failed") == [{"error": "noise"}, {"error": "elsewhere"}]
    assert facts.all_events[-1]["type"] == "call.ended"
    assert [route["status"] for route in facts.routes] == ["done"]


async def test_a_repeated_voice_webhook_is_the_same_call(world: World) -> None:
    """Three voice webhooks for one call make one call and one lead."""
    desk = await world.desk(world.route("billing", await world.agent()))
    call = await world.place(hear(), HangUp(), to=desk, wrong=Misbehaviour(voice_webhooks=3))

    assert call.outcome.ok, call.outcome.failure
    assert call.words() == [WELCOME]
    assert len((await world.api.get("/calls")).json()["items"]) == 1
    assert len((await world.api.get("/leads")).json()["items"]) == 1


async def test_a_token_opens_one_stream_once(world: World) -> None:
    """A media socket that brings a used token is closed with 1008, and the token's call is untouched."""
    desk = await world.desk(world.route("billing", await world.agent()))
    first = await world.place(hear(), HangUp(), to=desk)
    body = str(first.carrier_event("webhook")["body"])
    used = re.search(r'name="token" value="([^"]+)"', body)
    assert used is not None
    thief, _ = world.dial(hear(), HangUp(), to=desk, wrong=Misbehaviour(parameters={"token": used[1]}))
    await thief.ended()

    closed = next(event for event in thief.events if event.name == "stream.closed")
    assert closed.data["code"] == 1008
    assert not thief.line.heard.sounded().any()
    known = await world.record(first.carrier.sid)
    assert known == first.record
