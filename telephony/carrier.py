"""The `Carrier` protocol and its records.

A carrier verifies, parses and answers its webhooks, and dials, transfers and ends calls. This module contains
nothing specific to a vendor; each vendor has its own package in `telephony`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from telephony.media import MediaStream
from telephony.webhook import (
    AnswerUrls,
    CallStatus,
    IncomingCall,
    StreamStatus,
    WebhookReply,
    WebhookRequest,
)

if TYPE_CHECKING:  # only named here
    from starlette.websockets import WebSocket


CLOCKS_DIFFER = timedelta(minutes=1)
"""By how much a carrier's clock may differ from ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DialRequest:
    """A call to place. Numbers are E.164, URLs absolute.

    `detect_machine`: whether the carrier finds out who answers before it requests `answer_url`.
    `machine_url`: where the carrier reports who answered, while the call goes on; None: it does not find out.
    `until_beep`: whether it reports a machine only when a message may begin.
    `media_url` and `token`: the media socket, for a carrier that opens it without asking `answer_url`.
    `reference`: our id of the call, for a carrier whose requests about it cannot have a URL of their own.
    """

    to: str
    from_: str
    answer_url: str
    status_url: str
    ring_timeout_s: int = 30
    detect_machine: bool = False
    machine_url: str | None = None
    until_beep: bool = False
    media_url: str = ""
    token: str = ""
    reference: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferRequest:
    """A transfer of a live call to another number.

    Attributes:
        to: number to dial, E.164.
        caller_id: caller number shown to the called party, E.164; None: the carrier's default.
        ring_timeout_s: seconds to let the called party's telephone ring.
        then_url: absolute URL that the carrier requests for instructions after the transferred part of the
            call; None: the call ends.
    """

    to: str
    caller_id: str | None = None
    ring_timeout_s: int = 30
    then_url: str | None = None


# ----------------------------------------------------------------------------------------------- carrier


class Carrier(Protocol):
    """A telephone carrier. Only the `async` members use the network."""

    @property
    def name(self) -> str:
        """Name in number records and in webhook paths, e.g. `twilio`."""
        ...

    @property
    def webhooks_path(self) -> str:
        """The path of its webhooks at this server, with a secret if the carrier signs nothing."""
        ...

    @property
    def webhook_names(self) -> Collection[str]:
        """The webhooks that it requests, by the last part of their paths."""
        ...

    @property
    def sample_rate(self) -> int:
        """The rate that its media streams are asked for, in Hz; a stream may have another one."""
        ...

    def verify(self, request: WebhookRequest) -> None:
        """Check that a request comes from the carrier.

        Raises:
            BadSignature: it does not; no data of the request may be used.
        """
        ...

    def verify_media(self, request: WebhookRequest) -> None:
        """Check the handshake of a media socket, before it is accepted.

        Raises:
            BadSignature: it is not one of the carrier.
        """
        ...

    def incoming_call(self, request: WebhookRequest) -> IncomingCall:
        """Parse a verified voice or resume webhook.

        Raises:
            BadWebhook: a required field is missing.
        """
        ...

    def call_status(self, request: WebhookRequest) -> CallStatus:
        """Parse a verified status webhook.

        Raises:
            BadWebhook: the call id or the status is missing or unknown.
        """
        ...

    def stream_status(self, request: WebhookRequest) -> StreamStatus:
        """Parse a verified stream webhook.

        Raises:
            BadWebhook: the call id, the stream id or the event is missing or unknown.
        """
        ...

    def answer(self, token: str, urls: AnswerUrls) -> WebhookReply:
        """Response that connects the call to our media socket, where the carrier presents `token`."""
        ...

    def forbid(self) -> WebhookReply:
        """Response to a webhook that failed `verify`."""
        ...

    def reject(self, *, busy: bool = False) -> WebhookReply:
        """Response that rejects the call, with a busy tone if the carrier has one."""
        ...

    def hang_up_reply(self) -> WebhookReply:
        """Response that ends the call."""
        ...

    def wait_reply(self, pause_s: int, then_url: str) -> WebhookReply:
        """Response that waits for `pause_s` seconds and then requests `then_url`."""
        ...

    def say_reply(self, text: str, language: str, then_dial: str | None = None) -> WebhookReply:
        """Response that says `text` in the carrier's own voice, then dials a number or ends the call.

        `language` is a BCP 47 tag, `then_dial` is E.164.
        """
        ...

    def transfer_reply(self, transfer: TransferRequest) -> WebhookReply:
        """Response that transfers the call to another number."""
        ...

    async def hang_up(self, carrier_call_id: str) -> None:
        """End a call. A call that has already ended is not an error.

        Raises:
            CarrierError: the carrier refused the request, or could not be reached after retries.
        """
        ...

    async def transfer(self, carrier_call_id: str, transfer: TransferRequest) -> None:
        """Transfer a live call to another number; its media stream ends.

        Raises:
            CarrierError: the carrier refused the request (also if the call has ended), or could not be
                reached.
        """
        ...

    async def dial(self, request: DialRequest) -> str:
        """Place a call and return the carrier's id of it. Not retried if the call may have been placed.

        Raises:
            CarrierError: the carrier refused the request, or could not be reached.
        """
        ...

    async def is_live(self, carrier_call_id: str) -> bool:
        """Whether a call has not ended.

        Raises:
            CarrierError: the carrier could not be reached.
        """
        ...

    async def find_calls(self, *, from_: str, to: str, since: datetime) -> Sequence[str]:
        """The carrier's ids of calls, live or over, that were placed between two numbers since a moment.

        Raises:
            CarrierError: the carrier could not be reached.
        """
        ...

    async def check_account(self) -> None:
        """Make a request that changes nothing, to find out whether the credentials are valid.

        Raises:
            CarrierError: the carrier refused them (401, 403), or could not be reached.
        """
        ...

    async def accept_media(self, websocket: WebSocket, *, start_timeout_s: float = 5.0) -> MediaStream:
        """Accept a media socket and read its start message. The token must be checked by our caller.

        Raises:
            MediaRefused: no valid start message within `start_timeout_s`, or a limit was exceeded; the socket
                is closed.
            MediaGone: the carrier closed the socket.
        """
        ...

    async def aclose(self) -> None:
        """Close the connections to the carrier."""
        ...
