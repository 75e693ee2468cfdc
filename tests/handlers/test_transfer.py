"""``transfer_to_number`` against a call that accepts or refuses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from handlers.context import CallContext, Refused
from handlers.transfer_to_number import TransferArguments, TransferToNumber


@dataclass
class Call:
    """A call that can be transferred to the front desk."""

    asked: list[str] = field(default_factory=list)

    def transfer(self, destination: str) -> Refused | None:
        """Accept one destination."""
        self.asked.append(destination)
        if destination == "front_desk":
            return None
        return Refused(code="unknown_destination", message="Destinations: front_desk.")


async def run(call: Call, destination: str) -> Any:
    """Run the handler."""
    arguments = TransferArguments(destination=destination)
    return await TransferToNumber().run(cast("CallContext", call), arguments)


async def test_a_declared_destination() -> None:
    """The model says nothing more after an accepted transfer."""
    call = Call()
    result = await run(call, "front_desk")
    assert (result.result, result.respond) == ({"status": "transferring"}, False)
    assert call.asked == ["front_desk"]


async def test_digits_are_no_destination() -> None:
    """A number is refused like any unknown name, and the model responds to the refusal."""
    result = await run(Call(), "+14155550199")
    assert result.result["code"] == "unknown_destination"
    assert result.respond
    assert result.failed
