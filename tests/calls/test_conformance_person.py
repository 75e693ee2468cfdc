"""Callers who are connected with an operator by telephone, on every carrier; see `test_conformance`.

What only a conference does (whisper, return by a key) is in `test_bridge_calls`, what only a flow does in
`test_exotel_person`.
"""

from __future__ import annotations

import pytest

from tests.calls.harness import CallHarness
from tests.calls.telephone_desk import TelephoneDesk
from voicebot.api.carriers import flow_sweep
from voicebot.sandbox.caller import HangUp, Wait, WaitForHangUp


@pytest.mark.long
async def test_the_operator_talks_and_hangs_up(line: CallHarness) -> None:
    """The claim leads the caller to the operator, and the call ends with the handoff resolved."""
    desk = await TelephoneDesk.with_phone(line)
    desk.answers(talk_ms=500)
    call, person, handoff = await desk.called(WaitForHangUp(timeout_ms=30_000))
    await desk.until_connected(call)
    await call.ended()
    got = await line.facts(call, person)

    assert got.outcome.ok, got.outcome.failure
    assert (got.record["ended_by"], got.record["end_reason"]) == ("operator", "handoff_resolved")
    assert (await desk.state(handoff))[0] == "resolved"
    await desk.no_complaints(call)
    if line.carrier_name == "exotel":
        assert call.asked == ("voice 200", "to-person 200", "connect 200", "again 302")
        assert [event.data["to"] for event in call.events if event.name == "connected"] == [desk.phone]


@pytest.mark.parametrize("line", ["twilio", pytest.param("exotel", marks=pytest.mark.long)], indirect=True)
async def test_the_caller_hangs_up_on_the_operator(line: CallHarness) -> None:
    """The operator's call ends too; a flow asks nothing more then, so Exotel is asked."""
    desk = await TelephoneDesk.with_phone(line)
    desk.answers(talk_ms=None)
    call, person, _ = await desk.called(Wait(ms=300), HangUp())
    await desk.until_connected(call)
    await call.ended()
    await flow_sweep.sweep(line.server.app_state)
    got = await line.facts(call, person)

    assert (got.record["ended_by"], got.record["end_reason"]) == ("caller", "hangup")
    await desk.no_complaints(call)
    if line.carrier_name == "exotel":
        assert call.asked == ("voice 200", "to-person 200", "connect 200")
