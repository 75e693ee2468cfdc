"""The last stage of a call's pipeline: sends speech at the pace of playout (`telephony.transport`)."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    CancelFrame,
    ControlFrame,
    EndFrame,
    Frame,
    InterruptionFrame,
    OutputAudioRawFrame,
    StartFrame,
    SystemFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from telephony.timed_frames import WHEN_ALL_ARE_GONE, TimedFrames

WRITE_TIMEOUT_S = 3.0
"""If the carrier does not read for this time, the call counts as lost."""

CLOSE_TIMEOUT_S = 1.0

AHEAD_S = 0.16
"""How much audio is sent ahead of playout, or two chunks if that is more. If the event loop is late by more
than this less one chunk, the caller hears a gap. Barge-in is not slowed down, because the carrier clears its
buffer."""

_SPEECH = (TTSStartedFrame, TTSAudioRawFrame, TTSTextFrame, TTSStoppedFrame)

SPEECH_TIMEOUT_S = 3.0
"""Speech has ended when nothing follows for this time, even if its service did not report the end."""


@dataclass
class MarkFrame(ControlFrame):
    """Has the carrier return a mark when the audio before it was played."""

    mark: str = ""


@dataclass
class DropSpeechFrame(InterruptionFrame):
    """An interruption that drops uninterruptible speech too, because it will be spoken again."""


class Wire(Protocol):
    """The connection to the carrier. After it is closed, sending has no effect."""

    @property
    def is_open(self) -> bool:
        """Whether something can be sent."""
        ...

    async def send_audio(self, pcm: bytes) -> None:
        """Send one chunk of 16-bit mono PCM."""
        ...

    async def send_mark(self, name: str) -> None:
        """Have the carrier return a mark after the audio sent so far."""
        ...

    async def send_clear(self) -> None:
        """Have the carrier discard the audio that it has not played."""
        ...

    async def close(self) -> None:
        """Close the socket."""
        ...


@dataclass(slots=True)
class _Chunk:
    audio: bytes
    interruptible: bool
    source: OutputAudioRawFrame
    """The frame in which the chunk ends."""


class CallOutput(FrameProcessor):
    """Sends speech and marks in order, and passes other frames on when the audio before them was sent.

    Frames with a timestamp are passed on at that time. Audio is 16-bit mono PCM. An interruption drops
    interruptible audio that was not sent; the carrier's buffer is cleared unless it contains uninterruptible
    audio.
    """

    def __init__(self, wire: Wire, *, chunk_bytes: int, sample_rate: int) -> None:
        """Nothing is sent before the pipeline starts; see `CallTransport`."""
        super().__init__(name="call-output", enable_direct_mode=True)
        self._wire = wire
        self._chunk_bytes = chunk_bytes
        self._sample_rate = sample_rate
        self._chunk_s = chunk_bytes / 2 / sample_rate
        self._ahead_s = max(AHEAD_S - self._chunk_s, self._chunk_s)
        self._queue: deque[_Chunk | Frame] = deque()
        self._arrived = asyncio.Event()
        self._rest = bytearray()
        self._rest_is_interruptible = True
        self._rest_source: OutputAudioRawFrame | None = None
        self._played_s = 0.0
        """When all audio that was sent will have been played, by the monotonic clock in s."""
        self._protected_until_s = 0.0
        """The same for uninterruptible audio."""
        self._is_speaking = False
        self._announced: set[str | None] = set()
        """Contexts of speech that have begun without audio: others may be spoken before it."""
        self._timed = TimedFrames()
        self._passing: Frame | None = None
        """The timed frame that is being passed on."""
        self._playing: asyncio.Task[None] | None = None
        self._timing: asyncio.Task[None] | None = None
        self._all_sent, self._all_timed = asyncio.Event(), asyncio.Event()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Accept a frame; only the EndFrame waits until everything before it was sent."""
        await super().process_frame(frame, direction)
        if isinstance(frame, StartFrame):
            await self.push_frame(frame, direction)
            self._playing = self.create_task(self._play())
            self._timing = self.create_task(self._push_timed())
        elif isinstance(frame, InterruptionFrame):
            if isinstance(frame, DropSpeechFrame):
                self._unprotect_speech()
            # A word that is passed on after the interruption would count as one of the next utterance.
            await self._drop_interruptible()
            await self.push_frame(frame, direction)
            await self._clear()
        elif isinstance(frame, EndFrame):
            await self._finish(frame)
            await self.push_frame(frame, direction)
        elif isinstance(frame, CancelFrame):
            await self._stop()
            await self._close()
            await self.push_frame(frame, direction)
        elif isinstance(frame, SystemFrame) or direction is FrameDirection.UPSTREAM:
            await self.push_frame(frame, direction)
        else:
            self._take(frame)

    async def cleanup(self) -> None:
        """Stop sending."""
        await super().cleanup()  # type: ignore[no-untyped-call]
        await self._stop()

    # ------------------------------------------------------------------------------------ what comes in

    def _take(self, frame: Frame) -> None:
        if isinstance(frame, OutputAudioRawFrame):
            self._cut(frame)
        elif frame.pts and not isinstance(frame, TTSStoppedFrame):
            self._timed.add(frame, frame.pts)
        else:
            if isinstance(frame, TTSStartedFrame | TTSStoppedFrame):
                self._pad_rest()
            self._add(frame)

    def _add(self, item: _Chunk | Frame) -> None:
        self._queue.append(item)
        self._arrived.set()

    def _cut(self, frame: OutputAudioRawFrame) -> None:
        """Cut audio into chunks; a chunk of several frames is interruptible if all of them are."""
        if frame.sample_rate != self._sample_rate:
            raise ValueError(f"audio at {frame.sample_rate} Hz cannot be sent")
        size = self._chunk_bytes
        first = frame.interruptible and (self._rest_is_interruptible or not self._rest)
        self._rest += frame.audio
        whole = len(self._rest) // size * size
        for at in range(0, whole, size):
            audio = bytes(self._rest[at : at + size])
            self._add(_Chunk(audio, first if at == 0 else frame.interruptible, frame))
        del self._rest[:whole]
        self._rest_is_interruptible = frame.interruptible if whole else first
        self._rest_source = frame

    def _pad_rest(self) -> None:
        if self._rest and self._rest_source is not None:
            audio = bytes(self._rest).ljust(self._chunk_bytes, b"\0")
            self._add(_Chunk(audio, self._rest_is_interruptible, self._rest_source))
            self._rest.clear()

    def _unprotect_speech(self) -> None:
        """Drop all speech that was not sent, and clear the carrier's buffer."""
        passing = [self._passing] if self._passing is not None else []
        for item in (*self._queue, *self._timed, *passing):
            if isinstance(item.source if isinstance(item, _Chunk) else item, _SPEECH):
                item.interruptible = True
        self._rest_is_interruptible = self._rest_is_interruptible or isinstance(self._rest_source, _SPEECH)
        self._protected_until_s = 0.0

    async def _drop_interruptible(self) -> None:
        self._queue = deque(item for item in self._queue if not item.interruptible)
        if self._rest_is_interruptible:
            self._rest.clear()
        self._timed.take(lambda frame: frame.interruptible)
        if self._passing is not None and self._passing.interruptible and self._timing is not None:
            await self.cancel_task(self._timing)
            self._passing = None
            self._timing = self.create_task(self._push_timed())

    async def _clear(self) -> None:
        if not self._rest and not any(isinstance(item, _Chunk) for item in self._queue):
            await self._speech_stopped()
        # The carrier can only discard all of its buffer; what is left of it was sent ahead.
        if self._protected_until_s <= time.monotonic():
            await self._write(self._wire.send_clear())
            self._played_s = 0.0

    async def _finish(self, frame: EndFrame) -> None:
        if self._playing is not None:
            self._add(frame)
            self._timed.add(frame, WHEN_ALL_ARE_GONE)
            await self._all_sent.wait()
            await self._all_timed.wait()
        await self._close()

    async def _close(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._wire.close()

    async def _stop(self) -> None:
        tasks = self._playing, self._timing
        self._playing = self._timing = None
        for task in tasks:
            if task is not None:
                await self.cancel_task(task)

    # ---------------------------------------------------------------------------------- what goes out

    async def _play(self) -> None:
        while True:
            item = await self._next_item()
            if isinstance(item, EndFrame):
                self._all_sent.set()  # `process_frame` passes it on
                return
            try:
                await self._put_out(item)
            except Exception as error:  # noqa: BLE001 - the top of a task: the call goes on with the next frame
                await self.push_error("a frame could not be sent", exception=error)

    async def _put_out(self, item: _Chunk | Frame) -> None:
        if isinstance(item, _Chunk):
            await self._send_chunk(item)
        elif isinstance(item, MarkFrame):
            await self._write(self._wire.send_mark(item.mark))
        else:
            await self._pass_on(item)

    async def _next_item(self) -> _Chunk | Frame:
        while not self._queue:
            self._arrived.clear()
            try:
                async with asyncio.timeout(SPEECH_TIMEOUT_S if self._is_speaking else None):
                    await self._arrived.wait()
            except TimeoutError:
                await self._speech_stopped()
        return self._queue.popleft()

    async def _send_chunk(self, chunk: _Chunk) -> None:
        is_speech = isinstance(chunk.source, TTSAudioRawFrame)
        if is_speech and not self._is_speaking:
            self._is_speaking = True
            await self.broadcast_frame(BotStartedSpeakingFrame)
        if not self._wire.is_open or not self.is_usable:
            return
        await self._write(self._wire.send_audio(chunk.audio))
        if isinstance(chunk.source, TTSAudioRawFrame) and chunk.source.context_id in self._announced:
            self._announced.remove(chunk.source.context_id)
            await self.push_frame(chunk.source)
        await self._keep_pace(interruptible=chunk.interruptible)

    async def _keep_pace(self, *, interruptible: bool) -> None:
        """Wait until the next chunk may be sent; after all audio was played, start again from now."""
        now = time.monotonic()
        self._played_s = max(self._played_s, now) + self._chunk_s
        if not interruptible:
            self._protected_until_s = self._played_s
        if self._played_s - self._ahead_s > now:
            await asyncio.sleep(self._played_s - self._ahead_s - now)

    async def _pass_on(self, frame: Frame) -> None:
        if isinstance(frame, TTSStartedFrame):
            self._announced.add(frame.context_id)
        elif isinstance(frame, TTSStoppedFrame):
            self._announced.discard(frame.context_id)
            await self._push_words(frame.context_id)
            await self._speech_stopped()
        await self.push_frame(frame)

    async def _push_words(self, context_id: str | None) -> None:
        """Pass on the words of a context whose audio was sent, so that none follows its end."""

        def is_of_context(frame: Frame) -> bool:
            return isinstance(frame, TTSTextFrame) and frame.context_id == context_id

        for word in self._timed.take(is_of_context):
            await self.push_frame(word)

    async def _speech_stopped(self) -> None:
        if self._is_speaking:
            self._is_speaking = False
            await self.broadcast_frame(BotStoppedSpeakingFrame)

    async def _write(self, sending: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                await sending
        except TimeoutError as error:
            await self.push_error(
                "the carrier has stopped reading", exception=error, force_treat_as_permanent=True
            )

    async def _push_timed(self) -> None:
        while True:
            frame = await self._timed.next(self.get_clock().get_time)
            if isinstance(frame, EndFrame):
                self._all_timed.set()
                return
            self._passing = frame
            await self.push_frame(frame)
            self._passing = None
