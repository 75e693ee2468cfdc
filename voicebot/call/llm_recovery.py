"""Recovery from failures of the language model: an apology and a second attempt, then a person or the end.

The caller hears within seconds that something did not work.
"""

from __future__ import annotations

import asyncio
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
from voicebot.call.transcript.recorder import CallRecorder

RESPONSE_END_TIMEOUT_S = 1.0
UNAVAILABLE = "llm_unavailable"
HANDOFF_REASON = "The language model does not answer; the caller has been told that somebody will help."
INTERRUPTED = (
    "Your last answer broke off by a technical fault, and the caller has heard an apology for it. Go on from "
    "where it broke off; repeat nothing that you have said."
)


class LlmRecovery:
    """Handles the failures of the language model on one call."""

    def __init__(
        self,
        agents: AgentPool,
        recorder: CallRecorder,
        pipeline: CallPipeline,
        speech_output: SpeechOutput,
        hangup: Hangup,
        idle: IdleTimer,
        router: Router,
        activation: AgentActivation,
        conversation: Conversation,
        tasks: BackgroundTasks,
    ) -> None:
        """Observe the responses of the model."""
        self._agents = agents
        self._recorder = recorder
        self._pipeline = pipeline
        self._speech_output = speech_output
        self._hangup = hangup
        self._idle = idle
        self._router = router
        self._activation = activation
        self._conversation = conversation
        self._tasks = tasks
        self._failures = 0
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
        if self.is_recovering or self._pipeline.llm.is_shut:
            return  # another attempt follows, or no response is wanted: the agent changes, or the call ends
        self._failures += 1
        work = self._retry() if self._failures == 1 else self._give_up()
        self._recovery = self._tasks.start(
            work, name="recovering from a failure of the language model", droppable=True
        )

    def caller_spoke(self) -> None:
        """The caller finished a turn, which the model is asked to answer: no other attempt is needed."""
        if self._recovery is not None:
            self._recovery.cancel()

    def _response_ended(self, has_content: bool) -> None:
        failed, self._has_failed = self._has_failed, False
        if failed:
            return
        if has_content:
            self._failures = 0
        else:
            self._start_idle_timer()

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
        self._recorder.hand_off(
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
