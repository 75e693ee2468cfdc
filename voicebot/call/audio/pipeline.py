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
from voicebot.call.audio.drain import DrainFrame, DrainSink
from voicebot.call.audio.llm_gate import LlmGate
from voicebot.call.audio.llm_response import LlmResponseObserver
from voicebot.call.audio.playout_observer import Listener, MarkInserter, PlayoutObserver
from voicebot.call.audio.service_switch import OnError, ServiceSwitch
from voicebot.providers.service_spec import SAMPLE_RATE, ServiceSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class InitialServices:
    """The parts of the agent who answers."""

    stt: ServiceSpec
    llm: ServiceSpec
    tts: ServiceSpec
    llm_service: LLMService[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPipeline:
    """The assembled pipeline and the places of it that a session works with."""

    worker: PipelineWorker
    context: LLMContext
    aggregators: LLMContextAggregatorPair
    flow_manager: FlowManager
    stt: ServiceSwitch
    llm: ServiceSwitch
    tts: ServiceSwitch
    gate: LlmGate
    answers: LlmResponseObserver

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
        llm = cast("LLMService[Any]", self.llm.active_processors[0])
        return await llm.run_inference(context, system_instruction=instruction)


def assemble(
    media: MediaStream, first: InitialServices, *, listener: Listener, on_error: OnError
) -> CallPipeline:
    """Put the pipeline together; nothing connects before the worker runs."""
    stt = ServiceSwitch(first.stt, on_error=on_error, name="stt")
    llm = ServiceSwitch(first.llm, on_error=on_error, name="llm")
    tts = ServiceSwitch(first.tts, on_error=on_error, name="tts")
    gate = LlmGate()
    answers = LlmResponseObserver()
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
        stt,
        aggregators.user(),
        gate.before,
        llm,
        answers,
        gate.after,
        tts,
        MarkInserter(media.mark_frame),
        media.transport.output(),
        PlayoutObserver(listener),
        aggregators.assistant(),
        DrainSink(),
    ]
    worker = PipelineWorker(
        Pipeline(processors),
        params=PipelineParams(audio_in_sample_rate=SAMPLE_RATE, audio_out_sample_rate=SAMPLE_RATE),
        enable_rtvi=False,
        enable_turn_tracking=False,
        idle_timeout_secs=None,  # the caller's silence is the session's business
        processor_unusable_policy=ProcessorUnusablePolicy.CONTINUE,
    )
    flow_manager = FlowManager(llm=first.llm_service, context_aggregator=aggregators, worker=worker)
    return CallPipeline(
        worker=worker,
        context=context,
        aggregators=aggregators,
        flow_manager=flow_manager,
        stt=stt,
        llm=llm,
        tts=tts,
        gate=gate,
        answers=answers,
    )
