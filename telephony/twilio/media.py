"""The audio of one Twilio call: accepts the media socket and connects it to pipecat's transport.

Uses pipecat's `FastAPIWebsocketTransport` and `TwilioFrameSerializer`. Both directions run at Twilio's 8000
Hz, so that pipecat does not resample. The serializer does not end calls; `Carrier.hang_up` does.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from itertools import count

from loguru import logger
from pipecat.frames.frames import (
    Frame,
    InterruptionFrame,
    OutputAudioRawFrame,
    OutputTransportMessageFrame,
    OutputTransportMessageUrgentFrame,
)
from pipecat.serializers.twilio import TwilioFrameSerializer
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport
from starlette.websockets import WebSocket, WebSocketDisconnect

from telephony.errors import MediaGone, MediaRefused
from telephony.media import MarkEcho, MediaClosed, MediaStart
from telephony.mulaw import decode
from telephony.playout import Playout, PlayoutWaiter
from telephony.twilio.messages import (
    SAMPLE_RATE,
    Dtmf,
    Event,
    Mark,
    Media,
    Start,
    Stop,
    mark_message,
    mark_name,
)
from telephony.twilio.socket import POLICY, GuardedSocket

AUDIO_OUT_10MS_CHUNKS = 4
"""40 ms per message. pipecat sends one to two chunks ahead of playout, so this is how long the event loop may
be blocked before the caller hears a gap; 20 ms would halve this time and double the number of messages. An
utterance is padded by 20 ms on average. Barge-in is not slowed down, because `clear` discards the buffer."""

WRITE_TIMEOUT_S = 3.0
"""Timeout in seconds for writing audio to the socket; then the call counts as lost."""

INTERNAL_MARK_PREFIX = "heard:"
"""Prefix of the marks sent by `wait_all_heard`, which are not passed to observers."""


def _monotonic_ms() -> float:
    return time.monotonic() * 1000.0


class ObservedSerializer(TwilioFrameSerializer):
    """pipecat's serializer, which also records the outgoing audio, marks and clears in the playout model.

    `serialize` is the last public method that every outgoing frame passes, in the order of sending and at the
    time of writing: pacing and queues come before it.
    """

    def __init__(self, start: MediaStart, playout: Playout, now_ms: Callable[[], float]) -> None:
        """Serialize for the stream of `start` and record in `playout`."""
        super().__init__(
            stream_sid=start.stream_id,
            call_sid=start.carrier_call_id,
            params=TwilioFrameSerializer.InputParams(auto_hang_up=False, sample_rate=SAMPLE_RATE),
        )
        self._playout = playout
        self._now_ms = now_ms
        self.on_clear: Callable[[], None] = lambda: None

    async def serialize(self, frame: Frame) -> str | bytes | None:
        """Twilio's message for a frame, or None if the frame has none."""
        payload = await super().serialize(frame)
        if payload is None:
            return None
        if isinstance(frame, OutputAudioRawFrame):
            self._playout.audio_sent(frame.num_frames * 1000.0 / frame.sample_rate, self._now_ms())
        elif isinstance(frame, InterruptionFrame):
            self._playout.cleared(self._now_ms())
            self.on_clear()
        elif isinstance(frame, OutputTransportMessageFrame | OutputTransportMessageUrgentFrame):
            name = mark_name(frame.message)
            if name is not None:
                self._playout.mark_sent(name, self._now_ms())
        return payload


class TwilioMedia:
    """One call's media stream: `telephony.carrier.MediaStream` over Twilio's socket."""

    def __init__(
        self, socket: GuardedSocket, start: MediaStart, now_ms: Callable[[], float] = _monotonic_ms
    ) -> None:
        """Use an accepted socket whose `start` message was read; see `accept_media`."""
        self._socket = socket
        self._start = start
        self._now_ms = now_ms
        self._playout = Playout()
        self._watch = PlayoutWaiter(self._playout, now_ms)
        self._own_marks = count(1)
        self._audio_observers: list[Callable[[bytes], None]] = []
        self._mark_observers: list[Callable[[MarkEcho], None]] = []
        self._dtmf_observers: list[Callable[[str], None]] = []
        self._stop_observers: list[Callable[[], None]] = []
        self._closed_observers: list[Callable[[MediaClosed], None]] = []
        serializer = ObservedSerializer(start, self._playout, now_ms)
        serializer.on_clear = self._watch.changed
        socket.on_event = self._event
        socket.on_closed = self._closed
        self._transport = FastAPIWebsocketTransport(
            websocket=socket,
            params=FastAPIWebsocketParams(
                serializer=serializer,
                audio_in_enabled=True,
                audio_in_sample_rate=SAMPLE_RATE,
                audio_out_enabled=True,
                audio_out_sample_rate=SAMPLE_RATE,
                audio_out_10ms_chunks=AUDIO_OUT_10MS_CHUNKS,
                audio_out_end_silence_secs=0,
                audio_out_write_timeout_secs=WRITE_TIMEOUT_S,
                allowed_origins=[],  # carriers send no Origin header; the token is checked instead
            ),
        )

    @property
    def start(self) -> MediaStart:
        """The facts of the stream's start."""
        return self._start

    @property
    def transport(self) -> FastAPIWebsocketTransport:
        """pipecat's transport on this socket; it takes 16-bit mono PCM at 8000 Hz, and gives no audio."""
        return self._transport

    @property
    def playout(self) -> Playout:
        """Estimate of the audio that the caller has heard."""
        return self._playout

    def now_ms(self) -> float:
        """The clock of `playout`: milliseconds, monotonic."""
        return self._now_ms()

    def mark_frame(self, name: str) -> Frame:
        """A frame that is sent as Twilio's `mark` after the audio queued before it."""
        return OutputTransportMessageFrame(message=mark_message(self._start.stream_id, name))

    async def wait_all_heard(self, timeout_s: float) -> bool:
        """Wait until all sent audio was heard or cleared; sends a mark if none is outstanding."""
        if not self._playout.all_heard(self._now_ms()) and not self._playout.is_marked():
            name = f"{INTERNAL_MARK_PREFIX}{next(self._own_marks)}"
            self._playout.mark_sent(name, self._now_ms())
            await self._send(json.dumps(mark_message(self._start.stream_id, name)))
        return await self._watch.wait_all_heard(timeout_s)

    def on_audio(self, observer: Callable[[bytes], None]) -> None:
        """Call `observer` with the caller's audio: 16-bit mono PCM at 8000 Hz."""
        self._audio_observers.append(observer)

    def on_mark(self, observer: Callable[[MarkEcho], None]) -> None:
        """Call `observer` for each returned mark that `mark_frame` made."""
        self._mark_observers.append(observer)

    def on_dtmf(self, observer: Callable[[str], None]) -> None:
        """Call `observer` for each key pressed."""
        self._dtmf_observers.append(observer)

    def on_stop(self, observer: Callable[[], None]) -> None:
        """Call `observer` on Twilio's `stop` message."""
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

    async def _send(self, text: str) -> None:
        if not self._socket.is_open:
            return
        try:
            await self._socket.send_text(text)
        except WebSocketDisconnect:
            return  # the receiving side notices the disconnect and ends all waits

    def _event(self, event: Event) -> None:
        match event:
            case Media(code):
                self._notify(self._audio_observers, decode(code))
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


async def accept_media(websocket: WebSocket, *, start_timeout_s: float = 5.0) -> TwilioMedia:
    """Accept Twilio's media socket and read messages up to `start`.

    The token in `start` is not checked here; if it is invalid, our caller must `refuse` with 1008.

    Raises:
        MediaRefused: no valid start within `start_timeout_s` (1008), audio that is not mono µ-law at 8000 Hz
            (1008), a message over 64 KiB (1009) or ten malformed messages (1007); the socket is closed.
        MediaGone: Twilio closed the socket before the stream began.
    """
    socket = GuardedSocket(websocket)
    closed: list[MediaClosed] = []
    socket.on_closed = closed.append
    try:
        await socket.accept()
    except OSError as error:
        raise MediaGone("the carrier left during the handshake") from error
    try:
        async with asyncio.timeout(start_timeout_s):
            start = await _read_start(socket)
    except TimeoutError:
        start = None
        await socket.close(POLICY, "no valid start")
    if start is not None and not start.is_mulaw_8k:
        await socket.close(POLICY, "audio must be audio/x-mulaw, 8000 Hz, 1 channel")
    if closed and closed[0].by == "us":
        raise MediaRefused(closed[0].code, closed[0].reason)
    if closed or start is None:
        raise MediaGone("the carrier closed the media socket before the stream began")
    return TwilioMedia(socket, _media_start(start))


async def _read_start(socket: GuardedSocket) -> Start | None:
    """The `start` message, or None if the socket was closed before it came."""
    while True:
        _, event = await socket.next_event()
        if event is None or isinstance(event, Start):
            return event


def _media_start(start: Start) -> MediaStart:
    return MediaStart(
        stream_id=start.stream_sid,
        carrier_call_id=start.call_sid,
        account_ref=start.account_sid,
        token=start.parameters.get("token", ""),
        parameters=start.parameters,
    )
