"""One media stream: the websocket that Twilio opens for `<Connect><Stream>`.

Messages as of twilio.com/docs/voice/media-streams/websocket-messages:
sequence numbers, chunks and timestamps are strings.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from voicebot.sandbox.audio.mulaw import SILENCE, Samples, decode, encode
from voicebot.sandbox.carrier.line import Line
from voicebot.sandbox.carrier.model import Arrival, CarrierError, Misbehaviour
from voicebot.sandbox.carrier.timeline import SAMPLE_RATE, TICK, TICK_MS

_MEDIA_FORMAT = {"encoding": "audio/x-mulaw", "sampleRate": SAMPLE_RATE, "channels": 1}
_HANDSHAKE_S = 5.0
_UNSENT_BYTES = 8 << 20
_SILENCE = bytes([SILENCE]) * TICK

Log = Callable[..., None]
"""Notes an event by name, with its facts as keywords."""


class StreamRefused(CarrierError):
    """The server did not accept the media websocket (Twilio: 31901, 31920); another attempt may succeed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamIdentity:
    """What `start` tells the server."""

    stream_sid: str
    account_sid: str
    call_sid: str
    parameters: Mapping[str, str]


class MediaStream:
    """Carries a line's sound to the server and the server's sound onto the line, until one of them closes."""

    def __init__(
        self, identity: StreamIdentity, line: Line, wrong: Misbehaviour, log: Log, *, breaks: bool = True
    ) -> None:
        self.identity = identity
        self._line = line
        self._wrong = wrong
        self._log = log
        self._drop_after_ms = wrong.drop_after_ms if breaks else None
        self._marks: deque[tuple[int, str]] = deque()
        self._injections = deque(sorted(wrong.inject, key=lambda item: item[0]))
        self._sequence = 0
        self.frames = 0
        """How many frames of 20 ms were sent."""
        self._opened_at = 0
        self._socket: ClientConnection | None = None
        self.arrivals: list[Arrival] = []
        self._followers = {"media": self._play, "mark": self._mark, "clear": self._clear}

    async def open(self, url: str, headers: Mapping[str, str]) -> None:
        """Connect and introduce the call.

        Raises:
            StreamRefused: no websocket there, or none in 5 s.
        """
        try:
            self._socket = await connect(
                url,
                additional_headers=headers,
                compression=None,
                max_size=None,
                open_timeout=_HANDSHAKE_S,
                close_timeout=2,
                ping_interval=None,
                proxy=None,
                write_limit=_UNSENT_BYTES,
            )
        except InvalidStatus as error:
            raise StreamRefused(f"31920: the handshake was answered {error.response.status_code}") from error
        except (OSError, InvalidHandshake) as error:
            raise StreamRefused(f"31901: {type(error).__name__}") from error
        self._opened_at = self._line.now()
        self._log("stream.connected", stream_sid=self.identity.stream_sid)
        await self._put({"event": "connected", "protocol": "Call", "version": "1.0.0"})
        if self._wrong.start:
            await self._send("start", self._start())

    def drop(self) -> None:
        """Break the connection with the next frame that is sent."""
        self._drop_after_ms = 0.0

    async def run(self) -> tuple[int | None, str]:
        """Take what the server sends until the connection ends; return its close code and reason.

        The code is None when the connection broke without a close frame.
        """
        socket = self._connected()
        try:
            async for message in socket:
                await self._take(message)
        except ConnectionClosed:
            pass
        finally:
            dropped = self._line.heard.clear(self._line.now())
            self._log("stream.ended", unplayed_ms=dropped / 8, marks_unreturned=len(self._marks))
            self._marks.clear()
        code = socket.close_code
        return (None if code == 1006 else code), socket.close_reason or ""

    async def stop(self) -> None:
        """Tell the server that the stream is over, and close."""
        identity = self.identity
        await self._send("stop", {"accountSid": identity.account_sid, "callSid": identity.call_sid})
        await self._connected().close()

    async def frame(self, samples: Samples) -> None:
        """Send 20 ms of the person's side, then the marks whose audio has been played."""
        timestamp_ms, self.frames = self.frames * TICK_MS, self.frames + 1
        media = {"track": "inbound", "chunk": str(self.frames), "timestamp": str(timestamp_ms)}
        code = encode(samples) if samples.any() else _SILENCE
        await self._send("media", {**media, "payload": base64.b64encode(code).decode()})
        await self._return_marks(self._line.heard.cursor)
        await self._misbehave((self._line.now() - self._opened_at) / 8)

    async def press(self, digit: str) -> None:
        """Send one key."""
        await self._send("dtmf", {"track": "inbound_track", "digit": digit})

    def _start(self) -> dict[str, object]:
        identity = self.identity
        return {
            "streamSid": identity.stream_sid,
            "accountSid": identity.account_sid,
            "callSid": identity.call_sid,
            "tracks": ["inbound"],
            "customParameters": dict(identity.parameters),
            "mediaFormat": _MEDIA_FORMAT,
        }

    async def _take(self, message: str | bytes) -> None:
        """Follow one message of the server; what Twilio would call a protocol error is noted and ignored.

        Source: twilio.com/docs/errors/31924 (media, mark and clear only; µ-law without a file header).
        """
        now = self._line.now()
        try:
            content = json.loads(message)
            event, stream_sid = content["event"], content["streamSid"]
            follow = self._followers[event]
            if stream_sid == self.identity.stream_sid:
                await follow(content, now)
            else:
                self._log("complaint", code=31924, why="the streamSid is another's")
        except (ValueError, KeyError, TypeError, binascii.Error) as error:
            self._log("complaint", code=31924, why=f"{type(error).__name__}: {error}")

    async def _play(self, content: Any, now: int) -> None:
        code = base64.b64decode(content["media"]["payload"], validate=True)
        if code[:4] == b"RIFF":
            raise ValueError("the payload begins with a file header")
        start = self._line.heard.append(decode(code), now)
        if not self.arrivals:
            self._log("media.first", start_ms=start / 8)
        self.arrivals.append(Arrival(at_ms=now / 8, start_ms=start / 8, duration_ms=len(code) / 8))

    async def _mark(self, content: Any, now: int) -> None:
        name = content["mark"]["name"]
        if not isinstance(name, str):
            raise TypeError("a mark's name is a string")
        due = max(now, self._line.heard.end) + round(self._wrong.mark_delay_ms * 8)
        self._marks.append((due, name))
        self._log("mark.received", mark=name, plays_ms=due / 8)
        await self._return_marks(now)

    async def _clear(self, _: Any, now: int) -> None:
        dropped = self._line.heard.clear(now)
        self._log("clear", dropped_ms=dropped / 8, marks=len(self._marks))
        await self._return_marks(None)

    async def _return_marks(self, played: int | None) -> None:
        """Return the marks due when `played` samples have sounded; None: all of them."""
        while self._marks and (played is None or self._marks[0][0] <= played):
            _, name = self._marks.popleft()
            if self._wrong.marks:
                self._log("mark.returned", mark=name)
                await self._send("mark", {"name": name})

    async def _misbehave(self, since_ms: float) -> None:
        while self._injections and self._injections[0][0] <= since_ms:
            await self._put(self._injections.popleft()[1])
        if self._drop_after_ms is not None and since_ms >= self._drop_after_ms:
            self._drop_after_ms = None
            self._log("stream.dropped")
            self._connected().transport.abort()

    async def _send(self, event: str, content: Mapping[str, object]) -> None:
        self._sequence += 1
        await self._put(
            {
                "event": event,
                "sequenceNumber": str(self._sequence),
                "streamSid": self.identity.stream_sid,
                event: content,
            }
        )

    async def _put(self, message: Mapping[str, Any] | str | bytes) -> None:
        """Send; a connection that has gone is for `run` to notice."""
        try:
            await self._connected().send(message if isinstance(message, str | bytes) else json.dumps(message))
        except ConnectionClosed:
            return

    def _connected(self) -> ClientConnection:
        if self._socket is None:
            raise StreamRefused("the stream was never opened")
        return self._socket
