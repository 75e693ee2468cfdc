"""The media socket over real sockets: its beginning, its limits and its end.

Every test runs with messages that reach the socket directly, and with messages from the server's queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from telephony.errors import MediaGone, MediaRefused
from telephony.media import MediaStream
from telephony.twilio.media import accept_media
from tests.telephony import media_harness
from tests.telephony.media_app import MediaApp, call, serving_media, tone
from tests.telephony.media_harness import (
    ACCOUNT_SID,
    CALL_SID,
    STREAM_SID,
    fake_twilio,
    media_message,
    serving,
    start_message,
    until,
)


@pytest.fixture(autouse=True, params=["direct", "queue"])
def _protocol(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "queue":
        monkeypatch.setattr(media_harness, "protocol", WebSocketsSansIOProtocol)


async def close_code(address: str, *messages: str | bytes, wait_s: float = 5.0) -> int:
    """Say something and give the code that the server closes with."""
    async with connect(f"ws://{address}/media", compression=None) as ws:
        with contextlib.suppress(ConnectionClosed):
            for message in messages:
                await ws.send(message)
            async with asyncio.timeout(wait_s):
                async for _ in ws:
                    continue
        assert ws.close_code is not None
        return ws.close_code


START = json.dumps(start_message())
CONNECTED = json.dumps({"event": "connected", "protocol": "Call", "version": "1.0.0"})


# ------------------------------------------------------------------------------------------- beginning


async def test_start_message_is_parsed() -> None:
    """The start has the ids and the token from Twilio's message."""
    app = MediaApp(runs_pipeline=False)
    async with serving_media(app) as address, fake_twilio(address) as twilio:
        await twilio.start_stream(customParameters={"token": "t0k", "other": "x"})
        await until(app.done.is_set)
    media: MediaStream | None = app.media
    assert media is not None
    assert (media.start.stream_id, media.start.carrier_call_id) == (STREAM_SID, CALL_SID)
    assert (media.start.account_ref, media.start.token) == (ACCOUNT_SID, "t0k")
    assert media.start.parameters == {"token": "t0k", "other": "x"}


async def test_start_without_a_token_has_an_empty_token() -> None:
    """Without custom parameters the token is empty, and the application can refuse with 1008."""
    app = MediaApp(refusal=(1008, "bad token"))
    async with serving_media(app) as address:
        assert await close_code(address, CONNECTED, json.dumps(start_message(customParameters={}))) == 1008
    assert app.media is not None
    assert app.media.start.token == ""
    assert [(closed.by, closed.code) for closed in app.closed] == [("us", 1008)]


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [CONNECTED],
        [CONNECTED, json.dumps(media_message(b"\xff" * 160))],
        [CONNECTED, json.dumps({"event": "start", "start": {"streamSid": "MZ1"}})],
    ],
)
async def test_without_a_valid_start_in_time_the_socket_is_closed_with_1008(messages: list[str]) -> None:
    """Silence, other events and an incomplete start are closed with 1008 after the timeout."""
    app = MediaApp(start_timeout_s=0.2)
    async with serving_media(app) as address:
        assert await close_code(address, *messages) == 1008
        await until(app.done.is_set)
    assert isinstance(app.error, MediaRefused)
    assert app.error.close_code == 1008


@pytest.mark.parametrize(
    "wrong",
    [
        {"encoding": "audio/x-alaw", "sampleRate": 8000, "channels": 1},
        {"encoding": "audio/x-mulaw", "sampleRate": 16000, "channels": 1},
        {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 2},
    ],
)
async def test_audio_that_is_not_mulaw_at_8000_hz_is_refused_at_once(wrong: dict[str, object]) -> None:
    """A stream in another format is closed with 1008 immediately."""
    app = MediaApp()
    async with serving_media(app) as address:
        assert await close_code(address, CONNECTED, json.dumps(start_message(mediaFormat=wrong))) == 1008


async def test_socket_closed_before_the_start_raises_media_gone() -> None:
    """A socket that the carrier closes before the start raises MediaGone."""
    app = MediaApp()
    async with serving_media(app) as address:
        async with connect(f"ws://{address}/media") as ws:
            await ws.send(CONNECTED)
        await until(app.done.is_set)
    assert isinstance(app.error, MediaGone)


async def test_messages_that_wait_for_the_pipeline_come_first() -> None:
    """Messages sent at once with the start reach the observers in order, before later ones."""
    app = MediaApp()
    async with serving_media(app) as address, connect(f"ws://{address}/media", compression=None) as ws:
        await ws.send(START)
        for digit in "12345":
            await ws.send(json.dumps({"event": "dtmf", "dtmf": {"digit": digit}}))
        await until(lambda: app.worker)
        for digit in "6789":
            await ws.send(json.dumps({"event": "dtmf", "dtmf": {"digit": digit}}))
        await until(lambda: len(app.digits) == 9)
    assert "".join(app.digits) == "123456789"


# ---------------------------------------------------------------------------------------------- limits


async def test_text_that_is_not_utf_8_closes_with_1007() -> None:
    """A text message whose bytes are no UTF-8 ends the stream."""
    app = MediaApp()
    async with serving_media(app) as address, connect(f"ws://{address}/media", compression=None) as ws:
        await ws.send(START)
        await until(lambda: app.worker)
        await ws.send(b"\xff\xfe", text=True)
        with contextlib.suppress(ConnectionClosed):
            async with asyncio.timeout(60):
                async for _ in ws:
                    continue
        assert ws.close_code == 1007
        await until(app.done.is_set)


MALFORMED: list[str | bytes] = [
    "no json",
    "[]",
    "{}",
    '{"event": 1}',
    '{"event": "media"}',
    '{"event": "media", "media": {"payload": 5}}',
    '{"event": "media", "media": {"payload": "not base64!"}}',
    '{"event": "mark", "mark": {}}',
    "[" * 30_000,
    b"\x00\x01",
]

ODD_VALUES = [
    '{"event": "\\ud800"}',
    json.dumps(start_message(customParameters={"token": "\ud800"})),
    json.dumps(start_message(callSid="CA\0")),
    json.dumps(start_message()).replace("8000", "1e999"),
    json.dumps(start_message()).replace("8000", "9" * 5000),
]


@pytest.mark.parametrize("message", ODD_VALUES, ids=["event", "surrogate", "nul", "1e999", "5000 digits"])
async def test_a_surrogate_in_a_token_and_a_sample_rate_of_1e999_are_malformed(message: str) -> None:
    """A message with a value that cannot be stored or converted is malformed, like one that is not JSON."""
    app = MediaApp()
    async with serving_media(app) as address:
        assert await close_code(address, *[message] * 10) == 1007


@pytest.mark.parametrize("started", [False, True])
async def test_the_tenth_malformed_message_closes_with_1007(started: bool) -> None:
    """Nine malformed messages are ignored, before and after the start; the tenth closes the socket."""
    app = MediaApp()
    async with serving_media(app) as address, connect(f"ws://{address}/media", compression=None) as ws:
        if started:
            await ws.send(START)
            await until(lambda: app.worker)
        for message in MALFORMED[:-1]:
            await ws.send(message)
        await ws.send(json.dumps({"event": "dtmf", "dtmf": {"digit": "5"}}))
        if started:
            await until(lambda: app.digits)
        assert not app.done.is_set()
        await ws.send(MALFORMED[-1])
        with contextlib.suppress(ConnectionClosed):
            async with asyncio.timeout(60):
                async for _ in ws:
                    continue
        assert ws.close_code == 1007
        await until(app.done.is_set)
    if started:
        assert [(closed.by, closed.code) for closed in app.closed] == [("us", 1007)]


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("kind", ["text", "umlauts", "bytes"])
async def test_a_message_over_64_kib_closes_with_1009(started: bool, kind: str) -> None:
    """The limit is in bytes, for text and binary messages, before and after the start."""
    too_big: dict[str, str | bytes] = {
        "text": "x" * (64 * 1024 + 1),
        "umlauts": "ü" * (32 * 1024 + 1),
        "bytes": b"x" * (64 * 1024 + 1),
    }
    app = MediaApp()
    async with serving_media(app) as address:
        assert await close_code(address, *([START] if started else []), too_big[kind]) == 1009
        await until(app.done.is_set)


async def test_a_message_of_exactly_64_kib_is_allowed() -> None:
    """Audio in a message of exactly 64 KiB reaches the pipeline."""
    app = MediaApp()
    async with call(app) as twilio:
        frame = json.dumps(media_message(b""))
        payload = b"\xff" * ((64 * 1024 - len(frame)) // 4 * 3)
        await twilio.say(media_message(payload))
        await until(lambda: app.echo.heard)
    assert len(app.echo.heard[0]) == 2 * len(payload)


async def test_unknown_events_are_not_malformed() -> None:
    """Unknown events are ignored and not counted as malformed."""
    app = MediaApp()
    async with call(app) as twilio:
        for _ in range(20):
            await twilio.say({"event": "weather", "streamSid": STREAM_SID})
        await twilio.say(media_message(b"\xff" * 160))
        await until(lambda: app.echo.heard)
    assert [len(audio) for audio in app.echo.heard] == [2 * 160]


# ----------------------------------------------------------------------------------------- keys and end


async def test_keys_are_observed() -> None:
    """Each pressed key reaches the observer."""
    app = MediaApp()
    async with call(app) as twilio:
        for digit in "1#":
            await twilio.say({"event": "dtmf", "streamSid": STREAM_SID, "dtmf": {"digit": digit}})
        await until(lambda: len(app.digits) == 2)
    assert app.digits == ["1", "#"]


async def test_stop_is_observed_before_the_close() -> None:
    """Twilio's stop, then its close: the end is announced and the carrier's."""
    app = MediaApp()
    async with call(app) as twilio:
        await twilio.say({"event": "stop", "streamSid": STREAM_SID, "stop": {}})
        await until(lambda: app.stops)
        await twilio.ws.close()
        await until(app.done.is_set)
    assert [(closed.by, closed.announced) for closed in app.closed] == [("carrier", True)]


async def test_an_abrupt_loss_of_the_connection_is_noticed_at_once() -> None:
    """A dropped TCP connection is observed once, as an unannounced end, and ends the pipeline and all
    waits."""
    app = MediaApp()
    async with call(app) as twilio:
        await app.say(tone(5000))
        await twilio.wait_for("media", 3)
        assert app.media is not None
        waiting = asyncio.create_task(app.media.wait_all_heard(60.0))
        await asyncio.sleep(0)
        twilio.ws.transport.abort()
        await until(lambda: app.closed)
        assert await asyncio.wait_for(waiting, 4.0)
        await until(app.done.is_set)
    assert [(closed.by, closed.announced) for closed in app.closed] == [("carrier", False)]


async def test_waiting_on_a_connection_that_is_gone_does_not_fail() -> None:
    """A mark that cannot be sent any more leaves the wait to the clock, without an error."""
    gone, results = asyncio.Event(), []

    async def answer(websocket: WebSocket) -> None:
        media = await accept_media(websocket)
        await gone.wait()
        for _ in range(2):
            media.playout.audio_sent(20.0, media.now_ms())
            results.append(await media.wait_all_heard(3.0))

    async with serving(Starlette(routes=[WebSocketRoute("/media", answer)])) as address:
        async with connect(f"ws://{address}/media") as ws:
            await ws.send(START)
            await ws.ping()
            await asyncio.sleep(0.05)
            ws.transport.abort()
        await asyncio.sleep(0.05)
        gone.set()
        await until(lambda: len(results) == 2)
    assert results == [True, True]


async def test_close_is_normal_and_observed_once() -> None:
    """When the pipeline ends the socket closes with 1000, and observers hear that it was us."""
    app = MediaApp()
    async with call(app) as twilio:
        assert app.worker is not None
        await app.say(tone(80))
        await app.worker.stop_when_done()
        await until(app.done.is_set)
        await until(lambda: twilio.ws.close_code is not None)
        assert twilio.ws.close_code == 1000
        assert len(twilio.audio()) == 80 * 8  # no end silence
    assert [(closed.by, closed.code) for closed in app.closed] == [("us", 1000)]


async def test_an_observers_bug_does_not_end_the_audio() -> None:
    """An exception in an observer is logged, and the caller is still heard."""
    app = MediaApp()
    async with call(app) as twilio:
        assert app.media is not None

        def broken(_: str) -> None:
            raise RuntimeError("a bug")

        app.media.on_dtmf(broken)
        await twilio.say({"event": "dtmf", "streamSid": STREAM_SID, "dtmf": {"digit": "1"}})
        await twilio.say(media_message(b"\xff" * 160))
        await until(lambda: app.echo.heard)
