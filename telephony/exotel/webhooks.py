"""Exotel's webhooks: verification, parsing of the parameters, and the responses.

Exotel signs nothing: a secret in the path proves that a request comes from the customer's flow. Parameters
come in the query, in a form, or as JSON. Sources: the pages of the Voicebot, Passthru and Connect applets on
support.exotel.com, and "Make a call to connect number with a call flow" on docs.exotel.com.
"""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Collection, Mapping
from email import message_from_bytes, policy
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from telephony.carrier import TransferRequest
from telephony.errors import BadSignature, BadWebhook
from telephony.exotel import outcomes
from telephony.exotel.fields import field_text, json_object
from telephony.exotel.media import RATE
from telephony.exotel.numbers import e164
from telephony.flow import Connection, StreamEnd
from telephony.webhook import (
    AnswerUrls,
    CallStatus,
    EndReason,
    IncomingCall,
    WebhookReply,
    WebhookRequest,
    whole_number,
)

_PARTIES = {"user": "caller", "bot": "us"}
_JSON = "application/json"
_TEXT = "text/plain"


# ------------------------------------------------------------------------------------------ verification


def verify(request: WebhookRequest, secret: str, credentials: Collection[str]) -> None:
    """Check the secret in the path: `/webhooks/exotel/{secret}/{webhook}`.

    Credentials written into a URL arrive as Basic authorization; the account's own (`credentials`, as
    `user:password`), or the secret as the password, are accepted instead. Comparisons take constant time.

    Raises:
        BadSignature: neither is right.
    """
    given = unquote(urlsplit(request.url).path.rstrip("/").split("/")[-2])
    user_and_password = _basic(request)
    password = user_and_password.partition(":")[2]
    right = [_same(given, secret), bool(password) and _same(password, secret)]
    right += [_same(user_and_password, each) for each in credentials]
    if not any(right):
        raise BadSignature("the secret in the URL is not EXOTEL_WEBHOOK_SECRET; check the URL in the flow")


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode("utf-8", "replace"))


def _basic(request: WebhookRequest) -> str:
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(encoded, validate=True).decode()
    except ValueError:
        return ""


# ----------------------------------------------------------------------------------------------- parsing


def incoming_call(request: WebhookRequest) -> IncomingCall:
    """Parse a request of the Voicebot or a Passthru applet; numbers are turned into E.164.

    Raises:
        BadWebhook: CallSid is missing, or the number that was called.
    """
    fields = _fields(request)
    caller = e164(field_text(fields, "CallFrom") or field_text(fields, "From"))
    called = e164(field_text(fields, "CallTo") or field_text(fields, "To"))
    if not called:
        raise BadWebhook("To", "missing; Exotel always sends it, so check which client requests this URL")
    return IncomingCall(
        carrier_call_id=_call_id(fields),
        from_=caller,
        to=called,
        direction="outbound" if field_text(fields, "Direction").lower().startswith("outbound") else "inbound",
        caller_known=caller.startswith("+"),
        reference=field_text(fields, "CustomField") or None,
    )


def call_status(request: WebhookRequest) -> CallStatus:
    """Parse a status callback of a call that was dialled over the API, whose other fields may be absent.

    Raises:
        BadWebhook: CallSid or Status is missing, or Status is unknown.
    """
    fields = _fields(request)
    word = outcomes.status_word(field_text(fields, "Status") or field_text(fields, "EventType"))
    if word not in outcomes.STATUSES:
        raise BadWebhook("Status", f"unknown status {word[:40]!r}; known are {', '.join(outcomes.STATUSES)}")
    status, end_reason = outcomes.STATUSES[word]
    seconds = whole_number(field_text(fields, "ConversationDuration"))
    return CallStatus(
        carrier_call_id=_call_id(fields),
        status=status,
        terminal=status == "ended",
        end_reason=end_reason,
        duration_ms=None if seconds is None else seconds * 1000,
        carrier_status=word,
        sequence=None,
        error_code=None,
    )


def stream_end(request: WebhookRequest) -> StreamEnd | None:
    """Parse what a Passthru applet reports of the stream: `Stream[Status]=…`, or `Stream` as JSON."""
    fields = _fields(request)
    stream = json_object(fields.get("Stream")) or {
        name[len("Stream[") : -1]: value
        for name, value in fields.items()
        if name.startswith("Stream[") and name.endswith("]")
    }
    if not stream:
        return None
    by = _PARTIES.get(field_text(stream, "DisconnectedBy").lower())
    return StreamEnd(
        by=cast("Any", by),
        failed=field_text(stream, "Status").lower() in ("failed", "cancelled", "canceled"),
        error=field_text(stream, "Error") or field_text(stream, "DetailedStatus") or None,
    )


def dial_outcome(request: WebhookRequest) -> EndReason | None:
    """Parse how the Connect applet's call ended, from the Passthru applet behind it; None: not reported."""
    return outcomes.of_passthru(_fields(request))


def _call_id(fields: Mapping[str, Any]) -> str:
    call_id = field_text(fields, "CallSid")
    if not call_id:
        raise BadWebhook(
            "CallSid", "missing; Exotel always sends it, so check which client requests this URL"
        )
    return call_id


def _fields(request: WebhookRequest) -> dict[str, Any]:
    """The parameters, wherever they are."""
    return {**request.query, **request.form, **_body(request)}


def _body(request: WebhookRequest) -> dict[str, Any]:
    """The fields of a body that is JSON, or a form in parts, as status callbacks are by default."""
    kind = request.headers.get("content-type", "")
    if request.content_type == "multipart/form-data":
        head = f"Content-Type: {kind}\r\n\r\n".encode("latin-1", "replace")
        form = message_from_bytes(head + request.body, policy=policy.HTTP)
        parts = [part for part in form.iter_parts() if not part.is_multipart()]
        return {
            str(part.get_param("name", header="content-disposition")): part.get_content().rstrip("\r\n")
            for part in parts
            if part.get_content_maintype() == "text"
        }
    return json_object(request.body) if request.body.lstrip()[:1] == b"{" else {}


# --------------------------------------------------------------------------------------------- responses


def answer(token: str, urls: AnswerUrls, sample_rate: int) -> WebhookReply:
    """The URL of our media socket for the Voicebot applet."""
    return _json({"url": stream_url(urls.media_url, token, sample_rate)})


def stream_url(media_url: str, token: str, sample_rate: int) -> str:
    """The URL of our media socket for one call. Exotel is asked for audio at a rate in Hz."""
    return f"{media_url}/{token}?{RATE}={sample_rate}"


def forbid() -> WebhookReply:
    """Status 404: the URL exists for nobody who does not know the secret."""
    return WebhookReply(status=404, content_type=_TEXT, body="")


def reject(*, busy: bool = False) -> WebhookReply:
    """Status 404: we have no such number, or do not take the call; a flow has no busy tone."""
    del busy
    return WebhookReply(status=404, content_type=_TEXT, body="")


def branch_reply(taken: bool) -> WebhookReply:
    """A Passthru applet has two branches: 200 and 302."""
    return WebhookReply(status=200 if taken else 302, content_type=_TEXT, body="")


def hang_up_reply() -> WebhookReply:
    """The branch of a Passthru applet that leads to the Hangup applet; no address for a Voicebot applet."""
    return branch_reply(False)


def wait_reply(pause_s: int, then_url: str) -> WebhookReply:
    """The branch of a Passthru applet that leads back to us. A flow cannot pause, nor be sent elsewhere."""
    del pause_s, then_url
    return branch_reply(True)


def say_reply(text: str, language: str, then_dial: str | None = None) -> WebhookReply:
    """The flow goes on: it cannot be given a text, and asks for the number to dial by itself."""
    del text, language, then_dial
    return branch_reply(False)


def transfer_reply(transfer: TransferRequest) -> WebhookReply:
    """The flow goes on, and asks for the number to dial by itself."""
    del transfer
    return branch_reply(False)


def connect_reply(connection: Connection | None) -> WebhookReply:
    """What the Connect applet shall dial; an empty list leads to its branch for that."""
    body: dict[str, Any] = {
        "fetch_after_attempt": False,
        "destination": {"numbers": [] if connection is None else [connection.to]},
    }
    if connection is not None:
        body |= {
            "max_ringing_duration": connection.ring_timeout_s,
            "music_on_hold": {"type": "operator_tone"},
        }
        if connection.caller_id is not None:
            body["outgoing_phone_number"] = connection.caller_id
    return _json(body)


def _json(body: Mapping[str, Any]) -> WebhookReply:
    return WebhookReply(status=200, content_type=_JSON, body=json.dumps(body))
