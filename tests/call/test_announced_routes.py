"""Routes that the old voice announces while the new one prepares its first words."""

from __future__ import annotations

import pytest

from tests.call.virtual_call import Plan, VirtualCall
from tests.call.virtual_time import virtual_time


@pytest.mark.parametrize("delay_s", [0.1, 1.0, 2.0])
def test_all_words_behind_an_announcement_are_recorded(delay_s: float) -> None:
    """Words that were synthesised during the announcement are in the transcript and the context, to the last.

    They are counted from when their audio was made, not from when the announcement began.
    """
    first, announcement = "May I ask which day suits you?", "Of course. I will put you through to them."
    with virtual_time() as loop:
        call = VirtualCall(loop, desk={}, targets={"visits": {"prompt": "Plan."}}, announce=announcement)
        call.run(5)
        call.plan(Plan(calls=[("route_to_agent", {"agent": "visits"})]), Plan(text=first, delay_s=delay_s))
        call.say("My boiler is broken.")
        call.run(7)
        assert call.heard()[-2:] == [announcement, first]
        call.say("Tuesday.")
        call.run(2)
        assert {"role": "assistant", "content": first} in call.script.asked[-1].messages
