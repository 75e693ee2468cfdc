"""One call of the simulated Exotel: its state, its line, its log."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from voicebot.sandbox.audio.mulaw import Samples, through_the_line
from voicebot.sandbox.carrier.line import Line
from voicebot.sandbox.carrier.log import CallLog
from voicebot.sandbox.carrier.model import CarrierEvent, Person, Recording
from voicebot.sandbox.exotel.model import ExotelMisbehaviour
from voicebot.sandbox.exotel.stream import ExotelStream

Ender = Literal["caller", "flow", "carrier"]
Direction = Literal["incoming", "outbound-api"]
CallStatus = Literal["queued", "ringing", "in-progress", "completed", "busy", "no-answer", "failed"]
LIVE: frozenset[CallStatus] = frozenset({"queued", "ringing", "in-progress"})


@dataclass(frozen=True, slots=True)
class Leg:
    """How the call of a Connect applet ended, and for how many seconds both parties talked."""

    status: Literal["completed", "busy", "no-answer", "canceled", "failed"]
    talked_s: int = 0


class ExotelCall:
    """A call, live or over; the person's telephone is attached to it."""

    def __init__(
        self, from_: str, to: str, direction: Direction, person: Person | None, unusual: ExotelMisbehaviour
    ) -> None:
        """A call that rings."""
        self.sid = secrets.token_hex(16)
        self.from_, self.to, self.direction = from_, to, direction
        self.person = person
        self.unusual = unusual
        self.custom_field = ""
        """The parameters of the applets for a call that was placed over the API."""
        self.line = Line()
        self.stream: ExotelStream | None = None
        self.streams: list[ExotelStream] = []
        self.status: CallStatus = "ringing" if direction == "incoming" else "queued"
        self.ended_by: Ender | None = None
        self.created_at = datetime.now(UTC)
        self.answered = asyncio.Event()
        self.hung_up = asyncio.Event()
        """Set when the person has hung up."""
        self.legs: list[Leg] = []
        """The parties that the Connect applet dialled."""
        self._over = asyncio.Event()
        self._log = CallLog()
        self.log = self._log.note

    @property
    def live(self) -> bool:
        """Whether the call has not ended."""
        return self.status in LIVE

    @property
    def events(self) -> tuple[CarrierEvent, ...]:
        """Everything that happened, in order."""
        return self._log.events

    @property
    def complaints(self) -> tuple[str, ...]:
        """What the server did that Exotel would refuse, as text."""
        return self._log.complaints

    @property
    def asked(self) -> tuple[str, ...]:
        """The applets that asked the server, in order, with the status of the answer."""
        noted = (event.data for event in self.events if event.name == "applet")
        return tuple(f"{data['webhook']} {data['status']}" for data in noted)

    def recording(self) -> Recording:
        """Copy what has sounded so far."""
        return Recording.of(self.line)

    async def ended(self) -> CallStatus:
        """Wait for the end of the call and return its final status."""
        await self._over.wait()
        return self.status

    def answer(self) -> None:
        """Start the line's clock; the second time it does nothing."""
        if not self.answered.is_set():
            self.line.open()
            self.log("answered")
            self.status = "in-progress"
            self.answered.set()

    def finish(self, status: CallStatus, by: Ender) -> None:
        """Take the final state; the second time it does nothing."""
        if self.live:
            self.status, self.ended_by = status, by
            self.line.close()
            self.log("ended", by=by, status=status)

    def close(self) -> None:
        """Wake those who wait for the end."""
        self._over.set()

    # the person's telephone

    def say(self, samples: Samples) -> int:
        """Speak, behind what is being said already; returns where it begins, in samples since the answer."""
        start = self.line.said.append(through_the_line(samples), self.line.now())
        self.log("caller.says", start_ms=start / 8, duration_ms=len(samples) / 8)
        return start

    async def press(self, digits: str) -> None:
        """Press keys."""
        for digit in digits:
            self.log("dtmf", digit=digit)
            if self.stream is not None:
                await self.stream.press(digit)

    def hang_up(self) -> None:
        """Put the telephone down; again it does nothing."""
        self.log("hung_up")
        self.hung_up.set()
