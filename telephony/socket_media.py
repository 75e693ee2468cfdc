"""The audio of one call: accepts a carrier's media socket and connects it to the pipeline's transport.

What differs between carriers is a `MediaFormat`: how messages are read and written, and the size of a chunk.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from loguru import logger
from pipecat.frames.frames import Frame
from starlette.websockets import WebSocket

from telephony.errors import MediaGone, MediaRefused
from telephony.media import MarkEcho, MediaClosed, MediaStart
from telephony.messages import Dtmf, Event, Mark, Media, Outgoing, Start, Stop
from telephony.output import MarkFrame
from telephony.playout import Playout, PlayoutWaiter
from telephony.socket import POLICY, GuardedSocket
from telephony.transport import CHUNK_BYTES, SAMPLE_RATE, CallTransport

INTERNAL_MARK_PREFIX = "heard:"
"""Prefix of the marks sent by `wait_all_heard`, which are not passed to observers."""


def _monotonic_ms() -> float:
    return time.monotonic() * 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaFormat:
    """How a carrier's media stream is read and written.

    Attributes:
        messages: makes the messages that are sent.
        decode: turns the caller's audio into 16-bit mono PCM.
        chunk_bytes: how much PCM is sent in a message.
        clears_whole_pieces: whether `clear` discards only messages whose audio has not begun to be played.
        sample_rate: of the audio in both directions, in Hz.
    """

    messages: Outgoing
    decode: Callable[[bytes], bytes]
    chunk_bytes: int = CHUNK_BYTES
    clears_whole_pieces: bool = False
    sample_rate: int = SAMPLE_RATE


class SocketWire:
    """A carrier's messages on a socket, and a record of what was sent; `telephony.transport.Wire`."""

    def __init__(
        self, socket: GuardedSocket, media_format: MediaFormat, playout: Playout, now_ms: Callable[[], float]
    ) -> None:
        """Send on `socket` and record in `playout`."""
        self._socket = socket
        self._messages = media_format.messages
        self._sample_rate = media_format.sample_rate
        self._playout = playout
        self._now_ms = now_ms
        self.on_clear: Callable[[], None] = lambda: None

    @property
    def is_open(self) -> bool:
        """Whether something can be sent."""
        return self._socket.is_open

    async def send_audio(self, pcm: bytes) -> None:
        """Send one chunk of 16-bit mono PCM."""
        self._playout.audio_sent(len(pcm) / 2 * 1000.0 / self._sample_rate, self._now_ms())
        await self._socket.write(self._messages.audio(pcm))

    async def send_mark(self, name: str) -> None:
        """Have the carrier return a mark after the audio sent so far."""
        self._playout.mark_sent(name, self._now_ms())
        await self._socket.write(self._messages.mark(name))

    async def send_clear(self) -> None:
        """Have the carrier discard the audio that it has not played."""
        self._playout.cleared(self._now_ms())
        self.on_clear()
        await self._socket.write(self._messages.clear())

    async def close(self) -> None:
        """Close the socket normally; no effect if it is closed."""
        await self._socket.close()


class SocketMedia:
    """One call's media stream: `telephony.carrier.MediaStream` over a carrier's socket."""

    def __init__(
        self,
        socket: GuardedSocket,
        start: MediaStart,
        media_format: MediaFormat,
        now_ms: Callable[[], float] = _monotonic_ms,
    ) -> None:
        """Use an accepted socket whose `start` message was read; see `accept_socket`."""
        self._socket = socket
        self._start = start
        self._now_ms = now_ms
        self._sample_rate = media_format.sample_rate
        self._decode = media_format.decode
        self._playout = Playout(clears_whole_pieces=media_format.clears_whole_pieces)
        self._watch = PlayoutWaiter(self._playout, now_ms)
        self._own_marks = count(1)
        self._audio_observers: list[Callable[[bytes], None]] = []
        self._mark_observers: list[Callable[[MarkEcho], None]] = []
        self._dtmf_observers: list[Callable[[str], None]] = []
        self._stop_observers: list[Callable[[], None]] = []
        self._closed_observers: list[Callable[[MediaClosed], None]] = []
        self._wire = SocketWire(socket, media_format, self._playout, now_ms)
        self._wire.on_clear = self._watch.changed
        socket.on_event = self._event
        socket.on_closed = self._closed
        self._transport = CallTransport(
            self._wire,
            socket.listen,
            chunk_bytes=media_format.chunk_bytes,
            sample_rate=media_format.sample_rate,
        )

    @property
    def start(self) -> MediaStart:
        """The facts of the stream's start."""
        return self._start

    @property
    def sample_rate(self) -> int:
        """The rate of the audio in both directions, in Hz."""
        return self._sample_rate

    @property
    def transport(self) -> CallTransport:
        """The transport on this socket; it takes 16-bit mono PCM at `sample_rate`, and gives no audio."""
        return self._transport

    @property
    def playout(self) -> Playout:
        """Estimate of the audio that the caller has heard."""
        return self._playout

    def now_ms(self) -> float:
        """The clock of `playout`: milliseconds, monotonic."""
        return self._now_ms()

    def mark_frame(self, name: str) -> Frame:
        """A frame that is sent as the carrier's `mark` after the audio queued before it."""
        return MarkFrame(mark=name)

    async def wait_all_heard(self, timeout_s: float) -> bool:
        """Wait until all sent audio was heard or cleared; sends a mark if none is outstanding."""
        if not self._playout.all_heard(self._now_ms()) and not self._playout.is_marked():
            await self._wire.send_mark(f"{INTERNAL_MARK_PREFIX}{next(self._own_marks)}")
        return await self._watch.wait_all_heard(timeout_s)

    def on_audio(self, observer: Callable[[bytes], None]) -> None:
        """Call `observer` with the caller's audio: 16-bit mono PCM at `sample_rate`."""
        self._audio_observers.append(observer)

    def on_mark(self, observer: Callable[[MarkEcho], None]) -> None:
        """Call `observer` for each returned mark that `mark_frame` made."""
        self._mark_observers.append(observer)

    def on_dtmf(self, observer: Callable[[str], None]) -> None:
        """Call `observer` for each key pressed."""
        self._dtmf_observers.append(observer)

    def on_stop(self, observer: Callable[[], None]) -> None:
        """Call `observer` on the carrier's `stop` message."""
        self._stop_observers.append(observer)

    def on_closed(self, observer: Callable[[MediaClosed], None]) -> None:
        """Call `observer` once when the socket is closed."""
        self._closed_observers.append(observer)

    async def refuse(self, close_code: int, reason: str) -> None:
        """Close the socket with a code; no effect if it is closed."""
        await self._socket.close(close_code, reason)

    async def close(self) -> None:
        """Close the socket normally; no effect if it is closed."""
        await self._socket.close()

    def _event(self, event: Event) -> None:
        match event:
            case Media(audio):
                self._notify(self._audio_observers, self._decode(audio))
            case Mark(name):
                outcome = self._playout.mark_echoed(name, self._now_ms())
                self._watch.changed()
                if outcome is not None and not name.startswith(INTERNAL_MARK_PREFIX):
                    self._notify(self._mark_observers, MarkEcho(name=name, outcome=outcome))
            case Dtmf(digit):
                self._notify(self._dtmf_observers, digit)
            case Stop():
                self._notify(self._stop_observers)
            case _:
                return

    def _closed(self, closed: MediaClosed) -> None:
        self._playout.ended(self._now_ms())
        self._watch.changed()
        self._notify(self._closed_observers, closed)

    def _notify(self, observers: list[Callable[..., None]], *arguments: object) -> None:
        for observer in observers:
            try:
                observer(*arguments)
            except Exception:  # noqa: BLE001 - the bug of an observer must not end the audio
                # An observer's bug must not end the call's audio.
                logger.exception("media observer failed, call {}", self._start.carrier_call_id)


async def accept_socket(
    websocket: WebSocket,
    parse: Callable[[str], Event],
    refusal: Callable[[Start], str | None],
    *,
    start_timeout_s: float = 5.0,
) -> tuple[GuardedSocket, Start]:
    """Accept a carrier's media socket and read messages up to `start`.

    Args:
        websocket: the socket.
        parse: reads a message.
        refusal: why a stream's audio cannot be used; None: it can.
        start_timeout_s: how long to wait for `start`, in s.

    Raises:
        MediaRefused: no valid start within `start_timeout_s` (1008), audio that cannot be used (1008), a
            message over 64 KiB (1009) or ten malformed messages (1007); the socket is closed.
        MediaGone: the carrier closed the socket before the stream began.
    """
    socket = GuardedSocket(websocket, parse)
    closed: list[MediaClosed] = []
    socket.on_closed = closed.append
    try:
        await socket.accept()
    except OSError as error:
        raise MediaGone("the carrier left during the handshake") from error
    try:
        async with asyncio.timeout(start_timeout_s):
            start = await socket.start_message()
    except TimeoutError:
        start = None
        await socket.close(POLICY, "no valid start")
    if start is not None and (reason := refusal(start)) is not None:
        await socket.close(POLICY, reason)
    if closed and closed[0].by == "us":
        raise MediaRefused(closed[0].code, closed[0].reason)
    if closed or start is None:
        raise MediaGone("the carrier closed the media socket before the stream began")
    return socket, start
