"""The messages of Exotel's media socket: parsing of incoming ones, and those that we send.

Sources: the Voicebot applet's page on support.exotel.com, and the repository exotel/Agent-Stream. Numbers may
be strings, and keys numbers. Which encoding is the default is documented in two ways, so `media_format` is
read.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from telephony.messages import (
    Connected,
    Dtmf,
    Event,
    Malformed,
    Mark,
    Start,
    Stop,
    integer_of,
    object_of,
    parameters_of,
    parse_with,
    storable,
    text_of,
)

DEFAULT_RATE = 8000
SAMPLE_RATES = (DEFAULT_RATE, 16_000, 24_000)
"""The sample rates that a stream may have, in Hz."""

MESSAGE_BYTES = 3200
"""What Exotel takes in a message is 3,200 to 100,000 bytes of audio, in multiples of 320. The least is sent:
a caller who interrupts hears the message that is being played to its end."""

CALL_ENDED = "callended"
"""The reason of `stop` when a party has hung up. The other one, `stopped`, leaves the call to its flow."""

_ULAW = frozenset({"mulaw", "ulaw", "pcmu", "g711u"})
_FOREIGN = ("alaw", "pcma", "opus", "mp3", "amr", "gsm", "g722", "g729", "float")


@dataclass(frozen=True, slots=True)
class Encoding:
    """An encoding of audio: its samples are `sample_bytes` long."""

    name: str
    sample_bytes: int


PCM = Encoding("pcm", 2)
ULAW = Encoding("mulaw", 1)


def parse(text: str, default_rate: int | str = DEFAULT_RATE) -> Event:
    """Read one text message. `default_rate` is that of a `start` that does not name its sample rate, in Hz.

    Raises:
        Malformed: not a JSON object with an `event`, or a known event without a required field.
    """
    return parse_with(_readers(default_rate), text)


def encoding_of(start: Start) -> Encoding | None:
    """The encoding of a stream; None: one that cannot be read.

    16-bit PCM has several names in Exotel's documents (`raw/slin`, `base64`, `audio/x-l16`), or none.
    """
    letters = "".join(filter(str.isalnum, start.encoding.lower()))
    if any(name in letters for name in _ULAW):
        return ULAW
    return None if any(name in letters for name in _FOREIGN) else PCM


def refusal(start: Start) -> str | None:
    """Why the audio of a stream cannot be used; None: it can."""
    if encoding_of(start) is None:
        return "audio must be 16-bit PCM or mu-law"
    if start.sample_rate not in SAMPLE_RATES or start.channels != 1:
        return "audio must be mono at " + ", ".join(str(rate) for rate in SAMPLE_RATES) + " Hz"
    return None


class ExotelMessages:
    """The messages that are sent on one stream; `telephony.messages.Outgoing`."""

    def __init__(self, stream_sid: str, encode: Callable[[bytes], bytes]) -> None:
        """`stream_sid` is the stream's id; `encode` turns 16-bit PCM into what the stream carries."""
        self._stream_sid = stream_sid
        self._encode = encode
        self._audio_head = self._message("media", media={"payload": ""})[: -len('"}}')]

    def audio(self, pcm: bytes) -> str:
        """Audio to play: 16-bit little-endian PCM."""
        payload = binascii.b2a_base64(self._encode(pcm), newline=False).decode("ascii")
        return self._audio_head + payload + '"}}'

    def mark(self, name: str) -> str:
        """Asks Exotel to return `name` once the audio sent before it has been played."""
        return self._message("mark", mark={"name": name})

    def clear(self) -> str:
        """Discards the messages that have not begun to be played."""
        return self._message("clear")

    def _message(self, event: str, **content: Any) -> str:
        return json.dumps({"event": event, "stream_sid": self._stream_sid, **content})


def _start(message: dict[str, Any], default_rate: int | str) -> Start:
    start = object_of(message, "start")
    media_format = start.get("media_format") or {}
    if not isinstance(media_format, dict):
        raise Malformed("media_format is not an object")
    rate = {"sample_rate": media_format.get("sample_rate") or default_rate}
    return Start(
        stream_sid=text_of(
            {"stream_sid": start.get("stream_sid") or message.get("stream_sid")}, "stream_sid"
        ),
        call_sid=text_of(start, "call_sid"),
        account_sid=str(start.get("account_sid") or ""),
        parameters=parameters_of(start, "custom_parameters"),
        encoding=str(media_format.get("encoding") or ""),
        sample_rate=integer_of(rate, "sample_rate"),
        channels=integer_of({"channels": media_format.get("channels") or 1}, "channels"),
        caller=storable(str(start.get("from") or ""), "from"),
    )


def _dtmf(message: dict[str, Any]) -> Dtmf:
    """A key; its duration is not used."""
    return Dtmf(text_of({"digit": str(object_of(message, "dtmf").get("digit", ""))}, "digit"))


def _stop(message: dict[str, Any]) -> Stop:
    stop = message.get("stop")
    reason = stop.get("reason") if isinstance(stop, dict) else None
    return Stop(call_left=str(reason or "").replace("_", "").lower() == CALL_ENDED)


@lru_cache(maxsize=16)
def _readers(default_rate: int | str) -> dict[str, Callable[[dict[str, Any]], Event]]:
    return {**_READERS, "start": lambda message: _start(message, default_rate)}


_READERS: dict[str, Callable[[dict[str, Any]], Event]] = {
    "connected": lambda _: Connected(),
    "mark": lambda message: Mark(text_of(object_of(message, "mark"), "name")),
    "dtmf": _dtmf,
    "stop": _stop,
}
