"""A carrier that does what a test says, for the dispatcher: it dials, hangs up and lists live calls."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from typing import Any, cast

from telephony.carrier import Carrier, DialRequest
from telephony.errors import CarrierError
from telephony.machines import Detection
from telephony.webhook import WebhookRequest


@dataclass
class ScriptedCarrier:
    """Calls that it was asked to place, and those that are live."""

    name: str = "twilio"
    webhooks_path: str = "/webhooks/twilio"
    dialled: list[DialRequest] = field(default_factory=list)
    live: dict[str, DialRequest] = field(default_factory=dict)
    placed: dict[str, DialRequest] = field(default_factory=dict)
    hung_up: list[str] = field(default_factory=list)
    messages: list[tuple[str, str, str, int]] = field(default_factory=list)
    """The texts that were left: call, text, language, pause."""
    errors: list[CarrierError | TimeoutError] = field(default_factory=list)
    """The errors of the next calls to ``dial``."""
    loses_answers: bool = False
    """Whether a call is placed although ``dial`` fails."""
    dies: bool = False
    """Whether the process of the next ``dial`` dies when the call has been placed."""
    on_dial: Any = None
    numbers: count[int] = field(default_factory=lambda: count(1))

    def as_carrier(self) -> Carrier:
        """This object, for who needs the whole protocol."""
        return cast(Carrier, self)

    async def dial(self, request: DialRequest) -> str:
        """Place a call."""
        self.dialled.append(request)
        if self.on_dial is not None:
            await self.on_dial(request)
        if self.errors and not self.loses_answers:
            raise self.errors.pop(0)
        sid = f"CA{next(self.numbers):032x}"
        self.live[sid] = self.placed[sid] = request
        if self.dies:
            self.dies = False
            raise asyncio.CancelledError
        if self.errors:
            raise self.errors.pop(0)
        return sid

    async def hang_up(self, carrier_call_id: str) -> None:
        """End a call."""
        self.hung_up.append(carrier_call_id)
        self.live.pop(carrier_call_id, None)

    @staticmethod
    def detection(request: WebhookRequest) -> Detection:
        """Tests make detections themselves."""
        raise AssertionError(f"no test sends {request.url}")

    async def leave_message(self, carrier_call_id: str, text: str, language: str, pause_s: int) -> None:
        """Say a text, then hang up."""
        if self.errors:
            raise self.errors.pop(0)
        self.messages.append((carrier_call_id, text, language, pause_s))

    async def find_calls(self, *, from_: str, to: str, since: datetime) -> Sequence[str]:
        """The calls between two numbers."""
        assert since.tzinfo is not None
        return [sid for sid, request in self.placed.items() if (request.from_, request.to) == (from_, to)]

    async def is_live(self, carrier_call_id: str) -> bool:
        """Whether a call has not ended."""
        return carrier_call_id in self.live


def calls_one_at_a_time(carrier: ScriptedCarrier) -> None:
    """Have the carrier fail the test when a person is dialled whose call is live."""

    async def check(request: DialRequest) -> None:
        assert request.to not in [live.to for live in carrier.live.values()]

    carrier.on_dial = check
