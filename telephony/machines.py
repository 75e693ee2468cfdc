"""`MachineCarrier`: a carrier that finds out whether an answering machine has answered a call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from telephony.bridge import AnsweredBy
from telephony.webhook import WebhookRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """What the carrier found out.

    Attributes:
        carrier_call_id: the carrier's id of the call.
        who: who has answered.
        is_over: whether a machine has said everything, and its beep was heard: a message may begin.
        takes_message: whether a message can be left; a fax takes none.
    """

    carrier_call_id: str
    who: AnsweredBy
    is_over: bool = False
    takes_message: bool = True


@runtime_checkable
class MachineCarrier(Protocol):
    """A carrier that detects answering machines while the call goes on (`DialRequest.machine_url`)."""

    def detection(self, request: WebhookRequest) -> Detection:
        """Parse a verified webhook of the detection."""
        ...

    async def leave_message(self, carrier_call_id: str, text: str, language: str, pause_s: int) -> None:
        """Say a text in the carrier's own voice after a pause, then hang up; the media stream ends.

        Raises:
            CallIsOver: the call has ended.
            CarrierError: the carrier refused, or could not be reached; `uncertain` if it may have been done.
        """
        ...
