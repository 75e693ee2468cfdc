"""The records and errors of the simulated carrier."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

from voicebot.sandbox.audio.mulaw import Samples
from voicebot.sandbox.carrier.line import Line

CallStatus = Literal[
    "queued", "ringing", "in-progress", "completed", "busy", "no-answer", "failed", "canceled"
]
"""twilio.com/docs/voice/api/call-resource#call-status-values."""
TERMINAL: frozenset[CallStatus] = frozenset({"completed", "busy", "no-answer", "failed", "canceled"})
Direction = Literal["inbound", "outbound-api"]
Ender = Literal["caller", "twiml", "rest", "carrier"]
"""Who ended a call: the person, the document (its `<Hangup/>` or its end), a REST request, or an error."""


class CarrierError(Exception):
    """Something that Twilio would report as an error of the application."""


class TwimlError(CarrierError):
    """The document is not TwiML that Twilio would follow; the same document fails again."""


class WebhookFailed(CarrierError):
    """A webhook was not answered with 2xx in time; another attempt may succeed."""


class NotLive(CarrierError):
    """The call is not in progress, so it can be neither redirected nor ended; trying again does not help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CarrierSettings:
    """An account of the simulated carrier and the server its numbers point to."""

    public_url: str
    """What the server believes to be its own address; signatures are made over it. No slash at the end."""
    account_sid: str
    auth_token: str = field(repr=False)
    server_url: str | None = None
    """Where the server really listens, when a proxy would stand at `public_url`."""
    voice_path: str = "/webhooks/twilio/voice"
    status_path: str = "/webhooks/twilio/status"
    status_events: frozenset[str] = frozenset({"completed"})
    """Which of initiated, ringing, answered, completed a number reports; Twilio's numbers report the last."""
    webhook_timeout_s: float = 15.0
    """Twilio gives up after 15 s (twilio.com/docs/errors/11200)."""
    numbers: Mapping[str, str] = field(default_factory=dict)
    """The account's numbers and their voice webhooks, as the REST API lists them."""
    carrier_voice_id: str = "carrier"
    """The voice of `<Say>`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Misbehaviour:
    """What the carrier does wrong in one call; by default nothing."""

    voice_webhooks: int = 1
    """How often the voice webhook is sent, one after the other; the last answer is followed."""
    stray_statuses: tuple[CallStatus, ...] = ()
    """Statuses reported once more after the final one, as callbacks that overtook each other."""
    sign_with: str | None = field(default=None, repr=False)
    """Another auth token, so that every signature is wrong."""
    parameters: Mapping[str, str] | None = None
    """Replaces the customParameters of `start`: a forged or replayed token."""
    start: bool = True
    """Whether `start` is sent at all."""
    inject: tuple[tuple[float, str | bytes], ...] = ()
    """Raw messages to send, each with its time in ms since the stream opened."""
    drop_after_ms: float | None = None
    """When the media connection breaks without a close frame, in ms since the stream opened."""
    drop_once: bool = True
    """Whether only the call's first stream breaks."""
    marks: bool = True
    """Whether marks are ever returned."""
    mark_delay_ms: float = 0.0
    """How late marks come back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CarrierEvent:
    """Something that happened, `at_ms` after the answer (before it: negative)."""

    at_ms: float
    name: str
    data: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One `media` message of the server: when it came and when it sounds (ms since the answer)."""

    at_ms: float
    start_ms: float
    duration_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """Both sides of a call on one clock: equally long, 8,000 Hz, sample 0 is the answer."""

    sent: Samples
    """What the person said."""
    received: Samples
    """What the server sent, as it was played out."""

    @property
    def duration_ms(self) -> float:
        """How long the call lasted."""
        return len(self.sent) / 8.0

    @staticmethod
    def of(line: Line) -> Recording:
        """Copy what has sounded on a line."""
        return Recording(sent=line.said.sounded(), received=line.heard.sounded())


class PhoneCall(Protocol):
    """What a person can do with a telephone in a call."""

    @property
    def line(self) -> Line:
        """LineMonitor and mouth."""
        ...

    def say(self, samples: Samples) -> int:
        """Speak, behind what is being said already; returns where it begins, in samples since the answer."""
        ...

    async def press(self, digits: str) -> None:
        """Press keys."""
        ...

    def hang_up(self) -> None:
        """Put the telephone down."""
        ...


Person = Callable[[PhoneCall], Awaitable[None]]
"""A person at a telephone; runs from the answer on and is cancelled when the call ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phone:
    """A telephone that the carrier can ring."""

    outcome: Literal["answers", "busy", "no-answer", "failed"] = "answers"
    after_ms: float = 0.0
    """How long it rings."""
    person: Person | None = None
    """Who picks up; nobody speaks when None, and the line stays open."""
    is_machine: bool = False
    """Whether an answering machine picks up."""
    detected_after_ms: float = 500.0
    """When the result of the detection is reported, if it is reported during the call."""
    talk_ms: float | None = None
    """When it was reached by `<Dial>`: how long the two talk; None: until the caller hangs up."""


def new_sid(kind: Literal["CA", "MZ"]) -> str:
    """Make an identifier in Twilio's form: two letters and 32 hex digits."""
    return kind + secrets.token_hex(16)


def silence(ms: float) -> Samples:
    """Return silence of this many ms."""
    return np.zeros(round(ms * 8), dtype=np.int16)
