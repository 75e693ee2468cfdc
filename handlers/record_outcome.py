"""``record_outcome``: the agent stores the outcome of the call in the lead."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from handlers.context import CallContext
from handlers.handler import Arguments, Handler
from templates.compile import FunctionResult


class OutcomeArguments(Arguments):
    """Arguments of ``record_outcome``."""

    outcome: str = Field(
        description="Outcome of the call, as one word such as booked or refused.",
        min_length=1,
        max_length=64,
        examples=["booked"],
    )
    fields: dict[str, Any] = Field(
        default_factory=dict,
        description="Facts to keep with it, by name.",
        max_length=50,
        examples=[{"date": "2026-03-02", "persons": 4}],
    )


class RecordOutcome(Handler[OutcomeArguments]):
    """Stores the outcome; a later one replaces an earlier one."""

    name: ClassVar[str] = "record_outcome"
    description: ClassVar[str] = "Write down what came of the call, as soon as it is settled."
    arguments = OutcomeArguments

    async def run(self, call: CallContext, arguments: OutcomeArguments) -> FunctionResult:
        """Store the outcome; the model responds next."""
        await call.record_outcome(arguments.outcome, arguments.fields)
        return FunctionResult(result={"status": "recorded", "outcome": arguments.outcome})
