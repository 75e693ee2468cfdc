"""What the rest of the program may know about a carrier: plain records, errors and two protocols.

`Carrier` is the telephone company: its webhooks are verified and parsed, answered, and calls are dialled,
transferred and hung up through it. `MediaStream` is the audio of one answered call. Nothing here names a
vendor; each vendor has a package beside this file that implements both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:  # the records are used where pipecat, slow to import, is not needed
    from pipecat.frames.frames import Frame
    from pipecat.transports.base_transport import BaseTransport
    from starlette.websockets import WebSocket

    from telephony.playout import Playout

CallDirection = Literal["inbound", "outbound"]
"""Seen from us: `inbound` is a caller who dialled our number."""

CallProgress = Literal["ringing", "in_progress", "ended"]
"""How far a call has come, as carriers can know it (`transferring` is the application's own state)."""

EndReason = Literal["completed", "busy", "no_answer", "canceled", "failed"]
"""Why a call ended, in words common to carriers."""

StreamEvent = Literal["started", "stopped", "failed"]

MarkFate = Literal["played", "cleared"]
"""What became of a mark: the audio before it was played out, or was thrown away by a clear."""


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


# ------------------------------------------------------------------------------------------------ errors


class TelephonyError(Exception):
    """Something between us and a carrier went wrong."""


class BadSignature(TelephonyError):
    """The webhook is not the carrier's, or came to another URL than ours: answer with `Carrier.forbid`."""


class BadWebhook(TelephonyError):
    """The webhook is the carrier's but lacks something we cannot do without: answer 400; a retry does not
    help."""

    def __init__(self, field: str, remedy: str) -> None:
        """Name the missing or wrong form field, and what would put it right."""
        super().__init__(f"webhook field {field!r}: {remedy}")
        self.field = field
        self.remedy = remedy


class MediaRefused(TelephonyError):
    """The media socket was closed by us before or during the stream, with this WebSocket close code."""

    def __init__(self, close_code: int, reason: str) -> None:
        """Keep the close code (RFC 6455 section 7.4.1) and the reason that was sent with it."""
        super().__init__(f"media socket closed with {close_code}: {reason}")
        self.close_code = close_code
        self.reason = reason


class MediaGone(TelephonyError):
    """The carrier's side of the media socket went away before the stream had begun."""


class CarrierError(TelephonyError):
    """The carrier's REST API refused a request, or could not be reached (`status` 0).

    `code` is the carrier's own error code, `retryable` whether the same request may succeed later, and
    `retry_after_s` when the carrier said how much later. `uncertain` means that the request may have taken
    effect all the same: to repeat it could place a second call.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str | None = None,
        retryable: bool = False,
        retry_after_s: float | None = None,
        uncertain: bool = False,
    ) -> None:
        """Keep the facts that a caller decides by, so that nobody parses the message."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.retryable = retryable
        self.retry_after_s = retry_after_s
        self.uncertain = uncertain


# ------------------------------------------------------------------------------------------------- media


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaStart:
    """What the carrier said when it opened the stream. `token` is what `answer` gave it ("" if it brought
    none)."""

    stream_id: str
    carrier_call_id: str
    account_ref: str
    token: str
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkEcho:
    """A mark that came back: `played` to its end, or `cleared` together with the audio before it."""

    name: str
    fate: MarkFate


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaClosed:
    """How the media socket ended. `announced` is true if the carrier had said that the stream stops."""

    by: Literal["carrier", "us"]
    code: int
    reason: str
    announced: bool


class MediaStream(Protocol):
    """The audio of one answered call: 8 kHz both ways, and the knowledge of what of ours was heard.

    The observers are plain functions called on the event loop; they must return at once (set an event,
    start a task). Register them before the pipeline starts.
    """

    @property
    def start(self) -> MediaStart:
        """The facts of the stream's start."""
        ...

    @property
    def transport(self) -> BaseTransport:
        """What the pipeline begins and ends with; its frames are 16-bit mono PCM at 8000 Hz."""
        ...

    @property
    def playout(self) -> Playout:
        """The model of what was heard of what we sent; times are those of `now_ms`."""
        ...

    def now_ms(self) -> float:
        """The clock of `playout`: milliseconds, monotonic."""
        ...

    def mark_frame(self, name: str) -> Frame:
        """A frame that, pushed through `transport.output()`, marks the end of the audio queued before it.

        Push it after the speech's `TTSStoppedFrame` (which flushes the last part of a chunk). An
        interruption drops it together with the audio that it follows, unless its `interruptible` is set
        False.
        """
        ...

    async def wait_all_heard(self, timeout_s: float) -> bool:
        """Wait until what was sent until now was heard, cleared or cut off by the stream's end; False if that
        took longer than `timeout_s`.

        Audio still queued inside the pipeline is not yet sent: flush the pipeline first.
        """
        ...

    def on_mark(self, observer: Callable[[MarkEcho], None]) -> None:
        """Tell `observer` of every returned mark made by `mark_frame`, in order."""
        ...

    def on_dtmf(self, observer: Callable[[str], None]) -> None:
        """Tell `observer` of each key that the caller pressed: one of `0123456789*#ABCD`."""
        ...

    def on_stop(self, observer: Callable[[], None]) -> None:
        """Tell `observer` when the carrier announces the stream's end (the call ended or was led
        elsewhere)."""
        ...

    def on_closed(self, observer: Callable[[MediaClosed], None]) -> None:
        """Tell `observer` once when the socket is gone, whoever closed it."""
        ...

    async def refuse(self, close_code: int, reason: str) -> None:
        """Close the socket before (or during) the stream; harmless if it is already closed."""
        ...

    async def close(self) -> None:
        """Close the socket normally (1000); harmless if it is already closed."""
        ...


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
