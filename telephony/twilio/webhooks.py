"""Twilio's webhooks: is it really Twilio, what does it say, and the TwiML that answers it.

Sources: signatures, https://www.twilio.com/docs/usage/webhooks/webhooks-security; request parameters and call
states, https://www.twilio.com/docs/voice/twiml; streams, https://www.twilio.com/docs/voice/twiml/stream;
withheld callers,
https://www.twilio.com/en-us/changelog/upcoming-changes-to-withheld-caller-ids-behavior-for-dial-calls.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from twilio.request_validator import (  # type: ignore[import-untyped]
    RequestValidator,
    add_port,
    remove_port,
)
from twilio.twiml.voice_response import VoiceResponse  # type: ignore[import-untyped]

from telephony.carrier import (
    FORM_TYPE,
    AnswerUrls,
    CallProgress,
    CallStatus,
    EndReason,
    IncomingCall,
    Reply,
    StreamEvent,
    StreamStatus,
    TransferRequest,
    WebhookRequest,
)
from telephony.errors import BadSignature, BadWebhook

_STATUSES: dict[str, tuple[CallProgress, EndReason | None]] = {
    "queued": ("ringing", None),
    "initiated": ("ringing", None),
    "ringing": ("ringing", None),
    "in-progress": ("in_progress", None),
    "answered": ("in_progress", None),
    "completed": ("ended", "completed"),
    "busy": ("ended", "busy"),
    "no-answer": ("ended", "no_answer"),
    "canceled": ("ended", "canceled"),
    "failed": ("ended", "failed"),
}

_STREAM_EVENTS: dict[str, StreamEvent] = {
    "stream-started": "started",
    "stream-stopped": "stopped",
    "stream-error": "failed",
}

_WITHHELD_WORDS = ("ANONYMOUS", "RESTRICTED", "BLOCKED", "UNKNOWN", "UNAVAILABLE", "PRIVATE", "WITHHELD")
_KEYPAD = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "22233344455566677778889999")
_WITHHELD = {form for word in _WITHHELD_WORDS for form in (word, "+" + word.translate(_KEYPAD))}
"""How a withheld number arrives: as a word, or as the keys that spell it (+266696687 is "anonymous")."""


# --------------------------------------------------------------------------------------------- signature


class _Form:
    """The form fields as the validator wants them when a key may be repeated."""

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        self._pairs = pairs

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def getlist(self, name: str) -> list[str]:
        return [value for key, value in self._pairs if key == name]


def signed_url(seen_url: str, public_url: str | None) -> str:
    """The URL that Twilio must have signed: `public_url`, then the path and query as they arrived.

    `public_url` is an origin, with a path prefix if the proxy strips one. Without it, it is the URL as this
    server saw it. `X-Forwarded-*` headers are not consulted: whoever reaches the server can send them; a
    deployment behind a proxy says who it is with `PUBLIC_URL`.
    """
    if not public_url:
        return seen_url
    seen = urlsplit(seen_url)
    return public_url.rstrip("/") + (seen.path or "/") + (f"?{seen.query}" if seen.query else "")


def verify(request: WebhookRequest, auth_token: str, public_url: str | None) -> None:
    """Return if `request` carries Twilio's signature made with `auth_token`.

    As Twilio does, the URL is tried with and without its port. The comparison takes constant time.

    Raises:
        BadSignature: there is no signature, or it is not right, or the body is one that the signature does
        not cover.
    """
    signature = request.headers.get("x-twilio-signature", "")
    if not signature:
        raise BadSignature("no X-Twilio-Signature header")
    if request.body and not _is_form(request):
        raise BadSignature("a body that is no form is not covered by the signature")
    url = signed_url(request.url, public_url)
    validator = RequestValidator(auth_token)
    try:
        parts = urlsplit(url)
        candidates = [add_port(parts), remove_port(parts)]
    except ValueError as error:
        raise BadSignature("the URL's port is no number") from error
    form = _Form(request.form_pairs)
    given = signature.encode("utf-8", "replace")
    matches = [
        hmac.compare_digest(validator.compute_signature(candidate, form).encode(), given)
        for candidate in candidates
    ]
    if not any(matches):
        raise BadSignature("the signature does not match; does PUBLIC_URL equal the URL set at Twilio?")


def _is_form(request: WebhookRequest) -> bool:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == FORM_TYPE


# ----------------------------------------------------------------------------------------------- parsing


def incoming_call(request: WebhookRequest) -> IncomingCall:
    """The call of a voice (or resume) webhook. `From` may be withheld, a SIP address or a client: kept as it
    came.

    Raises:
        BadWebhook: no CallSid or no To.
    """
    caller = _fields(request).get("From", "").strip()
    return IncomingCall(
        carrier_call_id=_required(request, "CallSid"),
        from_=caller,
        to=_required(request, "To").strip(),
        direction="outbound" if _fields(request).get("Direction", "").startswith("outbound") else "inbound",
        caller_known=_is_known(caller),
    )


def call_status(request: WebhookRequest) -> CallStatus:
    """The news of a status callback. `CallDuration` is whole seconds, present once the call has ended.

    Raises:
        BadWebhook: no CallSid, or a CallStatus that is missing or unknown.
    """
    fields = _fields(request)
    word = _required(request, "CallStatus")
    if word not in _STATUSES:
        raise BadWebhook("CallStatus", f"unknown status {word[:40]!r}; known are {', '.join(_STATUSES)}")
    status, end_reason = _STATUSES[word]
    seconds = _whole(fields.get("CallDuration"))
    return CallStatus(
        carrier_call_id=_required(request, "CallSid"),
        status=status,
        terminal=status == "ended",
        end_reason=end_reason,
        duration_ms=None if seconds is None else seconds * 1000,
        carrier_status=word,
        sequence=_whole(fields.get("SequenceNumber")),
        error_code=fields.get("ErrorCode") or fields.get("SipResponseCode") or None,
    )


def stream_status(request: WebhookRequest) -> StreamStatus:
    """The news of a stream's statusCallback.

    Raises:
        BadWebhook: no CallSid or StreamSid, or a StreamEvent that is missing or unknown.
    """
    word = _required(request, "StreamEvent")
    if word not in _STREAM_EVENTS:
        raise BadWebhook("StreamEvent", f"unknown event {word[:40]!r}; known are {', '.join(_STREAM_EVENTS)}")
    return StreamStatus(
        carrier_call_id=_required(request, "CallSid"),
        stream_id=_required(request, "StreamSid"),
        event=_STREAM_EVENTS[word],
        error=_fields(request).get("StreamError") or None,
    )


def _is_known(caller: str) -> bool:
    return bool(caller) and caller.upper() not in _WITHHELD


def _fields(request: WebhookRequest) -> dict[str, str]:
    """Twilio sends its fields in the form, or in the query if the webhook is configured as GET."""
    return {**request.query, **request.form}


def _required(request: WebhookRequest, name: str) -> str:
    value = _fields(request).get(name, "")
    if not value.strip():
        raise BadWebhook(name, "missing; Twilio always sends it, so check what calls this URL")
    return value


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None


# ------------------------------------------------------------------------------------------------- TwiML


def answer(token: str, urls: AnswerUrls) -> Reply:
    """Connect the call to our media socket; when the stream ends, Twilio asks `resume_url` how to go on.

    `<Stream>` drops the query of its URL, so the token travels as a `<Parameter>` and comes back in `start`.
    """
    response = VoiceResponse()
    stream = response.connect().stream(url=urls.media_url, status_callback=urls.stream_status_url)
    stream.parameter(name="token", value=token)
    response.redirect(urls.resume_url, method="POST")
    return _twiml(response)


def forbid() -> Reply:
    """Whoever cannot sign gets 403 and nothing to learn from."""
    return Reply(status=403, content_type=_XML, body="")


def reject() -> Reply:
    """Do not answer: the caller hears that the number is not in service, and Twilio charges nothing."""
    response = VoiceResponse()
    response.reject()
    return _twiml(response)


def hang_up_reply() -> Reply:
    """End the call."""
    response = VoiceResponse()
    response.hangup()
    return _twiml(response)


def transfer_reply(transfer: TransferRequest) -> Reply:
    """Connect the call to another number instead of us."""
    return Reply(status=200, content_type=_XML, body=transfer_twiml(transfer))


def transfer_twiml(transfer: TransferRequest) -> str:
    """The TwiML of `transfer_reply`; its `action` URL is told what became of the call (`DialCallStatus`)."""
    response = VoiceResponse()
    method = None if transfer.then_url is None else "POST"
    dial = response.dial(
        caller_id=transfer.caller_id,
        timeout=transfer.ring_timeout_s,
        action=transfer.then_url,
        method=method,
    )
    dial.number(transfer.to)
    return str(response)


_XML = "text/xml"


def _twiml(response: VoiceResponse) -> Reply:
    return Reply(status=200, content_type=_XML, body=str(response))
