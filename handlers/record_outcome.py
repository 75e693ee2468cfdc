"""``record_outcome``: the agent writes what came of the call on the lead."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from handlers.context import CallContext
from handlers.handler import Arguments, Handler
from templates.compile import FunctionResult


class OutcomeArguments(Arguments):
    """The outcome and the facts that belong to it."""

    outcome: str = Field(
        description="What came of the call, as one word such as booked or refused.",
        min_length=1,
        max_length=64,
    )
    fields: dict[str, Any] = Field(
        default_factory=dict, description="Facts to keep with it, by name.", max_length=50
    )


class RecordOutcome(Handler[OutcomeArguments]):
    """Keeps the outcome; a later one replaces an earlier one."""

    name: ClassVar[str] = "record_outcome"
    description: ClassVar[str] = "Write down what came of the call, as soon as it is settled."
    arguments = OutcomeArguments

    async def run(self, call: CallContext, arguments: OutcomeArguments) -> FunctionResult:
        """Record it and let the conversation go on."""
        await call.record_outcome(arguments.outcome, arguments.fields)
        return FunctionResult(result={"status": "recorded", "outcome": arguments.outcome})
