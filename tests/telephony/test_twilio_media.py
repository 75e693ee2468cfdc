"""The media socket over real sockets: limits, audio, marks and the knowledge of what was heard."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from pipecat.frames.frames import (
    Frame,
    InputAudioRawFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.workers.runner import WorkerRunner
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from telephony.carrier import MarkEcho, MediaClosed, MediaGone, MediaRefused, MediaStream
from telephony.twilio.media import AUDIO_OUT_10MS_CHUNKS, TwilioMedia, accept_media
from tests.telephony.rig import (
    ACCOUNT_SID,
    CALL_SID,
    STREAM_SID,
    PhoneCompany,
    media_message,
    phone_company,
    serving,
    start_message,
    until,
)

CHUNK_MS = AUDIO_OUT_10MS_CHUNKS * 10


class Echo(FrameProcessor):
    """Sends what it hears back, and keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[InputAudioRawFrame] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            self.heard.append(frame)
            frame = OutputAudioRawFrame(frame.audio, frame.sample_rate, frame.num_channels)
        await self.push_frame(frame, direction)


@dataclass
class App:
    """The server's side: one socket at a time, optionally with a pipeline on it."""

    start_timeout_s: float = 5.0
    runs_pipeline: bool = True
    refusal: tuple[int, str] | None = None
    media: TwilioMedia | None = None
    worker: PipelineWorker | None = None
    echo: Echo = field(default_factory=Echo)
    error: Exception | None = None
    marks: list[MarkEcho] = field(default_factory=list)
    closed: list[MediaClosed] = field(default_factory=list)
    digits: list[str] = field(default_factory=list)
    stops: list[bool] = field(default_factory=list)
    done: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, websocket: WebSocket) -> None:
        try:
            await self._call(websocket)
        except (MediaRefused, MediaGone) as error:
            self.error = error
        finally:
            self.done.set()

    async def _call(self, websocket: WebSocket) -> None:
        media = await accept_media(websocket, start_timeout_s=self.start_timeout_s)
        media.on_mark(self.marks.append)
        media.on_closed(self.closed.append)
        media.on_dtmf(self.digits.append)
        media.on_stop(lambda: self.stops.append(True))
        self.media = media
        if self.refusal:
            await media.refuse(*self.refusal)
        elif self.runs_pipeline:
            await self._converse(media)

    async def _converse(self, media: TwilioMedia) -> None:
        pipeline = Pipeline([media.transport.input(), self.echo, media.transport.output()])
        # The pipeline's own rates are left at their defaults: the media must insist on 8 kHz by itself.
        worker = PipelineWorker(pipeline, enable_rtvi=False, cancel_on_idle_timeout=False)
        media.on_closed(lambda _: asyncio.create_task(worker.cancel()) and None)
        started = asyncio.Event()

        async def on_started(*_: object) -> None:
            started.set()

        worker.add_event_handler("on_pipeline_started", on_started)
        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(worker)
        running = asyncio.create_task(runner.run())
        await started.wait()
        self.worker = worker
        await running

    async def say(self, audio: bytes, mark: str | None = None) -> None:
        """Speak through the pipeline's output, followed by a mark."""
        assert self.worker is not None
        assert self.media is not None
        frames: list[Frame] = [
            TTSStartedFrame(),
            TTSAudioRawFrame(audio=audio, sample_rate=8000, num_channels=1),
            TTSStoppedFrame(),
        ]
        await self.worker.queue_frames(frames + ([self.media.mark_frame(mark)] if mark else []))

    def heard_ms(self) -> float:
        assert self.media is not None
        return self.media.playout.heard_ms(self.media.now_ms())


def tone(ms: int) -> bytes:
    """A sine of 440 Hz as 16-bit PCM at 8 kHz."""
    return b"".join(struct.pack("<h", round(8000 * math.sin(index * 0.3456))) for index in range(ms * 8))


@contextlib.asynccontextmanager
async def answered(app: App) -> AsyncIterator[str]:
    async with serving(Starlette(routes=[WebSocketRoute("/media", app.answer)])) as address:
        yield address


@contextlib.asynccontextmanager
async def call(app: App, **options: object) -> AsyncIterator[PhoneCompany]:
    """A call whose pipeline runs."""
    async with answered(app) as address, phone_company(address, **options) as company:
        await company.begin()
        await until(lambda: app.worker)
        yield company


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


async def test_the_start_message_becomes_the_streams_facts() -> None:
    """Stream, call, account and token are what Twilio said; the media is the carrier-neutral protocol."""
    app = App(runs_pipeline=False)
    async with answered(app) as address, phone_company(address) as company:
        await company.begin(customParameters={"token": "t0k", "other": "x"})
        await until(app.done.is_set)
    media: MediaStream | None = app.media
    assert media is not None
    assert (media.start.stream_id, media.start.carrier_call_id) == (STREAM_SID, CALL_SID)
    assert (media.start.account_ref, media.start.token) == (ACCOUNT_SID, "t0k")
    assert media.start.parameters == {"token": "t0k", "other": "x"}


async def test_a_start_without_a_token_is_left_to_the_caller() -> None:
    """No custom parameters means an empty token, which the application then refuses with 1008."""
    app = App(refusal=(1008, "bad token"))
    async with answered(app) as address:
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
    """Silence, other events and an incomplete start all run into the same deadline."""
    app = App(start_timeout_s=0.2)
    async with answered(app) as address:
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
    """A stream in another format is closed with 1008 without waiting for the deadline."""
    app = App()
    async with answered(app) as address:
        assert await close_code(address, CONNECTED, json.dumps(start_message(mediaFormat=wrong))) == 1008


async def test_a_carrier_that_leaves_before_the_start_is_gone() -> None:
    """A socket closed by the other side before its start is no refusal of ours."""
    app = App()
    async with answered(app) as address:
        async with connect(f"ws://{address}/media") as ws:
            await ws.send(CONNECTED)
        await until(app.done.is_set)
    assert isinstance(app.error, MediaGone)


# ---------------------------------------------------------------------------------------------- limits


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


@pytest.mark.parametrize("started", [False, True])
async def test_the_tenth_malformed_message_closes_with_1007(started: bool) -> None:
    """Nine malformed messages of any kind are ignored before and after the start; the tenth is not."""
    app = App()
    async with answered(app) as address, connect(f"ws://{address}/media", compression=None) as ws:
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
            async with asyncio.timeout(5.0):
                async for _ in ws:
                    continue
        assert ws.close_code == 1007
        await until(app.done.is_set)
    if started:
        assert [(closed.by, closed.code) for closed in app.closed] == [("us", 1007)]


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("kind", ["text", "umlauts", "bytes"])
async def test_a_message_over_64_kib_closes_with_1009(started: bool, kind: str) -> None:
    """The limit is in bytes, for text and binary, before and after the start."""
    too_big: dict[str, str | bytes] = {
        "text": "x" * (64 * 1024 + 1),
        "umlauts": "ü" * (32 * 1024 + 1),
        "bytes": b"x" * (64 * 1024 + 1),
    }
    app = App()
    async with answered(app) as address:
        assert await close_code(address, *([START] if started else []), too_big[kind]) == 1009
        await until(app.done.is_set)


async def test_a_message_of_exactly_64_kib_is_allowed() -> None:
    """Audio that just fits reaches the pipeline."""
    app = App()
    async with call(app) as company:
        frame = json.dumps(media_message(b""))
        payload = b"\xff" * ((64 * 1024 - len(frame)) // 4 * 3)
        await company.say(media_message(payload))
        await until(lambda: app.echo.heard)
    assert len(app.echo.heard[0].audio) == 2 * len(payload)


async def test_unknown_events_are_not_malformed() -> None:
    """Twilio may add events: twenty of one that we do not know change nothing."""
    app = App()
    async with call(app) as company:
        for _ in range(20):
            await company.say({"event": "weather", "streamSid": STREAM_SID})
        await company.say(media_message(b"\xff" * 160))
        await until(lambda: app.echo.heard)


# ----------------------------------------------------------------------------------------------- audio


async def test_mulaw_goes_through_the_pipeline_byte_for_byte() -> None:
    """Nothing is resampled: all µ-law values echoed by the pipeline come back unchanged and in order."""
    app = App()
    audio = bytes(value for value in range(256) if value != 0x7F) * 8  # 0x7F and 0xFF are both silence
    audio = audio[: len(audio) // 320 * 320]
    async with call(app) as company:
        for offset in range(0, len(audio), 160):
            await company.say(media_message(audio[offset : offset + 160]))
        await until(lambda: len(company.audio()) >= len(audio))
    assert company.audio() == audio
    assert {(frame.sample_rate, frame.num_channels) for frame in app.echo.heard} == {(8000, 1)}
    assert {len(message["media"]["payload"]) for message in company.of("media")} == {428}  # 320 bytes


async def test_audio_is_sent_at_the_pace_of_playing() -> None:
    """The carrier's buffer never holds much more than two chunks, so a clear leaves little to be heard."""
    app = App()
    ahead: list[float] = []
    async with call(app) as company:
        await app.say(tone(800), "end")
        while not company.of("mark"):
            await asyncio.sleep(0.01)
            ahead.append(len(company.audio()) / 8.0 - company.heard_ms())
    assert max(ahead) <= 2 * CHUNK_MS + 45  # and what a busy machine adds


# ----------------------------------------------------------------------------------------------- marks


async def test_marks_travel_behind_their_audio_and_come_back_in_order() -> None:
    """Each mark is on the wire after exactly the audio queued before it, and is reported as played."""
    app = App()
    async with call(app) as company:
        await app.say(tone(200), "one")
        await app.say(tone(120), "two")
        await until(lambda: len(app.marks) == 2)
    events = [message["event"] for message in company.received]
    assert events == ["media"] * (200 // CHUNK_MS) + ["mark"] + ["media"] * (120 // CHUNK_MS) + ["mark"]
    assert app.marks == [MarkEcho(name="one", fate="played"), MarkEcho(name="two", fate="played")]
    assert all(message["streamSid"] == STREAM_SID for message in company.received)


async def test_an_interruption_cuts_what_is_heard() -> None:
    """What was sent after the cut is never heard, a wait ends with it, and the next words are heard again."""
    app = App()
    async with call(app) as company:
        await app.say(tone(200), "heard")
        await until(lambda: app.marks)
        await app.say(tone(1000))
        await until(lambda: company.heard_ms() > 450)
        assert app.media is not None
        assert app.worker is not None
        waiting = asyncio.create_task(app.media.wait_all_heard(5.0))
        await company.wait_for("mark", 2)
        await app.worker.queue_frame(InterruptionFrame())
        await company.wait_for("clear")
        assert await asyncio.wait_for(waiting, 1.0)
        await asyncio.sleep(0.1)
        assert app.heard_ms() == pytest.approx(company.heard_ms(), abs=40)
        assert app.heard_ms() < 900
        await app.say(tone(120), "after")
        await until(lambda: len(app.marks) == 2)
        assert app.heard_ms() == pytest.approx(company.heard_ms(), abs=40)
    assert app.marks == [MarkEcho(name="heard", fate="played"), MarkEcho(name="after", fate="played")]


async def test_a_mark_still_at_the_carrier_when_it_clears_is_reported_as_cleared() -> None:
    """A mark returned because of our clear is not taken for played."""
    app = App()
    async with call(app, delay_s=0.5) as company:
        await app.say(tone(120), "whole")
        await until(lambda: app.marks)
        await app.say(tone(200), "cut")
        await company.wait_for("mark", 2)
        assert app.worker is not None
        await app.worker.queue_frame(InterruptionFrame())
        await until(lambda: len(app.marks) == 2)
    assert app.marks == [MarkEcho(name="whole", fate="played"), MarkEcho(name="cut", fate="cleared")]


async def test_what_was_heard_is_known_within_40_ms() -> None:
    """At any moment of two utterances the model agrees with the carrier's loudspeaker."""
    app = App()
    errors: list[float] = []
    async with call(app) as company:
        for number in range(2):
            await app.say(tone(600), f"m{number}")
            while len(app.marks) <= number:
                await asyncio.sleep(0.015)
                errors.append(app.heard_ms() - company.heard_ms())
            await asyncio.sleep(0.2)
        assert app.heard_ms() == 1200.0
    assert sorted(map(abs, errors))[int(len(errors) * 0.95)] <= 40.0


async def test_a_carrier_with_latency_is_learned_from_its_marks() -> None:
    """After one echo the model lags by what the carrier buffers, so it claims nothing too early."""
    app = App()
    async with call(app, delay_s=0.2) as company:
        await app.say(tone(200), "first")
        await until(lambda: app.marks)
        await asyncio.sleep(0.1)
        await app.say(tone(600), "second")
        await until(lambda: company.heard_ms() > 500)
        assert app.heard_ms() == pytest.approx(company.heard_ms(), abs=40)
        assert app.media is not None
        assert app.media.playout.lag_ms == pytest.approx(200, abs=60)


async def test_waiting_for_the_ear_ends_with_the_last_sound() -> None:
    """After a flush the wait lasts until the carrier has played everything, with a mark of its own."""
    app = App()
    async with call(app) as company:
        await app.say(tone(300))
        assert app.worker is not None
        assert app.media is not None
        assert await app.worker.flush_pipeline()
        assert await app.media.wait_all_heard(3.0)
        assert company.heard_ms() >= 320 - 1  # 300 ms, padded to whole chunks
        assert app.heard_ms() == 320.0
    assert app.marks == []  # its own mark is nobody else's business
    assert len(company.of("mark")) == 1


async def test_waiting_does_not_depend_on_marks() -> None:
    """A carrier that never returns a mark delays the wait by the grace, and only the first time."""
    app = App()
    async with call(app, ignores_marks=True) as company:
        durations = []
        for _ in range(2):
            await app.say(tone(80))
            await company.wait_for("media", 1)
            assert app.worker is not None
            assert app.media is not None
            assert await app.worker.flush_pipeline()
            began = app.media.now_ms()
            assert await app.media.wait_all_heard(5.0)
            durations.append(app.media.now_ms() - began)
    assert durations[0] > 1200
    assert durations[1] < 1200


# ----------------------------------------------------------------------------------------- keys and end


async def test_keys_are_told() -> None:
    """Each pressed key reaches the observer."""
    app = App()
    async with call(app) as company:
        for digit in "1#":
            await company.say({"event": "dtmf", "streamSid": STREAM_SID, "dtmf": {"digit": digit}})
        await until(lambda: len(app.digits) == 2)
    assert app.digits == ["1", "#"]


async def test_a_stop_is_told_before_the_close() -> None:
    """Twilio's stop, then its close: the end is announced and the carrier's."""
    app = App()
    async with call(app) as company:
        await company.say({"event": "stop", "streamSid": STREAM_SID, "stop": {}})
        await until(lambda: app.stops)
        await company.ws.close()
        await until(app.done.is_set)
    assert [(closed.by, closed.announced) for closed in app.closed] == [("carrier", True)]


async def test_an_abrupt_loss_of_the_connection_is_noticed_at_once() -> None:
    """A dropped TCP connection is told as an unannounced end, once, and ends the pipeline and all waits."""
    app = App()
    async with call(app) as company:
        await app.say(tone(5000))
        await company.wait_for("media", 3)
        assert app.media is not None
        waiting = asyncio.create_task(app.media.wait_all_heard(10.0))
        await asyncio.sleep(0.05)
        company.ws.transport.abort()
        await until(lambda: app.closed, timeout_s=1.0)
        assert await asyncio.wait_for(waiting, 1.0)
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


async def test_our_own_end_closes_normally_and_is_told_once() -> None:
    """When the pipeline ends the socket closes with 1000, and observers hear that it was us."""
    app = App()
    async with call(app) as company:
        assert app.worker is not None
        await app.say(tone(80))
        await app.worker.stop_when_done()
        await until(app.done.is_set)
        await until(lambda: company.ws.close_code is not None)
        assert company.ws.close_code == 1000
        assert len(company.audio()) == 80 * 8  # no end silence
    assert [(closed.by, closed.code) for closed in app.closed] == [("us", 1000)]


async def test_an_observers_bug_does_not_end_the_audio() -> None:
    """An exception in an observer is logged, and the caller is still heard."""
    app = App()
    async with call(app) as company:
        assert app.media is not None

        def broken(_: str) -> None:
            raise RuntimeError("a bug")

        app.media.on_dtmf(broken)
        await company.say({"event": "dtmf", "streamSid": STREAM_SID, "dtmf": {"digit": "1"}})
        await company.say(media_message(b"\xff" * 160))
        await until(lambda: app.echo.heard)
