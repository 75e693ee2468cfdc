"""The server's side of a media socket in the tests: accepts it, runs a pipeline, and records events."""

from __future__ import annotations

import asyncio
import contextlib
import math
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from pipecat.frames.frames import (
    Frame,
    InputAudioRawFrame,
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

from telephony.errors import MediaGone, MediaRefused
from telephony.media import MarkEcho, MediaClosed
from telephony.socket_media import SocketMedia
from telephony.twilio.media import accept_media
from tests.telephony.media_harness import FakeTwilio, fake_twilio, serving, until


class Echo(FrameProcessor):
    """Sends what it hears back, and keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[bytes] = []
        self.frames: list[InputAudioRawFrame] = []
        self._sending: set[asyncio.Task[None]] = set()

    def hear(self, audio: bytes) -> None:
        self.heard.append(audio)
        sending = asyncio.create_task(self.push_frame(OutputAudioRawFrame(audio, 8000, 1)))
        self._sending.add(sending)
        sending.add_done_callback(self._sending.discard)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            self.frames.append(frame)
        await self.push_frame(frame, direction)


@dataclass
class MediaApp:
    """The server's side: one socket at a time, optionally with a pipeline on it."""

    start_timeout_s: float = 5.0
    runs_pipeline: bool = True
    refusal: tuple[int, str] | None = None
    media: SocketMedia | None = None
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
        media.on_audio(self.echo.hear)
        media.on_mark(self.marks.append)
        media.on_closed(self.closed.append)
        media.on_dtmf(self.digits.append)
        media.on_stop(lambda: self.stops.append(True))
        self.media = media
        if self.refusal:
            await media.refuse(*self.refusal)
        elif self.runs_pipeline:
            await self._converse(media)

    async def _converse(self, media: SocketMedia) -> None:
        pipeline = Pipeline([media.transport.input(), self.echo, media.transport.output()])
        # The pipeline's own rates are left at their defaults: the media must insist on 8 kHz by itself.
        worker = PipelineWorker(pipeline, enable_rtvi=False, cancel_on_idle_timeout=False)

        def on_closed(_: MediaClosed) -> None:
            asyncio.create_task(worker.cancel())  # noqa: RUF006 - ends with the loop of the test

        media.on_closed(on_closed)
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
async def serving_media(app: MediaApp) -> AsyncIterator[str]:
    async with serving(Starlette(routes=[WebSocketRoute("/media", app.answer)])) as address:
        yield address


@contextlib.asynccontextmanager
async def call(app: MediaApp, **options: object) -> AsyncIterator[FakeTwilio]:
    """A call whose pipeline runs."""
    async with serving_media(app) as address, fake_twilio(address, **options) as twilio:
        await twilio.start_stream()
        await until(lambda: app.worker)
        yield twilio
