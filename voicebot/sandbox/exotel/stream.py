"""One session of the Voicebot applet: the websocket that Exotel opens.

16-bit PCM every 100 ms at the rate that the address asks for, or µ-law; numbers are strings. What we are sent
must be 3,200 to 100,000 bytes in multiples of 320, and `clear` discards only messages that have not
begun to be played.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from voicebot.sandbox.audio.mulaw import Samples, decode, encode
from voicebot.sandbox.carrier.line import Line
from voicebot.sandbox.carrier.model import Arrival
from voicebot.sandbox.carrier.stream import StreamRefused
from voicebot.sandbox.carrier.timeline import SAMPLE_RATE
from voicebot.sandbox.exotel.model import DisconnectedBy, ExotelMisbehaviour

FRAMES_PER_MESSAGE = 5
"""How many frames of 20 ms a message carries."""

LEAST_BYTES, MOST_BYTES, MULTIPLE = 3_200, 100_000, 320
_UNSENT_BYTES = 8 << 20

Log = Callable[..., None]


class ExotelStream:
    """Carries a line's sound to the server and the server's sound onto the line, until one of them closes."""

    def __init__(
        self, sid: str, start: Mapping[str, Any], line: Line, unusual: ExotelMisbehaviour, log: Log
    ) -> None:
        """Introduce the stream with `start`."""
        self.sid = sid
        self._start = start
        self._line = line
        self._unusual = unusual
        self._log = log
        self._step = int(start["media_format"]["sample_rate"]) // SAMPLE_RATE
        """How many samples of the stream one sample of the line is."""
        self._socket: ClientConnection | None = None
        self._unsent: list[Samples] = []
        self._rest = np.zeros(0, np.int16)
        self._pieces: deque[tuple[int, int]] = deque()
        self._marks: deque[tuple[int, str]] = deque()
        self._sequence = 0
        self._drops = False
        self.by: DisconnectedBy = "NA"
        self.arrivals: list[Arrival] = []
        self._followers = {"media": self._play, "mark": self._mark, "clear": self._clear}

    async def open(self, url: str, headers: Mapping[str, str], *, timeout_s: float, fails: bool) -> None:
        """Connect and introduce the call; `fails`: break the connection before that.

        Raises:
            StreamRefused: no websocket there, or it was broken.
        """
        try:
            self._socket = await connect(
                url, additional_headers=headers, compression=None, max_size=None, open_timeout=timeout_s,
                close_timeout=2, ping_interval=None, proxy=None, write_limit=_UNSENT_BYTES,
            )  # fmt: skip
        except InvalidStatus as error:
            raise StreamRefused(f"the handshake was answered {error.response.status_code}") from error
        except (OSError, InvalidHandshake, TimeoutError) as error:
            raise StreamRefused(type(error).__name__) from error
        if fails:
            self._socket.transport.abort()
            raise StreamRefused("the handshake failed")
        self._log("stream.connected", stream_sid=self.sid)
        await self._put({"event": "connected"})
        await self._send("start", dict(self._start))

    async def run(self) -> int | None:
        """Take what the server sends until the connection ends; return its close code, None if it broke."""
        socket = self._connected()
        try:
            async for message in socket:
                await self._take(message)
        except ConnectionClosed:
            pass
        finally:
            dropped = self._line.heard.clear(self._line.now())
            self._log("stream.ended", unplayed_ms=dropped / 8)
        if self.by == "NA" and socket.close_code not in (None, 1006):
            self.by = "bot"
        return None if socket.close_code == 1006 else socket.close_code

    async def stop(self, reason: str, by: DisconnectedBy) -> None:
        """Tell the server that the stream is over, and close."""
        self.by = by
        start = self._start
        content = {"call_sid": start["call_sid"], "account_sid": start["account_sid"], "reason": reason}
        if self._unusual.stop or by != "user":
            await self._send("stop", content)
            await self._connected().close()
        else:
            self._connected().transport.abort()

    def drop(self) -> None:
        """Break the connection with the next frame that is sent."""
        self._drops = True

    async def frame(self, samples: Samples) -> None:
        """Take 20 ms of the person's side, which is sent every 100 ms; return marks that were played."""
        self._unsent.append(samples.copy())
        if self._drops:
            self._log("stream.dropped")
            self._connected().transport.abort()
            return
        if len(self._unsent) >= FRAMES_PER_MESSAGE:
            spoken = np.repeat(np.concatenate(self._unsent), self._step)
            self._unsent.clear()
            audio = encode(spoken) if self._unusual.encoding == "mulaw" else spoken.astype("<i2").tobytes()
            await self._send("media", {"payload": base64.b64encode(audio).decode(), "chunk": "1"})
        while self._marks and self._marks[0][0] <= self._line.heard.cursor:
            _, name = self._marks.popleft()
            if self._unusual.marks:
                self._log("mark.returned", mark=name)
                await self._send("mark", {"name": name})

    async def press(self, digit: str) -> None:
        """Send one key."""
        await self._send("dtmf", {"digit": digit, "duration": "100"})

    async def _take(self, message: str | bytes) -> None:
        """Follow one message of the server; what Exotel would not take is noted and ignored."""
        try:
            content = json.loads(message)
            follow = self._followers[content["event"]]
            if content["stream_sid"] == self.sid:
                follow(content, self._line.now())
            else:
                self._log("complaint", why="the stream_sid is another's")
        except (ValueError, KeyError, TypeError, binascii.Error) as error:
            self._log("complaint", why=f"{type(error).__name__}: {error}")

    def _play(self, content: Any, now: int) -> None:
        audio = base64.b64decode(content["media"]["payload"], validate=True)
        if not LEAST_BYTES <= len(audio) <= MOST_BYTES or len(audio) % MULTIPLE:
            raise ValueError(f"a message has {len(audio)} bytes of audio")
        samples = decode(audio) if self._unusual.encoding == "mulaw" else np.frombuffer(audio, dtype="<i2")
        samples = self._on_the_line(samples)
        start = self._line.heard.append(samples, now)
        self._pieces.append((start, start + len(samples)))
        if not self.arrivals:
            self._log("media.first", start_ms=start / 8)
        duration_ms = len(samples) * 1000 / SAMPLE_RATE
        self.arrivals.append(Arrival(at_ms=now / 8, start_ms=start / 8, duration_ms=duration_ms))

    def _on_the_line(self, samples: Samples) -> Samples:
        """The samples at the line's rate; those that make no whole one wait for the next message."""
        samples = np.concatenate([self._rest, samples])
        whole = len(samples) // self._step * self._step
        self._rest = samples[whole:]
        means = samples[:whole].reshape(-1, self._step).mean(axis=1)
        return np.asarray(means, np.int16)

    def _mark(self, content: Any, now: int) -> None:
        name = content["mark"]["name"]
        if not isinstance(name, str):
            raise TypeError("a mark's name is a string")
        self._marks.append((max(now, self._line.heard.end), name))

    def _clear(self, _: Any, now: int) -> None:
        """Discard pieces that have not begun; marks after them are lost."""
        while self._pieces and self._pieces[0][1] <= now:
            self._pieces.popleft()
        begun = [end for start, end in self._pieces if start < now]
        dropped = self._line.heard.clear(max([now, *begun]))
        self._pieces = deque(piece for piece in self._pieces if piece[0] < now)
        self._marks = deque(mark for mark in self._marks if mark[0] <= self._line.heard.end)
        self._log("clear", dropped_ms=dropped / 8)

    async def _send(self, event: str, content: Mapping[str, object]) -> None:
        self._sequence += 1
        number = str(self._sequence)
        await self._put({"event": event, "sequence_number": number, "stream_sid": self.sid, event: content})

    async def _put(self, message: Mapping[str, Any]) -> None:
        """Send; a connection that has gone is for `run` to notice."""
        try:
            await self._connected().send(json.dumps(message))
        except ConnectionClosed:
            return

    def _connected(self) -> ClientConnection:
        if self._socket is None:
            raise StreamRefused("the stream was never opened")
        return self._socket
