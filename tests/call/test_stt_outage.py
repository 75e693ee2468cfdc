"""Calls whose STT connects late or is lost, in virtual time: the models get all that controls the call."""

from __future__ import annotations

from typing import Any

from tests.call.virtual_call import Plan, VirtualCall
from tests.call.virtual_time import VirtualLoop

OUTAGE_S = 12.0
WELCOME = "Acme, hello."
FAREWELL = "I will put you through to billing."
FIRST_WORDS = "Billing here. What is it about?"
PATIENT: dict[str, Any] = {
    "idle": {"after_ms": 60_000},
    "functions": [{"type": "builtin", "name": "end_call"}],
}
BILLING: dict[str, Any] = {"prompt": "You are billing.", **PATIENT}
OFFERED = {"route_to_agent", "end_call"}


def test_row_2_a_model_has_its_prompt_and_functions_however_late_the_stt_connects(loop: VirtualLoop) -> None:
    """An STT that connects after 12 s of audio costs the model neither its instructions nor its functions."""
    call = VirtualCall(loop, desk=PATIENT, targets={"billing": BILLING}, stt_connects_s=OUTAGE_S)
    call.run(OUTAGE_S + 1)
    assert len(call.services.listeners) == 1
    call.plan(Plan(text="We are open."))
    call.say("When are you open?")
    call.run(3)
    asked = call.script.asked[-1]
    assert asked.role.startswith("You are the desk")
    assert set(asked.functions) >= OFFERED
    assert call.heard() == [WELCOME, "We are open."]


def test_row_3_a_route_is_performed_while_the_stt_is_lost(loop: VirtualLoop) -> None:
    """An STT that is lost in the farewell, and back after 12 s, keeps no target from speaking."""
    call = VirtualCall(loop, desk=PATIENT, targets={"billing": BILLING})
    call.run(1)
    call.plan(Plan(text=FAREWELL, calls=[("route_to_agent", {"agent": "billing"})]), Plan(text=FIRST_WORDS))
    call.say("My bill, please.")
    call.run(1)
    call.lose_stt(OUTAGE_S)
    call.run(5)
    assert [route.status for route in call.routes] == ["done"]
    assert call.heard() == [WELCOME, FAREWELL, FIRST_WORDS]
    call.run(OUTAGE_S)
    call.plan(Plan(text="12 dollars."))
    call.say("How much is it?")
    call.run(3)
    assert call.script.asked[-1].agent == "billing"
    assert call.script.asked[-1].role.startswith("You are billing")
    assert call.heard()[-1] == "12 dollars."
