"""What breaks a silence: voicebot.call.silence.policy."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicebot.call.silence.policy import (
    FILLER_LEAD_MS,
    LOST_SILENCE_MS,
    MAX_ASKED,
    MAX_EMPTY,
    MAX_LOST,
    MAX_WORDLESS,
    MIN_TIMEOUT_MS,
    NO_TTS_LEAD_MS,
    RULES,
    SLOW_PACE_MS,
    SLOW_TIMEOUT_MS,
    TTS_TIMEOUT_MS,
    UNANSWERED_MS,
    Pending,
    Situation,
    Step,
    next_step,
    tts_timeout_ms,
)

LONG = 60_000.0
NO_TTS = {"can_speak": False, "can_fill": False, "was_heard": False}


def situation(pending: Pending, **more: Any) -> Situation:
    """A silence with the usual limits."""
    return Situation(pending=pending, **{"silent_ms": LONG, "limit_ms": 2000, "idle_after_ms": 8000, **more})


@pytest.mark.parametrize(
    ("it", "step"),
    [
        (situation(Pending.SPEECH, pending_ms=TTS_TIMEOUT_MS), Step.REPLACE_TTS),
        (situation(Pending.SPEECH, pending_ms=TTS_TIMEOUT_MS - 1), Step.WAIT),
        (situation(Pending.SPEECH, pending_ms=LONG, silent_ms=LOST_SILENCE_MS), Step.REPLACE_TTS),
        (situation(Pending.SPEECH, pending_ms=LONG, silent_ms=LOST_SILENCE_MS - 1), Step.WAIT),
        (situation(Pending.SPEECH, pending_ms=TTS_TIMEOUT_MS, lost=1), Step.REPLACE_TTS),
        (
            situation(Pending.SPEECH, pending_ms=SLOW_TIMEOUT_MS, tts_timeout_ms=SLOW_TIMEOUT_MS),
            Step.REPLACE_TTS,
        ),
        (
            situation(Pending.SPEECH, pending_ms=SLOW_TIMEOUT_MS - 1, tts_timeout_ms=SLOW_TIMEOUT_MS),
            Step.WAIT,
        ),
        (
            situation(
                Pending.SPEECH, pending_ms=LONG, silent_ms=SLOW_TIMEOUT_MS - 1, tts_timeout_ms=SLOW_TIMEOUT_MS
            ),
            Step.WAIT,
        ),
        (
            situation(Pending.SPEECH, pending_ms=MIN_TIMEOUT_MS, lost=1, tts_timeout_ms=MIN_TIMEOUT_MS),
            Step.REPLACE_TTS,
        ),
        (
            situation(
                Pending.SPEECH, pending_ms=SLOW_TIMEOUT_MS - 1, lost=MAX_LOST, tts_timeout_ms=MIN_TIMEOUT_MS
            ),
            Step.WAIT,
        ),
        (situation(Pending.SPEECH, pending_ms=LONG, silent_ms=0.0), Step.WAIT),
        (situation(Pending.SPEECH, pending_ms=LONG, lost=MAX_LOST), Step.NO_TTS),
        (situation(Pending.SPEECH, pending_ms=LONG, can_speak=False), Step.WAIT),
        (situation(Pending.SPEECH, pending_ms=LONG, can_speak=False, can_fill=True), Step.FILL),
        (situation(Pending.SPEECH, pending_ms=9.0, silent_ms=1799.0, can_fill=True), Step.WAIT),
        (situation(Pending.SPEECH, pending_ms=9.0, silent_ms=1800.0, can_fill=True), Step.FILL),
        (situation(Pending.UNSPOKEN), Step.CONTINUE),
        (situation(Pending.UNSPOKEN, can_speak=False), Step.WAIT),
        (situation(Pending.UNSPOKEN, can_speak=False, can_fill=True), Step.FILL),
        (situation(Pending.UNSPOKEN, can_fill=True), Step.CONTINUE),
        (situation(Pending.GOODBYE, can_speak=False, can_fill=True), Step.FILL),
        (situation(Pending.GOODBYE, can_fill=True), Step.WAIT),
        (situation(Pending.WORK, silent_ms=2000 - FILLER_LEAD_MS, can_fill=True), Step.FILL),
        (situation(Pending.WORK, silent_ms=2000 - FILLER_LEAD_MS - 1, can_fill=True), Step.WAIT),
        (situation(Pending.WORK, silent_ms=2000 - NO_TTS_LEAD_MS, **NO_TTS), Step.NO_TTS),
        (situation(Pending.WORK, silent_ms=1999 - NO_TTS_LEAD_MS, **NO_TTS), Step.WAIT),
        (situation(Pending.WORK, silent_ms=1999, **{**NO_TTS, "can_fill": True}), Step.FILL),
        (situation(Pending.WORK, silent_ms=1999, **{**NO_TTS, "was_heard": True}), Step.WAIT),
        (situation(Pending.WORK), Step.WAIT),
        (situation(Pending.ANSWER, pending_ms=UNANSWERED_MS), Step.ASK),
        (situation(Pending.ANSWER, pending_ms=UNANSWERED_MS - 1), Step.WAIT),
        (situation(Pending.ANSWER, pending_ms=UNANSWERED_MS, asked=MAX_ASKED + 1), Step.GIVE_UP),
        (situation(Pending.ANSWER, llm_failures=1), Step.APOLOGISE),
        (situation(Pending.ANSWER, llm_failures=2), Step.GIVE_UP),
        (situation(Pending.ANSWER, llm_failures=1, can_return=True), Step.APOLOGISE),
        (situation(Pending.ANSWER, llm_failures=2, can_return=True), Step.RETURN),
        (situation(Pending.ANSWER, empty=MAX_EMPTY + 1, can_return=True), Step.RETURN),
        (situation(Pending.ANSWER, empty=1, response_is_over=True), Step.ASK_AGAIN),
        (situation(Pending.ANSWER, empty=MAX_EMPTY + 1, response_is_over=True), Step.GIVE_UP),
        (situation(Pending.ANSWER, wordless=MAX_WORDLESS + 1, response_is_over=True), Step.GIVE_UP),
        (situation(Pending.REPETITION, silent_ms=1.0), Step.ASK_CALLER),
        (situation(Pending.REPETITION, silent_ms=0.0), Step.WAIT),
        (situation(Pending.NOTHING, silent_ms=7999.0, prompts_left=1), Step.WAIT),
        (situation(Pending.NOTHING, silent_ms=8000.0, prompts_left=1), Step.PROMPT),
        (situation(Pending.NOTHING, silent_ms=8000.0), Step.LEAVE),
        (situation(Pending.GOODBYE), Step.WAIT),
    ],
)
def test_each_silence_has_its_step(it: Situation, step: Step) -> None:
    """What is pending, and for how long, decides what is done."""
    assert next_step(it) is step


@pytest.mark.parametrize(
    ("pace_ms", "usual_pace_ms", "replaces_silent", "timeout_ms"),
    [
        (None, None, False, TTS_TIMEOUT_MS),
        (None, None, True, SLOW_TIMEOUT_MS),
        (50.0, None, True, MIN_TIMEOUT_MS),
        (200.0, None, False, 600.0),
        (SLOW_PACE_MS - 1.0, None, True, TTS_TIMEOUT_MS),
        (float(SLOW_PACE_MS), None, False, SLOW_TIMEOUT_MS),
        (None, 200.0, True, 600.0),
        (None, 300.0, False, TTS_TIMEOUT_MS),
        (None, 300.0, True, SLOW_TIMEOUT_MS),
        (float(SLOW_PACE_MS), 50.0, False, SLOW_TIMEOUT_MS),
    ],
)
def test_a_voice_is_given_time_by_how_quick_it_was(
    pace_ms: float | None, usual_pace_ms: float | None, replaces_silent: bool, timeout_ms: float
) -> None:
    """A voice whose pace is known is given three times as long, a slow one 1.5 s, an unknown one 0.8 s.

    A voice is known too if all voices of its provider have been quick.
    """
    given = tts_timeout_ms(pace_ms, usual_pace_ms=usual_pace_ms, replaces_silent=replaces_silent)
    assert given == timeout_ms


@given(
    st.sampled_from([pending for pending in Pending if pending is not Pending.NOTHING]),
    st.floats(0, LONG),
    st.integers(0, 20),
    st.booleans(),
)
def test_a_silence_of_ours_is_never_taken_for_the_callers(
    pending: Pending, silent_ms: float, count: int, flag: bool
) -> None:
    """While anything is pending, the caller is neither asked whether they are there nor hung up on."""
    it = situation(
        pending, silent_ms=silent_ms, pending_ms=silent_ms, llm_failures=count, empty=count, wordless=count,
        lost=count, asked=count, can_fill=flag, can_speak=flag, response_is_over=flag, can_return=flag,
    )  # fmt: skip
    assert next_step(it) not in (Step.PROMPT, Step.LEAVE)


def test_everything_that_can_be_owed_has_rules() -> None:
    """The table names each thing that can be pending."""
    assert set(RULES) == set(Pending)
