"""The services of a text call: the real model between an ear that reads and a voice that makes no sound."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any
from uuid import UUID

from pipecat.frames.frames import Frame, TTSAudioRawFrame
from pipecat.processors.filters.identity_filter import IdentityFilter
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.services.llm_service import LLMService
from pipecat.services.settings import TTSSettings
from pipecat.services.tts_service import TTSService

from templates.model import TemplateContent
from voicebot.call.audio.playout_observer import BYTES_PER_MS
from voicebot.providers.service_spec import SAMPLE_RATE, OnRequest, ServiceSpec, connected_at_once, made

SILENCE = bytes(20 * BYTES_PER_MS)
"""20 ms: enough for a text to have sounded."""

LlmFactory = Callable[[TemplateContent], tuple[ServiceSpec, LLMService[Any]]]
"""Makes an agent's language model; ``Providers.llm`` makes those of vendors."""


class TextServices:
    """Implements ``line.Services``. Agents with different voices have different ones here too."""

    def __init__(self, llm: LlmFactory) -> None:
        """``mind`` makes the language models."""
        self.llm = llm

    def stt(self, content: TemplateContent) -> ServiceSpec:
        """Nothing to listen to: the line brings whole turns."""
        return ServiceSpec(key="ear of text", make=made(IdentityFilter()), connected=connected_at_once)

    def tts(self, content: TemplateContent, on_request: OnRequest) -> ServiceSpec:
        """Speaks as a vendor's service does, in as many sentences, but in no time and without a sound."""
        tts = _SilentVoice(content.language)

        async def on_tts_request(_: FrameProcessor, context_id: str, text: str) -> None:
            await on_request(context_id, text)

        tts.add_event_handler("on_tts_request", on_tts_request)
        return ServiceSpec(
            key=f"tts of text {content.language} {content.tts.model_dump_json()}",
            make=made(tts),
            connected=connected_at_once,
        )


class _SilentVoice(TTSService):
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
    """Implements ``line.ReadyGreetings``: every greeting is at hand."""

    def ready(self, account_id: UUID, content: TemplateContent, text: str) -> bytes | None:
        """Its (absent) sound."""
        return SILENCE

    async def prepare(self, account_id: UUID, content: TemplateContent, text: str) -> bytes:
        """The same."""
        return SILENCE
