"""When a caller who waits for a person hears the author's text, in virtual time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from loguru import logger

from tests.call.virtual_call import Plan, VirtualCall
from tests.call.virtual_time import VirtualLoop, virtual_time
from voicebot.call.waiting import FIRST_LINE_MS, TICK_S

LINE = "You are in the queue."
ASKED = "I have asked a colleague."
EVERY_MS = 4000
FUNCTIONS = [{"type": "builtin", "name": "end_call"}, {"type": "builtin", "name": "escalate_to_person"}]


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    logger.disable("pipecat")
    with virtual_time() as it:
        yield it
    logger.enable("pipecat")


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
