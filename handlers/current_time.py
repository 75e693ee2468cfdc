"""``current_time``: models know no clock."""

from __future__ import annotations

from typing import ClassVar

from handlers.context import CallContext
from handlers.handler import Arguments, Handler
from templates.compile import FunctionResult


class NoArguments(Arguments):
    """Nothing to say."""


class CurrentTime(Handler[NoArguments]):
    """Tells the date and time at the number that was called."""

    name: ClassVar[str] = "current_time"
    description: ClassVar[str] = "The current date, weekday and time where the called number is."
    arguments = NoArguments

    async def run(self, call: CallContext, arguments: NoArguments) -> FunctionResult:
        """Answer with RFC 3339, weekday and zone."""
        local = call.now().astimezone(call.time_zone)
        return FunctionResult(
            result={
                "time": local.isoformat(timespec="minutes"),
                "weekday": local.strftime("%A"),
                "time_zone": call.time_zone.key,
            }
        )
