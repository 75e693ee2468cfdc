"""The transfer of a call to a destination that its agent's template declares.

The model names a destination, never a number: neither the model nor the caller can choose a number. In a cold
transfer the carrier dials for the caller, who leaves the agent. In an attended transfer the destination is
called first; the caller stays with the agent until somebody accepts, and both join a conference.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast
from uuid import UUID

from pipecat.frames.frames import LLMMessagesAppendFrame

from handlers.context import Refused
from templates.model import Destination
from voicebot.background import BackgroundTasks
from voicebot.call.agents import Agent
from voicebot.call.audio.frames import uninterruptible
from voicebot.call.audio.pipeline import CallPipeline
from voicebot.call.hangup import Hangup
from voicebot.call.person.waiting import WaitingForPerson
from voicebot.call.resume import (
    CALLING,
    PROCESS_LOST,
    TRANSFER_FAILED,
    CalledDestination,
    ResumeState,
)
from voicebot.call.routing.activation import AgentActivation
from voicebot.call.transcript.recorder import CallRecorder

FAILED = "The call could not be transferred. Say so, and help the caller yourself or offer something else."

NOT_ACCEPTED = (
    "Nobody accepted the caller at {name} ({cause}). The caller is still with you: say so, and help them "
    "yourself or offer something else."
)

TransferCall = Callable[[str], Awaitable[str | None]]
"""Has the carrier dial a number (E.164) for the call; returns why the call stays, or None."""

CARRIER_ERROR = "carrier_error"
NOT_POSSIBLE = "not_possible_at_carrier"
"""Why a call was not transferred: the carrier refused, or cannot transfer such a call."""

DialDestination = Callable[[str, str], Awaitable[UUID | None]]
"""Calls a destination (name, number in E.164) for the call; returns the id of the leg, or None if refused."""

IsWithPerson = Callable[[], Awaitable[bool]]
"""Whether a call is with a person, or about to be connected with one."""


class CallTransfer:
    """Transfers one call."""

    def __init__(
        self,
        transfer: TransferCall | None,
        dial: DialDestination | None,
        waiting: WaitingForPerson,
        hangup: Hangup,
        pipeline: CallPipeline,
        activation: AgentActivation,
        recorder: CallRecorder,
        tasks: BackgroundTasks,
    ) -> None:
        """``transfer`` and ``dial`` are None where a call cannot be transferred, as in a text call."""
        self._transfer = transfer
        self._dial = dial
        self._waiting = waiting
        self._hangup = hangup
        self._pipeline = pipeline
        self._activation = activation
        self._recorder = recorder
        self._tasks = tasks
        self._is_transferring = False
        self._called: CalledDestination | None = None

    @property
    def is_calling(self) -> bool:
        """Whether a destination is being called for the caller."""
        return self._called is not None

    def request(self, agent: Agent, destination: str) -> Refused | None:
        """Transfer the call when everything said was heard. None: the transfer has begun."""
        declared = {each.name: each for each in agent.content.destinations}
        wanted = declared.get(destination)
        if wanted is None:
            names = ", ".join(sorted(declared)) or "none"
            message = f"There is no destination {destination!r}. Destinations: {names}."
            return Refused(code="unknown_destination", message=message)
        transfer, dial = self._transfer, self._dial
        if transfer is None or dial is None:
            return Refused(code="transfer_failed", message="This call cannot be transferred.")
        if self._is_transferring or self._hangup.is_hanging_up:
            return Refused(code="call_ending", message="The call is leaving you already. Say nothing.")
        self._is_transferring = True
        if wanted.mode == "attended":
            work = self._call(dial, wanted)
        else:
            self._pipeline.llm.pause()
            work = self._run(transfer, wanted)
        self._tasks.start(work, name="transferring the call", droppable=True)
        return None

    def resume(self, past: ResumeState) -> None:
        """Continue a transfer that another process began; the agent is told when it resumes the call."""
        if past.was_not_connected:
            self._waiting.resume()
        if past.lost_transfer is not None:
            self._recorder.event(TRANSFER_FAILED, destination=past.lost_transfer, outcome=PROCESS_LOST)
        if past.called is not None:
            self._is_transferring = True
            self._begin(past.called)

    def _begin(self, called: CalledDestination) -> None:
        """A destination is being called."""
        self._called = called
        self._waiting.begin_transfer()

    def not_accepted(self, leg_id: UUID, cause: str) -> None:
        """Report that nobody accepted the caller at the destination; return at once."""
        if self._called is None or self._called.leg_id != leg_id:
            return
        name, self._called = self._called.name, None
        self._waiting.end_transfer()
        work = self._stay(NOT_ACCEPTED.format(name=name, cause=cause))
        self._tasks.start(work, name="ending a transfer", droppable=True)

    def release_to_flow(self, is_with_person: IsWithPerson, close: Callable[[], Awaitable[None]]) -> None:
        """Close the stream, so that the carrier's flow connects the caller with an operator.

        ``close`` is called when everything said was heard, if ``is_with_person`` says that the call still
        leaves.
        """
        if self._is_transferring or self._hangup.is_hanging_up:
            return
        self._is_transferring = True
        self._pipeline.llm.pause()
        work = self._close_when_heard(is_with_person, close)
        self._tasks.start(work, name="releasing the call", droppable=True)

    async def _close_when_heard(
        self, is_with_person: IsWithPerson, close: Callable[[], Awaitable[None]]
    ) -> None:
        await self._hangup.all_heard()
        if await is_with_person():
            await close()
            return
        self._is_transferring = False
        self._pipeline.llm.resume()

    async def _run(self, transfer: TransferCall, destination: Destination) -> None:
        await self._hangup.all_heard()
        outcome = await transfer(destination.number)
        if outcome is None:
            return  # the media stream ends
        self._pipeline.llm.resume()
        await self._refused(destination, outcome)

    async def _call(self, dial: DialDestination, destination: Destination) -> None:
        await self._hangup.all_heard()
        leg_id = await dial(destination.name, destination.number)
        if leg_id is None:
            await self._refused(destination, CARRIER_ERROR)
            return
        self._begin(CalledDestination(leg_id, destination.name))
        await self._tell(CALLING.format(name=destination.name))

    async def _refused(self, destination: Destination, outcome: str) -> None:
        self._recorder.event(TRANSFER_FAILED, destination=destination.name, outcome=outcome)
        await self._stay(FAILED)

    async def _stay(self, text: str) -> None:
        """Tell the agent why the caller stays, and let it continue."""
        self._is_transferring = False
        await self._tell(text)
        await self._activation.run_model()

    async def _tell(self, text: str) -> None:
        message = cast("Any", {"role": "developer", "content": text})
        frame = uninterruptible(LLMMessagesAppendFrame(messages=[message]))
        await self._pipeline.worker.queue_frame(frame)
