"""The messages of Exotel's media socket."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from telephony import mulaw
from telephony.exotel.media import media_format
from telephony.exotel.messages import parse, refusal
from telephony.messages import Connected, Dtmf, Malformed, Mark, Media, Start, Stop, Unknown


def start(**changes: Any) -> str:
    """A `start` as Exotel documents it, with fields of the inner object changed."""
    inner = {
        "stream_sid": "s-1",
        "call_sid": "c-1",
        "account_sid": "exo",
        "from": "09876543210",
        "to": "08045678901",
        "custom_parameters": {},
        "media_format": {"encoding": "raw/slin", "sample_rate": "8000", "bit_rate": "128kbps"},
    }
    message = {"event": "start", "sequence_number": "1", "stream_sid": "s-1", "start": {**inner, **changes}}
    return json.dumps(message)


def started(**changes: Any) -> Start:
    """The parsed `start`."""
    event = parse(start(**changes))
    assert isinstance(event, Start)
    return event


@pytest.mark.parametrize(
    ("message", "event"),
    [
        ({"event": "connected"}, Connected()),
        ({"event": "media", "media": {"payload": "AAA="}}, Media(b"\0\0")),
        ({"event": "mark", "mark": {"name": "m"}}, Mark("m")),
        ({"event": "dtmf", "dtmf": {"digit": "5", "duration": "100"}}, Dtmf("5")),
        ({"event": "dtmf", "dtmf": {"digit": 5, "duration": 100}}, Dtmf("5")),
        ({"event": "stop", "stop": {"reason": "callended"}}, Stop(call_left=True)),
        ({"event": "stop", "stop": {"reason": "stopped"}}, Stop(call_left=False)),
        ({"event": "stop"}, Stop(call_left=False)),
        ({"event": "news"}, Unknown("news")),
    ],
)
def test_messages_are_read(message: dict[str, Any], event: object) -> None:
    """Only `callended` says that the call is over: a session that was `stopped` may come back."""
    assert parse(json.dumps(message)) == event


@pytest.mark.parametrize(
    "message",
    ["", "[]", "{}", '{"event":"start"}', '{"event":"media","media":{"payload":7}}', '{"event":"dtmf"}',
     '{"event":"dtmf","dtmf":{}}', start(call_sid=""), start(media_format=[8000]), start(call_sid="\0")],
)  # fmt: skip
def test_invalid_messages_are_malformed(message: str) -> None:
    """They are counted by the socket."""
    with pytest.raises(Malformed):
        parse(message)


@pytest.mark.parametrize("rate", ["8000", 8000, None])
def test_numbers_may_be_strings(rate: object) -> None:
    """The sample rate is read as a number, and is 8000 Hz where it is absent."""
    assert started(media_format={"encoding": "raw/slin", "sample_rate": rate}).sample_rate == 8000


def test_a_stream_that_names_no_rate_has_the_one_that_was_asked_for() -> None:
    """The address of the socket contains it; a rate in `start` is the one that counts."""
    silent, named = start(media_format={"encoding": "raw/slin"}), start()
    rates = [
        getattr(parse(message, default_rate="16000"), "sample_rate", None) for message in (silent, named)
    ]
    assert rates == [16_000, 8000]


@pytest.mark.parametrize(
    ("encoding", "is_refused"),
    [("raw/slin", False), ("base64", False), ("audio/x-l16", False), (None, False), ("audio/x-mulaw", False),
     ("PCMU", False), ("audio/PCMA", True), ("opus", True)],
)  # fmt: skip
def test_the_encoding_is_read(encoding: str | None, is_refused: bool) -> None:
    """PCM under its names, and µ-law; others are refused."""
    begun = started(media_format={"encoding": encoding, "sample_rate": "8000"})
    assert (refusal(begun) is not None) is is_refused


def test_other_rates_than_those_of_the_pipeline_are_refused() -> None:
    """A stream at another rate than requested is refused, because it would play at the wrong speed."""
    assert refusal(started(media_format={"encoding": "raw/slin", "sample_rate": "44100"})) is not None


@pytest.mark.parametrize(
    ("encoding", "rate", "ms"),
    [("raw/slin", 8000, 200), ("mulaw", 8000, 400), ("raw/slin", 16_000, 100), ("raw/slin", 24_000, 66)],
)
def test_the_least_that_exotel_takes_is_sent(encoding: str, rate: int, ms: int) -> None:
    """3,200 bytes a message: 200 ms of PCM at 8 kHz, 400 ms of µ-law, which is converted both ways."""
    begun = started(media_format={"encoding": encoding, "sample_rate": str(rate)})
    media = media_format(begun)
    assert refusal(begun) is None
    assert media.sample_rate == rate
    assert media.chunk_bytes * 1000 // (2 * rate) == ms
    sent = json.loads(media.messages.audio(b"\x10\x20" * (media.chunk_bytes // 2)))
    payload = base64.b64decode(sent["media"]["payload"])
    assert (sent["event"], sent["stream_sid"], len(payload)) == ("media", "s-1", 3200)
    pcm = b"\x10\x20" * 160
    heard = pcm if encoding == "raw/slin" else mulaw.encode(pcm)
    assert media.decode(heard) == (pcm if encoding == "raw/slin" else mulaw.decode(mulaw.encode(pcm)))
