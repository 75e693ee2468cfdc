"""What a flow alone does with a caller who is to be connected with an operator."""

from __future__ import annotations

import pytest

from tests.calls.harness import BILL, CallHarness, hear
from tests.calls.telephone_desk import TelephoneDesk
from voicebot.sandbox.caller import HangUp, Say, Wait
from voicebot.sandbox.carrier import Phone


@pytest.mark.long
async def test_an_operator_who_does_not_answer_keeps_the_claim(harness: CallHarness) -> None:
    """The caller is back with the agent, and the operator is told why."""
    desk = await TelephoneDesk.with_phone(harness.on("exotel"))
    desk.harness.carrier.phones[desk.phone] = Phone(outcome="no-answer", after_ms=50)
    call, person, handoff = await desk.called(Wait(ms=1500), Say(text=BILL), hear(), HangUp())
    await desk.until(lambda: len(call.streams) == 2)
    state = await desk.state(handoff)
    await call.ended()
    got = await desk.harness.facts(call, person)

    assert got.outcome.ok, got.outcome.failure
    assert call.asked == ("voice 200", "to-person 200", "connect 200", "again 200", "voice 200")
    assert state == ("claimed", "no_answer")
    assert (got.record["ended_by"], got.record["resumes"]) == ("caller", 1)
