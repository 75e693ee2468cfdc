"""``park_call``: a person calls the caller back later."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import ClassVar

from pydantic import Field

from handlers.context import CallContext, HandoffRequest
from handlers.handler import Arguments, Handler
from templates.compile import FunctionResult

LATEST = timedelta(days=90)

NUMBER_DIGITS = 6
"""How many digits a text has in which a telephone number can be."""


class ParkArguments(Arguments):
    """Arguments of ``park_call``."""

    reason: str = Field(
        description="What to call about, in a sentence or two.",
        min_length=1,
        max_length=2000,
        examples=["The caller wants to discuss the offer of 2 March."],
    )
    due_at: datetime | None = Field(
        None,
        description=(
            "When to call, in ISO 8601 such as 2026-03-02T10:00, in the caller's local time. "
            "Leave it out for as soon as somebody can."
        ),
        examples=["2026-03-02T10:00"],
    )


class ParkCall(Handler[ParkArguments]):
    """Requests a call back. A time without a zone is in the time zone of the called number."""

    name: ClassVar[str] = "park_call"
    description: ClassVar[str] = (
        "Have the caller called back by a person later. Call it only after the caller has agreed to be "
        "called back, and has said when if it matters to them."
    )
    arguments = ParkArguments

    async def run(self, call: CallContext, arguments: ParkArguments) -> FunctionResult:
        """Request the call back, unless its time cannot be meant or there is no number to call."""
        due_at = arguments.due_at
        if not call.has_phone and sum(map(str.isdigit, arguments.reason)) < NUMBER_DIGITS:
            return FunctionResult(
                result={
                    "status": "refused",
                    "code": "number_withheld",
                    "message": "The caller's number is withheld. Ask for one, and write it into `reason`.",
                }
            )
        if due_at is not None:
            if due_at.tzinfo is None:
                due_at = due_at.replace(tzinfo=call.time_zone)
            if not call.now() - timedelta(minutes=5) < due_at < call.now() + LATEST:
                return FunctionResult(
                    result={
                        "status": "refused",
                        "code": "invalid_time",
                        "message": "The time is in the past or more than 90 days away. Ask for another one.",
                        "now": call.now().astimezone(call.time_zone).isoformat(timespec="minutes"),
                    }
                )
        call.hand_off(HandoffRequest(intent="park", reason=arguments.reason, due_at=due_at))
        local = None if due_at is None else due_at.astimezone(call.time_zone).isoformat(timespec="minutes")
        return FunctionResult(result={"status": "parked", "due_at": local, "time_zone": call.time_zone.key})
