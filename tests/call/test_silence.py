"""Silences of a call in virtual time: what the caller hears, the record, and the model's context."""

from __future__ import annotations

from typing import Any

import pytest

from tests.call.virtual_call import CHARACTER_MS, FILLERS, Plan, VirtualCall, VoiceFault
from tests.call.virtual_time import VirtualLoop
from voicebot.call.failure_texts import failure_texts
from voicebot.call.text.answers import Answer

HOURS = "Acme is open from eight to five on all days of the week."
WELCOME = "Acme, hello."
ROUTE = ("route_to_agent", {"agent": "billing"})
PATIENT: dict[str, Any] = {"idle": {"after_ms": 60_000}}
BILLING: dict[str, Any] = {"prompt": "You are billing.", **PATIENT}
FIRST_WORDS = "Billing here. We answer every question about bills. What is it about?"
END = ("end_call", {"reason": "done"})
VOICE_FAULTS: tuple[VoiceFault, ...] = ("swallow", "silent", "drop", "stall")


def asked(loop: VirtualLoop, *plans: Plan, **more: Any) -> VirtualCall:
    """A call in which the caller has just asked something, after the greeting."""
    call = VirtualCall(loop, **{"desk": PATIENT, **more})
    call.run(1)
    call.plan(*plans)
    call.say("When are you open?")
    return call


def longest_silence_ms(call: VirtualCall, seconds: int) -> float:
    """Let time pass; return the longest silence in it during which the caller waits for the agent."""
    silences = [0.0]
    for _ in range(seconds * 10):
        call.run(0.1)
        silences.append(call.silent_ms() if call.awaits_agent() else 0.0)
    return max(silences)


def is_consistent(call: VirtualCall) -> bool:
    """Whether memory and transcript agree; asks the model once more to see its memory."""
    call.plan(Plan(text="Yes."))
    call.say("And now?")
    call.run(2)
    return call.memory("assistant") == call.recorded("agent")


def test_a_sentence_that_noise_has_cut_off_is_spoken_to_its_end(loop: VirtualLoop) -> None:
    """An interruption without words is undone: the agent continues from the word where it was cut."""
    call = asked(loop, Plan(text=HOURS))
    call.run(1.2)
    call.noise(0.5)
    call.run(4)
    assert len(call.heard()) == 3
    assert " ".join(call.heard()) == f"{WELCOME} {HOURS}"
    assert len(call.script.asked) == 1
    assert is_consistent(call)


@pytest.mark.parametrize("before_end_s", [0.03, 0.1])
@pytest.mark.parametrize("is_noise", [True, False])
def test_what_was_sent_and_not_played_when_the_caller_interrupts_is_not_heard(
    loop: VirtualLoop, before_end_s: float, is_noise: bool
) -> None:
    """The last word is cut off although its audio was sent: noise has it spoken again, words do not."""
    call = asked(loop, Plan(text=HOURS))
    whole_ms = (len(HOURS) + 1) * CHARACTER_MS
    while (
        len(call.media.played) < 2 or call.media.played[1].end_ms - call.media.played[1].start_ms < whole_ms
    ):
        call.run(0.01)
    while call.media.ends_s() > before_end_s:
        call.run(0.01)
    call.begin_turn("" if is_noise else "Thank you.")
    call.run(0.3)
    call.end_turn("" if is_noise else "Thank you.")
    call.run(3)
    heard = [WELCOME, HOURS.removesuffix(" week."), "week." if is_noise else "I see."]
    assert call.heard() == heard
    assert [each.interrupted for each in call.utterances if each.text == HOURS] == [True]
    assert call.memory("assistant") == call.recorded("agent")


def test_seed_71_a_word_that_is_interrupted_when_it_begins_is_not_heard(loop: VirtualLoop) -> None:
    """Audio that the carrier is told to drop when it was just sent is not in the record."""
    call = asked(loop, Plan(text="We are open."))
    while len(call.media.played) < 2:
        call.run(0.01)
    call.noise(0.2)
    assert call.heard() == [WELCOME]
    call.run(3)
    assert call.memory("assistant") == call.recorded("agent")


def test_row_4_first_words_of_a_target_that_noise_has_cut_off_are_spoken(loop: VirtualLoop) -> None:
    """A target whose first words are cut off by a sound without words says them to their end."""
    call = asked(loop, Plan(calls=[ROUTE]), Plan(text=FIRST_WORDS), targets={"billing": BILLING})
    call.run(1.2)
    call.noise(0.5)
    call.run(6)
    assert " ".join(call.heard()) == f"{WELCOME} {FIRST_WORDS}"
    assert is_consistent(call)


def test_a_model_that_noise_has_stopped_is_told_to_go_on(loop: VirtualLoop) -> None:
    """Noise that also stops the model's answer has the rest of it asked for, once."""
    call = asked(loop, Plan(text="First. " + "Then a long list of further things follows. " * 3))
    call.run(0.8)
    call.plan(Plan(text="That is all."))
    call.noise(0.5)
    call.run(12)
    assert call.heard()[-1] == "That is all."
    assert any("noise on the line" in str(m.get("content")) for m in call.context)
    assert len(call.script.asked) == 2
    assert is_consistent(call)


def test_noise_before_the_first_word_of_an_answer_has_the_model_asked_again(loop: VirtualLoop) -> None:
    """An answer that noise has stopped before it was heard is given all the same."""
    call = asked(loop, Plan(text=HOURS, delay_s=1.0))
    call.run(0.5)
    call.plan(Plan(text=HOURS))
    call.noise(0.5)
    call.run(6)
    assert call.heard() == [WELCOME, HOURS]


def test_words_after_a_cut_are_answered_and_the_rest_is_not_spoken(loop: VirtualLoop) -> None:
    """A caller who does say something is answered; what they have interrupted stays unsaid."""
    call = asked(loop, Plan(text=HOURS))
    call.run(1.2)
    call.plan(Plan(text="As you like."))
    call.say("Stop.")
    call.run(5)
    assert call.heard()[-1] == "As you like."
    assert len(" ".join(call.heard())) < len(HOURS)


@pytest.mark.parametrize("fault", VOICE_FAULTS)
@pytest.mark.parametrize("times", [1, 2])
def test_row_11_what_a_voice_loses_is_spoken_again(loop: VirtualLoop, fault: VoiceFault, times: int) -> None:
    """However a voice loses a text, once or twice, the caller hears each word of it once."""
    call = asked(loop, Plan(text=HOURS))
    call.fail_voice(*[fault] * times)
    call.run(12)
    assert " ".join(call.heard()) == f"{WELCOME} {HOURS}"
    assert is_consistent(call)


@pytest.mark.parametrize("fault", VOICE_FAULTS)
@pytest.mark.parametrize("model_s", [0.1, 0.5])
def test_row_11_what_a_voice_loses_is_spoken_again_within_two_seconds(
    loop: VirtualLoop, fault: VoiceFault, model_s: float
) -> None:
    """Without fillers too: no silence is longer than 2 s, also while the model continues answering."""
    text = "We are open from eight to five. " + " ".join(["It is closed on public holidays."] * 4)
    call = asked(loop, Plan(text=text, delay_s=model_s))
    call.fail_voice(fault)
    assert longest_silence_ms(call, 20) < 2000
    # A sentence for which there is no audio, while the next one is spoken, is spoken behind it.
    assert sorted(" ".join(call.heard()).split()) == sorted(f"{WELCOME} {text}".split())
    assert fault == "silent" or " ".join(call.heard()) == f"{WELCOME} {text}"
    assert is_consistent(call)


@pytest.mark.parametrize("sentence", [1, 2, 3])
def test_row_11_a_sentence_that_a_voice_swallows_is_not_recorded_as_heard(
    loop: VirtualLoop, sentence: int
) -> None:
    """Only what was played counts as heard; the sentence is spoken, and remembered, behind the others."""
    sentences = ["We are open from eight to five.", "On Saturdays we close at noon.", "Come by at any time."]
    call = asked(loop, Plan(text=" ".join(sentences)))
    for _ in range(sentence - 1):
        call.fail_voice("none")
    call.fail_voice("silent")
    call.run(14)
    lost = sentences.pop(sentence - 1)
    assert call.heard() == [WELCOME, " ".join(sentences), lost]
    played = sum(span.end_ms - span.start_ms for span in call.media.played)
    assert sum(map(len, call.heard())) * CHARACTER_MS <= played
    assert is_consistent(call)


@pytest.mark.parametrize("fault", VOICE_FAULTS)
@pytest.mark.parametrize("text", [HOURS, "Thank you for calling. Goodbye."])
def test_row_11_a_text_that_is_lost_twice_is_heard_within_two_seconds(
    loop: VirtualLoop, fault: VoiceFault, text: str
) -> None:
    """Without fillers too: a voice that was quick before, and its replacement, are given 0.4 s each."""
    call = asked(loop, Plan(text=text, calls=[END] if "Goodbye" in text else []), ready=False)
    call.fail_voice(fault, fault)
    assert longest_silence_ms(call, 12) < 2000
    assert sorted(" ".join(call.heard()).split()) == sorted(f"{WELCOME} {text}".split())
    assert call.is_over == ("Goodbye" in text)


def test_row_11_the_first_text_of_a_voice_may_be_lost_twice(loop: VirtualLoop) -> None:
    """A voice that has not spoken yet is given the time that others of its provider have needed."""
    call = VirtualCall(loop, desk=PATIENT, usual_pace_ms=120.0)
    call.run(1)
    call.plan(Plan(text=HOURS))
    call.say("When are you open?")
    call.fail_voice("swallow", "swallow")
    assert longest_silence_ms(call, 8) < 2000
    assert call.heard() == [WELCOME, HOURS]


@pytest.mark.parametrize("interruptible", [True, False])
@pytest.mark.parametrize("after_s", [0.05, 0.62, 1.33])
def test_row_11_speech_whose_voice_fails_while_it_plays_is_heard_once(
    loop: VirtualLoop, after_s: float, interruptible: bool
) -> None:
    """Audio that was not played is dropped, uninterruptible or not, and spoken by another connection."""
    text = "This call may be recorded for training purposes and to check the quality of our service."
    greeting = {"text": text, "interruptible": interruptible}
    call = VirtualCall(loop, desk={**PATIENT, "greeting": greeting}, ready=False, voice_faults=["stall"])
    call.run(after_s)
    call.lose_voice()
    assert longest_silence_ms(call, 8) < 2000
    assert " ".join(call.heard()) == text
    assert is_consistent(call)


@pytest.mark.parametrize("interruptible", [True, False])
@pytest.mark.parametrize(
    ("text", "again"),
    [
        ("This call may be recorded for training reasons and to check the quality of all our services.", ""),
        ("This call may be recorded for training purposes and to check the quality of our service.", "purpo"),
    ],
)
def test_row_9_a_voice_that_hangs_before_its_audio_ends_speaks_the_rest(
    loop: VirtualLoop, interruptible: bool, text: str, again: str
) -> None:
    """A voice that has hung for 3 s when its audio ends is replaced, and the caller hears all of the text.

    Only a word in which it hung is begun again.
    """
    greeting = {"text": text, "interruptible": interruptible}
    call = VirtualCall(loop, desk={**PATIENT, "greeting": greeting}, ready=False, voice_faults=["stall"])
    assert longest_silence_ms(call, 8) < 2000
    assert "".join(call.heard()).replace(" ", "") == text.replace(" ", "")
    played = sum(span.end_ms - span.start_ms for span in call.media.played)
    assert played <= (len(text) + len(again) + 3) * CHARACTER_MS
    assert is_consistent(call)


@pytest.mark.parametrize("fault", ["stall", "swallow"])
def test_a_voice_that_hangs_behind_much_audio_speaks_the_rest_of_the_answer(
    loop: VirtualLoop, fault: VoiceFault
) -> None:
    """The audio that is ahead when a voice hangs is no reason to take the rest of the text for spoken."""
    answer = f"{HOURS} It is closed on holidays. We are glad to see you. {HOURS} Is there anything else?"
    call = VirtualCall(loop, desk=PATIENT)
    call.run(1)
    call.plan(Plan(text=answer))
    call.fail_voice("none", "none", "none", fault)
    call.say("When are you open?")
    assert longest_silence_ms(call, 14) < 2000
    assert " ".join(call.heard()) == f"{WELCOME} {answer}"
    assert is_consistent(call)


def test_a_late_event_loop_is_not_taken_for_a_voice_that_loses_a_text(loop: VirtualLoop) -> None:
    """The time in which the process did nothing is not counted as time without audio."""
    call = asked(loop, Plan(text="We are open.", delay_s=1.0), ready=False, first_audio_s=0.25)
    call.run(1.3)
    loop.be_late(0.9)
    call.run(8)
    assert call.heard() == [WELCOME, "We are open."]
    assert not call.events("provider.failed")


def test_a_voice_that_takes_long_is_replaced_once_in_a_call(loop: VirtualLoop) -> None:
    """A voice that needs 1.2 s for every text is not taken for one that loses them."""
    call = asked(loop, Plan(text=HOURS, delay_s=0.4), first_audio_s=1.2)
    call.run(8)
    for _ in range(3):
        call.plan(Plan(text=HOURS, delay_s=0.4))
        call.say("And now?")
        call.run(8)
    assert len(call.events("provider.failed")) == 1
    assert call.heard() == [WELCOME, *[HOURS] * 4]


@pytest.mark.parametrize("fault", VOICE_FAULTS)
def test_row_8_first_words_that_the_targets_voice_loses_are_spoken(
    loop: VirtualLoop, fault: VoiceFault
) -> None:
    """A target whose voice fails in its first words, while its model is still answering, says all of them."""
    call = asked(loop, Plan(calls=[ROUTE]), Plan(text=FIRST_WORDS), targets={"billing": BILLING})
    call.fail_voice(fault)
    call.run(14)
    # A sentence that is swallowed without a sign while the next one is spoken is spoken behind it.
    assert sorted(" ".join(call.heard()).split()) == sorted(f"{WELCOME} {FIRST_WORDS}".split())
    assert fault == "silent" or " ".join(call.heard()) == f"{WELCOME} {FIRST_WORDS}"
    assert {it.template_id for it in call.utterances[2:]} == {call.ids["billing"]}
    assert is_consistent(call)


def test_a_voice_that_loses_everything_ends_the_call(loop: VirtualLoop) -> None:
    """After two more connections that lose the same text no voice is left, and the carrier has to speak."""
    call = asked(loop, Plan(text=HOURS))
    call.fail_voice("swallow", "swallow", "swallow")
    call.run(12)
    assert call.end is not None
    assert call.end.reason == "tts_unavailable"


@pytest.mark.parametrize("fault", VOICE_FAULTS)
def test_a_goodbye_that_the_voice_loses_is_spoken(loop: VirtualLoop, fault: VoiceFault) -> None:
    """A call does not end before its goodbye was heard, whatever happens to the voice."""
    call = asked(loop, Plan(text="Thank you for calling. Goodbye.", calls=[END]))
    call.fail_voice(fault)
    call.run(15)
    goodbye = "Goodbye. Thank you for calling." if fault == "silent" else "Thank you for calling. Goodbye."
    assert " ".join(call.heard()) == f"{WELCOME} {goodbye}"
    assert call.end is not None
    assert call.end.reason == "done"


def test_a_goodbye_that_noise_has_cut_off_is_spoken_to_its_end(loop: VirtualLoop) -> None:
    """A sound without words does not have the line hung up in the middle of a sentence."""
    call = asked(loop, Plan(text="Thank you for calling. Goodbye and have a nice day.", calls=[END]))
    call.run(1.0)
    call.noise(0.5)
    call.run(6)
    assert " ".join(call.heard()) == f"{WELCOME} Thank you for calling. Goodbye and have a nice day."
    assert call.end is not None
    assert call.end.reason == "done"


def test_a_goodbye_for_which_no_voice_is_left_ends_the_call_at_once(loop: VirtualLoop) -> None:
    """A call whose voice cannot be connected again does not wait for its goodbye: the carrier speaks."""
    call = asked(loop, Plan(text="Thank you for calling. Goodbye.", calls=[END]))
    call.fail_voice("drop")
    call.services.connects_s = 3600.0
    call.run(7)
    assert call.end is not None
    assert call.end.reason == "tts_unavailable"


@pytest.mark.parametrize("noises", [1, 2, 3])
@pytest.mark.parametrize("pause_s", [0.1, 0.3, 0.4])
def test_a_goodbye_that_noise_cuts_off_again_and_again_is_spoken(
    loop: VirtualLoop, noises: int, pause_s: float
) -> None:
    """The call never ends without a goodbye, however often a sound without words precedes it."""
    goodbye = "Thank you for calling."
    call = asked(loop, Plan(calls=[END]), desk={"idle": {"after_ms": 60_000, "goodbye": goodbye}})
    for _ in range(noises):
        call.run(pause_s)
        call.noise(0.2)
    call.run(8)
    assert " ".join(call.heard()) == f"{WELCOME} {goodbye}"
    assert call.end is not None
    assert call.end.reason == "done"


@pytest.mark.parametrize("ready", [True, False])
def test_row_16_a_greeting_that_cannot_be_interrupted_is_recorded_whole(
    loop: VirtualLoop, ready: bool
) -> None:
    """A caller who talks over it hears all of it; it is recorded and remembered whole."""
    text = "This call may be recorded. " + FIRST_WORDS
    call = VirtualCall(loop, desk={"greeting": {"text": text, "interruptible": False}}, ready=ready)
    call.plan(Plan(text=HOURS))
    call.say("When are you open?")
    call.run(9)
    assert call.heard() == [text, HOURS]
    assert not any(it.interrupted for it in call.utterances)
    assert is_consistent(call)


@pytest.mark.parametrize("ready", [True, False])
def test_a_model_that_takes_long_is_covered_by_fillers(loop: VirtualLoop, ready: bool) -> None:
    """The caller never waits 2 s for a word; the model does not know of the fillers."""
    call = VirtualCall(loop, desk={"fillers": list(FILLERS)}, ready=ready)
    call.run(1)
    call.plan(Plan(text=HOURS, delay_s=3.3))
    call.say("When are you open?")
    silences = []
    for _ in range(80):
        call.run(0.1)
        silences.append(call.silent_ms())
    assert call.heard()[:4] == [WELCOME, *FILLERS, HOURS]
    assert max(silences) < 2000
    assert is_consistent(call)


def test_a_voice_that_hangs_is_covered_by_a_filler_that_is_ready(loop: VirtualLoop) -> None:
    """While a voice makes no audio, a filler that was synthesised ahead of time is heard."""
    call = VirtualCall(loop, desk={"fillers": list(FILLERS)})
    call.run(1)
    call.plan(Plan(text=HOURS))
    call.fail_voice("swallow")
    call.say("When are you open?")
    call.run(8)
    assert call.heard() == [WELCOME, FILLERS[0], HOURS]


@pytest.mark.parametrize("connects_s", [0.0, 0.3])
@pytest.mark.parametrize("fault", ["break", "drop"])
def test_row_9_a_voice_that_always_drops_leaves_the_filler_that_is_ready(
    loop: VirtualLoop, fault: VoiceFault, connects_s: float
) -> None:
    """A voice that fails before its first audio cuts off nothing that is complete, in a goodbye either."""
    call = VirtualCall(loop, desk={"fillers": list(FILLERS), **PATIENT})
    call.run(1)
    call.services.connects_s = connects_s
    call.plan(Plan(text="Goodbye then.", calls=[END]))
    call.fail_voice(*[fault] * 99)
    call.say("That is all.")
    silences = []
    for _ in range(60):
        call.run(0.1)
        silences.append(0.0 if call.is_over else call.silent_ms())
    assert max(silences) < 2000
    assert call.heard()[:2] == [WELCOME, FILLERS[0]]
    assert set(call.heard()) <= {WELCOME, *FILLERS}
    assert call.end is not None
    assert call.end.reason == "tts_unavailable"


def test_an_answer_whose_voice_drops_is_spoken_behind_the_filler(loop: VirtualLoop) -> None:
    """The filler is heard whole, then the answer, each word once; the model remembers the answer alone."""
    call = VirtualCall(loop, desk={"fillers": list(FILLERS), **PATIENT})
    call.run(1)
    call.services.connects_s = 0.3
    call.plan(Plan(text=HOURS))
    call.fail_voice("break", "break", "break", "break")
    call.say("When are you open?")
    assert longest_silence_ms(call, 12) < 2000
    assert call.heard() == [WELCOME, FILLERS[0], HOURS]
    assert is_consistent(call)


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("fault", ["swallow", "silent"])
def test_a_filler_that_is_not_ready_and_swallowed_is_lost_from_when_it_was_given(
    loop: VirtualLoop, fault: VoiceFault, times: int
) -> None:
    """A voice that was quick before is given 0.4 s from when it gets a text, and so is its replacement."""
    call = VirtualCall(loop, desk={"fillers": list(FILLERS), **PATIENT}, ready=False)
    call.run(1)
    call.plan(Plan(text=HOURS, delay_s=4.5))
    call.fail_voice(*[fault] * times)
    call.say("When are you open?")
    assert longest_silence_ms(call, 12) <= 2000
    assert call.heard()[:2] == [WELCOME, FILLERS[0]]
    assert call.heard()[-1] == HOURS


def test_a_model_that_fails_is_apologised_for_once(loop: VirtualLoop) -> None:
    """After an error the caller hears an apology and the answer to a second request."""
    call = asked(loop, Plan(fault="error"), Plan(text=HOURS))
    call.run(8)
    assert call.heard() == [WELCOME, failure_texts("en").moment, HOURS]


@pytest.mark.parametrize("fault", ["error", "empty"])
def test_a_target_that_cannot_answer_gives_the_call_back(loop: VirtualLoop, fault: Any) -> None:
    """When a target's model has failed for the last time, the agent who answered the call continues."""
    call = asked(loop, Plan(calls=[ROUTE]), Plan(text=FIRST_WORDS), targets={"billing": BILLING})
    call.run(8)
    failing = [Plan(fault=fault)] * (2 if fault == "error" else 3)
    call.plan(*failing, Plan(text="I am the desk again."))
    call.say("What do I owe?")
    assert longest_silence_ms(call, 10) < 2000
    assert call.heard()[-1] == "I am the desk again."
    assert [(it.name, it.status) for it in call.routes] == [("billing", "done"), ("back", "done")]
    assert call.script.asked[-1].agent == "desk"
    assert any("technical fault" in str(m.get("content")) for m in call.context)
    assert is_consistent(call)


def test_a_call_in_which_no_model_answers_ends_with_a_goodbye(loop: VirtualLoop) -> None:
    """The agent who answered the call is tried once; then the caller hears why the call ends."""
    call = asked(loop, Plan(calls=[ROUTE]), Plan(text=FIRST_WORDS), targets={"billing": BILLING})
    call.run(8)
    call.script.default = lambda _: Plan(fault="error")
    call.say("What do I owe?")
    call.run(20)
    assert call.heard()[-2:] == [failure_texts("en").moment, failure_texts("en").goodbye]
    assert [it.name for it in call.routes] == ["billing", "back"]
    assert call.end is not None
    assert call.end.reason == "llm_unavailable"


@pytest.mark.parametrize("fault", VOICE_FAULTS)
def test_an_apology_that_the_voice_loses_is_spoken(loop: VirtualLoop, fault: VoiceFault) -> None:
    """A step that waits for its own words does not keep the voice from being replaced."""
    call = asked(loop, Plan(fault="error"), Plan(text=HOURS))
    call.fail_voice(fault)
    assert longest_silence_ms(call, 12) < 2000
    assert " ".join(call.heard()) == f"{WELCOME} {failure_texts('en').moment} {HOURS}"


def test_a_silent_caller_is_asked_and_left(loop: VirtualLoop) -> None:
    """The silence of the caller is theirs: prompts, then a goodbye, as the author wrote them."""
    idle = {"after_ms": 3000, "prompts": ["Hello?"], "goodbye": "Goodbye then."}
    call = VirtualCall(loop, desk={"idle": idle})
    call.run(12)
    assert call.heard() == [WELCOME, "Hello?", "Goodbye then."]
    assert call.end is not None
    assert call.end.reason == "idle"


def test_a_function_that_takes_long_is_not_the_callers_silence(loop: VirtualLoop) -> None:
    """While a function runs the caller is not asked whether they are there."""
    look_up = {"type": "http", "name": "look_up", "description": "Looks up.", "url": "https://example.com/",
               "parameters": {"type": "object", "properties": {}}}  # fmt: skip
    call = VirtualCall(
        loop, desk={"functions": [look_up], "idle": {"after_ms": 2000, "prompts": ["Hello?"]}},
        answers={"look_up": [Answer(after_ms=4500)]},
    )  # fmt: skip
    call.run(1)
    call.plan(Plan(calls=[("look_up", {})]), Plan(text=HOURS))
    call.say("When are you open?")
    call.run(8)
    assert call.heard() == [WELCOME, HOURS]


def test_an_announcement_that_noise_has_cut_off_is_remembered_as_it_was_heard(loop: VirtualLoop) -> None:
    """What the target's model knows of an announcement is what the caller has heard of it."""
    call = asked(
        loop,
        Plan(calls=[ROUTE]),
        Plan(text=FIRST_WORDS),
        targets={"billing": BILLING},
        announce="I will put you through to billing.",
        ready=False,
    )
    call.run(0.1)
    call.noise(0.2)
    call.run(9)
    assert call.heard()[-1] == FIRST_WORDS
    assert is_consistent(call)


@pytest.mark.parametrize("pause_s", [0.3, 0.4])
def test_an_announcement_that_noise_cuts_off_after_the_route_is_remembered(
    loop: VirtualLoop, pause_s: float
) -> None:
    """The target speaks the announcement to its end, knows all of it, and answers the caller behind it."""
    call = asked(
        loop,
        Plan(calls=[ROUTE]),
        targets={"billing": BILLING},
        announce="I will put you through to billing.",
        ready=False,
    )
    call.run(pause_s)
    call.noise(0.2)
    assert longest_silence_ms(call, 6) < 2000
    assert call.heard()[-1] == "I see."
    assert call.memory("assistant") == call.recorded("agent")
    assert "put you through to billing." in " ".join(call.memory("assistant"))


def test_seed_1315_a_cut_announcement_is_corrected_behind_the_targets_first_audio(loop: VirtualLoop) -> None:
    """The target's greeting begins at the moment in which noise cuts the announcement off."""
    call = asked(
        loop,
        Plan(calls=[ROUTE]),
        desk={**PATIENT, "greeting": {"text": WELCOME}},
        targets={"billing": {**BILLING, "greeting": {"text": "Billing here."}}},
        announce="I will put you through to billing.",
        voice_faults=["stall"],
    )
    call.run(1.0)
    call.noise(0.2)
    call.run(3)
    assert call.heard() == [WELCOME, "I will put you", "Billing here."]
    assert call.memory("assistant") == call.recorded("agent")


def test_row_11_a_filler_that_a_voice_breaks_off_while_the_model_hangs_is_spoken(loop: VirtualLoop) -> None:
    """A voice that stalls in a text of ours is replaced, also while the model may still say something."""
    call = VirtualCall(loop, desk={"fillers": list(FILLERS), **PATIENT}, ready=False)
    call.run(1)
    call.plan(Plan(text=HOURS, delay_s=4.5))
    call.say("When are you open?")
    call.fail_voice("stall")
    assert longest_silence_ms(call, 12) < 2000
    assert FILLERS[0] in " ".join(call.heard())
    assert call.heard()[-1] == HOURS


def test_the_first_words_behind_an_announcement_are_recorded_when_they_are_spoken(loop: VirtualLoop) -> None:
    """The words of a target whose audio waits for the end of the announcement are timed by that audio."""
    call = asked(
        loop,
        Plan(calls=[ROUTE]),
        Plan(text="Billing."),
        targets={"billing": BILLING},
        announce="I will put you through to billing.",
        ready=False,
    )
    call.run(4)
    assert call.heard()[-2:] == ["I will put you through to billing.", "Billing."]
    assert is_consistent(call)


def test_a_model_is_not_asked_while_its_voice_still_connects(loop: VirtualLoop) -> None:
    """A greeting that waits for its voice is spoken when the voice is connected, and the call continues."""
    call = VirtualCall(loop, desk=PATIENT, ready=False, connects_s=1.3)
    call.run(9)
    assert call.heard() == [WELCOME]
    assert call.script.asked == []


def test_row_9_a_voice_that_hangs_before_the_first_word_leaves_no_silence(loop: VirtualLoop) -> None:
    """Nothing is synthesised ahead and no voice connects: the call ends within 2 s; the carrier speaks."""
    call = VirtualCall(loop, desk=PATIENT, ready=False, connects_s=60)
    call.run(1.6)  # after the 0.5 s of the constructor
    assert call.end is not None
    assert call.end.reason == "tts_unavailable"


def test_row_9_a_voice_that_hangs_once_before_the_first_word_is_heard(loop: VirtualLoop) -> None:
    """The second attempt connects before the carrier has to speak."""
    answered_s = loop.time()
    call = VirtualCall(loop, desk=PATIENT, ready=False, connects_s=60)
    call.services.connects_s = 0.0
    call.run(3)
    assert not call.is_over
    assert call.heard() == [WELCOME]
    assert call.media.played[0].start_ms / 1000 - answered_s <= 2
