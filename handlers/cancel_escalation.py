"""``cancel_escalation``: the caller does not wait for a person any more."""

from __future__ import annotations

from typing import ClassVar

from handlers.context import CallContext
from handlers.handler import Arguments, Handler
from templates.compile import FunctionResult


class CancelEscalationArguments(Arguments):
    """``cancel_escalation`` has no arguments."""


class CancelEscalation(Handler[CancelEscalationArguments]):
    """Takes the caller out of the handoff queue; offered wherever ``escalate_to_person`` is."""

    name: ClassVar[str] = "cancel_escalation"
    description: ClassVar[str] = (
        "Withdraw an earlier escalate_to_person, when the caller no longer wants to wait and continues with "
        "you instead."
    )
    arguments = CancelEscalationArguments

    async def run(self, call: CallContext, _: CancelEscalationArguments) -> FunctionResult:
        """End the waiting, or say that nobody was asked for."""
        if call.cancel_hand_off():
            return FunctionResult(result={"status": "cancelled"})
        return FunctionResult(
            result={"status": "refused", "code": "not_waiting", "message": "Nobody was asked for."}
        )
