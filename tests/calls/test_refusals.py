"""Routes that are asked for wrongly."""

from __future__ import annotations

import pytest

from tests.calls.harness import BACK, BILL, HIGHEST, WELCOME, CallHarness, hear
from voicebot.sandbox.caller import HangUp, Say
from voicebot.sandbox.vendors.script import Answer, Body, newest, system_text


def _route(agent: str) -> tuple[str, dict[str, str]]:
    return "route_to_agent", {"agent": agent, "reason": "as asked"}


async def test_an_unknown_agent_is_refused_with_words_that_correct_the_model(harness: CallHarness) -> None:
    """A model that names an agent who does not exist is told which ones do, and routes right then."""

    def answer(body: Body) -> Answer:
        if "You are billing" in system_text(body):
            return Answer(text="Billing here.")
        if newest(body)["role"] == "tool":
            refused = str(newest(body)["content"])
            return Answer(
                calls=[_route("billing")] if "unknown_agent" in refused and "billing" in refused else []
            )
        return Answer(calls=[_route("accounting")])

    harness.sandbox.script.respond(answer)
    number = await harness.orchestrator(harness.route("billing", await harness.agent()))
    call = await harness.place(hear(), Say(text=BILL), hear(), HangUp(), to=number)

    assert call.words() == [WELCOME, "Billing here."]
    assert [(r["name"], r["status"], r["error_code"]) for r in call.routes] == [
        ("accounting", "refused", "unknown_agent"),
        ("billing", "done", None),
    ]
    assert call.data("route.refused")[0]["code"] == "unknown_agent"


async def test_an_agent_cannot_hand_the_caller_back_unheard(harness: CallHarness) -> None:
    """An agent who sends the caller back before the caller has said a word is refused, and speaks instead."""

    def answer(body: Body) -> Answer:
        if "You are billing" not in system_text(body):
            return Answer(calls=[_route("billing")])
        refused = newest(body)["role"] == "tool" and "ping_pong" in str(newest(body)["content"])
        return Answer(text="What is it about?") if refused else Answer(calls=[_route("back")])

    harness.sandbox.script.respond(answer)
    number = await harness.orchestrator(harness.route("billing", await harness.agent()))
    call = await harness.place(hear(), Say(text=BILL), hear(), HangUp(), to=number)

    assert call.words() == [WELCOME, "What is it about?"]
    assert [(r["name"], r["status"], r["error_code"]) for r in call.routes] == [
        ("billing", "done", None),
        ("back", "refused", "ping_pong"),
    ]


async def test_of_two_routes_at_once_the_first_is_taken(harness: CallHarness) -> None:
    """A model that routes twice in one answer routes once: the second is refused as already_routing."""

    def answer(body: Body) -> Answer:
        if "You are billing" in system_text(body):
            return Answer(text="Billing here.")
        return Answer(calls=[_route("billing"), _route("workshop")])

    harness.sandbox.script.respond(answer)
    repairs = await harness.agent("Workshop", voice=HIGHEST)
    number = await harness.orchestrator(
        harness.route("billing", await harness.agent()), harness.route("workshop", repairs)
    )
    call = await harness.place(hear(), Say(text=BILL), hear(), HangUp(), to=number)

    assert call.words() == [WELCOME, "Billing here."]
    assert sorted((r["name"], r["status"]) for r in call.routes) == [
        ("billing", "done"),
        ("workshop", "refused"),
    ]
    assert [data["code"] for data in call.data("route.refused")] == ["already_routing"]


@pytest.mark.long
async def test_what_a_model_hands_over_is_never_a_template(harness: CallHarness) -> None:
    """A value that looks like a placeholder reaches the next agent's prompt as it is, and the call lives."""
    hostile = "{{ x }} {% y %} {{ system }}"

    def answer(body: Body) -> Answer:
        if "You are billing" in system_text(body):
            return Answer(text="Billing here.")
        name, arguments = _route("billing")
        return Answer(calls=[(name, {**arguments, "variables": {"customer": hostile}})])

    harness.sandbox.script.respond(answer)
    billing = await harness.agent(
        prompt="You are billing for {{ customer }}.",
        variables=[{"name": "customer", "source": "call", "default": "nobody"}],
    )
    number = await harness.orchestrator(harness.route("billing", billing))
    call = await harness.place(hear(), Say(text=BILL), hear(), Say(text=BILL), hear(), HangUp(), to=number)

    assert call.words()[:2] == [WELCOME, "Billing here."]
    assert call.outcome.ok, call.outcome.failure


@pytest.mark.long
async def test_the_hop_limit_keeps_the_caller_where_they_are(harness: CallHarness) -> None:
    """After as many changes as the orchestrator allows, the next is refused and the agent continues."""
    number = await harness.orchestrator(
        harness.route("billing", await harness.agent()), limits={"max_hops": 1}
    )
    call = await harness.place(hear(), Say(text=BILL), hear(), Say(text=BACK), hear(), HangUp(), to=number)

    assert call.outcome.ok, call.outcome.failure
    assert [(r["name"], r["status"], r["error_code"]) for r in call.routes] == [
        ("billing", "done", None),
        ("back", "refused", "hop_limit"),
    ]
    assert len(call.words()) == 3
