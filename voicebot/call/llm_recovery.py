"""A model that breaks down in the middle of a call: an apology, another try, and then the end.

Nothing is left to the caller's patience: whoever asked something hears within seconds that it did not work.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, cast

from loguru import logger
from pipecat.frames.frames import LLMMessagesAppendFrame

from handlers.context import HandoffRequest
from voicebot.call.apologies import Apology, apology
from voicebot.call.handler_context import CallControls
from voicebot.call.hangup import End
from voicebot.call.routing.activation import AgentActivation, firm

ENDS_S = 1.0
UNAVAILABLE = "llm_unavailable"
ASKED_FOR = "The language model does not answer; the caller has been told that somebody will help."
BROKEN_OFF = (
    "Your last answer broke off by a technical fault, and the caller has heard an apology for it. Go on from "
    "where it broke off; repeat nothing that you have said."
)


class LlmRecovery:
    """How one call deals with its model's failures."""

    def __init__(self, controls: CallControls, activation: AgentActivation) -> None:
        """``entrance`` asks the model again, and hears a caller out first."""
        self._controls = controls
        self._pipeline = controls.pipeline
        self._activation = activation
        self._failures = 0
        self._has_failed = False
        self._has_asked_people = False
        self._recovery: asyncio.Task[None] | None = None
        controls.pipeline.answers.attend(self._answered)

    @property
    def is_recovering(self) -> bool:
        """Whether an apology is under way, and another try behind it."""
        return self._recovery is not None and not self._recovery.done()

    def failed(self) -> None:
        """The model broke down while it answered, or before."""
        self._controls.idle.stir()
        self._has_failed = True
        if self.is_recovering or self._pipeline.gate.is_shut:
            return  # another try comes anyway; or nobody is to answer: the agent changes, or the call ends
        self._failures += 1
        work = self._recover() if self._failures == 1 else self._give_up()
        self._recovery = asyncio.create_task(work, name="recovering from a model's failure")
        self._recovery.add_done_callback(self._done)

    def caller_spoke(self) -> None:
        """The caller's turn ended with words, which the model is asked to answer: no other try is needed."""
        if self._recovery is not None:
            self._recovery.cancel()

    async def close(self) -> None:
        """The call is over."""
        if self._recovery is not None:
            self._recovery.cancel()
            await asyncio.gather(self._recovery, return_exceptions=True)

    def _answered(self, brought: bool) -> None:
        failed, self._has_failed = self._has_failed, False
        if failed:
            return
        if brought:
            self._failures = 0
        else:
            self._wait_for_caller()

    async def _recover(self) -> None:
        """Apologise, and ask once more when that has been heard: a vendor's hiccup may be over by then."""
        await self._answer_over()
        broke_off = self._pipeline.answers.has_words
        await self._controls.speech_output.text(self._words().moment, remembered=False)
        await self._pipeline.drain()
        if broke_off:
            message = cast(Any, {"role": "developer", "content": BROKEN_OFF})
            await self._pipeline.worker.queue_frame(firm(LLMMessagesAppendFrame(messages=[message])))
        await self._activation.ask()

    async def _give_up(self) -> None:
        """The model stays away: people are asked for where the author offers them, else the call ends."""
        await self._answer_over()
        controls, words = self._controls, self._words()
        if not controls.offers_people or self._has_asked_people:
            controls.ending.take_leave(End(ended_by="system", reason=UNAVAILABLE), words.goodbye)
            return
        self._has_asked_people = True
        controls.hand_off(HandoffRequest(intent="escalate", reason=ASKED_FOR, origin="failed_model"))
        await controls.speech_output.text(words.people, remembered=False)
        await self._pipeline.drain()
        self._wait_for_caller()

    def _wait_for_caller(self) -> None:
        """Nobody is going to speak: the caller's silence counts from here."""
        if not self._controls.router.is_routing and not self._activation.caller_is_speaking():
            self._controls.idle.quiet()

    def _words(self) -> Apology:
        return apology(self._controls.router.current.content.language)

    async def _answer_over(self) -> None:
        """Wait for the last of what the model brought: what is spoken now is to come behind it."""
        with suppress(TimeoutError):  # a part that is replaced at once does not end it
            async with asyncio.timeout(ENDS_S):
                await self._pipeline.answers.over()

    def _done(self, recovery: asyncio.Task[None]) -> None:
        error = None if recovery.cancelled() else recovery.exception()
        if error is not None:
            logger.opt(exception=error).error("{} failed", recovery.get_name())
            self._controls.ending.finish(End(ended_by="system", reason="internal_error"))
