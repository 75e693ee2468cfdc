"""Deepgram Aura (`tts.provider: deepgram`). `voice_id` is a model such as `aura-2-thalia-en`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from httpx import AsyncClient, HTTPError
from pipecat.frames.frames import Frame, TTSAudioRawFrame, TTSStoppedFrame
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.services.deepgram.tts import DeepgramTTSService
from pipecat.utils.context.word_timestamp_tracker import WordTimestamp

from handlers.http.client import public_tls
from templates.bounds import TextPattern
from templates.model import TemplateContent
from voicebot.config import Settings, websocket_url
from voicebot.providers.estimated_words import EstimatedWords
from voicebot.providers.pcm import duration_ms
from voicebot.providers.provider import (
    SYNTHESIS_TIMEOUT_S,
    Credential,
    SynthesisFailed,
    TtsProvider,
    secret_of,
)
from voicebot.providers.settings import DeepgramTtsSettings
from voicebot.providers.stt_deepgram import DEEPGRAM_URL, DeepgramVariables
from voicebot.providers.websocket import TTS_QUIET_S, EconomicalConnection


class DeepgramTts(TtsProvider):
    """Deepgram Aura."""

    name = "deepgram"
    settings = DeepgramTtsSettings
    variables = DeepgramVariables
    has_models = False
    voices = TextPattern("aura-[a-z0-9-]{1,59}")
    voice_example = "aura-2-thalia-en"

    def __init__(self, settings: Settings) -> None:
        self._variables = settings.read(DeepgramVariables)
        self._url = self._variables.url or DEEPGRAM_URL
        self._client = AsyncClient(
            headers={"Authorization": f"Token {secret_of(self._variables.api_key)}"},
            verify=public_tls(),
            timeout=SYNTHESIS_TIMEOUT_S,
        )

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the variables that have to be set."""
        return self._variables.missing

    @property
    def credential(self) -> Credential:
        """The vendor's key."""
        return Credential.of("DEEPGRAM_API_KEY", self._variables.api_key)

    def options(self, content: TemplateContent) -> dict[str, Any]:
        """Voice and speed. The voice implies model and language."""
        return {"voice": content.tts.voice_id, **self.accepted(content.tts.settings)}

    def service(self, options: Mapping[str, Any]) -> FrameProcessor:
        """pipecat's service."""
        return _TtsService(
            api_key=secret_of(self._variables.api_key),
            base_url=websocket_url(self._url),
            reconnect_on_error=False,
            stop_frame_timeout_s=TTS_QUIET_S,
            settings=DeepgramTTSService.Settings.from_mapping(options),
        )

    async def synthesise(self, options: Mapping[str, Any], text: str, sample_rate: int) -> bytes:
        """Speak a greeting: 16-bit little-endian mono PCM."""
        query = {
            "model": options["voice"],
            "encoding": "linear16",
            "sample_rate": sample_rate,
            "container": "none",
            **{name: value for name, value in options.items() if name != "voice"},
        }
        try:
            answer = await self._client.post(f"{self._url}/v1/speak", params=query, json={"text": text})
            return answer.raise_for_status().content
        except HTTPError as error:
            raise SynthesisFailed(type(error).__name__) from error


class _TtsService(EconomicalConnection, DeepgramTTSService):
    """pipecat's service with our connection options, and with words that are timed.

    The vendor does not say when a word is spoken. pipecat reports a sentence as spoken when it is sent to the
    vendor; the words that a caller has heard of it would be unknown.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(push_text_frames=False, **kwargs)
        self._estimated = EstimatedWords()

    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[Frame | None, None]:
        self._estimated.asked(text)
        async for frame in super().run_tts(text, context_id):
            yield frame

    async def append_to_audio_context(
        self, context_id: str | None, frame: Frame | WordTimestamp | None
    ) -> None:
        words: list[tuple[str, float]] = []
        if isinstance(frame, TTSStoppedFrame):
            words = self._estimated.ended()
            await self.add_word_timestamps(words, context_id)
        await super().append_to_audio_context(context_id, frame)
        if isinstance(frame, TTSAudioRawFrame):
            words = self._estimated.heard(duration_ms(frame))
            await self.add_word_timestamps(words, context_id)

    async def on_audio_context_interrupted(self, context_id: str) -> None:
        self._estimated.forget()
        await super().on_audio_context_interrupted(context_id)
