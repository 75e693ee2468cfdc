"""Calls for which no voice can be connected: the carrier speaks instead."""

from __future__ import annotations

from typing import Any

import pytest

from tests.calls.harness import CallHarness, Facts
from voicebot.call.failure_texts import failure_texts
from voicebot.dispatch.inbound_texts import inbound_texts
from voicebot.sandbox.caller import WaitForHangUp
from voicebot.sandbox.carrier import Phone
from voicebot.sandbox.vendors.faults import Fault

FALLBACK = "+14155550177"


def last_answer(call: Facts) -> str:
    """Return the last TwiML that the server answered."""
    bodies = [str(event.data["body"]) for event in call.carrier.events if event.name == "webhook"]
    return bodies[-1]


@pytest.mark.parametrize("kind", ["hang", "broken", "unauthorized"])
async def test_without_any_voice_the_carrier_says_it(harness: CallHarness, kind: Any) -> None:
    """A voice that accepts and hangs, or answers 500 or 401: the caller hears why the call ends."""
    harness.sandbox.faults.add(Fault(server="elevenlabs", kind=kind))
    number = await harness.orchestrator(harness.route("billing", await harness.agent()))
    await harness.server.app_state.number_directory.refresh()
    call = await harness.place(WaitForHangUp(timeout_ms=40_000), to=number)

    assert call.outcome.ok, call.outcome.failure
    assert (call.record["ended_by"], call.record["end_reason"]) == ("system", "tts_unavailable")
    assert {data["part"] for data in call.data("provider.failed")} == {"tts"}
    assert f'<Say language="en-US">{failure_texts("en").goodbye}</Say><Hangup' in last_answer(call)
    assert call.carrier.line.heard.sounded().any()


async def test_without_any_voice_a_person_calls_back(harness: CallHarness) -> None:
    """Where the agent offers persons, a caller without a fallback number hears that they are called back."""
    harness.sandbox.faults.add(Fault(server="elevenlabs", kind="unauthorized"))
    number = await harness.orchestrator(
        harness.route("billing", await harness.agent()), functions=[{"type": "builtin", "name": "park_call"}]
    )
    await harness.server.app_state.number_directory.refresh()
    call = await harness.place(WaitForHangUp(timeout_ms=40_000), to=number)

    assert f'<Say language="en-US">{inbound_texts("en").callback}</Say><Hangup' in last_answer(call)
    (handoff,) = (await harness.api.get("/handoffs")).json()["items"]
    assert (handoff["intent"], handoff["origin"], handoff["consent"]) == ("park", "failed_voice", True)
    assert handoff["call_id"] == call.record["id"]


async def test_without_any_voice_the_fallback_number_is_dialled(harness: CallHarness) -> None:
    """A number with a fallback: the carrier asks for a moment and connects the caller to it."""
    harness.sandbox.faults.add(Fault(server="elevenlabs", kind="unauthorized"))
    number = await harness.orchestrator(harness.route("billing", await harness.agent()))
    (record,) = (await harness.api.get("/numbers", params={"e164": number})).json()["items"]
    body = {"fallback_number": FALLBACK}
    await harness.api.patch(f"/numbers/{record['id']}", json=body, headers={"If-Match": "*"})
    await harness.server.app_state.number_directory.refresh()
    harness.carrier.phones[FALLBACK] = Phone(outcome="answers", talk_ms=100)
    call = await harness.place(WaitForHangUp(timeout_ms=40_000), to=number)

    assert f">{failure_texts('en').moment}</Say><Dial><Number>{FALLBACK}</Number></Dial>" in last_answer(call)
    assert any(event.name == "dial.bridged" for event in call.carrier.events)
    assert (await harness.api.get("/handoffs")).json()["items"] == []
