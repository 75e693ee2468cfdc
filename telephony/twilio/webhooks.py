"""Twilio's webhooks: signature, parsing of the parameters, and the TwiML responses.

Sources: signatures, https://www.twilio.com/docs/usage/webhooks/webhooks-security; request parameters and call
states, https://www.twilio.com/docs/voice/twiml; streams, https://www.twilio.com/docs/voice/twiml/stream;
withheld callers,
https://www.twilio.com/en-us/changelog/upcoming-changes-to-withheld-caller-ids-behavior-for-dial-calls.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping, Sequence
from functools import lru_cache
from urllib.parse import urlsplit

from twilio.request_validator import add_port, remove_port
from twilio.twiml.voice_response import VoiceResponse

from telephony.carrier import TransferRequest
from telephony.errors import BadSignature, BadWebhook
from telephony.twilio.twiml import XML, reply_with, text_of
from telephony.webhook import (
    FORM_TYPE,
    AnswerUrls,
    CallProgress,
    CallStatus,
    EndReason,
    IncomingCall,
    StreamEvent,
    StreamStatus,
    WebhookReply,
    WebhookRequest,
    whole_number,
)

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
"""Values of `From` for a withheld number: a word, or its spelling on the keypad (+266696687: "anonymous")."""


# --------------------------------------------------------------------------------------------- signature


@lru_cache(maxsize=128)
def signed_url(seen_url: str, public_url: str | None) -> str:
    """The URL that Twilio has signed: `public_url` followed by the received path and query.

    `public_url` is an origin, with the path prefix that a proxy removes, if any. If it is None, the URL as
    seen by this server is used. `X-Forwarded-*` headers are ignored, because any client can send them; behind
    a proxy, set `PUBLIC_URL`.
    """
    if not public_url:
        return seen_url
    seen = urlsplit(seen_url)
    return public_url.rstrip("/") + (seen.path or "/") + (f"?{seen.query}" if seen.query else "")


def verify(request: WebhookRequest, auth_token: str, public_url: str | None) -> None:
    """Check Twilio's signature of `request`, made with `auth_token`.

    As in Twilio's library, the URL is tried with and without its port; the second form only if the first does
    not match. Each comparison takes constant time.

    Raises:
        BadSignature: the signature is missing or wrong, or it does not cover the body (not a form).
    """
    if request.body and request.content_type != FORM_TYPE:
        raise BadSignature("the body is not a form, so the signature does not cover it")
    _verify_urls([signed_url(request.url, public_url)], request, auth_token)


def verify_media(request: WebhookRequest, auth_token: str, public_url: str | None, *, required: bool) -> None:
    """Check Twilio's signature of the handshake of a media socket, over its `wss` URL.

    Some versions of Twilio sign the URL with a slash at its end.

    Raises:
        BadSignature: the signature is wrong; or it is missing, and `required` is true.
    """
    if not required and "x-twilio-signature" not in request.headers:
        return
    url = signed_url(request.url, public_url)
    url = "ws" + url.removeprefix("http") if url.startswith("http") else url
    _verify_urls([url, url + "/"], request, auth_token)


def _verify_urls(urls: Sequence[str], request: WebhookRequest, auth_token: str) -> None:
    """Check that `auth_token` has signed the form and one of `urls`, with or without its port."""
    signature = request.headers.get("x-twilio-signature", "")
    if not signature:
        raise BadSignature("no X-Twilio-Signature header")
    given, token = signature.encode("utf-8", "replace"), auth_token.encode()
    fields = "".join(name + value for name, value in sorted(set(request.form_pairs)))
    forms = (form for url in urls for form in _with_and_without_port(url))
    if not any(hmac.compare_digest(_signature(form + fields, token), given) for form in forms):
        raise BadSignature(
            "the signature does not match; check that PUBLIC_URL is the URL configured at Twilio"
        )


@lru_cache(maxsize=128)
def _with_and_without_port(url: str) -> tuple[str, str]:
    """A URL without its port, and with it. Most webhooks have one of few URLs.

    Raises:
        BadSignature: the port is not a number.
    """
    try:
        parts = urlsplit(url)
        return remove_port(parts), add_port(parts)
    except ValueError as error:
        raise BadSignature("the port of the URL is not a number") from error


def _signature(text: str, token: bytes) -> bytes:
    """Twilio's signature of a URL followed by the names and values of the form, sorted and each once.

    The result is that of ``RequestValidator.compute_signature``, in less than half of the time.
    """
    signed = _keyed(token).copy()
    signed.update(text.encode())
    return base64.b64encode(signed.digest())


@lru_cache
def _keyed(token: bytes) -> hmac.HMAC:
    """HMAC-SHA1 with a key. To make one takes longer than to sign a form."""
    return hmac.new(token, digestmod="sha1")


# ----------------------------------------------------------------------------------------------- parsing


def incoming_call(request: WebhookRequest) -> IncomingCall:
    """Parse a voice or resume webhook. `From` is kept as received: it may be withheld, a SIP address or a
    client.

    Raises:
        BadWebhook: CallSid or To is missing.
    """
    fields = _fields(request)
    caller = fields.get("From", "").strip()
    return IncomingCall(
        carrier_call_id=_required(fields, "CallSid"),
        from_=caller,
        to=_required(fields, "To").strip(),
        direction="outbound" if fields.get("Direction", "").startswith("outbound") else "inbound",
        caller_known=_is_known(caller),
    )


def call_status(request: WebhookRequest) -> CallStatus:
    """Parse a status callback. `CallDuration` is in whole seconds and present if the call has ended.

    Raises:
        BadWebhook: CallSid or CallStatus is missing, or CallStatus is unknown.
    """
    fields = _fields(request)
    word = _required(fields, "CallStatus")
    if word not in _STATUSES:
        raise BadWebhook("CallStatus", f"unknown status {word[:40]!r}; known are {', '.join(_STATUSES)}")
    status, end_reason = _STATUSES[word]
    seconds = whole_number(fields.get("CallDuration"))
    return CallStatus(
        carrier_call_id=_required(fields, "CallSid"),
        status=status,
        terminal=status == "ended",
        end_reason=end_reason,
        duration_ms=None if seconds is None else seconds * 1000,
        carrier_status=word,
        sequence=whole_number(fields.get("SequenceNumber")),
        error_code=fields.get("ErrorCode") or fields.get("SipResponseCode") or None,
    )


def stream_status(request: WebhookRequest) -> StreamStatus:
    """Parse a stream's statusCallback.

    Raises:
        BadWebhook: CallSid, StreamSid or StreamEvent is missing, or StreamEvent is unknown.
    """
    fields = _fields(request)
    word = _required(fields, "StreamEvent")
    if word not in _STREAM_EVENTS:
        raise BadWebhook("StreamEvent", f"unknown event {word[:40]!r}; known are {', '.join(_STREAM_EVENTS)}")
    return StreamStatus(
        carrier_call_id=_required(fields, "CallSid"),
        stream_id=_required(fields, "StreamSid"),
        event=_STREAM_EVENTS[word],
        error=fields.get("StreamError") or None,
    )


def _is_known(caller: str) -> bool:
    return bool(caller) and caller.upper() not in _WITHHELD


def _fields(request: WebhookRequest) -> dict[str, str]:
    """Twilio's fields: from the form, or from the query if the webhook is configured as GET."""
    return {**request.query, **request.form}


def _required(fields: Mapping[str, str], name: str) -> str:
    value = fields.get(name, "")
    if not value.strip():
        raise BadWebhook(name, "missing; Twilio always sends it, so check which client requests this URL")
    return value


# ------------------------------------------------------------------------------------------------- TwiML


def answer(token: str, urls: AnswerUrls) -> WebhookReply:
    """TwiML that connects the call to our media socket and, after the stream, requests `resume_url`.

    `<Stream>` drops the query of its URL, so the token is sent as a `<Parameter>`, which `start` contains.
    """
    response = VoiceResponse()
    stream = response.connect().stream(url=urls.media_url, status_callback=urls.stream_status_url)
    stream.parameter(name="token", value=token)
    response.redirect(urls.resume_url, method="POST")
    return reply_with(response)


def forbid() -> WebhookReply:
    """Status 403 with an empty body."""
    return WebhookReply(status=403, content_type=XML, body="")


def reject(*, busy: bool = False) -> WebhookReply:
    """TwiML that rejects the call, without charge: the number is not in service, or is busy."""
    response = VoiceResponse()
    response.reject(reason="busy" if busy else None)
    return reply_with(response)


def hang_up_reply() -> WebhookReply:
    """TwiML that ends the call."""
    response = VoiceResponse()
    response.hangup()
    return reply_with(response)


def wait_reply(pause_s: int, then_url: str) -> WebhookReply:
    """TwiML that waits, then requests `then_url`. A `<Pause>` at the beginning does not answer the call."""
    response = VoiceResponse()
    response.pause(length=pause_s)
    response.redirect(then_url, method="POST")
    return reply_with(response)


def say_reply(text: str, language: str, then_dial: str | None = None) -> WebhookReply:
    """TwiML that says `text` in Twilio's own voice, then dials a number or ends the call.

    `language` is a BCP 47 tag, `then_dial` is E.164.
    """
    response = VoiceResponse()
    response.say(text, language=language)
    if then_dial is None:
        response.hangup()
    else:
        response.dial().number(then_dial)
    return reply_with(response)


def transfer_reply(transfer: TransferRequest) -> WebhookReply:
    """TwiML that transfers the call to another number."""
    return reply_with(transfer_twiml(transfer))


def transfer_twiml(transfer: TransferRequest) -> str:
    """TwiML text of `transfer_reply`; its `action` URL receives the outcome (`DialCallStatus`)."""
    response = VoiceResponse()
    method = None if transfer.then_url is None else "POST"
    dial = response.dial(
        caller_id=transfer.caller_id,
        timeout=transfer.ring_timeout_s,
        action=transfer.then_url,
        method=method,
    )
    dial.number(transfer.to)
    return text_of(response)
