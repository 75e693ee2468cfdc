"""A whole call through the simulated carrier, against a server on a real socket."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from tests.sandbox.twilio_server import Peer, StandIn, settings, stand_in, tone
from voicebot.sandbox.audio.analysis import locate
from voicebot.sandbox.audio.mulaw import through_the_line
from voicebot.sandbox.carrier import Call, Carrier, CarrierSettings, Misbehaviour, Person, Phone, PhoneCall


@pytest.fixture
async def server() -> AsyncIterator[StandIn]:
    async with stand_in() as running:
        yield running


@asynccontextmanager
async def calling(
    server: StandIn,
    person: Person | None = None,
    wrong: Misbehaviour | None = None,
    account: CarrierSettings | None = None,
) -> AsyncIterator[Call]:
    async with Carrier(account or settings(server)) as carrier:
        yield carrier.call(from_="+15550100", to="+15550199", person=person, wrong=wrong)


async def whole_call(
    server: StandIn,
    person: Person | None = None,
    wrong: Misbehaviour | None = None,
    account: CarrierSettings | None = None,
) -> Call:
    async with calling(server, person, wrong, account) as call:
        await asyncio.wait_for(call.ended(), 30)
    return call


def names(call: Call) -> list[str]:
    return [event.name for event in call.events]


def after(server: StandIn, frames: int) -> Person:
    """A caller who hangs up after the server has received a number of 20 ms frames."""

    async def person(call: PhoneCall) -> None:
        while not server.peers or len(server.peers[-1].heard) < frames:
            await call.line.next_frame()
        call.hang_up()

    return person


# --- the course of a call


async def test_call_is_answered_streamed_and_hung_up_by_the_server(server: StandIn) -> None:
    """A server that plays, waits for its mark and closes leads the call on to its resume document."""

    async def talk(peer: Peer) -> None:
        await peer.play(tone(300))
        await peer.mark("said")
        await peer.until(lambda: bool(peer.marks))

    server.talk = talk
    call = await whole_call(server)
    assert (call.status, call.ended_by, call.complaints) == ("completed", "twiml", ())
    assert [kind for kind, _, _ in server.requests if kind != "stream"] == ["voice", "resume", "status"]
    assert all(signed for _, _, signed in server.requests)
    (found,) = locate(call.recording().received, through_the_line(tone(300)))
    first = next(event for event in call.events if event.name == "media.first")
    assert found.start_ms == first.data["start_ms"]


async def test_voice_webhook_carries_twilios_parameters(server: StandIn) -> None:
    """The voice webhook of an inbound call names the call, both numbers and its state."""
    await whole_call(server, after(server, 2))
    (params,) = server.sent("voice")
    assert params["CallSid"].startswith("CA")
    assert len(params["CallSid"]) == 34
    assert {
        key: params[key] for key in ("From", "To", "CallStatus", "Direction", "ApiVersion", "FromCity")
    } == {
        "From": "+15550100",
        "To": "+15550199",
        "CallStatus": "ringing",
        "Direction": "inbound",
        "ApiVersion": "2010-04-01",
        "FromCity": "",
    }


async def test_stream_begins_with_connected_and_start(server: StandIn) -> None:
    """The media socket opens with `connected`, then `start` with the call, the parameters and the format."""
    call = await whole_call(server, after(server, 5))
    peer = server.peers[0]
    assert peer.messages[0] == {"event": "connected", "protocol": "Call", "version": "1.0.0"}
    start = peer.messages[1]
    assert start["sequenceNumber"] == "1"
    assert start["streamSid"] == start["start"]["streamSid"]
    assert start["start"] | {"streamSid": ""} == {
        "streamSid": "",
        "accountSid": call.settings.account_sid,
        "callSid": call.sid,
        "tracks": ["inbound"],
        "customParameters": {"token": "t1"},
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
    }


async def test_hang_up_by_the_caller_stops_the_stream_and_completes_the_call(server: StandIn) -> None:
    """A caller who hangs up sends `stop`, ends the stream and posts the final status with the duration."""
    call = await whole_call(server, after(server, 6))
    assert (call.status, call.ended_by) == ("completed", "caller")
    stop = server.peers[0].messages[-1]
    assert stop["event"] == "stop"
    assert stop["stop"] == {"accountSid": call.settings.account_sid, "callSid": call.sid}
    assert [params["StreamEvent"] for params in server.sent("stream")] == ["stream-started", "stream-stopped"]
    (status,) = server.sent("status")
    assert (status["CallStatus"], status["CallDuration"]) == ("completed", str(call.duration_s))
    assert server.sent("resume") == []


async def test_frames_come_every_20_ms_numbered_without_a_hole(server: StandIn) -> None:
    """Media arrives at real pace, 160 bytes each, all its numbers going up without a hole."""
    call = await whole_call(server, after(server, 30))
    peer = server.peers[0]
    media = peer.events("media")
    assert len(media) >= 30
    drift = peer.arrived[-1] - peer.arrived[0] - 0.02 * (len(media) - 1)
    assert abs(drift) < 0.03 + call.line.lateness().max_ms / 1000
    assert [message["media"]["chunk"] for message in media] == [str(n) for n in range(1, len(media) + 1)]
    numbers = [int(message["sequenceNumber"]) for message in peer.messages[1:]]
    assert numbers == list(range(1, len(numbers) + 1))
    stamps = [int(message["media"]["timestamp"]) for message in media]
    assert {later - earlier for earlier, later in pairwise(stamps)} == {20}
    assert {len(frame) for frame in peer.heard} == {160}


async def test_what_the_caller_says_arrives_and_is_recorded(server: StandIn) -> None:
    """The caller's words reach the server through µ-law, and the recording has them where they were said."""
    said: list[int] = []

    async def person(call: PhoneCall) -> None:
        while not server.peers or not server.peers[0].heard:
            await call.line.next_frame()
        said.append(call.say(tone(200)))
        await after(server, 20)(call)

    call = await whole_call(server, person)
    expected = through_the_line(tone(200))
    sent = call.recording().sent
    assert np.array_equal(sent[said[0] : said[0] + len(expected)], expected)
    assert locate(np.concatenate(server.peers[0].heard), expected)[0].likeness > 0.999


async def test_mark_returns_when_its_audio_has_been_played(server: StandIn) -> None:
    """Two marks come back in order, each within a frame of the end of the audio before it."""

    async def talk(peer: Peer) -> None:
        for name in ("one", "two"):
            await peer.play(tone(200))
            await peer.mark(name)
        await peer.until(lambda: len(peer.marks) == 2)

    server.talk = talk
    call = await whole_call(server)
    assert [name for name, _ in server.peers[0].marks] == ["one", "two"]
    received = [event for event in call.events if event.name == "mark.received"]
    returned = [event for event in call.events if event.name == "mark.returned"]
    start = call.streams[0].arrivals[0].start_ms
    assert [event.data["plays_ms"] for event in received] == [start + 200, start + 400]
    for promised, done in zip(received, returned, strict=True):
        late = done.at_ms - float(str(promised.data["plays_ms"]))
        assert 0 <= late <= 20 + call.line.lateness().max_ms + 5


def has_marks(peer: Peer, count: int) -> bool:
    return len(peer.marks) == count


async def test_mark_without_audio_returns_at_once(server: StandIn) -> None:
    """A mark sent while nothing plays comes straight back."""

    async def talk(peer: Peer) -> None:
        for count in range(1, 6):
            await peer.mark("nothing")
            await peer.until(functools.partial(has_marks, peer, count))

    server.talk = talk
    call = await whole_call(server)
    received = [event.at_ms for event in call.events if event.name == "mark.received"]
    returned = [event.at_ms for event in call.events if event.name == "mark.returned"]
    assert min(back - there for there, back in zip(received, returned, strict=True)) < 1


async def test_clear_silences_at_once_and_returns_the_marks(server: StandIn) -> None:
    """After `clear` nothing that was queued is heard, and every outstanding mark comes back immediately."""

    async def talk(peer: Peer) -> None:
        await peer.play(tone(2000))
        await peer.mark("never heard")
        await peer.until(lambda: len(peer.heard) > 10)
        await peer.clear()
        await peer.until(lambda: bool(peer.marks), 0.3)
        await peer.until(lambda: len(peer.heard) > 20)

    server.talk = talk
    call = await whole_call(server)
    (clear,) = [event for event in call.events if event.name == "clear"]
    last = np.flatnonzero(call.recording().received)[-1] / 8
    assert last <= clear.at_ms + 1
    assert last >= clear.at_ms - 25
    assert clear.data["marks"] == 1
    assert float(str(clear.data["dropped_ms"])) > 1500


async def test_audio_unplayed_when_the_server_closes_is_not_heard(server: StandIn) -> None:
    """A server that closes without waiting for its mark cuts its own words."""

    async def talk(peer: Peer) -> None:
        await peer.play(tone(1000))
        await peer.until(lambda: len(peer.heard) > 10)

    server.talk = talk
    call = await whole_call(server)
    (ended,) = [event for event in call.events if event.name == "stream.ended"]
    assert float(str(ended.data["unplayed_ms"])) > 500


async def test_redirect_resumes_with_a_second_stream(server: StandIn) -> None:
    """A resume document with another stream goes on with the same call and a new stream on the same line."""

    async def talk(peer: Peer) -> None:
        await peer.play(tone(100, hertz=440 * len(server.peers)))
        await peer.mark("m")
        await peer.until(lambda: bool(peer.marks))
        if len(server.peers) == 2:
            server.resume = "<Response><Hangup/></Response>"

    server.talk = talk
    server.resume = server.twiml()
    call = await whole_call(server)
    first, second = server.peers
    assert first.stream_sid != second.stream_sid
    assert first.start["callSid"] == second.start["callSid"] == call.sid
    received = call.recording().received
    one, two = (locate(received, tone(100, hertz=hertz))[0].start for hertz in (440, 880))
    assert one < two


# --- other documents


@pytest.mark.parametrize(("reason", "status"), [("busy", "busy"), ("rejected", "no-answer")])
async def test_rejected_call_is_never_answered(server: StandIn, reason: str, status: str) -> None:
    """A call that is rejected ends unanswered, with the status of the reason."""
    server.voice = f'<Response><Reject reason="{reason}"/></Response>'
    call = await whole_call(server)
    assert (call.status, call.answered_at, call.ended_by) == (status, None, "twiml")
    assert server.sent("status")[0]["CallStatus"] == status


async def test_say_is_heard_and_the_document_ends_the_call(server: StandIn) -> None:
    """<Say> is spoken aloud, and after the last verb the carrier hangs up."""
    server.voice = "<Response><Say>Goodbye.</Say></Response>"
    call = await whole_call(server)
    assert call.ended_by == "twiml"
    assert np.abs(call.recording().received).max() > 5000


@pytest.mark.parametrize(
    ("voice", "why"),
    [
        ("<Response><Shout/></Response>", "TwiML: no such verb"),
        ("plainly wrong", "TwiML: not XML"),
    ],
)
async def test_wrong_twiml_fails_the_call_with_a_complaint(server: StandIn, voice: str, why: str) -> None:
    """A document Twilio would refuse ends the call as failed and says why."""
    server.voice = voice
    call = await whole_call(server)
    assert (call.status, call.ended_by) == ("failed", "carrier")
    assert call.complaints[0].startswith(why)


async def test_error_of_the_server_fails_the_call(server: StandIn) -> None:
    """A voice webhook answered with 500 fails the call."""
    server.status_code = 500
    call = await whole_call(server)
    assert call.status == "failed"
    assert "answered 500" in call.complaints[0]


async def test_endless_redirects_are_cut(server: StandIn) -> None:
    """A document that redirects to itself for ever is stopped, with a complaint."""
    server.voice = "<Response><Redirect>/webhooks/twilio/voice</Redirect></Response>"
    call = await whole_call(server)
    assert call.status == "failed"
    assert "documents in one call" in call.complaints[0]


async def test_refused_media_socket_is_reported_and_the_call_goes_on(server: StandIn) -> None:
    """A stream whose handshake is refused posts stream-error and continues with the next verb."""
    server.voice = server.twiml().replace("/media/twilio", "/media/nowhere")
    call = await whole_call(server)
    assert call.complaints[0].startswith("31920: the handshake was answered 403")
    assert [params["StreamEvent"] for params in server.sent("stream")] == ["stream-error"]
    assert len(server.sent("resume")) == 1


async def test_signature_is_made_over_the_public_address_behind_a_proxy(server: StandIn) -> None:
    """Behind a proxy requests are signed for the public address and forwarded to the server's own."""
    account = replace(settings(server), public_url="https://voice.example", server_url=server.url)
    server.voice = server.twiml().replace("http://", "https://").replace("ws://", "wss://")
    server.voice = server.voice.replace(server.url.removeprefix("http://"), "voice.example")
    call = await whole_call(server, after(server, 7), account=account)
    assert call.complaints == ()
    assert all(signed for _, _, signed in server.requests)
    assert server.headers[0]["x-forwarded-proto"] == "https"
    assert len(server.peers) == 1


@pytest.mark.parametrize(
    ("phone", "status"),
    [
        (Phone(after_ms=20, talk_ms=50), "completed"),
        (Phone(outcome="busy"), "busy"),
        (None, "no-answer"),
    ],
)
async def test_dialled_telephone_reports_to_the_action(
    server: StandIn, phone: Phone | None, status: str
) -> None:
    """<Dial> rings another telephone and then asks its action, telling what became of it."""
    dial = '<Dial timeout="0.1" action="/webhooks/twilio/resume"><Number>+15550177</Number></Dial>'
    server.voice = f"<Response>{dial}</Response>"
    async with Carrier(settings(server), {"+15550177": phone} if phone else {}) as carrier:
        call = carrier.call(from_="+15550100", to="+15550199")
        await asyncio.wait_for(call.ended(), 30)
    (resumed,) = server.sent("resume")
    assert resumed["DialCallStatus"] == status
    assert call.complaints == ()


# --- a carrier that misbehaves


async def test_wrong_signature_is_refused(server: StandIn) -> None:
    """Requests signed with another token are refused by the server, which fails the call."""
    call = await whole_call(server, wrong=Misbehaviour(sign_with="another token"))
    assert not any(signed for _, _, signed in server.requests)
    assert "answered 403" in call.complaints[0]


async def test_voice_webhook_can_be_sent_twice(server: StandIn) -> None:
    """A duplicated voice webhook is the same request twice."""
    await whole_call(server, after(server, 5), Misbehaviour(voice_webhooks=2))
    first, second = server.sent("voice")
    assert first == second
    assert len(server.peers) == 1


async def test_token_can_be_replayed(server: StandIn) -> None:
    """The parameters of `start` can be replaced, as a replayed or forged token."""
    await whole_call(server, after(server, 5), Misbehaviour(parameters={"token": "old"}))
    assert server.peers[0].start["customParameters"] == {"token": "old"}


async def test_start_can_be_left_out(server: StandIn) -> None:
    """Without `start` only `connected` and media are sent."""
    await whole_call(server, after(server, 5), Misbehaviour(start=False))
    assert {message["event"] for message in server.peers[0].messages[:-1]} == {"connected", "media"}


async def test_raw_messages_can_be_injected(server: StandIn) -> None:
    """Malformed messages are sent as they are, at their time."""
    await whole_call(server, after(server, 15), Misbehaviour(inject=((60.0, "not json"), (100.0, "{}"))))
    assert server.peers[0].nonsense == ["not json", "{}"]


async def test_message_too_large_makes_the_server_close(server: StandIn) -> None:
    """A message over 64 KiB is answered with close code 1009, which the call records."""
    wrong = Misbehaviour(inject=((60.0, json.dumps({"event": "media", "x": "y" * 70_000})),))
    call = await whole_call(server, wrong=wrong)
    (closed,) = [event for event in call.events if event.name == "stream.closed"]
    assert closed.data["code"] == 1009


async def test_broken_connection_leads_to_the_next_verb(server: StandIn) -> None:
    """A connection that breaks without a close ends the stream; the call continues with the redirect."""
    call = await whole_call(server, wrong=Misbehaviour(drop_after_ms=100))
    assert "stream.dropped" in names(call)
    (closed,) = [event for event in call.events if event.name == "stream.closed"]
    assert closed.data["code"] is None
    assert len(server.sent("resume")) == 1


async def test_marks_can_be_late_or_never_come(server: StandIn) -> None:
    """Marks come back as much later as asked, or not at all."""

    async def talk(peer: Peer) -> None:
        await peer.play(tone(40))
        await peer.mark("m")
        await peer.until(lambda: bool(peer.marks) or len(peer.heard) > 30)

    server.talk = talk
    late = await whole_call(server, wrong=Misbehaviour(mark_delay_ms=200))
    times = {event.name: event.at_ms for event in late.events}
    assert 200 <= times["mark.returned"] - times["media.first"] - 40 < 260
    never = await whole_call(server, wrong=Misbehaviour(marks=False))
    assert "mark.returned" not in names(never)


# --- a server that misbehaves


async def test_what_twilio_would_not_understand_is_a_complaint(server: StandIn) -> None:
    """Unknown events, another stream's sid, bad base64 and file headers are noted, and the call continues."""

    async def talk(peer: Peer) -> None:
        await peer.websocket.send_text("not json")
        await peer.send("shout", {})
        await peer.websocket.send_json({"event": "clear", "streamSid": "MZ0"})
        await peer.send("media", {"payload": "%%%"})
        await peer.send("media", {"payload": "UklGRgAAAAA="})
        await peer.send("mark", {})
        await peer.play(tone(40))
        await peer.until(lambda: len(peer.heard) > 10)

    server.talk = talk
    call = await whole_call(server)
    assert len(call.complaints) == 6
    assert len(call.streams[0].arrivals) == 1


async def test_stray_statuses_follow_the_final_one(server: StandIn) -> None:
    """Callbacks that overtook each other come after the final status; the call itself stays ended."""
    call = await whole_call(server, after(server, 3), Misbehaviour(stray_statuses=("in-progress", "busy")))
    assert [params["CallStatus"] for params in server.sent("status")] == ["completed", "in-progress", "busy"]
    assert call.status == "completed"
