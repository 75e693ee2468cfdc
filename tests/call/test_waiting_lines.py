"""When a caller who waits for a person hears the author's text, in virtual time."""

from __future__ import annotations

import itertools
from typing import Any, Literal
from uuid import UUID

import pytest

from handlers.context import HandoffStatus
from tests.call.virtual_call import Plan, VirtualCall
from tests.call.virtual_time import START_S, VirtualLoop
from voicebot.call.person.waiting import FIRST_LINE_MS, NUMBER_WITHHELD, TICK_S
from voicebot.call.person.waiting_texts import TEXTS
from voicebot.call.resume import NOT_CONNECTED, ResumeState

LINE = "You are in the queue."
ASKED = "I have asked a colleague."
EVERY_MS = 4000
HANDOFF = UUID(int=1)
FUNCTIONS = [{"type": "builtin", "name": "end_call"}, {"type": "builtin", "name": "escalate_to_person"}]


@pytest.mark.parametrize("ready", [True, False])
def test_the_line_is_said_every_every_ms(loop: VirtualLoop, ready: bool) -> None:
    """The first one 3 s after the request, then one every `every_ms`: never sooner, a tick later at most."""
    waiting = {"line": LINE, "every_ms": EVERY_MS, "max_ms": 60_000}
    call = VirtualCall(loop, desk={"functions": FUNCTIONS, "waiting": waiting}, ready=ready)
    call.run(1)
    call.plan(Plan(calls=[("escalate_to_person", {"reason": "asked"})]), Plan(text=ASKED))
    call.say("I want a person.")
    call.run(20)
    said = {text: [it.started_ms for it in call.utterances if it.text == text] for text in (ASKED, LINE)}
    lines, tick_ms = said[LINE], TICK_S * 1000 + 1
    assert len(said[ASKED]) == 1
    assert len(lines) == 4
    assert lines[0] - said[ASKED][0] <= FIRST_LINE_MS + tick_ms
    assert all(
        EVERY_MS <= later - earlier <= EVERY_MS + tick_ms for earlier, later in itertools.pairwise(lines)
    )


NOT_REACHED_MS = 500
"""By when a caller hears it: after the first audio of the text, which is not ready."""


def status(phase: Literal["waiting", "claimed", "ended"], **more: Any) -> HandoffStatus:
    return HandoffStatus(handoff_id=HANDOFF, phase=phase, **more)


def claimed_call(loop: VirtualLoop) -> VirtualCall:
    """A caller who waits, and has heard that a person comes; the texts are at their longest distance."""
    waiting = {"line": LINE, "every_ms": 300_000, "max_ms": 3_600_000}
    call = VirtualCall(loop, desk={"functions": FUNCTIONS, "waiting": waiting}, ready=False)
    call.run(1)
    call.handoff_changed(status("waiting"))
    call.run(5)
    call.handoff_changed(status("claimed"))
    call.run(4)
    assert call.heard()[-1] == TEXTS["en"].claimed
    return call


@pytest.mark.parametrize(
    ("then", "text"),
    [
        (status("claimed", cause="busy"), TEXTS["en"].not_reached),
        (status("waiting", cause="declined"), TEXTS["en"].not_reached),
        (status("waiting", cause="declined", someone_is_there=False), TEXTS["en"].nobody),
        (status("ended", cause="cancelled"), TEXTS["en"].ended),
    ],
)
def test_a_person_who_does_not_come_is_said_at_once(
    loop: VirtualLoop, then: HandoffStatus, text: str
) -> None:
    """However short ago a text was spoken: the caller hears the agent, once, and the model learns why."""
    call = claimed_call(loop)
    at_ms = call.media.now_ms() - START_S * 1000
    for _ in range(8):  # the queue reports it again and again
        call.handoff_changed(then)
        call.run(1)
    said = [it for it in call.utterances if it.started_ms >= at_ms]
    assert [it.heard_text for it in said] == [text]
    assert said[0].started_ms - at_ms <= NOT_REACHED_MS
    call.say("And now?")
    call.run(3)
    if then.phase == "claimed":
        assert f"({then.cause})" in str(call.script.asked[-1].messages)


def test_a_caller_whose_person_comes_is_not_told_of_the_queue(loop: VirtualLoop) -> None:
    """The text of the claim is repeated, also for a key; the limit stays, and the line comes back."""
    waiting = {"line": LINE, "every_ms": EVERY_MS, "max_ms": 30_000}
    call = VirtualCall(loop, desk={"functions": FUNCTIONS, "waiting": waiting}, ready=False)
    texts = TEXTS["en"]

    def heard_in(seconds: float) -> list[str]:
        before = len(call.heard())
        call.run(seconds)
        return call.heard()[before:]

    call.handoff_changed(status("waiting"))
    assert LINE in heard_in(6)
    call.handoff_changed(status("claimed"))
    assert heard_in(12) == [texts.claimed] * 3
    call.press("5")
    assert heard_in(3) == [texts.claimed]
    call.handoff_changed(status("claimed", cause="busy"))  # the caller waits as before
    assert heard_in(10)[:2] == [texts.not_reached, LINE]
    call.handoff_changed(status("claimed"))  # the telephone rings again
    assert heard_in(15) == [texts.claimed, texts.nobody]
    assert not call.session.waiting.is_waiting


def test_a_caller_who_withholds_their_number_is_asked_for_one(loop: VirtualLoop) -> None:
    """Key 1 promises nothing then: they wait on, and the model gets a number from them."""
    call = VirtualCall(loop, desk={"functions": FUNCTIONS}, ready=False, has_phone=False)
    call.run(1)
    call.handoff_changed(status("waiting"))
    call.run(8)
    call.press("1")
    call.run(6)
    assert call.heard()[-1] == TEXTS["en"].number_withheld
    assert call.session.waiting.is_waiting
    park = ("park_call", {"reason": "A refund; call +44 20 7946 0123."})
    call.plan(Plan(calls=[park]), Plan(text="We will call you back."))
    call.say("020 7946 0123.")
    call.run(5)
    assert NUMBER_WITHHELD in str(call.script.asked[-1].messages)
    assert call.heard()[-1] == "We will call you back."
    assert not call.session.waiting.is_waiting


def test_a_caller_who_comes_back_unconnected_is_told_so_once(loop: VirtualLoop) -> None:
    """The agent who resumes the call says that nobody was reached; later failures are said as usual."""
    told = {"role": "developer", "content": NOT_CONNECTED.format(cause="carrier_error")}
    past = ResumeState(said=[told], was_not_connected=True)
    call = VirtualCall(loop, desk={"functions": FUNCTIONS}, ready=False, past=past)
    call.handoff_changed(status("claimed", cause="carrier_error"))
    call.run(5)
    assert call.heard() == ["I see."]
    call.handoff_changed(status("claimed"))
    call.handoff_changed(status("claimed", cause="busy"))
    call.run(8)
    assert call.heard() == ["I see.", TEXTS["en"].not_reached]


def test_a_caller_who_comes_back_unconnected_is_not_told_of_a_claim(loop: VirtualLoop) -> None:
    """The first that a resumed call learns of its claim is that the operator was not reached."""
    call = VirtualCall(loop, desk={"functions": FUNCTIONS}, ready=False)
    call.run(1)
    call.handoff_changed(status("claimed", cause="process_lost"))
    call.run(10)
    assert call.heard()[1:] == [TEXTS["en"].not_reached]
