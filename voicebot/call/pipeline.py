"""Assembles the pipecat pipeline of one call.

carrier → ear (STT, turns) → user context → gate → mind (LLM) → watch → gate → voice (TTS) → marker → carrier
→ scribe → assistant context. Ear, mind and voice are switches; everything else stays for the whole call.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from pipecat.flows import FlowManager
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker, ProcessorUnusablePolicy
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.services.llm_service import LLMService
from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies

from telephony.carrier import MediaStream
from voicebot.call.answer_watch import AnswerWatch
from voicebot.call.drain import DrainFrame, Tail
from voicebot.call.gate import Gate
from voicebot.call.scribe import Listener, Marker, Scribe
from voicebot.call.speech import SAMPLE_RATE
from voicebot.call.switch import OnError, Part, ServiceSwitch


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstParts:
    """The parts of the agent who answers."""

    ear: Part
    mind: Part
    voice: Part
    llm: LLMService[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPipeline:
    """The assembled pipeline and the places of it that a session works with."""

    worker: PipelineWorker
    context: LLMContext
    aggregators: LLMContextAggregatorPair
    flow_manager: FlowManager
    ear: ServiceSwitch
    mind: ServiceSwitch
    voice: ServiceSwitch
    gate: Gate
    answers: AnswerWatch

    async def begin_drain(self) -> DrainFrame:
        """Send a drain behind all that the model and we had spoken so far."""
        frame = DrainFrame()
        await self.gate.after.push_frame(frame)
        return frame

    async def drain(self) -> None:
        """Wait until all that the model and we had spoken so far was handed to the carrier."""
        frame = await self.begin_drain()
        await frame.arrived.wait()

    async def infer(self, context: LLMContext, instruction: str) -> str | None:
        """One answer of the active model outside the conversation; None when it has nothing to say."""
        llm = cast("LLMService[Any]", self.mind.active_processors[0])
        return await llm.run_inference(context, system_instruction=instruction)


def assemble(media: MediaStream, first: FirstParts, *, listener: Listener, on_error: OnError) -> CallPipeline:
    """Put the pipeline together; nothing connects before the worker runs."""
    ear = ServiceSwitch(first.ear, on_error=on_error, name="ear")
    mind = ServiceSwitch(first.mind, on_error=on_error, name="mind")
    voice = ServiceSwitch(first.voice, on_error=on_error, name="voice")
    gate = Gate()
    answers = AnswerWatch()
    context = LLMContext()
    aggregators = LLMContextAggregatorPair(
        context,
        user_params=LLMUserAggregatorParams(
            # Turns are decided in the ear, so that they change with the agent.
            user_turn_strategies=ExternalUserTurnStrategies(),
            # A cough is no turn: it must not make the model speak.
            empty_user_turn=None,
        ),
    )
    processors = [
        media.transport.input(),
        ear,
        aggregators.user(),
        gate.before,
        mind,
        answers,
        gate.after,
        voice,
        Marker(media.mark_frame),
        media.transport.output(),
        Scribe(listener),
        aggregators.assistant(),
        Tail(),
    ]
    worker = PipelineWorker(
        Pipeline(processors),
        params=PipelineParams(audio_in_sample_rate=SAMPLE_RATE, audio_out_sample_rate=SAMPLE_RATE),
        enable_rtvi=False,
        enable_turn_tracking=False,
        idle_timeout_secs=None,  # the caller's silence is the session's business
        processor_unusable_policy=ProcessorUnusablePolicy.CONTINUE,
    )
    flow_manager = FlowManager(llm=first.llm, context_aggregator=aggregators, worker=worker)
    return CallPipeline(
        worker=worker,
        context=context,
        aggregators=aggregators,
        flow_manager=flow_manager,
        ear=ear,
        mind=mind,
        voice=voice,
        gate=gate,
        answers=answers,
    )
