"""The carrier reads TwiML as strictly as Twilio."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicebot.sandbox.carrier import TwimlError
from voicebot.sandbox.carrier.twiml import Dial, Hangup, Pause, Play, Redirect, Reject, Say, Stream, parse


def response(inner: str) -> str:
    return f'<?xml version="1.0" encoding="UTF-8"?><Response>{inner}</Response>'.replace(
        ' encoding="UTF-8"', ""
    )


def test_stream_with_parameters_and_the_way_back_are_read() -> None:
    """The answer that voicebot gives is read into a stream with its parameters and a redirect."""
    verbs = parse(
        response(
            '<Connect><Stream url="wss://v.example/media/twilio" statusCallback="https://v.example/s">'
            '<Parameter name="token" value="a&amp;b"/></Stream></Connect>'
            '<Redirect method="POST">https://v.example/resume</Redirect>'
        )
    )
    assert verbs == (
        Stream(
            url="wss://v.example/media/twilio",
            name=None,
            status_callback="https://v.example/s",
            status_callback_method="POST",
            parameters={"token": "a&b"},
        ),
        Redirect(url="https://v.example/resume", method="POST"),
    )


@pytest.mark.parametrize(
    ("inner", "verb"),
    [
        ("<Reject/>", Reject(reason="rejected")),
        ('<Reject reason="busy"/>', Reject(reason="busy")),
        ("<Hangup/>", Hangup()),
        ('<Pause length="3"/>', Pause(seconds=3)),
        ('<Say voice="alice">Hello</Say>', Say(text="Hello", loop=1)),
        ('<Play loop="2">https://v.example/a.wav</Play>', Play(url="https://v.example/a.wav", loop=2)),
        (
            '<Dial timeout="20" action="/next"><Number>+15550100</Number></Dial>',
            Dial(number="+15550100", timeout_s=20, action="/next", method="POST"),
        ),
    ],
)
def test_each_verb_is_read_with_its_defaults(inner: str, verb: object) -> None:
    """Every verb the carrier knows is read with its attributes, or Twilio's defaults."""
    assert parse(response(inner)) == (verb,)


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        ("", "not XML"),
        ("<Response>", "not XML"),
        ("<response/>", "not <Response>"),
        (response("<hangup/>"), "case-sensitive"),
        (response("hello"), "text directly inside"),
        (response('<Hangup after="1"/>'), "no attribute after"),
        (response("<Connect/>"), "exactly one <Stream>"),
        (response('<Connect><Stream url="https://v.example/m"/></Connect>'), "must be wss://"),
        (response('<Connect><Stream url="ws://v.example/m"/></Connect>'), "must be wss://"),
        (response('<Connect><Stream url="wss://v.example/m?token=1"/></Connect>'), "no query string"),
        (
            response('<Connect><Stream url="wss://v.example/m" track="both_tracks"/></Connect>'),
            "inbound_track",
        ),
        (response('<Connect><Stream url="wss://v/m"><Parameter name="a"/></Stream></Connect>'), "a value"),
        (
            response(
                f'<Connect><Stream url="wss://v"><Parameter name="a" value="{"x" * 499}"/></Stream></Connect>'
            ),
            "500 characters",
        ),
        (response("<Redirect/>"), "is empty"),
        (response('<Redirect method="PUT">/a</Redirect>'), "GET or POST"),
        (response('<Reject reason="tired"/>'), "rejected or busy"),
        (response('<Pause length="long"/>'), "not a number"),
        (response("<Say>" + "x" * 70_000 + "</Say>"), "over 64 KiB"),
    ],
)
def test_what_twilio_would_refuse_is_an_error_that_says_why(document: str, fault: str) -> None:
    """A document that Twilio would refuse, or silently understand otherwise, is refused with the reason."""
    with pytest.raises(TwimlError, match=fault):
        parse(document)


@given(st.text(max_size=200))
def test_any_text_is_either_read_or_refused(document: str) -> None:
    """Whatever a server answers, the carrier reads it or refuses it, and never fails otherwise."""
    with suppress(TwimlError):
        assert isinstance(parse(document), tuple)
