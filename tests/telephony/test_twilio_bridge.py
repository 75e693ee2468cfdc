"""The TwiML of a bridge, and what Twilio says about one."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlencode
from xml.etree import ElementTree

import pytest

from telephony.bridge import ConferenceJoin, Whisper
from telephony.twilio.bridge import answered_by, join_reply, message_twiml, pressed_key, whisper_reply
from telephony.twilio.webhooks import say_reply
from telephony.webhook import FORM_TYPE, WebhookRequest

JOIN = ConferenceJoin(
    name="019aa2c4",
    party="caller",
    then_url="https://x/resume?leg=1",
    events_url="https://x/conference?leg=1",
)


def request(**form: str) -> WebhookRequest:
    """A webhook."""
    return WebhookRequest.received(
        method="POST",
        url="https://x/leg",
        headers={"Content-Type": FORM_TYPE},
        body=urlencode(form).encode(),
    )


def test_a_whisper_waits_for_one_key() -> None:
    """The text is inside the `<Gather>`, so that a key may come before its end; silence has a redirect."""
    whisper = Whisper(
        text="A caller.", language="en-US", key_url="https://x/key", silence_url="https://x/none",
        key_timeout_s=8,
    )  # fmt: skip
    document = ElementTree.fromstring(whisper_reply(whisper).body)  # noqa: S314
    gather, redirect = document
    assert (gather.get("numDigits"), gather.get("action"), gather.get("timeout")) == (
        "1",
        "https://x/key",
        "8",
    )
    assert [(said.tag, said.text, said.get("language")) for said in gather] == [("Say", "A caller.", "en-US")]
    assert (redirect.tag, redirect.text) == ("Redirect", "https://x/none")


@pytest.mark.parametrize(("party", "star"), [("caller", None), ("operator", "true")])
def test_a_conference_ends_with_either_party(party: str, star: str | None) -> None:
    """Both parties end it when they leave; the operator leaves by the star; the way back is given twice."""
    join = replace(JOIN, party=party)  # type: ignore[arg-type]
    dial, redirect = ElementTree.fromstring(join_reply(join).body)  # noqa: S314
    assert (dial.get("action"), dial.get("hangupOnStar")) == (JOIN.then_url, star)
    conference = dial[0]
    assert conference.text == JOIN.name
    assert conference.get("participantLabel") == party
    assert conference.get("endConferenceOnExit") == "true"
    assert (redirect.tag, redirect.text) == ("Redirect", JOIN.then_url)


@pytest.mark.parametrize(
    ("word", "who"),
    [
        ("human", "human"), ("machine_start", "machine"), ("machine_end_beep", "machine"),
        ("machine_end_silence", "machine"), ("machine_end_other", "machine"), ("fax", "machine"),
        ("unknown", "unknown"), ("", "unknown"),
    ],
)  # fmt: skip
def test_who_answered(word: str, who: str) -> None:
    """Every value of Twilio's detection is a person, a machine, or unknown."""
    assert answered_by(request(AnsweredBy=word)) == who


@pytest.mark.parametrize(("digits", "key"), [("1", "1"), ("*", "*"), ("", None), ("12", None), ("x", None)])
def test_the_key(digits: str, key: str | None) -> None:
    """One key is a key; nothing, more, or something else is none."""
    assert pressed_key(request(Digits=digits)) == key


def test_what_is_said_may_contain_any_character() -> None:
    """Markup is escaped, and characters that XML does not have become spaces: the document stays readable."""
    text = "Ring\x07 & <b>call</b>\x00\x1b 営業\ufffe"
    whisper = Whisper(
        text=text, language="en-US", key_url="https://x/key", silence_url="https://x/key", key_timeout_s=5
    )
    for document in (
        whisper_reply(whisper).body,
        say_reply(text, "en-US").body,
        message_twiml(text, "en-US", 1),
    ):
        said = ElementTree.fromstring(document).find(".//Say")  # noqa: S314 - our own
        assert said is not None
        assert said.text == "Ring  & <b>call</b>   営業 "
