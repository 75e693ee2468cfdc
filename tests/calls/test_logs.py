"""What the log of a call contains."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from loguru import logger

from tests.calls.harness import BILL, BYE, WELCOME, CallHarness, hear
from voicebot import logs
from voicebot.sandbox.caller import Say, WaitForHangUp


@pytest.fixture
def trace_log(
    capsys: pytest.CaptureFixture[str], quiet_pipecat: None
) -> Iterator[pytest.CaptureFixture[str]]:
    """The log of everything, as `LOG_LEVEL=TRACE` writes it to stderr."""
    del quiet_pipecat
    logger.enable("pipecat")
    logs.configure("TRACE")
    yield capsys
    logger.remove()
    logger.configure(patcher=lambda _: None)


async def test_words_and_prompts_are_not_logged_at_any_level(
    harness: CallHarness, trace_log: pytest.CaptureFixture[str]
) -> None:
    """A whole call with a route, at the lowest level: nothing said, no prompt and no argument is logged."""
    billing = await harness.agent("Billing", prompt="You are the billing agent. The password is Kumquat.")
    number = await harness.orchestrator(harness.route("billing", billing))
    call = await harness.place(hear(), Say(text=BILL), hear(), Say(text=BYE), WaitForHangUp(), to=number)
    assert call.outcome.ok, call.outcome.failure
    logger.warning("the log is written")

    written = trace_log.readouterr().err
    assert "the log is written" in written
    spoken = [row["text"] for row in call.transcript]
    assert BILL in spoken
    assert WELCOME in spoken
    for text in (*spoken, "Kumquat"):
        assert text not in written, text
