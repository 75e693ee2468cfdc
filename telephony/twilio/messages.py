"""The messages of Twilio's media socket: parsing of incoming ones, and those that we send.

Source: Twilio, "Media Streams - WebSocket Messages",
https://www.twilio.com/docs/voice/media-streams/websocket-messages
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Callable
from typing import Any

from telephony.messages import (
    Connected,
    Dtmf,
    Event,
    Mark,
    Start,
    Stop,
    integer_of,
    object_of,
    parameters_of,
    parse_with,
    text_of,
)
from telephony.mulaw import encode

SAMPLE_RATE = 8000
ENCODING = "audio/x-mulaw"


def parse(text: str) -> Event:
    """Read one text message.

    Raises:
        Malformed: not a JSON object with an `event`, or a known event without a required field.
    """
    return parse_with(_READERS, text)


def refusal(start: Start) -> str | None:
    """Why the audio of a stream cannot be used; None: it is what Twilio documents."""
    if (start.encoding, start.sample_rate, start.channels) == (ENCODING, SAMPLE_RATE, 1):
        return None
    return "audio must be audio/x-mulaw, 8000 Hz, 1 channel"


class TwilioMessages:
    """The messages that are sent on one stream; `telephony.messages.Outgoing`."""

    def __init__(self, stream_sid: str) -> None:
        """`stream_sid` is the stream's id."""
        self._stream_sid = stream_sid
        self._audio_head = self._message("media", media={"payload": ""})[: -len('"}}')]

    def audio(self, pcm: bytes) -> str:
        """Audio to play: 16-bit mono PCM at 8000 Hz, sent as µ-law."""
        return self._audio_head + binascii.b2a_base64(encode(pcm), newline=False).decode("ascii") + '"}}'

    def mark(self, name: str) -> str:
        """Asks Twilio to return `name` once the audio sent before it has been played."""
        return self._message("mark", mark={"name": name})

    def clear(self) -> str:
        """Discards the audio that was not played; marks are returned at once."""
        return self._message("clear")

    def _message(self, event: str, **content: Any) -> str:
        return json.dumps({"event": event, "streamSid": self._stream_sid, **content})


def _start(message: dict[str, Any]) -> Start:
    start = object_of(message, "start")
    media_format = object_of(start, "mediaFormat")
    return Start(
        stream_sid=text_of(start, "streamSid"),
        call_sid=text_of(start, "callSid"),
        account_sid=text_of(start, "accountSid"),
        parameters=parameters_of(start, "customParameters"),
        encoding=text_of(media_format, "encoding"),
        sample_rate=integer_of(media_format, "sampleRate"),
        channels=integer_of(media_format, "channels"),
    )


_READERS: dict[str, Callable[[dict[str, Any]], Event]] = {
    "connected": lambda _: Connected(),
    "start": _start,
    "mark": lambda message: Mark(text_of(object_of(message, "mark"), "name")),
    "dtmf": lambda message: Dtmf(text_of(object_of(message, "dtmf"), "digit")),
    "stop": lambda _: Stop(),
}
