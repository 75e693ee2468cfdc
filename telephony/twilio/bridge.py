"""Twilio's side of a bridge: TwiML of the whisper and the conference, and the parameters about them.

Sources: https://www.twilio.com/docs/voice/twiml/gather, https://www.twilio.com/docs/voice/twiml/conference,
https://www.twilio.com/docs/voice/answering-machine-detection.
"""

from __future__ import annotations

from collections.abc import Mapping

from twilio.twiml.voice_response import VoiceResponse

from telephony.bridge import AnsweredBy, ConferenceJoin, Whisper
from telephony.machines import Detection
from telephony.twilio.twiml import reply_with, text_of
from telephony.webhook import EndReason, WebhookReply, WebhookRequest

CONFERENCE_EVENTS = "start end join leave"
_DIAL_OUTCOMES: Mapping[str, EndReason] = {
    "completed": "completed",
    "answered": "completed",
    "busy": "busy",
    "no-answer": "no_answer",
    "failed": "failed",
    "canceled": "canceled",
}
_KEYS = frozenset("0123456789*#ABCD")


def answered_by(request: WebhookRequest) -> AnsweredBy:
    """Parse `AnsweredBy`: human, machine_start, machine_end_beep, …, fax or unknown."""
    word = _field(request, "AnsweredBy")
    if word == "human":
        return "human"
    return "machine" if word.startswith("machine") or word == "fax" else "unknown"


def detection(request: WebhookRequest) -> Detection:
    """Parse `AnsweredBy` of the asynchronous detection: `machine_end_…` comes when a message may begin."""
    word = _field(request, "AnsweredBy")
    return Detection(
        carrier_call_id=_field(request, "CallSid"),
        who=answered_by(request),
        is_over=word.startswith("machine_end"),
        takes_message=word != "fax",
    )


def message_twiml(text: str, language: str, pause_s: int) -> str:
    """TwiML text that says `text` after a pause, in Twilio's own voice, and hangs up."""
    response = VoiceResponse()
    if pause_s:
        response.pause(length=pause_s)
    response.say(text, language=language)
    response.hangup()
    return text_of(response)


def pressed_key(request: WebhookRequest) -> str | None:
    """Parse `Digits`, which is one key here; None: it is absent, empty or something else."""
    digits = _field(request, "Digits")
    return digits if digits in _KEYS else None


def dial_outcome(request: WebhookRequest) -> EndReason | None:
    """Parse `DialCallStatus`: completed, answered, busy, no-answer, failed or canceled; None: absent."""
    return _DIAL_OUTCOMES.get(_field(request, "DialCallStatus"))


def whisper_reply(whisper: Whisper) -> WebhookReply:
    """TwiML that says the text and waits for a key; without one, it requests `silence_url`."""
    response = VoiceResponse()
    gather = response.gather(
        input="dtmf", num_digits=1, timeout=whisper.key_timeout_s, action=whisper.key_url, method="POST"
    )
    gather.say(whisper.text, language=whisper.language)
    response.redirect(whisper.silence_url, method="POST")
    return reply_with(response)


def join_reply(join: ConferenceJoin) -> WebhookReply:
    """TwiML that moves the call into a conference."""
    return reply_with(join_twiml(join))


def join_twiml(join: ConferenceJoin) -> str:
    """TwiML text of `join_reply`.

    The redirect behind `<Dial>` leads to the same URL as its `action`, for the case that no action is
    requested. The conference has no hold music, because both parties are on the line when it begins.
    """
    response = VoiceResponse()
    dial = response.dial(
        action=join.then_url, method="POST", hangup_on_star=True if join.party == "operator" else None
    )
    dial.conference(
        join.name,
        participant_label=join.party,
        start_conference_on_enter=True,
        end_conference_on_exit=True,
        beep="false",
        wait_url="",
        status_callback=join.events_url,
        status_callback_method="POST",
        status_callback_event=CONFERENCE_EVENTS,
    )
    response.redirect(join.then_url, method="POST")
    return text_of(response)


def _field(request: WebhookRequest, name: str) -> str:
    return request.form.get(name, request.query.get(name, "")).strip()
