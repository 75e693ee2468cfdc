"""``transfer_to_number``: the agent connects the caller with a telephone number that the author declared."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from handlers.context import CallContext
from handlers.handler import Arguments, Handler
from templates.compile import FunctionResult


class TransferArguments(Arguments):
    """Arguments of ``transfer_to_number``."""

    destination: str = Field(
        description="The name of the destination. Digits are not accepted.",
        min_length=1,
        max_length=64,
        examples=["front_desk"],
    )


class TransferToNumber(Handler[TransferArguments]):
    """Connects the caller with a declared destination; if nobody answers there, they come back."""

    name: ClassVar[str] = "transfer_to_number"
    description: ClassVar[str] = (
        "Connect the caller with another telephone. Tell the caller in the same answer whom you connect them "
        "with; the connection is made once they have heard it. If nobody answers, you are told and go on."
    )
    arguments = TransferArguments

    async def run(self, call: CallContext, arguments: TransferArguments) -> FunctionResult:
        """Transfer the call. The model responds again only to a refusal, or when the caller is back."""
        refused = call.transfer(arguments.destination)
        if refused is not None:
            refusal = {"status": "refused", "code": refused.code, "message": refused.message}
            return FunctionResult(result=refusal, failed=True)
        return FunctionResult(result={"status": "transferring"}, respond=False)
