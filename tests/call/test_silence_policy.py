"""What breaks a silence: voicebot.call.silence.policy."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicebot.call.silence.policy import (
    LEAD_MS,
    LOST_MS,
    LOST_SILENCE_MS,
    MAX_ASKED,
    MAX_EMPTY,
    MAX_LOST,
    MAX_WORDLESS,
    QUICK_MS,
    RULES,
    SLOW_MS,
    SLOW_PACE_MS,
    UNATTENDED_MS,
    VOICELESS_LEAD_MS,
    Owed,
    Situation,
    Step,
    next_step,
    patience_ms,
)

LONG = 60_000.0
NO_VOICE = {"can_speak": False, "can_fill": False, "was_heard": False}


def situation(owed: Owed, **more: Any) -> Situation:
    """A silence with the usual limits."""
    return Situation(owed=owed, **{"silent_ms": LONG, "limit_ms": 2000, "idle_after_ms": 8000, **more})


@pytest.mark.parametrize(
    ("it", "step"),
    [
        (situation(Owed.SPEECH, owed_ms=LOST_MS), Step.REPLACE_VOICE),
        (situation(Owed.SPEECH, owed_ms=LOST_MS - 1), Step.WAIT),
        (situation(Owed.SPEECH, owed_ms=LONG, silent_ms=LOST_SILENCE_MS), Step.REPLACE_VOICE),
        (situation(Owed.SPEECH, owed_ms=LONG, silent_ms=LOST_SILENCE_MS - 1), Step.WAIT),
        (situation(Owed.SPEECH, owed_ms=LOST_MS, lost=1), Step.REPLACE_VOICE),
        (situation(Owed.SPEECH, owed_ms=SLOW_MS, patience_ms=SLOW_MS), Step.REPLACE_VOICE),
        (situation(Owed.SPEECH, owed_ms=SLOW_MS - 1, patience_ms=SLOW_MS), Step.WAIT),
        (situation(Owed.SPEECH, owed_ms=LONG, silent_ms=SLOW_MS - 1, patience_ms=SLOW_MS), Step.WAIT),
        (situation(Owed.SPEECH, owed_ms=QUICK_MS, lost=1, patience_ms=QUICK_MS), Step.REPLACE_VOICE),
        (situation(Owed.SPEECH, owed_ms=SLOW_MS - 1, lost=MAX_LOST, patience_ms=QUICK_MS), Step.WAIT),
        (situation(Owed.SPEECH, owed_ms=LONG, silent_ms=0.0), Step.WAIT),
        (situation(Owed.SPEECH, owed_ms=LONG, lost=MAX_LOST), Step.NO_VOICE),
        (situation(Owed.SPEECH, owed_ms=LONG, can_speak=False), Step.WAIT),
        (situation(Owed.SPEECH, owed_ms=LONG, can_speak=False, can_fill=True), Step.FILL),
        (situation(Owed.SPEECH, owed_ms=9.0, silent_ms=1799.0, can_fill=True), Step.WAIT),
        (situation(Owed.SPEECH, owed_ms=9.0, silent_ms=1800.0, can_fill=True), Step.FILL),
        (situation(Owed.REST), Step.CONTINUE),
        (situation(Owed.REST, can_speak=False), Step.WAIT),
        (situation(Owed.REST, can_speak=False, can_fill=True), Step.FILL),
        (situation(Owed.REST, can_fill=True), Step.CONTINUE),
        (situation(Owed.GOODBYE, can_speak=False, can_fill=True), Step.FILL),
        (situation(Owed.GOODBYE, can_fill=True), Step.WAIT),
        (situation(Owed.WORK, silent_ms=2000 - LEAD_MS, can_fill=True), Step.FILL),
        (situation(Owed.WORK, silent_ms=2000 - LEAD_MS - 1, can_fill=True), Step.WAIT),
        (situation(Owed.WORK, silent_ms=2000 - VOICELESS_LEAD_MS, **NO_VOICE), Step.NO_VOICE),
        (situation(Owed.WORK, silent_ms=1999 - VOICELESS_LEAD_MS, **NO_VOICE), Step.WAIT),
        (situation(Owed.WORK, silent_ms=1999, **{**NO_VOICE, "can_fill": True}), Step.FILL),
        (situation(Owed.WORK, silent_ms=1999, **{**NO_VOICE, "was_heard": True}), Step.WAIT),
        (situation(Owed.WORK), Step.WAIT),
        (situation(Owed.ANSWER, owed_ms=UNATTENDED_MS), Step.ASK),
        (situation(Owed.ANSWER, owed_ms=UNATTENDED_MS - 1), Step.WAIT),
        (situation(Owed.ANSWER, owed_ms=UNATTENDED_MS, asked=MAX_ASKED + 1), Step.GIVE_UP),
        (situation(Owed.ANSWER, failures=1), Step.APOLOGISE),
        (situation(Owed.ANSWER, failures=2), Step.GIVE_UP),
        (situation(Owed.ANSWER, failures=1, can_return=True), Step.APOLOGISE),
        (situation(Owed.ANSWER, failures=2, can_return=True), Step.RETURN),
        (situation(Owed.ANSWER, empty=MAX_EMPTY + 1, can_return=True), Step.RETURN),
        (situation(Owed.ANSWER, empty=1, response_is_over=True), Step.ASK_AGAIN),
        (situation(Owed.ANSWER, empty=MAX_EMPTY + 1, response_is_over=True), Step.GIVE_UP),
        (situation(Owed.ANSWER, wordless=MAX_WORDLESS + 1, response_is_over=True), Step.GIVE_UP),
        (situation(Owed.REPETITION, silent_ms=1.0), Step.ASK_CALLER),
        (situation(Owed.REPETITION, silent_ms=0.0), Step.WAIT),
        (situation(Owed.NOTHING, silent_ms=7999.0, prompts_left=1), Step.WAIT),
        (situation(Owed.NOTHING, silent_ms=8000.0, prompts_left=1), Step.PROMPT),
        (situation(Owed.NOTHING, silent_ms=8000.0), Step.LEAVE),
        (situation(Owed.GOODBYE), Step.WAIT),
    ],
)
def test_each_silence_has_its_step(it: Situation, step: Step) -> None:
    """What is owed, and for how long, decides what is done."""
    assert next_step(it) is step


@pytest.mark.parametrize(
    ("pace_ms", "usual_pace_ms", "replaces_silent", "patience"),
    [
        (None, None, False, LOST_MS),
        (None, None, True, SLOW_MS),
        (50.0, None, True, QUICK_MS),
        (200.0, None, False, 600.0),
        (SLOW_PACE_MS - 1.0, None, True, LOST_MS),
        (float(SLOW_PACE_MS), None, False, SLOW_MS),
        (None, 200.0, True, 600.0),
        (None, 300.0, False, LOST_MS),
        (None, 300.0, True, SLOW_MS),
        (float(SLOW_PACE_MS), 50.0, False, SLOW_MS),
    ],
)
def test_a_voice_is_given_time_by_how_quick_it_was(
    pace_ms: float | None, usual_pace_ms: float | None, replaces_silent: bool, patience: float
) -> None:
    """A voice whose pace is known is given three times as long, a slow one 1.5 s, an unknown one 0.8 s.

    A voice is known too if all voices of its provider have been quick.
    """
    given = patience_ms(pace_ms, usual_pace_ms=usual_pace_ms, replaces_silent=replaces_silent)
    assert given == patience


@given(
    st.sampled_from([owed for owed in Owed if owed is not Owed.NOTHING]),
    st.floats(0, LONG),
    st.integers(0, 20),
    st.booleans(),
)
def test_a_silence_of_ours_is_never_taken_for_the_callers(
    owed: Owed, silent_ms: float, count: int, flag: bool
) -> None:
    """While we owe the caller anything, they are not asked whether they are there, nor hung up on for it."""
    it = situation(
        owed, silent_ms=silent_ms, owed_ms=silent_ms, failures=count, empty=count, wordless=count, lost=count,
        asked=count, can_fill=flag, can_speak=flag, response_is_over=flag, can_return=flag,
    )  # fmt: skip
    assert next_step(it) not in (Step.PROMPT, Step.LEAVE)


def test_everything_that_can_be_owed_has_rules() -> None:
    """The table names each thing that can be owed."""
    assert set(RULES) == set(Owed)
