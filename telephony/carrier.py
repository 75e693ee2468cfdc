"""What the rest of the program may know about a carrier: plain records and one protocol.

`Carrier` is the telephone company: its webhooks are verified, parsed and answered, and calls are dialled,
transferred and hung up through it. Nothing here names a vendor; each has a package beside this file. The
names of `errors` and `media` that belong to the protocol are offered here too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol
from urllib.parse import parse_qsl, urlsplit

from telephony.errors import BadSignature, BadWebhook, CarrierError, MediaGone, MediaRefused, TelephonyError
from telephony.media import MarkEcho, MediaClosed, MediaStart, MediaStream

if TYPE_CHECKING:  # only named here
    from starlette.websockets import WebSocket

__all__ = [
    "AnswerUrls",
    "BadSignature",
    "BadWebhook",
    "CallDirection",
    "CallProgress",
    "CallStatus",
    "Carrier",
    "CarrierError",
    "DialRequest",
    "EndReason",
    "IncomingCall",
    "MarkEcho",
    "MediaClosed",
    "MediaGone",
    "MediaRefused",
    "MediaStart",
    "MediaStream",
    "Reply",
    "StreamEvent",
    "StreamStatus",
    "TelephonyError",
    "TransferRequest",
    "WebhookRequest",
]

CallDirection = Literal["inbound", "outbound"]
"""Seen from us: `inbound` is a caller who dialled our number."""

CallProgress = Literal["ringing", "in_progress", "ended"]
"""How far a call has come, as carriers can know it (`transferring` is the application's own state)."""

EndReason = Literal["completed", "busy", "no_answer", "canceled", "failed"]
"""Why a call ended, in words common to carriers."""

StreamEvent = Literal["started", "stopped", "failed"]


# ---------------------------------------------------------------------------------------------- webhooks


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookRequest:
    """One HTTP request of a carrier, as it arrived; make it with `received`.

    `url` is the URL as this server saw it (scheme, host, path, query); `headers` has lower-case names;
    `query` and `form` hold the last value of a repeated key, `form_pairs` all of them in order.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    query: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] = field(default_factory=dict)
    form_pairs: Sequence[tuple[str, str]] = ()
    body: bytes = b""

    @classmethod
    def received(cls, *, method: str, url: str, headers: Mapping[str, str], body: bytes) -> WebhookRequest:
        """Take a request apart. A body that is not a form (or not UTF-8) has no form fields."""
        lowered = {name.lower(): value for name, value in headers.items()}
        pairs: list[tuple[str, str]] = []
        if lowered.get("content-type", "").partition(";")[0].strip().lower() == FORM_TYPE:
            text = body.decode("utf-8", errors="replace")
            pairs = parse_qsl(text, keep_blank_values=True)
        return cls(
            method=method.upper(),
            url=url,
            headers=lowered,
            query=dict(parse_qsl(urlsplit(url).query, keep_blank_values=True)),
            form=dict(pairs),
            form_pairs=tuple(pairs),
            body=body,
        )


FORM_TYPE = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What to answer a carrier's webhook with."""

    status: int
    content_type: str
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingCall:
    """A call that asks to be answered.

    `from_` and `to` are what the carrier gave: E.164 for telephone numbers, else a SIP address, a client's
    name, "anonymous". `caller_known` is false when the number is withheld, also where digits stand for that
    word.
    """

    carrier_call_id: str
    from_: str
    to: str
    direction: CallDirection
    caller_known: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CallStatus:
    """News of a call's progress.

    `terminal` means nothing more will happen to the call; then `end_reason` is set. `carrier_status` is the
    carrier's own word; `sequence` orders callbacks of one call, which may arrive out of order.
    """

    carrier_call_id: str
    status: CallProgress
    terminal: bool
    end_reason: EndReason | None
    duration_ms: int | None
    carrier_status: str
    sequence: int | None
    error_code: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamStatus:
    """News of a call's media stream, told by webhook beside the stream's own socket."""

    carrier_call_id: str
    stream_id: str
    event: StreamEvent
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerUrls:
    """Where an answered call leads: absolute URLs (`wss://…` for media, `https://…` for the others)."""

    media_url: str
    stream_status_url: str
    resume_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DialRequest:
    """A call to place. Numbers are E.164, URLs absolute."""

    to: str
    from_: str
    answer_url: str
    status_url: str
    ring_timeout_s: int = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferRequest:
    """Where to connect a live call instead of us. Numbers are E.164, the URL absolute.

    `caller_id` is shown to the one who is called (None: the carrier's default); `then_url` is asked how to go
    on when the other party has hung up or was not reached (None: the call ends).
    """

    to: str
    caller_id: str | None = None
    ring_timeout_s: int = 30
    then_url: str | None = None


# ----------------------------------------------------------------------------------------------- carrier


class Carrier(Protocol):
    """A telephone company. Parsing and answering are pure; only the `async` members use the network."""

    @property
    def name(self) -> str:
        """`twilio` or `exotel`: as in the number's record and in the webhook paths."""
        ...

    def verify(self, request: WebhookRequest) -> None:
        """Return if the request is the carrier's.

        Raises:
            BadSignature: it is not; nothing else of the request may be believed.
        """
        ...

    def incoming_call(self, request: WebhookRequest) -> IncomingCall:
        """The call that a verified voice (or resume) webhook is about.

        Raises:
            BadWebhook: a field without which no call can be kept is missing.
        """
        ...

    def call_status(self, request: WebhookRequest) -> CallStatus:
        """The news of a verified status webhook.

        Raises:
            BadWebhook: the call or its status is missing or unknown.
        """
        ...

    def stream_status(self, request: WebhookRequest) -> StreamStatus:
        """The news of a verified stream webhook.

        Raises:
            BadWebhook: the call, stream or event is missing or unknown.
        """
        ...

    def answer(self, token: str, urls: AnswerUrls) -> Reply:
        """Connect the call to our media socket, which will be told `token`."""
        ...

    def forbid(self) -> Reply:
        """Answer a webhook that failed `verify`."""
        ...

    def reject(self) -> Reply:
        """Do not answer the call."""
        ...

    def hang_up_reply(self) -> Reply:
        """End the call, as an answer to a webhook."""
        ...

    def transfer_reply(self, transfer: TransferRequest) -> Reply:
        """Connect the call to another number, as an answer to a webhook."""
        ...

    async def hang_up(self, carrier_call_id: str) -> None:
        """End a call; a call that is already gone is no error.

        Raises:
            CarrierError: the carrier refused, or could not be reached after retries.
        """
        ...

    async def transfer(self, carrier_call_id: str, transfer: TransferRequest) -> None:
        """Connect a live call to another number; its media stream ends.

        Raises:
            CarrierError: the carrier refused (a call that is gone included), or could not be reached.
        """
        ...

    async def dial(self, request: DialRequest) -> str:
        """Place a call and return the carrier's id for it. Never repeated when it may have taken effect.

        Raises:
            CarrierError: the carrier refused, or could not be reached.
        """
        ...

    async def accept_media(self, websocket: WebSocket, *, start_timeout_s: float = 5.0) -> MediaStream:
        """Accept a media socket and read its beginning; the caller then checks the token.

        Raises:
            MediaRefused: no valid start came in time, or a limit was exceeded; the socket is closed.
            MediaGone: the other side left.
        """
        ...

    async def aclose(self) -> None:
        """Release the connections to the carrier."""
        ...
