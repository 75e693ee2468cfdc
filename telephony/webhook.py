"""The contents of webhooks and their responses, independent of the carrier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from yarl import query_to_pairs

from telephony.errors import TooManyFields

CallDirection = Literal["inbound", "outbound"]
"""`inbound`: the other party dialled our number."""

CallProgress = Literal["ringing", "in_progress", "ended"]
"""Progress of a call as reported by carriers (`transferring` is a state of the application only)."""

EndReason = Literal["completed", "busy", "no_answer", "canceled", "failed"]
"""Why a call ended, in values common to all carriers."""

MAX_FIELDS = 200
"""The highest number of fields in a form or query; a carrier's voice webhook has less than 50."""

StreamEvent = Literal["started", "stopped", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookRequest:
    """One HTTP request from a carrier; create it with `received`.

    Attributes:
        method: upper case.
        url: URL as seen by this server (scheme, host, path, query).
        headers: name in lower case → value.
        query: name → last value in the query string.
        form: name → last value in the form.
        form_pairs: all names and values of the form, in order.
        body: the raw body.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    query: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] = field(default_factory=dict)
    form_pairs: Sequence[tuple[str, str]] = ()
    body: bytes = b""

    @classmethod
    def received(
        cls, *, method: str, url: str, headers: Mapping[str, str], body: bytes, max_fields: int = MAX_FIELDS
    ) -> WebhookRequest:
        """Parse a request. A body with another content type than `FORM_TYPE` has no form fields.

        Raises:
            TooManyFields: the form or the query has more than `max_fields` fields.
        """
        lowered = {name.lower(): value for name, value in headers.items()}
        pairs: list[tuple[str, str]] = []
        if _kind(lowered) == FORM_TYPE:
            text = body.decode("utf-8", errors="replace")
            pairs = _pairs(text, max_fields)
        return cls(
            method=method.upper(),
            url=url,
            headers=lowered,
            query=dict(_pairs(urlsplit(url).query, max_fields)),
            form=dict(pairs),
            form_pairs=tuple(pairs),
            body=body,
        )

    @property
    def content_type(self) -> str:
        """The type of the body, in lower case and without parameters; "" if there is none."""
        return _kind(self.headers)


FORM_TYPE = "application/x-www-form-urlencoded"

_MAX_DIGITS = 9


def whole_number(text: str | None) -> int | None:
    """A number of at most nine digits; None if it is absent or something else."""
    if text is None or len(text) > _MAX_DIGITS or not (text.isascii() and text.isdigit()):
        return None
    return int(text)


def _kind(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _pairs(text: str, max_fields: int) -> list[tuple[str, str]]:
    if text.count("&") >= max_fields:
        raise TooManyFields(f"the request has more than {max_fields} fields")
    return query_to_pairs(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookReply:
    """The HTTP response to a webhook."""

    status: int
    content_type: str
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingCall:
    """A call that waits to be answered.

    Attributes:
        carrier_call_id: the carrier's id of the call.
        from_: caller as given by the carrier: E.164, a SIP address, a client name, or "anonymous".
        to: called number, in the same forms.
        direction: inbound or outbound.
        caller_known: False if the caller's number is withheld.
        reference: what `DialRequest.reference` was, if the carrier returns it.
    """

    carrier_call_id: str
    from_: str
    to: str
    direction: CallDirection
    caller_known: bool
    reference: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallStatus:
    """Progress of a call, from a status webhook.

    Attributes:
        carrier_call_id: the carrier's id of the call.
        status: progress.
        terminal: whether the call has ended; then `end_reason` is set.
        end_reason: why the call ended.
        duration_ms: duration in ms, if the call has ended and the carrier reports it.
        carrier_status: the carrier's own value.
        sequence: order of the webhooks of one call, which may arrive out of order.
        error_code: the carrier's error code.
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
    """An event of a call's media stream, from a stream webhook."""

    carrier_call_id: str
    stream_id: str
    event: StreamEvent
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerUrls:
    """Absolute URLs for an answered call: `wss://…` for media, `https://…` for the others."""

    media_url: str
    stream_status_url: str
    resume_url: str
