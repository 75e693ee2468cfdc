"""Keys that a caller presses, at the nodes that ask for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from db.events import EventRecord
from tests.call.text_calls import ModelAnswer, Request, TextModel, begin
from tests.call.virtual_call import Plan, VirtualCall
from tests.call.virtual_time import VirtualLoop


def desk(variable_type: str = "string", **dtmf: Any) -> Mapping[str, Any]:
    """A desk whose first node asks for a number by the keys."""
    return {
        "variables": [
            {"name": "number", "type": variable_type, "source": "call", "description": "Customer number"}
        ],
        "flow": {
            "initial_node": "ask",
            "nodes": {
                "ask": {
                    "role_message": "You are the desk.",
                    "task_messages": [{"content": "Ask for the number."}],
                    "dtmf": {"max_digits": 4, **dtmf},
                },
                "check": {"say": "Thank you.", "task_messages": [{"content": "Look it up."}]},
                "other": {"task_messages": [{"content": "Offer something else."}]},
            },
        },
    }


def received(call: VirtualCall) -> list[Mapping[str, Any]]:
    """What was entered, as the events tell."""
    return [event.data for event in call.events("dtmf.received")]


def test_keys_reach_the_model_as_words_of_the_caller(loop: VirtualLoop) -> None:
    """At a node without a transition, the model answers what was pressed."""
    call = VirtualCall(loop, desk=desk())
    call.run(5)
    call.plan(Plan(text="Thank you."))
    call.press("1234")
    call.run(3)
    assert call.script.asked[-1].messages[-1] == {"role": "user", "content": "[keys pressed: 1234]"}
    assert call.heard()[-1] == "Thank you."
    assert received(call) == [{"digits": "1234", "ended_by": "count", "variable": None}]


def test_the_tones_of_keys_are_not_speech_that_nobody_has_heard(loop: VirtualLoop) -> None:
    """No service transcribes them, and the caller is not asked to say them again."""
    call = VirtualCall(loop, desk=desk())
    call.run(5)
    call.plan(Plan(text="Thank you."))
    call.press("123")
    call.sound(0.8)
    call.press("4")
    call.run(8)
    assert call.heard()[-1] == "Thank you."


@pytest.mark.parametrize(
    ("pressed", "digits", "ended_by"),
    [("12#", "12", "terminator"), ("12", "12", "timeout"), ("12345", "1234", "count")],
)
def test_an_input_ends_by_count_terminator_or_timeout(
    loop: VirtualLoop, pressed: str, digits: str, ended_by: str
) -> None:
    """The terminator is no part of the input; the time limit begins again with every key."""
    call = VirtualCall(loop, desk=desk(timeout_ms=2000))
    call.run(5)
    call.press(pressed, pause_s=1.5)
    call.run(3)
    assert received(call)[0] == {"digits": digits, "ended_by": ended_by, "variable": None}


def test_keys_interrupt_the_agent_and_silence_the_prompts(loop: VirtualLoop) -> None:
    """The first key interrupts the agent, and there are no prompts while keys are pressed."""
    call = VirtualCall(
        loop, desk={**desk(timeout_ms=9000), "idle": {"after_ms": 2000}, "greeting": {"text": "A" * 200}}
    )
    call.run(1)
    call.press("1", pause_s=0.1)
    call.run(8)
    assert call.events("barge_in")
    assert not call.events("idle.prompted")
    [greeting] = call.media.played
    assert greeting.end_ms - greeting.start_ms < 2500
    call.run(3)
    assert received(call) == [{"digits": "1", "ended_by": "timeout", "variable": None}]


def test_keys_are_kept_and_lead_to_a_node(loop: VirtualLoop) -> None:
    """The variable takes the keys, and the transition is taken without the model."""
    call = VirtualCall(loop, desk=desk("integer", variable="number", transition_to="check"))
    call.run(5)
    call.press("42#")
    call.run(3)
    assert call.events("node.entered")[-1].node == "check"
    assert call.session.variables()["number"] == 42
    assert "Thank you." in call.heard()


def test_a_condition_on_the_keys_chooses_the_node(loop: VirtualLoop) -> None:
    """A menu: each key leads to its node."""
    menu = {
        "conditions": [{"variable": "number", "value": "1", "to": "check"}],
        "default": "other",
    }
    for key, node in (("1", "check"), ("2", "other")):
        call = VirtualCall(loop, desk=desk(max_digits=1, variable="number", transition_to=menu))
        call.run(5)
        call.press(key)
        call.run(2)
        assert call.events("node.entered")[-1].node == node
        call.hang_up()


def test_keys_that_do_not_fit_are_asked_for_again(loop: VirtualLoop) -> None:
    """A value that the variable's type refuses is not kept, and the model is told what is expected."""
    call = VirtualCall(loop, desk=desk("date", variable="number", transition_to="check"))
    call.run(5)
    call.press("1234")
    call.run(3)
    note = call.script.asked[-1].messages[-1]["content"]
    assert "number (Customer number): it must be a date" in note
    assert call.session.variables()["number"] is None
    assert call.events("node.entered")[-1].node == "ask"


def test_masked_keys_are_in_no_record_and_in_no_request(loop: VirtualLoop) -> None:
    """Only the variable has a masked input; events and the model get the number of keys."""
    call = VirtualCall(loop, desk=desk(variable="number", masked=True))
    call.run(5)
    call.press("9173")
    call.run(3)
    assert call.session.variables()["number"] == "9173"
    assert received(call) == [{"digits": "****", "ended_by": "count", "variable": "number"}]
    assert call.script.asked[-1].messages[-1]["content"] == "[keys pressed: 4, which are kept in number]"
    assert "9173" not in repr(call.facts) + repr(call.script.asked)


def test_keys_at_other_nodes_have_no_effect(loop: VirtualLoop) -> None:
    """A node that does not ask for keys is not disturbed by them."""
    call = VirtualCall(loop, desk={})
    call.run(5)
    asked = len(call.script.asked)
    call.press("12#")
    call.run(5)
    assert len(call.script.asked) == asked
    assert not received(call)


async def test_keys_can_be_typed_in_a_text_call() -> None:
    """`#42` presses keys where the node asks for them; elsewhere these are words."""

    def answer(request: Request) -> ModelAnswer | str:
        return f"You said {request.newest}"

    model = TextModel(answer)
    chat, _ = await begin(model, desk(variable="number", transition_to="other"), {})
    exchange = await chat.say("#42")
    assert exchange.nodes == ["other"]
    assert chat.variables()["number"] == "42"
    exchange = await chat.say("#42")
    assert [reply.text for reply in exchange.replies] == ["You said #42"]
    await chat.hang_up()


def test_events_name_the_node(loop: VirtualLoop) -> None:
    """The event belongs to the node at which the keys were pressed."""
    call = VirtualCall(loop, desk=desk(variable="number", transition_to="check"))
    call.run(5)
    call.press("4#")
    call.run(2)
    [event] = [each for each in call.facts if isinstance(each, EventRecord) and each.type == "dtmf.received"]
    assert event.node == "ask"
