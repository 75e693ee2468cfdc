"""``send_dtmf``: the agent presses keys, for a system at the other end that is controlled by them."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from handlers.context import CallContext
from handlers.handler import Arguments, Handler
from templates.compile import FunctionResult


class SendDtmfArguments(Arguments):
    """Arguments of ``send_dtmf``."""

    digits: str = Field(
        description="The keys: 0 to 9, * and #, A to D; w is a pause of half a second.",
        min_length=1,
        max_length=32,
        pattern="^[0-9*#A-Dw]+$",
        examples=["1", "w4711#"],
    )


class SendDtmf(Handler[SendDtmfArguments]):
    """Sends keys as tones in the audio, behind everything that was said."""

    name: ClassVar[str] = "send_dtmf"
    description: ClassVar[str] = (
        "Press keys on the telephone, when an automatic system at the other end asks for them. Nobody else "
        "hears a use in it: do not say the keys."
    )
    arguments = SendDtmfArguments

    async def run(self, call: CallContext, arguments: SendDtmfArguments) -> FunctionResult:
        """Send the keys. The model responds next only to a refusal: the system answers by itself."""
        refused = await call.press_keys(arguments.digits)
        if refused is not None:
            refusal = {"status": "refused", "code": refused.code, "message": refused.message}
            return FunctionResult(result=refusal, failed=True)
        return FunctionResult(result={"status": "sent"}, respond=False)
