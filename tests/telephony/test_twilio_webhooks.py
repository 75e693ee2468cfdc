"""Twilio's webhooks: signatures, what they say, and the TwiML that answers."""

from __future__ import annotations

import base64
from urllib.parse import parse_qsl, urlencode
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twilio.request_validator import RequestValidator

from telephony.carrier import TransferRequest
from telephony.errors import BadSignature, BadWebhook, TooManyFields
from telephony.twilio import webhooks
from telephony.twilio.carrier import TwilioAccount, TwilioCarrier
from telephony.webhook import MAX_FIELDS, AnswerUrls, WebhookRequest

TOKEN = "5up3r53cr37"
PUBLIC = "https://voice.example.com"
INSIDE = "http://10.0.0.7:8000/webhooks/twilio/voice"
CALL = {"CallSid": "CA1", "From": "+14155550100", "To": "+14155550199", "Direction": "inbound"}
URLS = AnswerUrls(
    media_url="wss://voice.example.com/media/twilio",
    stream_status_url="https://voice.example.com/webhooks/twilio/stream",
    resume_url="https://voice.example.com/webhooks/twilio/resume",
)


def carrier(public_url: str | None = PUBLIC) -> TwilioCarrier:
    return TwilioCarrier(TwilioAccount(account_sid="AC1", auth_token=TOKEN, public_url=public_url))


def post(
    fields: dict[str, str] | list[tuple[str, str]],
    *,
    signed: str | None = None,
    seen: str = INSIDE,
    token: str = TOKEN,
) -> WebhookRequest:
    """A POST that arrived at `seen`, signed by the twilio package for the URL `signed`."""
    pairs = list(fields.items()) if isinstance(fields, dict) else fields
    headers = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
    if signed is not None:
        headers["X-Twilio-Signature"] = signature_of(signed, pairs, token)
    return WebhookRequest.received(method="POST", url=seen, headers=headers, body=urlencode(pairs).encode())


def parsed(twiml: str) -> ElementTree.Element:
    """TwiML as Twilio's parser sees it."""
    return ElementTree.fromstring(twiml)  # noqa: S314 (our own output)


def signature_of(url: str, pairs: list[tuple[str, str]], token: str = TOKEN) -> str:
    """What Twilio's documentation prescribes, with the values of a repeated key sorted."""

    class Form(dict[str, list[str]]):
        def getlist(self, name: str) -> list[str]:
            return self[name]

    form = Form({name: [value for key, value in pairs if key == name] for name, _ in pairs})
    return str(RequestValidator(token).compute_signature(url, form))


@pytest.mark.parametrize(
    ("public_url", "signed", "seen"),
    [
        (PUBLIC, PUBLIC + "/webhooks/twilio/voice", INSIDE),
        (PUBLIC + "/", PUBLIC + "/webhooks/twilio/voice", INSIDE),
        (PUBLIC, PUBLIC + ":443/webhooks/twilio/voice", INSIDE),
        (PUBLIC + ":8443", PUBLIC + ":8443/webhooks/twilio/voice", INSIDE),
        (PUBLIC + ":8443", PUBLIC + "/webhooks/twilio/voice", INSIDE),
        (PUBLIC, PUBLIC + "/webhooks/twilio/voice?a=b%20c&d=", INSIDE + "?a=b%20c&d="),
        (PUBLIC + "/bots", PUBLIC + "/bots/webhooks/twilio/voice", INSIDE),
        (None, INSIDE, INSIDE),
        (None, "http://10.0.0.7/webhooks/twilio/voice", INSIDE),
    ],
)
def test_signature_is_checked_against_the_public_url(public_url: str | None, signed: str, seen: str) -> None:
    """A signature over the public URL, with or without its port, and the query as sent is accepted."""
    carrier(public_url).verify(post(CALL, signed=signed, seen=seen))


def test_the_example_of_twilios_documentation_is_accepted() -> None:
    """The worked example in Twilio's security guide verifies to the signature printed there."""
    fields = {
        "CallSid": "CA1234567890ABCDE",
        "Caller": "+14158675310",
        "Digits": "1234",
        "From": "+14158675310",
        "To": "+18005551212",
    }
    url = "https://example.com/myapp.php?foo=1&bar=2"
    request = WebhookRequest.received(
        method="POST",
        url=url,
        headers={
            "content-type": "application/x-www-form-urlencoded",
            "x-twilio-signature": "L/OH5YylLD5NRKLltdqwSvS0BnU=",
        },
        body=urlencode(fields).encode(),
    )
    webhooks.verify(request, "12345", None)


def bad_requests() -> list[WebhookRequest]:
    right = PUBLIC + "/webhooks/twilio/voice"
    signed = post(CALL, signed=right)
    json_body = WebhookRequest.received(
        method="POST",
        url=INSIDE,
        headers={"content-type": "application/json", "x-twilio-signature": signature_of(right, [])},
        body=b'{"CallSid": "CA1"}',
    )
    forwarded = WebhookRequest.received(
        method="POST",
        url=INSIDE,
        headers={
            **signed.headers,
            "x-forwarded-host": "evil.example",
            "x-forwarded-proto": "https",
            "x-twilio-signature": signature_of(
                "https://evil.example/webhooks/twilio/voice", list(CALL.items())
            ),
        },
        body=signed.body,
    )
    return [
        post(CALL),
        post(CALL, signed=right, token="other"),
        post(CALL, signed="http://voice.example.com/webhooks/twilio/voice"),
        post(CALL, signed=INSIDE),
        post(CALL, signed=right, seen=INSIDE + "?x=1"),
        WebhookRequest.received(
            method="POST", url=INSIDE, headers=signed.headers, body=signed.body + b"&To=%2B19"
        ),
        WebhookRequest.received(method="POST", url=INSIDE, headers=signed.headers, body=b""),
        json_body,
        forwarded,
    ]


@pytest.mark.parametrize("number", range(9))
def test_anything_else_is_a_bad_signature(number: int) -> None:
    """No signature, another token, URL or body, and forwarded headers are all refused."""
    with pytest.raises(BadSignature):
        carrier().verify(bad_requests()[number])


@pytest.mark.parametrize("seen", ["http://host:port/x", "http://host:99999/x"])
def test_a_url_that_cannot_be_read_is_a_bad_signature(seen: str) -> None:
    """A Host header with a nonsensical port is refused, not an error of the server."""
    request = WebhookRequest.received(method="POST", url=seen, headers={"x-twilio-signature": "x"}, body=b"")
    with pytest.raises(BadSignature):
        carrier(None).verify(request)


def test_repeated_and_empty_fields_are_covered_by_the_signature() -> None:
    """A key sent twice and an empty value verify, and dropping either does not."""
    pairs = [("CallSid", "CA1"), ("X", "2"), ("X", "1"), ("Empty", "")]
    url = PUBLIC + "/webhooks/twilio/voice"
    request = post(pairs, signed=url)
    carrier().verify(request)
    assert request.form["X"] == "1"
    shortened = WebhookRequest.received(
        method="POST", url=INSIDE, headers=request.headers, body=request.body.replace(b"X=2&", b"")
    )
    with pytest.raises(BadSignature):
        carrier().verify(shortened)


def test_a_get_without_a_body_is_signed_by_its_url() -> None:
    """A webhook configured as GET is verified by its query, and its fields are read from there."""
    seen = INSIDE + "?" + urlencode(CALL)
    signature = signature_of(PUBLIC + "/webhooks/twilio/voice?" + urlencode(CALL), [])
    request = WebhookRequest.received(
        method="get", url=seen, headers={"X-Twilio-Signature": signature}, body=b""
    )
    carrier().verify(request)
    assert carrier().incoming_call(request).to == "+14155550199"


@given(st.text(st.sampled_from("ab=&+;% 2fF%Cc3é9\0")))
def test_any_form_is_parsed_as_by_the_standard_library(text: str) -> None:
    """Fields, blank values, wrong escapes and bytes that are not UTF-8 are those of ``parse_qsl``."""
    headers = {"content-type": "application/x-www-form-urlencoded"}
    request = WebhookRequest.received(method="POST", url=INSIDE, headers=headers, body=text.encode())

    assert list(request.form_pairs) == parse_qsl(text, keep_blank_values=True)


@settings(deadline=None)  # the machine may be busy
@given(
    st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=12), max_size=6),
    st.integers(min_value=0, max_value=27),
    st.sampled_from("ABCxyz019+/="),
)
def test_one_changed_character_of_a_signature_is_refused(
    fields: dict[str, str], index: int, letter: str
) -> None:
    """Whatever the fields, the right signature passes and one with a different character does not."""
    url = PUBLIC + "/webhooks/twilio/voice"
    request = post(fields, signed=url)
    carrier().verify(request)
    right = request.headers["x-twilio-signature"]
    wrong = right[:index] + letter + right[index + 1 :]
    if wrong != right:
        forged = WebhookRequest.received(
            method="POST",
            url=INSIDE,
            headers={**request.headers, "x-twilio-signature": wrong},
            body=request.body,
        )
        with pytest.raises(BadSignature):
            carrier().verify(forged)


@pytest.mark.parametrize(
    ("caller", "known"),
    [
        ("+14155550100", True),
        ("anonymous", False),
        ("Restricted", False),
        ("+266696687", False),
        ("+7378742833", False),
        ("+86282452253", False),
        ("", False),
        ("sip:alice@example.com", True),
        ("client:jenny", True),
        ("+12", True),
        ("☎\N{ZERO WIDTH SPACE}", True),
    ],
)
def test_caller_is_kept_as_received(caller: str, known: bool) -> None:
    """A withheld, SIP or client caller is no error; only its number is unknown."""
    call = webhooks.incoming_call(post({**CALL, "From": caller}))
    assert (call.from_, call.caller_known) == (caller, known)


def test_incoming_call_names_what_is_missing() -> None:
    """Without a CallSid no call can be kept, and the error names the field."""
    with pytest.raises(BadWebhook) as caught:
        webhooks.incoming_call(post({"To": "+1", "CallSid": " "}))
    assert caught.value.field == "CallSid"


def test_direction_of_a_call_is_parsed() -> None:
    """Twilio's outbound-api and outbound-dial are both outbound."""
    assert webhooks.incoming_call(post({**CALL, "Direction": "outbound-api"})).direction == "outbound"
    assert webhooks.incoming_call(post(CALL)).direction == "inbound"


@pytest.mark.parametrize(
    ("word", "status", "terminal", "reason"),
    [
        ("queued", "ringing", False, None),
        ("initiated", "ringing", False, None),
        ("ringing", "ringing", False, None),
        ("in-progress", "in_progress", False, None),
        ("completed", "ended", True, "completed"),
        ("busy", "ended", True, "busy"),
        ("no-answer", "ended", True, "no_answer"),
        ("canceled", "ended", True, "canceled"),
        ("failed", "ended", True, "failed"),
    ],
)
def test_every_status_of_twilio_has_one_of_ours(
    word: str, status: str, terminal: bool, reason: str | None
) -> None:
    """Each CallStatus maps to a progress, and each terminal one to its reason."""
    arguments = webhooks.call_status(post({"CallSid": "CA1", "CallStatus": word}))
    assert (arguments.status, arguments.terminal, arguments.end_reason) == (status, terminal, reason)
    assert arguments.carrier_status == word


def test_status_facts_are_read_and_rubbish_in_them_is_not_fatal() -> None:
    """Duration becomes milliseconds; numbers that are none are absent."""
    fields = {"CallSid": "CA1", "CallStatus": "failed", "SipResponseCode": "503"}
    arguments = webhooks.call_status(post({**fields, "CallDuration": "12", "SequenceNumber": "3"}))
    assert (arguments.duration_ms, arguments.sequence, arguments.error_code) == (12_000, 3, "503")
    odd = webhooks.call_status(post({**fields, "CallDuration": "-1", "SequenceNumber": "²"}))
    assert (odd.duration_ms, odd.sequence) == (None, None)


def test_a_5000_digit_call_duration_is_ignored() -> None:
    """A number of more digits than Python converts is absent, and the status still counts."""
    fields = {"CallSid": "CA1", "CallStatus": "completed", "CallDuration": "9" * 5000}
    assert webhooks.call_status(post(fields)).duration_ms is None


def test_a_form_of_too_many_fields_is_not_parsed() -> None:
    """200 fields are read; one more raises TooManyFields before any is decoded, in the form and the query."""
    fields = [(f"Field{number}", "x") for number in range(MAX_FIELDS)]
    assert len(post(fields).form) == MAX_FIELDS
    with pytest.raises(TooManyFields):
        post([*fields, ("One", "more")])
    with pytest.raises(TooManyFields):
        post({}, seen=f"{INSIDE}?{urlencode([*fields, ('One', 'more')])}")


def test_the_signature_of_repeated_fields_takes_linear_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A genuine signature is computed once, also over fields that are repeated."""
    computed: list[bytes] = []
    encode = base64.b64encode

    def counted(digest: bytes) -> bytes:
        computed.append(digest)
        return encode(digest)

    request = post(
        [("Field", f"{number}") for number in range(MAX_FIELDS)], signed=f"{PUBLIC}/webhooks/twilio/voice"
    )
    monkeypatch.setattr(base64, "b64encode", counted)
    carrier().verify(request)
    assert len(computed) == 1


def test_an_unknown_status_ends_no_call() -> None:
    """A status that Twilio may add later is refused by name instead of being taken for an end."""
    with pytest.raises(BadWebhook) as caught:
        webhooks.call_status(post({"CallSid": "CA1", "CallStatus": "on-hold"}))
    assert caught.value.field == "CallStatus"


def test_stream_status_is_read() -> None:
    """A failed stream carries Twilio's error text."""
    fields = {"CallSid": "CA1", "StreamSid": "MZ1", "StreamEvent": "stream-error", "StreamError": "31921"}
    arguments = webhooks.stream_status(post(fields))
    assert (arguments.event, arguments.stream_id, arguments.error) == ("failed", "MZ1", "31921")
    with pytest.raises(BadWebhook):
        webhooks.stream_status(post({**fields, "StreamEvent": "stream-paused"}))


def test_answer_is_the_twiml_of_the_interface() -> None:
    """The call is connected to the stream with its token, and led to /resume afterwards."""
    reply = carrier().answer("t0k", URLS)
    root = parsed(reply.body)
    connect, redirect = list(root)
    (stream,) = list(connect)
    (parameter,) = list(stream)
    assert (reply.status, reply.content_type) == (200, "text/xml")
    assert [root.tag, connect.tag, stream.tag, redirect.tag] == ["Response", "Connect", "Stream", "Redirect"]
    assert stream.attrib == {"url": URLS.media_url, "statusCallback": URLS.stream_status_url}
    assert parameter.attrib == {"name": "token", "value": "t0k"}
    assert (redirect.attrib, redirect.text) == ({"method": "POST"}, URLS.resume_url)


def test_what_goes_into_twiml_is_escaped() -> None:
    """A token or URL with markup in it comes out of an XML parser as it went in."""
    token, resume = "\"<&'é>", "https://x/resume?a=1&b=<2>"
    urls = AnswerUrls(media_url="wss://x/m?a&b", stream_status_url="https://x/s", resume_url=resume)
    root = parsed(webhooks.answer(token, urls).body)
    parameter = root.find("./Connect/Stream/Parameter")
    redirect = root.find("./Redirect")
    assert parameter is not None
    assert redirect is not None
    assert (parameter.get("value"), redirect.text) == (token, resume)


def test_forged_webhook_is_answered_with_403() -> None:
    """The answer to a bad signature has an empty body."""
    reply = carrier().forbid()
    assert (reply.status, reply.body) == (403, "")


def test_the_other_answers() -> None:
    """Reject, hang up and transfer are one verb each."""
    bodies = [
        carrier().reject().body,
        carrier().hang_up_reply().body,
        carrier().transfer_reply(TransferRequest(to="+14155550111", caller_id="+14155550199")).body,
    ]
    verbs = [list(parsed(body)) for body in bodies]
    assert [[verb.tag for verb in each] for each in verbs] == [["Reject"], ["Hangup"], ["Dial"]]
    dial = verbs[2][0]
    assert dial.attrib == {"callerId": "+14155550199", "timeout": "30"}
    assert [(noun.tag, noun.text) for noun in dial] == [("Number", "+14155550111")]


def test_a_transfer_can_lead_back_to_us() -> None:
    """With `then_url` Twilio asks us, by POST, what became of the dialled party."""
    twiml = webhooks.transfer_twiml(TransferRequest(to="+14155550111", then_url="https://x/resume"))
    dial = parsed(twiml).find("Dial")
    assert dial is not None
    assert dial.attrib == {"action": "https://x/resume", "method": "POST", "timeout": "30"}


def test_the_secret_is_not_in_the_accounts_repr() -> None:
    """Logging an account does not log its auth token."""
    assert TOKEN not in repr(TwilioAccount(account_sid="AC1", auth_token=TOKEN))
