"""One call of the simulated carrier: its state, its line, its log."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime

from voicebot.sandbox.audio.mulaw import Samples, through_the_line
from voicebot.sandbox.carrier.conference import Room
from voicebot.sandbox.carrier.line import Line
from voicebot.sandbox.carrier.log import CallLog
from voicebot.sandbox.carrier.model import (
    TERMINAL,
    CallStatus,
    CarrierEvent,
    CarrierSettings,
    Direction,
    Ender,
    Misbehaviour,
    Person,
    Recording,
    new_sid,
)
from voicebot.sandbox.carrier.stream import MediaStream
from voicebot.sandbox.carrier.twiml import Verb
from voicebot.sandbox.carrier.webhooks import Callback, Callbacks, Webhooks, call_params

_STATUS_EVENTS: Mapping[CallStatus, str] = {
    "queued": "initiated",
    "ringing": "ringing",
    "in-progress": "answered",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """Continue with the document at an address; `more` are parameters in addition to the usual ones."""

    url: str
    method: str = "POST"
    more: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """Go on with these verbs; relative addresses in them are relative to `base`."""

    verbs: tuple[Verb, ...]
    base: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Over:
    """The call ends."""

    status: CallStatus
    by: Ender


Step = Fetch | Document | Over
"""What a call does next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """Who calls whom, and where the call reports to."""

    from_: str
    to: str
    direction: Direction
    status_url: str | None
    status_events: frozenset[str]
    person: Person | None
    wrong: Misbehaviour
    detects_machine: bool = False
    """Whether the carrier finds out who answers before it asks what to do."""
    machine_url: str | None = None
    """Where it reports who answered, during the call."""
    until_beep: bool = False
    """Whether it reports a machine only after its beep."""


class Call:
    """A call, live or over; the person's telephone is attached to it, and REST requests act on it."""

    def __init__(self, leg: Leg, settings: CarrierSettings, webhooks: Webhooks) -> None:
        self.sid = new_sid("CA")
        self.leg = leg
        self.settings = settings
        self.webhooks = webhooks
        self.line = Line()
        self.person = leg.person
        self.stream: MediaStream | None = None
        self.room: Room | None = None
        """The conference that the call is in."""
        self.keys: asyncio.Queue[str] = asyncio.Queue()
        """Keys for a `<Gather>` or a conference."""
        self.answered_by: str | None = None
        """What the detection of answering machines found, if it was asked for."""
        self.streams: list[MediaStream] = []
        self.status: CallStatus = "queued" if leg.direction == "outbound-api" else "ringing"
        self.ended_by: Ender | None = None
        self.created_at = self.updated_at = datetime.now(UTC)
        self.answered_at: datetime | None = None
        self.ended_at: datetime | None = None
        self.orders: asyncio.Queue[Step] = asyncio.Queue()
        self.answered = asyncio.Event()
        self._over = asyncio.Event()
        self._sequence = 0
        self._log = CallLog()
        self.log = self._log.note
        self.callbacks = Callbacks(webhooks, self._log, leg.wrong.sign_with)

    # what is known

    @property
    def live(self) -> bool:
        """Whether the call has not ended."""
        return self.status not in TERMINAL

    @property
    def events(self) -> tuple[CarrierEvent, ...]:
        """Everything that happened, in order."""
        return self._log.events

    @property
    def complaints(self) -> tuple[str, ...]:
        """What the server did that Twilio would call an error, in words."""
        return self._log.complaints

    def recording(self) -> Recording:
        """Copy what has sounded so far."""
        return Recording.of(self.line)

    async def ended(self) -> CallStatus:
        """Wait for the end of the call (its last callback delivered) and return its final status."""
        await self._over.wait()
        return self.status

    # the person's telephone

    def say(self, samples: Samples) -> int:
        """Speak, behind what is being said already; returns where it begins, in samples since the answer."""
        start = self.line.said.append(through_the_line(samples), self.line.now())
        self.log("caller.says", start_ms=start / 8, duration_ms=len(samples) / 8)
        return start

    async def press(self, digits: str) -> None:
        """Press keys, for the stream, the `<Gather>` or the conference of the call."""
        for digit in digits:
            self.log("dtmf", digit=digit)
            self.keys.put_nowait(digit)
            if self.stream is not None:
                await self.stream.press(digit)

    def hang_up(self) -> None:
        """Put the telephone down; again it does nothing."""
        self.order(Over(status="completed" if self.status == "in-progress" else "no-answer", by="caller"))

    # the carrier's side

    def order(self, step: Step) -> None:
        """Interrupt whatever the call is doing and do this next."""
        self.log("order", step=type(step).__name__)
        self.orders.put_nowait(step)

    def answer(self) -> None:
        """Start the line's clock; the second time it does nothing."""
        if self.answered_at is None and self.live:
            self.answered_at = datetime.now(UTC)
            self.line.open()
            self.log("answered")
            self.move("in-progress")
            self.answered.set()

    def finish(self, over: Over) -> None:
        """Take the final state; the second time it does nothing."""
        if self.live:
            self.ended_at = datetime.now(UTC)
            self.ended_by = over.by
            self.line.close()
            self.log("ended", by=over.by, status=over.status)
            self.move(over.status)
            for stray in self.leg.wrong.stray_statuses:
                self._report(stray)

    def move(self, status: CallStatus) -> None:
        """Change the status and queue its callback, if one was asked for."""
        self.status, self.updated_at = status, datetime.now(UTC)
        event = _STATUS_EVENTS.get(status, "completed")
        if event in self.leg.status_events:
            self._report(status)

    def params(self) -> dict[str, str]:
        """Build what every request about this call carries."""
        params = call_params(
            sid=self.sid,
            account_sid=self.settings.account_sid,
            from_=self.leg.from_,
            to=self.leg.to,
            status=self.status,
            direction=self.leg.direction,
        )
        return params if self.answered_by is None else params | {"AnsweredBy": self.answered_by}

    @property
    def duration_s(self) -> int:
        """Seconds between answer and end (or now), rounded as Twilio does; 0 when never answered."""
        if self.answered_at is None:
            return 0
        return round(((self.ended_at or datetime.now(UTC)) - self.answered_at).total_seconds())

    def report_machine(self, *, is_machine: bool) -> None:
        """Report who answered to `AsyncAmdStatusCallback`, if the call is live."""
        if self.leg.machine_url is None or not self.live:
            return
        machine = "machine_end_beep" if self.leg.until_beep else "machine_start"
        self.answered_by = machine if is_machine else "human"
        found = {
            "AccountSid": self.settings.account_sid, "CallSid": self.sid, "AnsweredBy": self.answered_by,
            "MachineDetectionDuration": "3000",
        }  # fmt: skip
        self.callbacks.add(Callback(url=self.leg.machine_url, params=found))

    def close(self) -> None:
        """Wake those who wait for the end."""
        self._over.set()

    def _report(self, status: CallStatus) -> None:
        if self.leg.status_url is None:
            return
        params = self.params() | {
            "CallStatus": status,
            "CallbackSource": "call-progress-events",
            "SequenceNumber": str(self._sequence),
            "Timestamp": format_datetime(self.updated_at),
        }
        if status in TERMINAL:
            params |= {"CallDuration": str(self.duration_s), "Duration": str(math.ceil(self.duration_s / 60))}
        self._sequence += 1
        self.callbacks.add(Callback(url=self.leg.status_url, params=params))
