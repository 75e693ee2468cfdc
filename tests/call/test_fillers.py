"""Fillers whose audio is ready, while a voice is still synthesising speech; in virtual time."""

from __future__ import annotations

import pytest

from tests.call.virtual_call import FILLERS, Plan, VirtualCall
from tests.call.virtual_time import VirtualLoop
from voicebot.call.failure_texts import failure_texts
from voicebot.call.silence.policy import MAX_TTS_FAILURES

WELCOME = "Acme, hello."
HOURS = "We are open from eight to five."
HELLO, GOODBYE = "Hello?", "Goodbye then."


@pytest.mark.parametrize("first_audio_s", [1.2, 1.45])
def test_words_that_a_filler_has_overtaken_are_recorded(loop: VirtualLoop, first_audio_s: float) -> None:
    """An answer that a slow voice begins before the filler and speaks after it counts as heard."""
    desk = {"fillers": list(FILLERS), "idle": {"after_ms": 60_000}}
    call = VirtualCall(loop, desk=desk, first_audio_s=first_audio_s)
    call.run(1)
    call.plan(Plan(text=HOURS))
    call.say("When are you open?")
    call.run(7)
    assert call.heard() == [WELCOME, FILLERS[0], HOURS]
    assert call.memory("assistant") == f"{WELCOME} {HOURS}".split()


def test_no_filler_is_said_before_a_prompt(loop: VirtualLoop) -> None:
    """The caller's silence is not ours: the caller hears each prompt, and the goodbye, and nothing before."""
    idle = {"after_ms": 3000, "prompts": [HELLO], "goodbye": GOODBYE}
    call = VirtualCall(loop, desk={"fillers": list(FILLERS), "idle": idle}, first_audio_s=0.3)
    call.run(12)
    assert call.heard() == [WELCOME, HELLO, GOODBYE]
    assert call.end is not None
    assert call.end.reason == "idle"


def test_a_prompt_that_the_voice_loses_is_spoken_within_two_seconds(loop: VirtualLoop) -> None:
    """From the moment the prompt is due, the silence is ours."""
    call = VirtualCall(loop, desk={"fillers": list(FILLERS), "idle": {"after_ms": 3000, "prompts": [HELLO]}})
    call.run(1)
    call.fail_voice("swallow")
    call.run(5)
    prompted = [it for it in call.utterances if it.text == HELLO]
    assert [it.heard_text for it in prompted] == [HELLO]
    assert prompted[0].started_ms <= 500 + 3000 + 2000


def test_a_filler_is_said_while_the_voice_loses_an_apology(loop: VirtualLoop) -> None:
    """A step whose own words are lost does not keep the caller in silence."""
    call = VirtualCall(loop, desk={"fillers": list(FILLERS), "idle": {"after_ms": 60_000}})
    call.run(1)
    call.fail_voice("swallow", "swallow")
    call.plan(Plan(fault="error"), Plan(text=HOURS))
    call.say("When are you open?")
    for _ in range(80):
        call.run(0.1)
        assert call.silent_ms() <= 2000
    assert call.heard() == [WELCOME, FILLERS[0], failure_texts("en").moment, HOURS]


def test_a_filler_is_said_while_no_voice_connects_for_a_goodbye(loop: VirtualLoop) -> None:
    """The carrier speaks in the end, and until then the caller is not in silence."""
    call = VirtualCall(loop, desk={"fillers": list(FILLERS), "idle": {"after_ms": 60_000}})
    call.run(1)
    call.services.connects_s = 60.0
    call.fail_voice("drop")
    call.plan(Plan(text="Thank you for calling.", calls=[("end_call", {"reason": "done"})]))
    call.say("That is all.")
    while not call.is_over:
        call.run(0.1)
        assert call.silent_ms() <= 2000
    assert call.end is not None
    assert call.end.reason == "tts_unavailable"
    assert call.heard()[1] == FILLERS[0]


@pytest.mark.parametrize("times", [2, MAX_TTS_FAILURES])
def test_a_voice_that_breaks_off_again_and_again_speaks_in_the_end(loop: VirtualLoop, times: int) -> None:
    """An outage of a moment ends no call: nothing is lost, and the caller hears it within 2 s."""
    call = VirtualCall(loop, desk={"fillers": list(FILLERS), "idle": {"after_ms": 60_000}})
    call.run(1)
    for _ in range(times):
        call.fail_voice("break")
    call.plan(Plan(text=HOURS))
    call.say("When are you open?")
    for _ in range(50):
        call.run(0.1)
        assert call.silent_ms() <= 2000 or not call.awaits_agent()
    assert call.heard() == [WELCOME, HOURS]


def test_a_voice_that_never_speaks_is_given_up(loop: VirtualLoop) -> None:
    """A voice that connects, and breaks off at every text, does not keep the caller: the carrier speaks."""
    call = VirtualCall(loop, desk={"fillers": list(FILLERS), "idle": {"after_ms": 60_000}})
    call.run(1)
    for _ in range(100):
        call.fail_voice("break")
    call.plan(Plan(text=HOURS))
    call.say("When are you open?")
    call.run(6)
    assert call.end is not None
    assert call.end.reason == "tts_unavailable"


def test_a_voice_that_breaks_off_between_texts_is_not_given_up(loop: VirtualLoop) -> None:
    """A voice that fails once in each text, however often in a call, is not given up."""
    call = VirtualCall(loop, desk={"fillers": list(FILLERS), "idle": {"after_ms": 60_000}})
    call.run(1)
    for _ in range(MAX_TTS_FAILURES + 2):
        call.fail_voice("break")
        call.plan(Plan(text=HOURS))
        call.say("When are you open?")
        call.run(4)
    assert call.end is None
    assert call.heard() == [WELCOME, *[HOURS] * (MAX_TTS_FAILURES + 2)]
