"""Calls that one process hands over and another one resumes, in virtual time."""

from __future__ import annotations

from typing import Any

from tests.call.virtual_call import Plan, VirtualCall
from tests.call.virtual_time import VirtualLoop
from voicebot.call.resume import ResumeState
from voicebot.call.transcript.recorder import Seqs

HOURS = "Acme is open from eight to five on all days of the week."
WELCOME = "Acme, hello."
PATIENT: dict[str, Any] = {"idle": {"after_ms": 60_000}}


def test_row_14_a_call_at_the_drain_limit_is_handed_over_at_a_pause(loop: VirtualLoop) -> None:
    """The stream is closed when the agent has finished its sentence, and the call can be resumed."""
    call = VirtualCall(loop, desk=PATIENT)
    call.run(1)
    call.plan(Plan(text=HOURS))
    call.say("When are you open?")
    call.run(1)
    call.do(call.session.hand_over())
    call.run(0.5)
    assert call.end is not None
    assert (call.end.reason, call.end.resumable) == ("shutdown", True)
    assert call.heard() == [WELCOME, HOURS]
    assert not call.utterances[-1].interrupted


def test_row_14_a_resumed_call_goes_on_where_it_was(loop: VirtualLoop) -> None:
    """The process that resumes a call does not greet; its model knows what was said."""
    said = [{"role": "assistant", "content": WELCOME}, {"role": "user", "content": "When are you open?"}]
    past = ResumeState(said=said, seqs=Seqs(events=3, utterances=2))
    call = VirtualCall(loop, desk=PATIENT, past=past)
    call.run(5)
    assert call.heard() == ["I see."]
    assert [m["content"] for m in call.script.asked[0].messages[:2]] == [WELCOME, "When are you open?"]
    assert [it.seq for it in call.utterances] == [3]


def test_row_15_a_resumed_call_that_was_not_greeted_is_greeted(loop: VirtualLoop) -> None:
    """A call whose stream was lost before its first word begins with the greeting, as a new one does."""
    past = ResumeState(was_greeted=False, seqs=Seqs(events=2))
    call = VirtualCall(loop, desk=PATIENT, past=past)
    call.run(3)
    assert call.heard() == [WELCOME]
    assert call.script.asked == []
    assert call.utterances[0].source == "greeting"
