"""``escalate_to_person``: the caller needs a person, now."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from handlers.context import CallContext, HandoffRequest
from handlers.handler import Arguments, Handler
from templates.compile import FunctionResult


class EscalateArguments(Arguments):
    """Why, and how urgently."""

    reason: str = Field(
        description="What the caller needs a person for, and what was tried, in a sentence or two.",
        min_length=1,
        max_length=2000,
    )
    priority: Literal["low", "normal", "high", "urgent"] = Field(
        "normal", description="How urgent it is; urgent is for danger to life or great harm."
    )


class EscalateToPerson(Handler[EscalateArguments]):
    """Puts the caller into the queue of people; the call goes on meanwhile."""

    name: ClassVar[str] = "escalate_to_person"
    description: ClassVar[str] = (
        "Ask for a person to take over, when the caller wants one or you cannot help. The caller stays with "
        "you until somebody comes: tell them that a person was asked for, and promise no time."
    )
    arguments = EscalateArguments

    async def run(self, call: CallContext, arguments: EscalateArguments) -> FunctionResult:
        """Ask; asking again while nobody has come changes nothing."""
        call.hand_off(HandoffRequest(intent="escalate", reason=arguments.reason, priority=arguments.priority))
        return FunctionResult(result={"status": "queued"})
