"""``send_dtmf`` against a call that takes keys, or whose agent has left."""

from __future__ import annotations

from typing import cast

import pytest
from pydantic import ValidationError

from handlers.context import CallContext, Refused
from handlers.send_dtmf import SendDtmf, SendDtmfArguments


class Call:
    """A call that answers every request in the same way."""

    def __init__(self, answer: Refused | None) -> None:
        self.answer = answer
        self.keys: list[str] = []

    async def press_keys(self, keys: str) -> Refused | None:
        self.keys.append(keys)
        return self.answer


async def test_the_system_that_takes_the_keys_answers_next() -> None:
    """The model says nothing to keys that were sent."""
    call = Call(None)
    result = await SendDtmf().run(cast("CallContext", call), SendDtmfArguments(digits="w12#"))
    assert (call.keys, result.result, result.respond) == (["w12#"], {"status": "sent"}, False)


async def test_a_refusal_is_told_to_the_model() -> None:
    """An agent who hands the call over presses no keys."""
    refused = Refused(code="already_routing", message="Say nothing.")
    result = await SendDtmf().run(cast("CallContext", Call(refused)), SendDtmfArguments(digits="1"))
    assert result.failed
    assert result.result == {"status": "refused", "code": "already_routing", "message": "Say nothing."}


@pytest.mark.parametrize("digits", ["", "12 3", "+49", "e", "1" * 33])
def test_what_is_no_key_is_refused(digits: str) -> None:
    """Keys are 0 to 9, star, hash, A to D, and w for a pause; 32 at most."""
    with pytest.raises(ValidationError):
        SendDtmfArguments(digits=digits)
