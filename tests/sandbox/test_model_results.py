from __future__ import annotations

from typing import Any

from voicebot.sandbox.model import reply


def looked_up(instruction: str) -> list[dict[str, Any]]:
    """A caller asked for something, a function found it, and a new step of the conversation has begun."""
    call = {"id": "c1", "type": "function", "function": {"name": "find_parcel", "arguments": "{}"}}
    return [
        {"role": "system", "content": "You are Ada of the parcel office."},
        {"role": "user", "content": "Where is my parcel?"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": '{"place": "Leeds", "weight": "four pounds"}'},
        {"role": "developer", "content": instruction},
    ]


def test_a_result_that_the_next_step_tells_is_not_told_twice() -> None:
    """What the instructions of the next step say of a result is left out of the model's own account of it."""
    text = reply(looked_up('Say "Your parcel is in Leeds."')).text
    assert text.count("Leeds") == 1


def test_the_model_reports_a_result_without_a_step_for_it() -> None:
    """Without a step that says the result, the model says it."""
    text = reply(looked_up("Be brief.")).text
    assert "Leeds" in text
    assert "four pounds" in text
