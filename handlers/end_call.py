"""``end_call``: the agent ends the call."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from handlers.context import CallContext, Refused
from handlers.handler import Arguments, Handler
from templates.compile import FunctionResult


class EndArguments(Arguments):
    """Arguments of ``end_call``."""

    reason: str = Field(
        "completed",
        description="Why the call ends, in a few words.",
        min_length=1,
        max_length=200,
        examples=["question answered"],
    )
    outcome: str | None = Field(
        None, description="Outcome of the call, as one word.", max_length=64, examples=["booked"]
    )


class EndCall(Handler[EndArguments]):
    """Ends the call after the caller has heard everything that was said."""

    name: ClassVar[str] = "end_call"
    description: ClassVar[str] = (
        "End the call. Say goodbye in the same answer; the line is closed once the caller has heard it."
    )
    arguments = EndArguments

    async def run(self, call: CallContext, arguments: EndArguments) -> FunctionResult:
        """End the call; the model does not respond again."""
        answer = await call.end(reason=arguments.reason, outcome=arguments.outcome)
        if isinstance(answer, Refused):
            refusal = {"status": "refused", "code": answer.code, "message": answer.message}
            return FunctionResult(result=refusal, respond=False)
        return FunctionResult(result={"status": "ending"}, respond=False)
