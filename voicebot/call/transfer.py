"""The transfer of a call to a destination that its agent's template declares.

The model names a destination, never a number: neither it nor the caller decides what is dialled.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

from pipecat.frames.frames import LLMMessagesAppendFrame

from handlers.context import Refused
from voicebot.background import BackgroundTasks
from voicebot.call.agents import Agent
from voicebot.call.audio.frames import uninterruptible
from voicebot.call.audio.pipeline import CallPipeline
from voicebot.call.hangup import Hangup
from voicebot.call.routing.activation import AgentActivation

FAILED = "The call could not be transferred. Say so, and help the caller yourself or offer something else."

TransferCall = Callable[[str], Awaitable[bool]]
"""Has the carrier dial a number (E.164) for the call; False: it refused, and the call stays."""


class CallTransfer:
    """Transfers one call."""

    def __init__(
        self,
        transfer: TransferCall | None,
        hangup: Hangup,
        pipeline: CallPipeline,
        activation: AgentActivation,
        tasks: BackgroundTasks,
    ) -> None:
        """``transfer`` is None where a call cannot be transferred, as in a text call."""
        self._transfer = transfer
        self._hangup = hangup
        self._pipeline = pipeline
        self._activation = activation
        self._tasks = tasks
        self._is_transferring = False

    def request(self, agent: Agent, destination: str) -> Refused | None:
        """Transfer the call when everything said was heard; None: it is under way."""
        numbers = {each.name: each.number for each in agent.content.destinations}
        number = numbers.get(destination)
        if number is None:
            names = ", ".join(sorted(numbers)) or "none"
            message = f"There is no destination {destination!r}. Destinations: {names}."
            return Refused(code="unknown_destination", message=message)
        if self._transfer is None:
            return Refused(code="transfer_failed", message="This call cannot be transferred.")
        if self._is_transferring or self._hangup.is_hanging_up:
            return Refused(code="call_ending", message="The call is leaving you already. Say nothing.")
        self._is_transferring = True
        self._pipeline.llm.pause()
        self._tasks.start(self._run(self._transfer, number), name="transferring the call", droppable=True)
        return None

    async def _run(self, transfer: TransferCall, number: str) -> None:
        await self._hangup.all_heard()
        if await transfer(number):
            return  # the media stream ends
        self._is_transferring = False
        self._pipeline.llm.resume()
        message = cast("Any", {"role": "developer", "content": FAILED})
        frame = uninterruptible(LLMMessagesAppendFrame(messages=[message]))
        await self._pipeline.worker.queue_frame(frame)
        await self._activation.run_model()
