"""The services of a text call: a real language model, no STT, and a TTS that produces silence."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any

from pipecat.frames.frames import Frame, TTSAudioRawFrame
from pipecat.processors.filters.identity_filter import IdentityFilter
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.services.llm_service import LLMService
from pipecat.services.settings import TTSSettings
from pipecat.services.tts_service import TTSService

from templates.model import TemplateContent
from voicebot.providers.llm_failover import LlmWatch
from voicebot.providers.pcm import bytes_per_ms
from voicebot.providers.provider import SpokenText
from voicebot.providers.service_spec import SAMPLE_RATE, OnRequest, ServiceSpec, connected_at_once, made

SILENCE = bytes(20 * bytes_per_ms(SAMPLE_RATE))
"""20 ms of silence, 16 bit, mono, 8,000 Hz: enough to count as spoken."""


LlmFactory = Callable[[TemplateContent, LlmWatch | None], tuple[ServiceSpec, LLMService[Any]]]
"""Makes the language model of an agent, with its backups (``ServiceFactory.llm``)."""


class TextServices:
    """Implements ``ServiceFactory``. Agents with different voices have different TTS services here too."""

    def __init__(self, llm: LlmFactory) -> None:
        """``llm`` makes the language models."""
        self._llm = llm

    def llm(
        self, content: TemplateContent, watch: LlmWatch | None = None
    ) -> tuple[ServiceSpec, LLMService[Any]]:
        """The language model that the call was given, with its backups."""
        return self._llm(content, watch)

    def stt(self, content: TemplateContent) -> ServiceSpec:
        """Transcribes nothing: the media stream carries whole turns."""
        return ServiceSpec(key="text-stt", make=made(IdentityFilter()), connected=connected_at_once)

    def tts(self, content: TemplateContent, on_request: OnRequest) -> ServiceSpec:
        """Speaks sentence by sentence as a vendor's service does, but at once and silently."""
        tts = _SilentTts(content.language)

        async def on_tts_request(_: FrameProcessor, context_id: str, text: str) -> None:
            await on_request(context_id, text)

        tts.add_event_handler("on_tts_request", on_tts_request)
        return ServiceSpec(
            key=f"text-tts {content.language} {content.tts.model_dump_json()}",
            make=made(tts),
            connected=connected_at_once,
        )


class _SilentTts(TTSService):
    def __init__(self, language: str) -> None:
        super().__init__(
            push_start_frame=True,
            push_stop_frames=True,
            sample_rate=SAMPLE_RATE,
            settings=TTSSettings(model=None, voice=None, language=language),
        )

    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[Frame | None, None]:
        yield TTSAudioRawFrame(SILENCE, SAMPLE_RATE, 1, context_id=context_id)


class SilentGreetings:
    """Implements ``ReadyGreetings``: every greeting is ready."""

    def ready(self, spoken: SpokenText) -> bytes | None:
        """20 ms of silence."""
        return SILENCE

    async def prepare(self, spoken: SpokenText) -> bytes:
        """20 ms of silence."""
        return SILENCE
