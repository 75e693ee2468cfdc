"""The steps that break a silence. ``policy`` chooses one, ``watchdog`` runs it."""

from __future__ import annotations

import asyncio
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
from voicebot.call.audio.connections import ServiceConnections
from voicebot.call.audio.frames import uninterruptible
from voicebot.call.audio.pipeline import CallPipeline
from voicebot.call.audio.speech_output import SpeechOutput
from voicebot.call.failure_texts import FailureTexts, failure_texts
from voicebot.call.hangup import End, Hangup
from voicebot.call.person.waiting import WaitingForPerson
from voicebot.call.routing.activation import AgentActivation, ReadyAudio
from voicebot.call.routing.router import Router
from voicebot.call.transcript.recorder import CallRecorder
from voicebot.call.transcript.tts_requests import TtsRequests

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


class SilenceSteps:
    """Runs the steps on one call; each method is one step."""

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
        connections: ServiceConnections,
    ) -> None:
        """No step has been taken."""
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
        self._connections = connections
        self._has_handed_off = False

    # ------------------------------------------------------------------------------------ speech

    async def speak_unspoken(self) -> None:
        """Speak the rest of what was interrupted or lost, from the word at which it stopped."""
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

    async def replace_tts(self) -> None:
        """Stop using the TTS service; another connection speaks what is left."""
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
        self._connections.reconnect(tts)

    # ------------------------------------------------------------------------------------- model

    async def ask(self) -> None:
        """Ask the model for an answer."""
        await self._activation.run_model()

    async def ask_again(self) -> None:
        """Tell the model that its answer was empty, and ask again."""
        await self._tell(EMPTY)
        await self._activation.run_model()

    async def apologise(self) -> None:
        """Apologise, then ask the model again: when the apology has been heard, the failure may be over."""
        await self._wait_for_response_end()
        was_interrupted = self._pipeline.llm.has_text
        await self._speech_output.text(self._failure_texts().moment, remembered=False)
        await self._pipeline.drain()
        if was_interrupted:
            await self._tell(INTERRUPTED)
        await self._activation.run_model()

    async def return_call(self) -> None:
        """Route the call back to the agent who answered it."""
        await self._wait_for_response_end()
        await self._router.return_to_answering(NO_ANSWER)

    async def give_up(self) -> None:
        """Create a handoff if the template offers people; otherwise end the call."""
        await self._wait_for_response_end()
        words = self._failure_texts()
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
        """The next filler: its text, and its audio if that is ready; None: there is no filler."""
        texts = self._agents.current.fillers
        if not texts:
            return None
        text = texts[number % len(texts)]
        return text, self._ready_audio(self._agents.current, text)

    async def fill(self, number: int) -> None:
        """Speak the next filler in the current agent's voice."""
        filler = self.filler(number)
        if filler is None:
            return
        text, audio = filler
        if audio is not None:
            await self._speech_output.audio(text, audio, "filler", remembered=False)
        else:
            await self._speech_output.text(text, remembered=False)

    async def ask_caller(self) -> None:
        """Ask the caller to repeat what was not transcribed."""
        self._pipeline.stt.forget_unheard()
        await self._speech_output.text(self._failure_texts().repeat)

    async def prompt(self, number: int) -> None:
        """Speak an idle prompt; ``number`` counts from 0."""
        agent = self._agents.current
        self._recorder.event("idle.prompted", number=number + 1)
        await self._speech_output.text(render(agent.content.idle.prompts[number], agent.values))

    async def leave(self) -> None:
        """Say goodbye to a caller who does not answer."""
        agent = self._agents.current
        goodbye = render(agent.content.idle.goodbye, agent.values)
        self._hangup.start(End(ended_by="system", reason="idle"), goodbye, cancellable=True)

    def _failure_texts(self) -> FailureTexts:
        return failure_texts(self._agents.current.content.language)

    async def _tell(self, text: str) -> None:
        message = cast(Any, {"role": "developer", "content": text})
        await self._pipeline.worker.queue_frame(uninterruptible(LLMMessagesAppendFrame(messages=[message])))

    async def _wait_for_response_end(self) -> None:
        """Wait for the end of the model's response, so that the next text is spoken after it."""
        with suppress(TimeoutError):  # the response of a replaced service does not end
            async with asyncio.timeout(RESPONSE_END_TIMEOUT_S):
                await self._pipeline.llm.response_ended()
