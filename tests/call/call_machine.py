"""A call as a state machine: what callers, models, functions and voices do in any order, and what must hold.

Checked after every step: one agent is in charge, no silence of ours lasts longer than the limit, the model is
not asked without end, a caller who speaks is not hung up on, and transcript, audio and the model's memory say
the same.
"""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from loguru import logger

from tests.call.virtual_call import CHARACTER_MS, FILLERS, Plan, VirtualCall
from tests.call.virtual_time import virtual_time
from voicebot.call.text.answers import Answer

LIMIT_MS = 2000
SLACK_MS = 400
"""The silence watchdog looks ten times a second, and a model's answer may begin just then."""

MAX_REQUESTS = 14
"""Requests to models in one turn of the caller."""

SHORT = "We are open."
LONG = "We are open from eight to five. On Saturdays we close at noon. Is there anything else?"
ROUTE = ("route_to_agent", {"agent": "billing", "reason": "asked"})
BACK = ("route_to_agent", {"agent": "back", "reason": "asked"})
WRONG = ("route_to_agent", {"agent": "nobody", "reason": "asked"})
END = ("end_call", {"reason": "done"})
LOOK_UP: tuple[str, dict[str, Any]] = ("look_up", {})
FUNCTIONS = [
    {"type": "builtin", "name": "end_call"},
    {
        "type": "http", "name": "look_up", "description": "Looks up.", "url": "https://example.com/",
        "parameters": {"type": "object", "properties": {}},
    },
]  # fmt: skip

PLANS = st.sampled_from(
    [
        Plan(text=SHORT),
        Plan(text=LONG),
        Plan(text=LONG, delay_s=2.5),
        Plan(text="To billing then.", calls=[ROUTE]),
        Plan(calls=[ROUTE]),
        Plan(calls=[BACK]),
        Plan(calls=[WRONG]),
        Plan(calls=[WRONG, WRONG]),
        Plan(calls=[LOOK_UP]),
        Plan(calls=[LOOK_UP, ROUTE]),
        Plan(calls=[ROUTE, LOOK_UP]),
        Plan(calls=[ROUTE, END]),
        Plan(text="Goodbye then.", calls=[END]),
        Plan(calls=[END]),
        Plan(fault="empty"),
        Plan(fault="error"),
        Plan(fault="hang"),
    ]
)
VOICE_FAULTS = st.sampled_from(["swallow", "silent", "drop", "stall"])


class CallMachine(RuleBasedStateMachine):
    """One call in virtual time."""

    traces: ClassVar[Counter[tuple[str, ...]]] = Counter()
    """How often each sequence of steps was played; for the count of interleavings."""

    def __init__(self) -> None:
        super().__init__()
        logger.disable("pipecat")
        logger.disable("voicebot")
        self._stack = ExitStack()
        self._trace: list[str] = []
        self._spoke_ms: float | None = None
        self._faults = 0
        self._requests = 0

    @initialize(ready=st.booleans(), announce=st.sampled_from([None, "I will put you through to billing."]),
                greeting=st.booleans(), late_ms=st.sampled_from([0, 700, 2500]))  # fmt: skip
    def begin(self, ready: bool, announce: str | None, greeting: bool, late_ms: int) -> None:
        """The caller calls."""
        loop = self._stack.enter_context(virtual_time())
        more: dict[str, Any] = {"functions": FUNCTIONS, "fillers": list(FILLERS)}
        desk = {**more, "prompt": "You are the desk."}
        billing = {**more, "prompt": "You are billing."}
        if greeting:
            billing["greeting"] = {"text": "Billing here."}
        self.call = VirtualCall(
            loop, desk=desk, targets={"billing": billing}, answers={"look_up": [Answer(after_ms=late_ms)]},
            ready=ready, announce=announce,
        )  # fmt: skip
        self._note(f"begin {ready} {announce is not None} {greeting} {late_ms}")
        self._run(1.0)

    def teardown(self) -> None:
        """The caller hangs up, and everything is over."""
        type(self).traces[tuple(self._trace)] += 1
        if hasattr(self, "call"):
            self.call.hang_up()
            self._stack.close()
        logger.enable("pipecat")
        logger.enable("voicebot")

    # ------------------------------------------------------------------------------------- steps

    @precondition(lambda self: not self.call.is_over)
    @rule(plan=PLANS, then=PLANS, seconds=st.sampled_from([0.3, 1.0]))
    def caller_speaks(self, plan: Plan, then: Plan, seconds: float) -> None:
        """The caller says something, and the model answers as planned."""
        self._note(f"say {plan} {then}")
        self.call.begin_turn("a question")
        self._run(seconds)
        self.call.script.plans.clear()
        self.call.plan(plan, then)
        self._requests = len(self.call.script.asked)
        self.call.end_turn("a question")
        self._spoke_ms = self.call.media.now_ms()
        self._run(0.1)

    @precondition(lambda self: not self.call.is_over)
    @rule(seconds=st.sampled_from([0.2, 0.9]))
    def noise(self, seconds: float) -> None:
        """Something is taken for speech and is none."""
        self._note("noise")
        self.call.begin_turn()
        self._run(seconds)
        self.call.end_turn()
        self._run(0.4)

    @precondition(lambda self: not self.call.is_over)
    @rule(seconds=st.sampled_from([0.15, 0.5, 1.3, 4.0]))
    def time_passes(self, seconds: float) -> None:
        """Neither side does anything."""
        self._note(f"wait {seconds}")
        self._run(seconds)

    @precondition(lambda self: not self.call.is_over and self._faults < 2)
    @rule(fault=VOICE_FAULTS)
    def voice_fails(self, fault: Any) -> None:
        """The next text that is spoken meets a fault."""
        self._note(f"voice {fault}")
        self._faults += 1
        self.call.fail_voice(fault)

    @precondition(lambda self: self.call.is_over)
    @rule()
    def nothing_follows_the_end(self) -> None:
        """After the end of the call nothing is said, asked or recorded."""
        self._note("over")
        facts, asked = len(self.call.facts), len(self.call.script.asked)
        self.call.run(1.0)
        assert (len(self.call.facts), len(self.call.script.asked)) == (facts, asked)

    # -------------------------------------------------------------------------------- what holds

    @invariant()
    def one_agent_is_in_charge(self) -> None:
        """A model is asked with its own instructions, and the last route decides whose."""
        for asked in self._asked():
            assert asked.role.startswith(f"You are {'the desk' if asked.agent == 'desk' else asked.agent}"), (
                asked
            )

    @invariant()
    def models_are_not_asked_without_end(self) -> None:
        """One turn of the caller does not lead to more than a few requests."""
        assert len(self._asked()) - self._requests <= MAX_REQUESTS

    @invariant()
    def nothing_is_recorded_that_was_not_played(self) -> None:
        """All heard words together are not longer than all audio that was played."""
        if not hasattr(self, "call"):
            return
        heard = sum(len(text) for text in self.call.heard())
        played = sum(span.end_ms - span.start_ms for span in self.call.media.played)
        assert heard * CHARACTER_MS <= played + 100, (heard * CHARACTER_MS, played)

    @invariant()
    def memory_is_what_was_heard(self) -> None:
        """At rest the model's messages are the transcript, word for word, without fillers."""
        if not hasattr(self, "call") or self.call.is_over or not self.call.is_quiet or not self.call.context:
            return
        assert self.call.memory("assistant") == self.call.recorded("agent"), self._trace
        assert self.call.memory("user") == self.call.recorded("caller"), self._trace

    @invariant()
    def nobody_is_hung_up_on_without_a_word(self) -> None:
        """When we end a call, the caller has heard something since their last words."""
        if not hasattr(self, "call") or self.call.end is None or self.call.end.reason == "tts_unavailable":
            return
        if self._spoke_ms is not None and self.call.end.ended_by != "caller":
            assert any(span.end_ms > self._spoke_ms for span in self.call.media.played)

    def _asked(self) -> Any:
        return self.call.script.asked if hasattr(self, "call") else ()

    def _note(self, step: str) -> None:
        self._trace.append(step)

    def _run(self, seconds: float) -> None:
        """Let time pass, and measure the silence meanwhile."""
        steps = max(1, round(seconds / 0.1))
        for _ in range(steps):
            if self.call.is_over:
                return
            self.call.run(seconds / steps)
            silent_ms = self.call.silent_ms()
            if silent_ms > LIMIT_MS + SLACK_MS and not self.call.is_over:
                assert not self.call.awaits_agent(), f"silent for {silent_ms} ms: {self._trace}"
