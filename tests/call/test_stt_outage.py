"""Calls whose STT connects late or is lost, in virtual time: the models get all that controls the call."""

from __future__ import annotations

from typing import Any

from tests.call.virtual_call import FILLERS, Plan, VirtualCall
from tests.call.virtual_time import VirtualLoop
from voicebot.call.failure_texts import failure_texts

OUTAGE_S = 12.0
LIMIT_MS = 2000.0
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


def longest_silence_ms(call: VirtualCall, seconds: float) -> float:
    """Let time pass; return the longest silence of both sides meanwhile."""
    silences = [0.0]
    for _ in range(round(seconds * 10)):
        call.run(0.1)
        silences.append(call.silent_ms())
    return max(silences)


def test_row_10_a_caller_who_is_not_heard_waits_for_no_more_than_two_seconds(loop: VirtualLoop) -> None:
    """While no STT can be connected, a caller who has spoken hears fillers, and then a goodbye."""
    call = VirtualCall(loop, desk={**PATIENT, "fillers": list(FILLERS)})
    call.run(1)
    call.lose_stt(100)
    call.sound(1.4)
    assert longest_silence_ms(call, 12) <= LIMIT_MS
    call.sound(1.4)
    assert longest_silence_ms(call, 20) <= LIMIT_MS
    call.run(10)
    assert call.end is not None
    assert call.end.reason == "stt_unavailable"
    assert call.heard()[-1] == failure_texts("en").goodbye


def test_row_10_a_caller_whom_no_service_transcribes_is_asked_to_say_it_again(loop: VirtualLoop) -> None:
    """Services that listen and say nothing: fillers, a request to repeat it, and a goodbye the third time."""
    call = VirtualCall(loop, desk={**PATIENT, "fillers": list(FILLERS)})
    call.run(1)
    call.sound(1.4)
    assert longest_silence_ms(call, 6) <= LIMIT_MS
    call.run(3)
    assert call.heard()[-1] == failure_texts("en").repeat
    for _ in range(2):
        call.sound(1.4)
        assert longest_silence_ms(call, 6) <= LIMIT_MS
    call.run(10)
    assert call.end is not None
    assert call.end.reason == "stt_unavailable"


def test_row_2_a_target_is_ready_once_the_stt_can_be_connected(loop: VirtualLoop) -> None:
    """A target whose services could not be connected is tried again while the call lasts."""
    call = VirtualCall(loop, desk=PATIENT, targets={"billing": BILLING}, stt_connects_s=2 * OUTAGE_S)
    call.run(OUTAGE_S)
    assert [event.data["agent"] for event in call.events("agent.unavailable")] == ["billing"]
    call.run(2 * OUTAGE_S)
    assert [event.data["agent"] for event in call.events("agent.ready")] == ["billing"]
    call.plan(Plan(calls=[("route_to_agent", {"agent": "billing"})]), Plan(text=FIRST_WORDS))
    call.say("My bill, please.")
    call.run(3)
    assert [route.status for route in call.routes] == ["done"]
    assert call.heard()[-1] == FIRST_WORDS


def test_row_3_a_route_is_offered_while_a_backup_replaces_the_shared_stt(loop: VirtualLoop) -> None:
    """A caller whose request is transcribed by a backup is routed: the target uses the backup too."""
    stt = {"stt": {"provider": "deepgram", "backup": [{"provider": "elevenlabs"}]}}
    call = VirtualCall(loop, desk={**PATIENT, **stt}, targets={"billing": {**BILLING, **stt}})
    call.run(1)
    call.begin_turn()
    call.lose_stt(0.1)
    call.run(0.5)
    call.plan(Plan(calls=[("route_to_agent", {"agent": "billing"})]), Plan(text=FIRST_WORDS))
    call.end_turn("My bill, please.")
    call.run(3)
    assert len(call.services.listeners) == 2
    assert [route.status for route in call.routes] == ["done"]
    assert call.heard() == [WELCOME, FIRST_WORDS]
