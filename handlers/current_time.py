"""``current_time``: the date and time for the model."""

from __future__ import annotations

from typing import ClassVar

from handlers.context import CallContext
from handlers.handler import Arguments, Handler
from templates.compile import FunctionResult


class NoArguments(Arguments):
    """No arguments."""


class CurrentTime(Handler[NoArguments]):
    """Returns the date and time in the time zone of the number that was called."""

    name: ClassVar[str] = "current_time"
    description: ClassVar[str] = "The current date, weekday and time where the called number is."
    arguments = NoArguments

    async def run(self, call: CallContext, arguments: NoArguments) -> FunctionResult:
        """Return the time (RFC 3339), the weekday and the time zone."""
        local = call.now().astimezone(call.time_zone)
        return FunctionResult(
            result={
                "time": local.isoformat(timespec="minutes"),
                "weekday": local.strftime("%A"),
                "time_zone": call.time_zone.key,
            }
        )
