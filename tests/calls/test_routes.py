"""The call changes agent."""

from __future__ import annotations

from tests.calls.harness import BACK, BILL, HIGH, HIGHEST, LOW, REPAIR, WELCOME, CallHarness, hear
from voicebot.sandbox.caller import HangUp, Say


async def test_a_silent_route_changes_voice_and_agent_at_once(any_harness: CallHarness) -> None:
    """Asked for something another agent does, the caller hears that agent next and nobody else."""
    billing = await any_harness.agent("Billing", "Billing here. What is it about?", HIGH)
    number = await any_harness.orchestrator(any_harness.route("billing", billing))
    call = await any_harness.place(hear(), Say(text=BILL), hear(), HangUp(), to=number)

    assert call.outcome.ok, call.outcome.failure
    assert call.said() == [
        ("agent", WELCOME),
        ("caller", BILL),
        ("agent", "Billing here. What is it about?"),
    ]
    assert call.transcript[2]["template_id"] == billing["id"]
    (route,) = call.routes
    assert (route["status"], route["name"], route["announced"], route["hop"]) == ("done", "billing", False, 1)
    assert route["to_template_id"] == call.lead["template_id"] == billing["id"]
    assert route["switched_at"] >= route["requested_at"]
    assert route["gap_ms"] is not None
    assert not [data for data in call.data("function.called") if data["name"] == "route_to_agent"]
    assert call.voices == [LOW, HIGH]
    assert call.heard.overlaps == ()
    turn, after = await any_harness.turns(call)
    assert after["template_id"] == billing["id"]
    assert (turn["status"], turn["function_calls"][0]["name"]) == ("done", "route_to_agent")
    assert turn["messages"][-1] == {"role": "user", "content": BILL}
    assert "route_to_agent" in [tool["function"]["name"] for tool in turn["tools"]]
    assert turn["settings"]["provider"] == "openai"
    assert turn["tokens"]["prompt"] > 0
    assert turn["total_ms"] >= turn["first_token_ms"] > 0


async def test_an_announced_route_is_heard_in_both_voices(any_harness: CallHarness) -> None:
    """The old voice says its farewell to the end, then the new one speaks, and never both at once."""
    repairs = await any_harness.agent("Workshop", "Workshop here.", HIGHEST)
    route = any_harness.route("workshop", repairs, announce="One moment, please.")
    number = await any_harness.orchestrator(route)
    call = await any_harness.place(hear(), Say(text=REPAIR), hear(quiet_ms=900), HangUp(), to=number)

    assert call.outcome.ok, call.outcome.failure
    assert call.words() == [WELCOME, "One moment, please.", "Workshop here."]
    farewell, target = call.transcript[2:]
    assert farewell["template_id"] == call.lead["initial_template_id"]
    assert target["template_id"] == repairs["id"]
    assert target["started_ms"] >= farewell["ended_ms"]
    assert not farewell["interrupted"]
    assert call.routes[0]["announced"]
    assert call.voices == [LOW, HIGHEST]
    assert call.heard.overlaps == ()


async def test_the_caller_goes_back_and_on_to_another_agent(any_harness: CallHarness) -> None:
    """ "back" returns to the orchestrator, which routes on; each agent works under its own template."""
    billing = await any_harness.agent("Billing", "Billing here.", HIGH)
    repairs = await any_harness.agent("Workshop", "Workshop here.", HIGHEST)
    number = await any_harness.orchestrator(
        any_harness.route("billing", billing), any_harness.route("workshop", repairs)
    )
    script = (
        hear(), Say(text=BILL), hear(), Say(text=BACK), hear(), Say(text=REPAIR), hear(), HangUp(),
    )  # fmt: skip
    call = await any_harness.place(*script, to=number)

    assert call.outcome.ok, call.outcome.failure
    front = call.lead["initial_template_id"]
    assert [(r["name"], r["hop"], r["to_template_id"]) for r in call.routes] == [
        ("billing", 1, billing["id"]),
        ("back", 2, front),
        ("workshop", 3, repairs["id"]),
    ]
    assert [said["template_id"] for said in call.transcript if said["speaker"] == "agent"] == [
        front, billing["id"], front, repairs["id"],
    ]  # fmt: skip
    assert call.voices == [LOW, HIGH, LOW, HIGHEST]
    assert [data["agent"] for data in call.data("route.done")] == ["billing", "back", "workshop"]
    assert call.lead["template_id"] == call.record["template_id"] == repairs["id"]
