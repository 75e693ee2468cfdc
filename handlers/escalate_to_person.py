"""``escalate_to_person``: the caller needs a person during the call."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from handlers.context import CallContext, HandoffRequest
from handlers.handler import Arguments, Handler
from templates.compile import FunctionResult


class EscalateArguments(Arguments):
    """Arguments of ``escalate_to_person``."""

    reason: str = Field(
        description="What the caller needs a person for, and what was tried, in a sentence or two.",
        min_length=1,
        max_length=2000,
        examples=["The caller was charged twice and wants a refund; the invoice could not be found."],
    )
    priority: Literal["low", "normal", "high", "urgent"] = Field(
        "normal",
        description="How urgent it is; urgent is for danger to life or great harm.",
        examples=["high"],
    )


class EscalateToPerson(Handler[EscalateArguments]):
    """Puts the caller into the handoff queue; the call continues with the agent."""

    name: ClassVar[str] = "escalate_to_person"
    description: ClassVar[str] = (
        "Ask for a person to take over, when the caller wants one or you cannot help. The caller stays with "
        "you until somebody comes: tell them that a person was asked for, and promise no time."
    )
    arguments = EscalateArguments

    async def run(self, call: CallContext, arguments: EscalateArguments) -> FunctionResult:
        """Request the handoff. Repeated requests have no effect while the first one is open."""
        call.hand_off(HandoffRequest(intent="escalate", reason=arguments.reason, priority=arguments.priority))
        return FunctionResult(result={"status": "queued"})
