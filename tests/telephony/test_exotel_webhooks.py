"""Exotel's requests, wherever their parameters are, and what they are answered."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import urlencode

import pytest

from telephony.errors import BadSignature, BadWebhook
from telephony.exotel import webhooks
from telephony.exotel.carrier import ExotelAccount, ExotelCarrier
from telephony.exotel.numbers import e164
from telephony.flow import Connection
from telephony.webhook import FORM_TYPE, AnswerUrls, WebhookRequest

SECRET = "s3cret/with a slash"
CARRIER = ExotelCarrier(
    ExotelAccount(account_sid="exo", api_key="key", api_token="token", webhook_secret=SECRET)
)
CALL = {"CallSid": "c-1", "CallFrom": "09876543210", "CallTo": "08045678901", "Direction": "incoming"}


def get(fields: dict[str, str], path: str = "", **headers: str) -> WebhookRequest:
    """A request with its parameters in the query."""
    url = f"https://bot.example.com{path or CARRIER.webhooks_path + '/voice'}?{urlencode(fields)}"
    return WebhookRequest.received(method="GET", url=url, headers=headers, body=b"")


def post(body: bytes, content_type: str) -> WebhookRequest:
    """A request with its parameters in the body."""
    headers = {"Content-Type": content_type}
    return WebhookRequest.received(
        method="POST", url="https://bot.example.com/x/y", headers=headers, body=body
    )


def basic(user: str, password: str) -> dict[str, str]:
    """The header of Basic credentials."""
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("", {}),
        ("", basic("anybody", "wrong")),
        ("/webhooks/exotel/wrong/voice", basic("anybody", SECRET)),
        ("/webhooks/exotel/wrong/voice", basic("key", "token")),
    ],
)
def test_the_secret_in_the_path_or_the_credentials_prove_the_sender(
    path: str, headers: dict[str, str]
) -> None:
    """Right are the secret in the path, the secret as a password, and the account's own credentials."""
    CARRIER.verify(get(CALL, path, **headers))


@pytest.mark.parametrize(
    "headers", [{}, basic("key", ""), basic("key", "guess"), {"Authorization": "Basic %"}]
)
@pytest.mark.parametrize("secret", ["", "wrong", "s3cret", "é"])
def test_without_a_proof_a_request_is_refused_with_404(secret: str, headers: dict[str, str]) -> None:
    """Neither the path nor the credentials are right: nothing of the request is used."""
    with pytest.raises(BadSignature):
        CARRIER.verify(get(CALL, f"/webhooks/exotel/{secret}/voice", **headers))
    assert CARRIER.forbid().status == 404


def test_without_api_credentials_empty_ones_prove_nothing() -> None:
    """An account that has only the secret is not opened by empty Basic credentials."""
    bare = ExotelCarrier(ExotelAccount(account_sid="", api_key="", api_token="", webhook_secret=SECRET))
    with pytest.raises(BadSignature):
        bare.verify(get(CALL, "/webhooks/exotel/wrong/voice", **basic("", "")))


@pytest.mark.parametrize(
    "request_",
    [
        get(CALL),
        get({"CallSid": "c-1", "From": "+919876543210", "To": " 918045678901", "Direction": "incoming"}),
        post(urlencode(CALL).encode(), FORM_TYPE),
        post(json.dumps(CALL).encode(), "application/json"),
    ],
)
def test_a_call_is_read_from_query_form_or_json(request_: WebhookRequest) -> None:
    """Indian numbers become E.164, whichever way the applet asks."""
    call = webhooks.incoming_call(request_)
    assert (call.carrier_call_id, call.from_, call.to) == ("c-1", "+919876543210", "+918045678901")
    assert (call.direction, call.caller_known) == ("inbound", True)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("09876543210", "+919876543210"),
        ("9876543210", "+919876543210"),
        ("919876543210", "+919876543210"),
        ("+91 98765-43210", "+919876543210"),
        ("00919876543210", "+919876543210"),
        (" 919876543210", "+919876543210"),
        ("14155550100", "+14155550100"),
        ("+14155550100", "+14155550100"),
        ("anonymous", "anonymous"),
        ("sip:me@example.com", "sip:me@example.com"),
        ("", ""),
    ],
)
def test_numbers_become_e164(written: str, expected: str) -> None:
    """Ten digits, with or without the trunk prefix, are Indian."""
    assert e164(written) == expected


@pytest.mark.parametrize("missing", ["CallSid", "CallTo"])
def test_a_call_without_id_or_number_is_refused(missing: str) -> None:
    """The error names the field."""
    with pytest.raises(BadWebhook):
        webhooks.incoming_call(get({name: value for name, value in CALL.items() if name != missing}))


STREAM = {"StreamSID": "s-1", "Status": "completed", "Duration": "12", "DisconnectedBy": "user"}


@pytest.mark.parametrize(
    "request_",
    [
        get(CALL | {f"Stream[{name}]": value for name, value in STREAM.items()}),
        get(CALL | {"Stream": json.dumps(STREAM)}),
        post(json.dumps(CALL | {"Stream": STREAM}).encode(), "application/json"),
    ],
)
def test_the_end_of_a_stream_is_read_in_all_its_forms(request_: WebhookRequest) -> None:
    """`Stream[…]` parameters, `Stream` as JSON, and a JSON body say the same."""
    end = webhooks.stream_end(request_)
    assert end is not None
    assert (end.by, end.failed) == ("caller", False)


@pytest.mark.parametrize("by", ["bot", "NA", ""])
def test_only_the_user_is_the_caller(by: str) -> None:
    """Streams that we, or neither side, ended say nothing of the caller."""
    end = webhooks.stream_end(get(CALL | {"Stream[DisconnectedBy]": by, "Stream[Status]": "failed"}))
    assert end is not None
    assert (end.by, end.failed) == ("us" if by == "bot" else None, True)
    assert webhooks.stream_end(get(CALL)) is None


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        ({}, None),
        ({"DialCallStatus": "completed"}, "completed"),
        ({"DialCallStatus": "no-answer"}, "no_answer"),
        ({"DialCallStatus": "busy"}, "busy"),
        ({"Legs": json.dumps([{"OnCallDuration": "9"}, {"OnCallDuration": "0", "Status": "busy"}])}, "busy"),
        ({"Legs": json.dumps([{"OnCallDuration": "9"}, {"OnCallDuration": "7"}])}, "completed"),
        ({"Legs": json.dumps([{"OnCallDuration": 9}, {"OnCallDuration": 0}])}, "no_answer"),
        ({"Legs": "["}, None),
        ({"CallType": "completed", "DialCallDuration": "31"}, "completed"),
        ({"CallType": "incomplete"}, "no_answer"),
        ({"CallType": "incomplete", "DialCallStatus": "busy"}, "busy"),
        ({"CallType": "client-hangup"}, "canceled"),
        ({"CallType": "client-hangup", "DialCallStatus": "no-answer"}, "canceled"),
        ({"CallType": "client-hangup", "DialCallStatus": "completed"}, "completed"),
        ({"CallType": "call-attempt"}, None),
        ({"DialCallStatus": "canceled"}, "canceled"),
        ({"Legs[0][Number]": "098", "Legs[0][OnCallDuration]": "22"}, "completed"),
        ({"Legs[0][OnCallDuration]": "9", "Legs[1][OnCallDuration]": "0", "Legs[1][Status]": "busy"}, "busy"),
    ],
)
def test_the_outcome_of_a_connection_is_read(fields: dict[str, str], outcome: str | None) -> None:
    """By its status, by the leg of the number, or by the type of the call; None where nothing is reported."""
    assert webhooks.dial_outcome(get(CALL | fields)) == outcome


@pytest.mark.parametrize("content_type", [FORM_TYPE, "application/json", "multipart/form-data; boundary=b"])
def test_a_status_callback_is_read(content_type: str) -> None:
    """A form, a form in parts or JSON, with no more than an id and a status."""
    fields = {"CallSid": "c-1", "Status": "no-answer", "DateUpdated": "2026-11-28 21:00:00"}
    body = {
        FORM_TYPE: urlencode(fields),
        "application/json": json.dumps(fields),
    }.get(content_type) or "".join(
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ) + "--b--\r\n"
    status = webhooks.call_status(post(body.encode(), content_type))
    assert (status.carrier_call_id, status.terminal, status.end_reason) == ("c-1", True, "no_answer")
    assert status.duration_ms is None


def test_a_status_callback_with_an_event_and_a_duration() -> None:
    """The event `answered` without a status is progress; ConversationDuration is in seconds."""
    answered = webhooks.call_status(get({"CallSid": "c-1", "EventType": "answered"}))
    assert (answered.status, answered.terminal) == ("in_progress", False)
    over = get(
        {"CallSid": "c-1", "Status": "completed", "EventType": "terminal", "ConversationDuration": "9"}
    )
    assert webhooks.call_status(over).duration_ms == 9000
    with pytest.raises(BadWebhook):
        webhooks.call_status(get({"CallSid": "c-1", "Status": "exploded"}))


def _body(reply: Any) -> Any:
    assert (reply.status, reply.content_type) == (200, "application/json")
    return json.loads(reply.body)


def test_the_answers_of_the_applets() -> None:
    """The URL of the socket, the branches, and the number to connect with."""
    urls = AnswerUrls(media_url="wss://bot.example.com/media/exotel", stream_status_url="", resume_url="")
    assert _body(CARRIER.answer("t-1", urls)) == {
        "url": "wss://bot.example.com/media/exotel/t-1?sample-rate=8000"
    }
    assert [CARRIER.branch_reply(taken).status for taken in (True, False)] == [200, 302]
    someone = _body(CARRIER.connect_reply(Connection(to="+919876500000", caller_id="+918045678901")))
    assert someone["destination"] == {"numbers": ["+919876500000"]}
    assert someone["outgoing_phone_number"] == "+918045678901"
    assert someone["fetch_after_attempt"] is False
    assert _body(CARRIER.connect_reply(None))["destination"] == {"numbers": []}
