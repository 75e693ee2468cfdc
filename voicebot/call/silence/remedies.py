"""What can be done about a silence: each method is one step of the policy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

from pipecat.frames.frames import (
    Frame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMMessagesAppendFrame,
    LLMTextFrame,
)

from handlers.context import HandoffRequest
from templates.values import render
from voicebot.call.agents import AgentPool
from voicebot.call.apologies import Apology, apology
from voicebot.call.audio.frames import uninterruptible
from voicebot.call.audio.pipeline import CallPipeline
from voicebot.call.audio.speech_output import SpeechOutput
from voicebot.call.hangup import End, Hangup
from voicebot.call.routing.activation import AgentActivation, ReadyAudio
from voicebot.call.routing.router import Router
from voicebot.call.transcript.recorder import CallRecorder
from voicebot.call.transcript.tts_requests import TtsRequests
from voicebot.call.waiting import WaitingForPerson

RESPONSE_END_TIMEOUT_S = 1.0
UNAVAILABLE = "llm_unavailable"
HANDOFF_REASON = "The language model does not answer; the caller has been told that somebody will help."
NO_ANSWER = "The agent could not answer because of a technical fault. Answer the caller yourself."
EMPTY = "Your last answer was empty. Answer the caller in words."
INTERRUPTED = (
    "Your last answer broke off by a technical fault, and the caller has heard an apology for it. Go on from "
    "where it broke off; repeat nothing that you have said."
)
CUT_OFF = (
    "Your last answer broke off because of a noise on the line. Go on from where it broke off; repeat "
    "nothing that you have said."
)


class Remedies:
    """The steps that break a silence on one call."""

    def __init__(
        self,
        agents: AgentPool,
        recorder: CallRecorder,
        waiting: WaitingForPerson,
        pipeline: CallPipeline,
        requests: TtsRequests,
        speech_output: SpeechOutput,
        hangup: Hangup,
        activation: AgentActivation,
        router: Router,
        ready_audio: ReadyAudio,
        reconnect_voice: Callable[[], None],
    ) -> None:
        """``reconnect_voice`` starts to connect the active agent's voice again, or a backup of it."""
        self._agents = agents
        self._recorder = recorder
        self._waiting = waiting
        self._pipeline = pipeline
        self._requests = requests
        self._speech_output = speech_output
        self._hangup = hangup
        self._activation = activation
        self._router = router
        self._ready_audio = ready_audio
        self._reconnect_voice = reconnect_voice
        self._has_handed_off = False

    # ------------------------------------------------------------------------------------ speech

    async def speak_unspoken(self) -> None:
        """Speak what was cut off or lost, from the word where it was cut: what has cut it had no words."""
        self._pipeline.stt.forget_unheard()
        await self._speak_unspoken()
        llm = self._pipeline.llm
        if llm.was_cut:
            llm.was_cut = False
            await self._pipeline.drain()
            await self._tell(CUT_OFF)
            await self._activation.run_model()

    async def _speak_unspoken(self) -> None:
        for unspoken in self._requests.take_unspoken():
            await self._speech_output.text(
                unspoken.text,
                unspoken.source,
                interruptible=unspoken.interruptible,
                remembered=unspoken.remembered,
                is_announcement=unspoken.is_announcement,
            )

    async def replace_voice(self) -> None:
        """Give the voice up; another connection speaks what it has not spoken."""
        requests, tts = self._requests, self._pipeline.tts
        is_speaking = requests.is_waiting_for_tts
        drops_audio = is_speaking and (requests.has_partial_audio or tts.is_holding)
        taken = await tts.take_back(drops_audio=drops_audio, requested=requests.model_characters)
        if is_speaking:
            if not drops_audio:
                requests.nothing_made()
            await self._speak_unspoken()
        response: list[Frame] = []
        if taken.text is not None:
            response += [LLMFullResponseStartFrame(), LLMTextFrame(taken.text)]
            response += [LLMFullResponseEndFrame()] if taken.is_complete else []
        for frame in [*response, *taken.drains, *taken.kept]:
            await tts.queue_frame(frame)
        self._reconnect_voice()

    # ------------------------------------------------------------------------------------- model

    async def ask(self) -> None:
        """Ask the model for an answer."""
        await self._activation.run_model()

    async def ask_again(self) -> None:
        """Tell the model that its answer was empty, and ask again."""
        await self._tell(EMPTY)
        await self._activation.run_model()

    async def apologise(self) -> None:
        """Apologise, then ask once more when that has been heard: the failure may be over by then."""
        await self._wait_for_response_end()
        was_interrupted = self._pipeline.llm.has_text
        await self._speech_output.text(self._apology().moment, remembered=False)
        await self._pipeline.drain()
        if was_interrupted:
            await self._tell(INTERRUPTED)
        await self._activation.run_model()

    async def return_call(self) -> None:
        """Route the call back to the agent who answered it."""
        await self._wait_for_response_end()
        await self._router.return_to_answering(NO_ANSWER)

    async def give_up(self) -> None:
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
        await self._speech_output.text(words.people)
        await self._pipeline.drain()

    # ------------------------------------------------------------------------------------ silence

    def filler(self, number: int) -> tuple[str, bytes | None] | None:
        """The filler to speak next: its text, and its audio if that is ready; None if there is none."""
        texts = self._agents.current.fillers
        if not texts:
            return None
        text = texts[number % len(texts)]
        return text, self._ready_audio(self._agents.current, text)

    async def fill(self, number: int) -> None:
        """Say that it takes a moment, in the voice of the agent who has the call."""
        filler = self.filler(number)
        if filler is None:
            return
        text, audio = filler
        if audio is not None:
            await self._speech_output.audio(text, audio, "filler", remembered=False)
        else:
            await self._speech_output.text(text, remembered=False)

    async def ask_caller(self) -> None:
        """Ask the caller to say again what no service has transcribed."""
        self._pipeline.stt.forget_unheard()
        await self._speech_output.text(self._apology().repeat)

    async def prompt(self, number: int) -> None:
        """Ask the caller whether they are there; ``number`` counts from 0."""
        agent = self._agents.current
        self._recorder.event("idle.prompted", number=number + 1)
        await self._speech_output.text(render(agent.content.idle.prompts[number], agent.values))

    async def leave(self) -> None:
        """Say goodbye to a caller who does not answer."""
        agent = self._agents.current
        goodbye = render(agent.content.idle.goodbye, agent.values)
        self._hangup.start(End(ended_by="system", reason="idle"), goodbye, cancellable=True)

    def _apology(self) -> Apology:
        return apology(self._agents.current.content.language)

    async def _tell(self, text: str) -> None:
        message = cast(Any, {"role": "developer", "content": text})
        await self._pipeline.worker.queue_frame(uninterruptible(LLMMessagesAppendFrame(messages=[message])))

    async def _wait_for_response_end(self) -> None:
        """Wait for the end of the response, so that what is spoken next follows it."""
        with suppress(TimeoutError):  # the response of a service that was replaced does not end
            async with asyncio.timeout(RESPONSE_END_TIMEOUT_S):
                await self._pipeline.llm.response_ended()
