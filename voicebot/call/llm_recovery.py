"""Recovery from failures of the language model: an apology and a second attempt, then a person or the end.

The caller hears within seconds that something did not work. An answer with neither words nor a function call
is asked for again, before anybody hears of it, and a model that goes on calling functions without a word is
stopped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, cast

from pipecat.frames.frames import LLMMessagesAppendFrame

from handlers.context import HandoffRequest
from voicebot.background import BackgroundTasks
from voicebot.call.agents import AgentPool
from voicebot.call.apologies import Apology, apology
from voicebot.call.audio.frames import uninterruptible
from voicebot.call.audio.pipeline import CallPipeline
from voicebot.call.audio.speech_output import SpeechOutput
from voicebot.call.hangup import End, Hangup
from voicebot.call.idle import IdleTimer
from voicebot.call.routing.activation import AgentActivation
from voicebot.call.routing.router import Router
from voicebot.call.transcript.conversation import Conversation
from voicebot.call.waiting import WaitingForPerson

RESPONSE_END_TIMEOUT_S = 1.0
UNAVAILABLE = "llm_unavailable"
HANDOFF_REASON = "The language model does not answer; the caller has been told that somebody will help."
MAX_EMPTY = 2
"""How often the model is asked again in one turn because its answer was empty."""
MAX_WORDLESS = 8
"""How many answers without words, such as calls of functions, may follow one another in one turn."""
EMPTY = "Your last answer was empty. Answer the caller in words."
INTERRUPTED = (
    "Your last answer broke off by a technical fault, and the caller has heard an apology for it. Go on from "
    "where it broke off; repeat nothing that you have said."
)


class LlmRecovery:
    """Handles the failures of the language model on one call."""

    def __init__(
        self,
        agents: AgentPool,
        waiting: WaitingForPerson,
        pipeline: CallPipeline,
        speech_output: SpeechOutput,
        hangup: Hangup,
        idle: IdleTimer,
        router: Router,
        activation: AgentActivation,
        conversation: Conversation,
        tasks: BackgroundTasks,
        *,
        recovers: bool,
    ) -> None:
        """Observe the responses of the model; ``recovers``: whether the caller hears of its failures."""
        self._agents = agents
        self._waiting = waiting
        self._pipeline = pipeline
        self._speech_output = speech_output
        self._hangup = hangup
        self._idle = idle
        self._router = router
        self._activation = activation
        self._conversation = conversation
        self._tasks = tasks
        self._recovers = recovers
        self._failures = 0
        self._empty = self._wordless = 0
        self._has_spoken = False
        self._has_failed = False
        self._has_handed_off = False
        self._recovery: asyncio.Task[None] | None = None
        pipeline.llm.on_response(self._response_ended)

    @property
    def is_recovering(self) -> bool:
        """Whether an apology is being spoken and another attempt follows."""
        return self._recovery is not None and not self._recovery.done()

    def failed(self) -> None:
        """The model failed before or during its response."""
        self._idle.cancel()
        self._has_failed = True
        if not self._recovers or self.is_recovering or self._pipeline.llm.is_shut:
            return  # another attempt follows, or no response is wanted: the agent changes, or the call ends
        self._failures += 1
        self._start(self._retry() if self._failures == 1 else self._give_up())

    def caller_spoke(self) -> None:
        """The caller finished a turn, which the model is asked to answer: no other attempt is needed."""
        self._empty = self._wordless = 0
        self._has_spoken = False
        if self._recovery is not None:
            self._recovery.cancel()

    def expect_words(self) -> None:
        """The model repeats itself: one more answer without words is accepted in this turn."""
        self._wordless = max(self._wordless, MAX_WORDLESS - 1)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._recovery = self._tasks.start(
            work, name="recovering from a failure of the language model", droppable=True
        )

    def _response_ended(self, has_content: bool) -> None:
        failed, self._has_failed = self._has_failed, False
        if failed:
            return
        if has_content:
            self._failures = 0
        if self._pipeline.llm.has_text:
            self._empty = self._wordless = 0
            self._has_spoken = True
            return
        self._wordless += 1
        if self._pipeline.llm.is_shut:
            return
        if self._wordless > MAX_WORDLESS:
            self._start(self._give_up())
        elif not has_content:
            self._was_empty()

    def _was_empty(self) -> None:
        """An answer had no content; after words to the caller that is a way to say nothing more."""
        if self._has_spoken or self._conversation.agent_has_answered or self._conversation.caller_is_speaking:
            self._start_idle_timer()
            return
        self._empty += 1
        self._start(self._ask_again() if self._empty <= MAX_EMPTY else self._give_up())

    async def _ask_again(self) -> None:
        message = cast(Any, {"role": "developer", "content": EMPTY})
        await self._pipeline.worker.queue_frame(uninterruptible(LLMMessagesAppendFrame(messages=[message])))
        await self._activation.run_model()

    async def _retry(self) -> None:
        """Apologise, then ask once more when that has been heard: the failure may be over by then."""
        await self._wait_for_response_end()
        was_interrupted = self._pipeline.llm.has_text
        await self._speech_output.text(self._apology().moment, remembered=False)
        await self._pipeline.drain()
        if was_interrupted:
            message = cast(Any, {"role": "developer", "content": INTERRUPTED})
            await self._pipeline.worker.queue_frame(
                uninterruptible(LLMMessagesAppendFrame(messages=[message]))
            )
        await self._activation.run_model()

    async def _give_up(self) -> None:
        """Hand the caller over to people where the author offers them; otherwise end the call."""
        await self._wait_for_response_end()
        words = self._apology()
        if not self._agents.current.offers_people or self._has_handed_off:
            self._hangup.start(End(ended_by="system", reason=UNAVAILABLE), words.goodbye, cancellable=True)
            return
        self._has_handed_off = True
        self._waiting.hand_off(
            HandoffRequest(intent="escalate", reason=HANDOFF_REASON, origin="failed_model")
        )
        await self._speech_output.text(words.people, remembered=False)
        await self._pipeline.drain()
        self._start_idle_timer()

    def _start_idle_timer(self) -> None:
        """No agent is going to speak: the caller's silence starts now."""
        if not self._router.is_routing and not self._conversation.caller_is_speaking:
            self._idle.start()

    def _apology(self) -> Apology:
        return apology(self._agents.current.content.language)

    async def _wait_for_response_end(self) -> None:
        """Wait for the end of the response, so that what is spoken next follows it."""
        with suppress(TimeoutError):  # the response of a service that was replaced does not end
            async with asyncio.timeout(RESPONSE_END_TIMEOUT_S):
                await self._pipeline.llm.response_ended()
