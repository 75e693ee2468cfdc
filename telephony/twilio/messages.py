"""The messages of Twilio's media socket: parsing of incoming ones, and those that we send.

Source: Twilio, "Media Streams - WebSocket Messages",
https://www.twilio.com/docs/voice/media-streams/websocket-messages
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

SAMPLE_RATE = 8000
ENCODING = "audio/x-mulaw"


class Malformed(ValueError):
    """An invalid message; it is counted and ignored."""


@dataclass(frozen=True, slots=True)
class Connected:
    """The first message; none of its data is used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The stream's metadata. `sample_rate` is in Hz."""

    stream_sid: str
    call_sid: str
    account_sid: str
    parameters: Mapping[str, str]
    encoding: str
    sample_rate: int
    channels: int

    @property
    def is_mulaw_8k(self) -> bool:
        """Whether the audio is what Twilio documents: mono µ-law at 8000 Hz."""
        return (self.encoding, self.sample_rate, self.channels) == (ENCODING, SAMPLE_RATE, 1)


@dataclass(frozen=True, slots=True)
class Media:
    """Audio of the caller, µ-law at 8000 Hz."""

    audio: bytes


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark that Twilio returned."""

    name: str


@dataclass(frozen=True, slots=True)
class Dtmf:
    """A key that the caller pressed."""

    digit: str


@dataclass(frozen=True, slots=True)
class Stop:
    """The stream stopped, or the call ended."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """An unknown event; it is ignored, because Twilio may add events."""

    event: str


Event = Connected | Start | Media | Mark | Dtmf | Stop | Unknown


def parse(text: str) -> Event:
    """Read one text message.

    Raises:
        Malformed: not a JSON object with an `event`, or a known event without a required field.
    """
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Malformed("not JSON") from error
    if not isinstance(message, dict):
        raise Malformed("not an object")
    event = message.get("event")
    if event == "media":  # nearly all messages
        return _media(message)
    event = _text(message, "event")
    reader = _READERS.get(event)
    return reader(message) if reader else Unknown(event)


class Outgoing:
    """The messages that are sent on one stream."""

    def __init__(self, stream_sid: str) -> None:
        """`stream_sid` is the stream's id."""
        self._stream_sid = stream_sid
        self._audio_head = self._message("media", media={"payload": ""})[: -len('"}}')]

    def audio(self, code: bytes) -> str:
        """Audio to play: µ-law at 8000 Hz."""
        return self._audio_head + binascii.b2a_base64(code, newline=False).decode("ascii") + '"}}'

    def mark(self, name: str) -> str:
        """Asks Twilio to return `name` once the audio sent before it has been played."""
        return self._message("mark", mark={"name": name})

    def clear(self) -> str:
        """Discards the audio that was not played; marks are returned at once."""
        return self._message("clear")

    def _message(self, event: str, **content: Any) -> str:
        return json.dumps({"event": event, "streamSid": self._stream_sid, **content})


def _start(message: dict[str, Any]) -> Start:
    start = _object(message, "start")
    media_format = _object(start, "mediaFormat")
    parameters = start.get("customParameters") or {}
    if not isinstance(parameters, dict):
        raise Malformed("customParameters is not an object")
    return Start(
        stream_sid=_text(start, "streamSid"),
        call_sid=_text(start, "callSid"),
        account_sid=_text(start, "accountSid"),
        parameters={
            _storable(name, "a parameter"): _storable(str(value), name) for name, value in parameters.items()
        },
        encoding=_text(media_format, "encoding"),
        sample_rate=_integer(media_format, "sampleRate"),
        channels=_integer(media_format, "channels"),
    )


def _media(message: dict[str, Any]) -> Media:
    payload = _object(message, "media").get("payload")
    if not isinstance(payload, str):
        raise Malformed("the payload is not a string")
    try:
        return Media(binascii.a2b_base64(payload, strict_mode=True))
    except ValueError as error:
        raise Malformed("the payload is not base64") from error


def _text(values: dict[str, Any], name: str) -> str:
    value = values.get(name)
    if not isinstance(value, str) or not value:
        raise Malformed(f"{name} is not a string")
    return _storable(value, name)


def _storable(text: str, name: str) -> str:
    """The text, if it can be encoded and stored: JSON may contain lone surrogates and NUL."""
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise Malformed(f"{name} has an invalid character")
    return text


def _object(values: dict[str, Any], name: str) -> dict[str, Any]:
    value = values.get(name)
    if not isinstance(value, dict):
        raise Malformed(f"{name} is not an object")
    return value


def _integer(values: dict[str, Any], name: str) -> int:
    try:
        return int(values[name])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise Malformed(f"{name} is not an integer") from error


_READERS: dict[str, Callable[[dict[str, Any]], Event]] = {
    "connected": lambda _: Connected(),
    "start": _start,
    "mark": lambda message: Mark(_text(_object(message, "mark"), "name")),
    "dtmf": lambda message: Dtmf(_text(_object(message, "dtmf"), "digit")),
    "stop": lambda _: Stop(),
}
