"""The messages of media sockets, independent of the carrier; each carrier's package parses its own."""

from __future__ import annotations

import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol


class Malformed(ValueError):
    """An invalid message; it is counted and ignored."""


@dataclass(frozen=True, slots=True)
class Connected:
    """The first message; none of its data is used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The stream's metadata. `sample_rate` is in Hz; `encoding` is the carrier's own word.

    `caller` is the caller's number where the carrier tells it, as it writes numbers.
    """

    stream_sid: str
    call_sid: str
    account_sid: str
    parameters: Mapping[str, str]
    encoding: str
    sample_rate: int
    channels: int = 1
    caller: str = ""


@dataclass(frozen=True, slots=True)
class Media:
    """Audio of the caller, in the encoding of the stream."""

    audio: bytes


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark that the carrier returned."""

    name: str


@dataclass(frozen=True, slots=True)
class Dtmf:
    """A key that the caller pressed."""

    digit: str


@dataclass(frozen=True, slots=True)
class Stop:
    """The stream stopped. `call_left`: the call has ended or was transferred; otherwise it continues."""

    call_left: bool = True


@dataclass(frozen=True, slots=True)
class Unknown:
    """An unknown event; it is ignored, because a carrier may add events."""

    event: str


Event = Connected | Start | Media | Mark | Dtmf | Stop | Unknown


class Outgoing(Protocol):
    """The messages that are sent on one stream."""

    def audio(self, pcm: bytes) -> str:
        """Audio to play: 16-bit mono PCM."""
        ...

    def mark(self, name: str) -> str:
        """Asks the carrier to return `name` once the audio sent before it has been played."""
        ...

    def clear(self) -> str:
        """Discards the audio that was not played."""
        ...


def parse_with(readers: Mapping[str, Callable[[dict[str, Any]], Event]], text: str) -> Event:
    """Parse one text message with the carrier's parsers, which are named by events.

    Raises:
        Malformed: not a JSON object with an `event`, or a known event without a required field.
    """
    message = read_object(text)
    if message.get("event") == "media":  # nearly all messages
        return media_of(message)
    event = text_of(message, "event")
    reader = readers.get(event)
    return reader(message) if reader else Unknown(event)


def read_object(text: str) -> dict[str, Any]:
    """Read the JSON object of a message.

    Raises:
        Malformed: it is none.
    """
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Malformed("not JSON") from error
    if not isinstance(message, dict):
        raise Malformed("not an object")
    return message


def media_of(message: Mapping[str, Any]) -> Media:
    """Read the base64 audio of a `media` message.

    Raises:
        Malformed: it has none.
    """
    payload = object_of(message, "media").get("payload")
    if not isinstance(payload, str):
        raise Malformed("the payload is not a string")
    try:
        return Media(binascii.a2b_base64(payload, strict_mode=True))
    except ValueError as error:
        raise Malformed("the payload is not base64") from error


def parameters_of(values: Mapping[str, Any], name: str) -> Mapping[str, str]:
    """Read the custom parameters of a `start`; none if they are absent.

    Raises:
        Malformed: they are no object, or cannot be stored.
    """
    parameters = values.get(name) or {}
    if not isinstance(parameters, dict):
        raise Malformed(f"{name} is not an object")
    return {storable(key, "a parameter"): storable(str(value), key) for key, value in parameters.items()}


def text_of(values: Mapping[str, Any], name: str) -> str:
    """Read a text that is not empty.

    Raises:
        Malformed: there is none.
    """
    value = values.get(name)
    if not isinstance(value, str) or not value:
        raise Malformed(f"{name} is not a string")
    return storable(value, name)


def object_of(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Read an object.

    Raises:
        Malformed: there is none.
    """
    value = values.get(name)
    if not isinstance(value, dict):
        raise Malformed(f"{name} is not an object")
    return value


def integer_of(values: Mapping[str, Any], name: str) -> int:
    """Read an integer, which may be written as a string.

    Raises:
        Malformed: there is none.
    """
    try:
        return int(values[name])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise Malformed(f"{name} is not an integer") from error


def storable(text: str, name: str) -> str:
    """The text, if it can be encoded and stored: JSON may contain lone surrogates and NUL.

    Raises:
        Malformed: it cannot.
    """
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise Malformed(f"{name} has an invalid character")
    return text
