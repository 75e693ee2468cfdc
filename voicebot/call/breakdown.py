"""A model that breaks down in the middle of a call: an apology, another try, and then the end.

Nothing is left to the caller's patience: whoever asked something hears within seconds that it did not work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

from loguru import logger
from pipecat.frames.frames import LLMMessagesAppendFrame

from voicebot.call.apologies import Apology
from voicebot.call.entrance import Entrance, firm
from voicebot.call.pipeline import CallPipeline
from voicebot.call.speaking import Mouth

ENDS_S = 1.0
BROKEN_OFF = (
    "Your last answer broke off by a technical fault, and the caller has heard an apology for it. Go on from "
    "where it broke off; repeat nothing that you have said."
)


class Breakdown:
    """How one call deals with its model's failures."""

    def __init__(
        self,
        pipeline: CallPipeline,
        mouth: Mouth,
        entrance: Entrance,
        words: Callable[[], Apology],
        *,
        give_up: Callable[[], None],
        silent: Callable[[], None],
    ) -> None:
        """Deal with them so.

        Args:
            pipeline: of the call.
            mouth: speaks the apology.
            entrance: asks the model again, and hears a caller out first.
            words: what to say, in the current agent's language.
            give_up: the model failed again, with no answer between.
            silent: the model has answered, with nothing.
        """
        self._pipeline = pipeline
        self._mouth = mouth
        self._entrance = entrance
        self._words = words
        self._give_up = give_up
        self._silent = silent
        self._failures = 0
        self._has_failed = False
        self._recovery: asyncio.Task[None] | None = None
        pipeline.answers.attend(self._answered)

    @property
    def is_recovering(self) -> bool:
        """Whether an apology is under way, and another try behind it."""
        return self._recovery is not None and not self._recovery.done()

    def failed(self) -> None:
        """The model broke down while it answered, or before."""
        self._has_failed = True
        if self.is_recovering or self._pipeline.gate.is_shut:
            return  # another try comes anyway; or nobody is to answer: the agent changes, or the call ends
        self._failures += 1
        work = self._recover() if self._failures == 1 else self._leave()
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
            self._silent()

    async def _recover(self) -> None:
        """Apologise, and ask once more when that has been heard: a vendor's hiccup may be over by then."""
        await self._answer_over()
        broke_off = self._pipeline.answers.has_words
        await self._mouth.text(self._words().moment, remembered=False)
        await self._pipeline.drain()
        if broke_off:
            message = cast(Any, {"role": "developer", "content": BROKEN_OFF})
            await self._pipeline.worker.queue_frame(firm(LLMMessagesAppendFrame(messages=[message])))
        await self._entrance.ask()

    async def _leave(self) -> None:
        await self._answer_over()
        self._give_up()

    async def _answer_over(self) -> None:
        """Wait for the last of what the model brought: what is spoken now is to come behind it."""
        with suppress(TimeoutError):  # a part that is replaced at once does not end it
            async with asyncio.timeout(ENDS_S):
                await self._pipeline.answers.over()

    def _done(self, recovery: asyncio.Task[None]) -> None:
        error = None if recovery.cancelled() else recovery.exception()
        if error is not None:
            logger.opt(exception=error).error("{} failed", recovery.get_name())
            self._give_up()
