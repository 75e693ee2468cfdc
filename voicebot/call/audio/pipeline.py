"""The pipecat pipeline of one call.

carrier's input → STT and turns → user context → LLM → TTS → marks → carrier's output → playout observer →
assistant context. The caller's audio is no frame: the carrier's stream gives it to the STT switch. STT, LLM
and TTS are switches; everything else stays for the whole call.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from pipecat.flows import FlowManager
from pipecat.frames.frames import ErrorFrame, Frame, LLMRunFrame, LLMUpdateSettingsFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker, ProcessorUnusablePolicy
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.services.llm_service import LLMService
from pipecat.services.settings import LLMSettings
from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies

from telephony.media import MediaStream
from templates.model import TemplateContent
from voicebot.call.agents import ServiceKeys
from voicebot.call.audio.frames import DrainFrame, uninterruptible
from voicebot.call.audio.llm_switch import LlmSwitch
from voicebot.call.audio.playout import MarkInserter, PlayoutObserver
from voicebot.call.audio.service_switch import OnError
from voicebot.call.audio.stt_switch import SttSwitch
from voicebot.call.audio.tts_switch import TtsSwitch
from voicebot.call.dependencies import ServiceFactory
from voicebot.providers.service_spec import OnRequest, ServiceSpec

WORDS_TIMEOUT_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class InitialServices:
    """The services of the agent who answers."""

    stt: ServiceSpec
    llm: ServiceSpec
    tts: ServiceSpec


class CallPipeline:
    """The pipeline of one call and the parts of it that a session works with.

    Nothing connects before the worker runs.
    """

    def __init__(
        self,
        media: MediaStream,
        services: ServiceFactory,
        content: TemplateContent,
        *,
        on_request: OnRequest,
    ) -> None:
        """Assemble the pipeline.

        Args:
            media: the carrier's stream, which gives the pipeline its sample rate; audio is 16-bit mono PCM.
            services: makes the services.
            content: the template of the agent who answers.
            on_request: called with every text sent to a TTS, and its TTS context id.
        """
        self.on_error: OnError = _ignore
        """Called with the key of a service and every error of it."""
        llm_spec, llm_service = services.llm(content)
        self.initial = InitialServices(
            stt=services.stt(content),
            llm=llm_spec,
            tts=services.tts(content, lambda *request: self.tts.requested(*request)),
        )
        self.sample_rate = media.sample_rate
        """Of all audio on the call, in Hz."""
        self.stt = SttSwitch(self.initial.stt, on_error=self._failed, sample_rate=media.sample_rate)
        self.llm = LlmSwitch(self.initial.llm, on_error=self._failed)
        self.tts = TtsSwitch(self.initial.tts, on_error=self._failed, on_request=on_request)
        media.on_audio(self.stt.hear)
        self.marks = MarkInserter(media.mark_frame)
        self.playout = PlayoutObserver(self.marks)
        self.context = LLMContext()
        self.aggregators = _aggregators(self.context)
        processors = [
            media.transport.input(),
            self.stt,
            self.aggregators.user(),
            self.llm,
            self.tts,
            self.marks,
            media.transport.output(),
            self.playout,
            self.aggregators.assistant(),
        ]
        self.worker = PipelineWorker(
            Pipeline(processors),
            params=PipelineParams(
                audio_in_sample_rate=media.sample_rate,
                audio_out_sample_rate=media.sample_rate,
                enable_usage_metrics=True,  # tokens, for the record of each request to the model
            ),
            enable_rtvi=False,
            enable_turn_tracking=False,
            idle_timeout_secs=None,  # the session times the caller's silence itself
            processor_unusable_policy=ProcessorUnusablePolicy.CONTINUE,
        )
        self.worker.add_event_handler("on_frame_reached_downstream", _drain_sent)
        self.flow_manager = FlowManager(
            llm=llm_service, context_aggregator=self.aggregators, worker=self.worker
        )

    async def _failed(self, key: str, frame: ErrorFrame) -> None:
        await self.on_error(key, frame)

    @property
    def is_calling_functions(self) -> bool:
        """Whether a function that the model called has not returned yet."""
        return self.aggregators.assistant().has_function_calls_in_progress

    async def initialize(self) -> None:
        """Initialize the flow manager; the pipeline must be running."""
        await self.flow_manager.initialize()
        # Only now: the flow manager replaces the filter by its own.
        self.worker.add_reached_downstream_filter((DrainFrame,))

    def use(self, keys: ServiceKeys) -> None:
        """Switch to an agent's services.

        Raises:
            ServiceFailed: one of them is not ready.
        """
        self.stt.switch(keys.stt)
        self.llm.switch(keys.llm)
        self.tts.switch(keys.tts)

    async def run_model(self) -> None:
        """Have the model answer the context as it is."""
        await self.worker.queue_frame(uninterruptible(LLMRunFrame()))

    async def set_role(self, text: str) -> None:
        """Replace the instructions of the active model, before any request that is made from now on."""
        frame = LLMUpdateSettingsFrame(delta=LLMSettings(system_instruction=text))
        await self.llm.queue_frame(uninterruptible(frame))

    async def speak(self, frame: Frame) -> None:
        """Send a frame to the TTS, behind everything that the model has produced so far."""
        await self.llm.push_frame(frame)

    async def start_drain(self) -> DrainFrame:
        """Send a drain behind everything to speak that was produced so far."""
        frame = DrainFrame()
        await self.speak(frame)
        return frame

    async def drain(self) -> None:
        """Wait until everything to speak that was produced so far was handed to the carrier."""
        frame = await self.start_drain()
        await frame.sent.wait()

    async def infer(self, context: LLMContext, instruction: str) -> str | None:
        """One answer of the active model outside the conversation; None when it has nothing to say."""
        llm = cast("LLMService[Any]", self.llm.active_processors[0])
        return await llm.run_inference(context, system_instruction=instruction)


def _aggregators(context: LLMContext) -> LLMContextAggregatorPair:
    return LLMContextAggregatorPair(
        context,
        user_params=LLMUserAggregatorParams(
            # Turns are decided beside the STT service, so that they change with the agent.
            user_turn_strategies=ExternalUserTurnStrategies(),
            # An interruption without words, such as a cough, must not run the model.
            empty_user_turn=None,
            # The end of a turn may overtake its words; after this time it had none.
            user_turn_stop_timeout=WORDS_TIMEOUT_S,
        ),
    )


async def _ignore(_key: str, _frame: ErrorFrame) -> None:
    """Ignore an error until `on_error` is set."""


async def _drain_sent(_worker: PipelineWorker, frame: Frame) -> None:
    if isinstance(frame, DrainFrame):
        frame.sent.set()
