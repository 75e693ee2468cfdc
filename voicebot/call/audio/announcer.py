"""Plays audio on a media stream without an agent, and waits for a key of the caller."""

from __future__ import annotations

import asyncio
from typing import Any, Self

from pipecat.frames.frames import (
    Frame,
    InterruptionFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.workers.runner import WorkerRunner

from telephony.media import MediaClosed, MediaStream
from voicebot.call.audio.frames import DrainFrame

HEARD_TIMEOUT_S = 90.0
"""How long an announcement may take, which has a minute of audio at most."""

_CONTEXT = "announcement"


class Announcer:
    """Speaks on one media stream; use as an async context manager, once."""

    def __init__(self, media: MediaStream) -> None:
        """Nothing is received or sent before the context is entered."""
        self._media = media
        self._key: asyncio.Future[str] | None = None
        self._closed = asyncio.Event()
        self.is_hung_up = False
        """Whether the caller has hung up."""
        self._worker = PipelineWorker(
            Pipeline([media.transport.input(), media.transport.output()]),
            params=PipelineParams(
                audio_in_sample_rate=media.sample_rate, audio_out_sample_rate=media.sample_rate
            ),
            enable_rtvi=False,
            enable_turn_tracking=False,
            idle_timeout_secs=None,
        )
        self._worker.add_reached_downstream_filter((DrainFrame,))
        self._worker.add_event_handler("on_frame_reached_downstream", _sent)
        self._runner = WorkerRunner(handle_sigint=False)
        self._running: asyncio.Task[None] | None = None
        media.on_dtmf(self._pressed)
        media.on_closed(self._media_closed)

    async def __aenter__(self) -> Self:
        await self._runner.add_workers(self._worker)
        self._running = asyncio.create_task(self._runner.run(), name="announcement")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cancel()
        if self._running is not None:
            await asyncio.gather(self._running, return_exceptions=True)

    @property
    def is_open(self) -> bool:
        """Whether the caller is still there."""
        return not self._closed.is_set()

    async def say(self, audio: bytes) -> None:
        """Play 16-bit mono PCM at the stream's rate; return when it was heard, or the stream was closed."""
        drain = DrainFrame()
        sound = TTSAudioRawFrame(audio, self._media.sample_rate, 1, context_id=_CONTEXT)
        begin, end = TTSStartedFrame(context_id=_CONTEXT), TTSStoppedFrame(context_id=_CONTEXT)
        for frame in (begin, sound, end, drain):
            await self._worker.queue_frame(frame)
        await self._unless_closed(drain.sent)
        await self._media.wait_all_heard(HEARD_TIMEOUT_S)

    async def ask(self, audio: bytes, timeout_s: float) -> str | None:
        """Play audio until a key is pressed; return the key, or None if none follows in time (seconds)."""
        self._key = asyncio.get_running_loop().create_future()
        saying = asyncio.create_task(self.say(audio), name="announcement")
        await _first(saying, self._key)
        if not self._key.done() and self.is_open:
            closed = asyncio.create_task(self._closed.wait())
            await _first(closed, self._key, timeout_s=timeout_s)
            closed.cancel()
        if not saying.done():
            await self._worker.queue_frame(InterruptionFrame())
            saying.cancel()
        await asyncio.gather(saying, return_exceptions=True)
        return self._key.result() if self._key.done() else None

    async def _unless_closed(self, event: asyncio.Event) -> None:
        tasks = [asyncio.create_task(event.wait()), asyncio.create_task(self._closed.wait())]
        try:
            await _first(*tasks, timeout_s=HEARD_TIMEOUT_S)
        finally:
            for task in tasks:
                task.cancel()

    def _pressed(self, digit: str) -> None:
        if self._key is not None and not self._key.done():
            self._key.set_result(digit)

    def _media_closed(self, closed: MediaClosed) -> None:
        self.is_hung_up = closed.by == "carrier" and not closed.is_lost
        self._closed.set()


async def _first(*waits: asyncio.Future[Any], timeout_s: float | None = None) -> None:
    await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)


async def _sent(_worker: PipelineWorker, frame: Frame) -> None:
    if isinstance(frame, DrainFrame):
        frame.sent.set()
