"""Scripted answers of the language model: a test says what the model answers, and when.

    sandbox.script.answer("Billing here.", system="You are billing")
    sandbox.script.answer(Answer(calls=[("route_to_agent", {"agent": "billing"})]), user="my bill")
    sandbox.script.answer("One moment.", Answer(text="Done.", delay_ms=200), tool="queued")
    sandbox.script.answer(Answer(text="Half an answer", fault="drop", fault_stage="message"), user="break")
    sandbox.script.respond(lambda body: Answer(text="Hello.") if "Ada" in system_text(body) else None)

Rules are tried in the order in which they were added. The first rule whose conditions all hold and that has
an answer left gives its next answer. A request that no rule answers goes to the stand-in model
(`voicebot.sandbox.model`), so a test scripts only what it depends on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from voicebot.sandbox.model.conversation import text_of
from voicebot.sandbox.vendors.faults import Kind, Stage

Body = Mapping[str, Any]
"""The body of a chat completion request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer of the model: text, function calls, or both.

    Attributes:
        text: what the model says.
        calls: function calls as (name, arguments), in order.
        delay_ms: waited before the first token, in addition to `Latency.first_token_ms`.
        fault: the kind of fault to apply to this answer; None: no fault.
        fault_stage: `connect`: instead of an answer; `message`: after the first part of it was sent.
    """

    text: str = ""
    calls: Sequence[tuple[str, Mapping[str, Any]]] = ()
    delay_ms: float = 0.0
    fault: Kind | None = None
    fault_stage: Stage = "connect"


Respond = Callable[[Body], Answer | None]
"""Answers a request; None leaves it to the rules that follow."""


class LlmScript:
    """The rules of one OpenAI stand-in. Use it from the event loop that the stand-in runs in."""

    def __init__(self) -> None:
        self._rules: list[Respond] = []
        self._queues: list[deque[Answer]] = []

    def answer(
        self, *answers: Answer | str, user: str = "", system: str = "", tool: str = "", repeat: bool = False
    ) -> None:
        """Add a rule that gives these answers in order, one a request; a string is an answer with this text.

        All conditions that are given must hold. Comparison is by substring, with case.

        Args:
            answers: the answers; after the last one the rule no longer applies.
            user: the newest message, apart from instructions, is the user's and contains this.
            system: the instructions (all system and developer messages) contain this.
            tool: the newest message, apart from instructions, is a function's result and contains this.
            repeat: give the last answer again and again.
        """
        left = deque(Answer(text=each) if isinstance(each, str) else each for each in answers)
        self._queues.append(left)

        def next_answer(body: Body) -> Answer | None:
            if not left or not _holds(body, user=user, system=system, tool=tool):
                return None
            return left[0] if repeat and len(left) == 1 else left.popleft()

        self._rules.append(next_answer)

    def respond(self, function: Respond) -> None:
        """Add a rule that is a function of the request's body."""
        self._rules.append(function)

    def next(self, body: Body) -> Answer | None:
        """Return the answer to a request, and use it up; None when no rule answers."""
        return next((answer for rule in self._rules if (answer := rule(body)) is not None), None)

    @property
    def remaining(self) -> int:
        """How many answers were added and not given yet; a repeated answer always counts as one."""
        return sum(map(len, self._queues))

    def clear(self) -> None:
        """Remove all rules."""
        self._rules.clear()
        self._queues.clear()


def system_text(body: Body) -> str:
    """Return the instructions of a request: its system and developer messages, joined by line breaks."""
    return "\n".join(text_of(message) for message in body["messages"] if _is_instruction(message))


def newest(body: Body) -> Mapping[str, Any]:
    """Return the newest message apart from instructions; an empty one when there is none."""
    spoken = (message for message in reversed(body["messages"]) if not _is_instruction(message))
    return next(spoken, {"role": "", "content": ""})


def _is_instruction(message: Mapping[str, Any]) -> bool:
    return message.get("role") in ("system", "developer")


def _holds(body: Body, *, user: str, system: str, tool: str) -> bool:
    message = newest(body)
    by_role = (("user", user), ("tool", tool))
    return system in system_text(body) and all(
        not wanted or (message.get("role") == role and wanted in text_of(message)) for role, wanted in by_role
    )
