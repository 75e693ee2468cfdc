"""ElevenLabs (`tts.provider: elevenlabs`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from elevenlabs.base_client import AsyncBaseElevenLabs
from elevenlabs.core.api_error import ApiError
from elevenlabs.types import VoiceSettings
from httpx import AsyncClient, HTTPError
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.services.elevenlabs.tts import ElevenLabsTTSService
from pydantic import Field, SecretStr

from handlers.http.client import public_tls
from templates.model import TemplateContent
from voicebot.config import Settings, Url, Variables, websocket_url
from voicebot.providers.provider import (
    SYNTHESIS_TIMEOUT_S,
    Credential,
    SynthesisFailed,
    TtsProvider,
    secret_of,
)
from voicebot.providers.settings import ElevenLabsTtsSettings
from voicebot.providers.websocket import TTS_QUIET_S, EconomicalConnection

ELEVENLABS_URL = "https://api.elevenlabs.io"
DEFAULT_MODEL = "eleven_flash_v2_5"
_VOICE_SETTINGS = ("stability", "similarity_boost", "style", "use_speaker_boost", "speed")


class ElevenLabsVariables(Variables):
    """The key of ElevenLabs, and its URL where it is not the vendor's own."""

    api_key: SecretStr | None = Field(None, alias="ELEVENLABS_API_KEY")
    url: Url | None = Field(None, alias="ELEVENLABS_URL")

    @property
    def missing(self) -> tuple[str, ...]:
        """The variables that have to be set; a server of one's own may need no key."""
        return () if self.api_key or self.url else ("ELEVENLABS_API_KEY",)


class ElevenLabsTts(TtsProvider):
    """ElevenLabs' voices."""

    name = "elevenlabs"
    settings = ElevenLabsTtsSettings
    variables = ElevenLabsVariables
    voice_example = "21m00Tcm4TlvDq8ikWAM"

    def __init__(self, settings: Settings) -> None:
        self._variables = settings.read(ElevenLabsVariables)
        # `elevenlabs.client` imports what the vendor offers beside speech, a fifth of a second of the start.
        # The attribute imports the client of speech, for which no caller waits later.
        self._speech = AsyncBaseElevenLabs(
            api_key=secret_of(self._variables.api_key),
            base_url=self._variables.url,
            httpx_client=AsyncClient(verify=public_tls(), timeout=SYNTHESIS_TIMEOUT_S, follow_redirects=True),
        ).text_to_speech

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the variables that have to be set."""
        return self._variables.missing

    @property
    def credential(self) -> Credential:
        """The vendor's key."""
        return Credential.of("ELEVENLABS_API_KEY", self._variables.api_key)

    def options(self, content: TemplateContent) -> dict[str, Any]:
        """Voice, language, model and the author's settings."""
        options = {
            **self.accepted(content.tts.settings),
            "voice": content.tts.voice_id,
            "language": content.language.partition("-")[0],
        }
        return {**options, "model": content.tts.model} if content.tts.model else options

    def service(self, options: Mapping[str, Any]) -> FrameProcessor:
        """pipecat's service."""
        return _TtsService(
            api_key=secret_of(self._variables.api_key),
            url=websocket_url(self._variables.url or ELEVENLABS_URL),
            reconnect_on_error=False,
            stop_frame_timeout_s=TTS_QUIET_S,
            settings=ElevenLabsTTSService.Settings.from_mapping(options),
        )

    async def synthesise(self, options: Mapping[str, Any], text: str, sample_rate: int) -> bytes:
        """Speak a greeting: 16-bit little-endian mono PCM."""
        given = {name: options[name] for name in _VOICE_SETTINGS if name in options}
        try:
            chunks = self._speech.convert(
                options["voice"],
                text=text,
                model_id=options.get("model", DEFAULT_MODEL),
                output_format=f"pcm_{sample_rate}",
                voice_settings=VoiceSettings(**given) if given else None,
            )
            return b"".join([chunk async for chunk in chunks])
        except (ApiError, HTTPError) as error:
            raise SynthesisFailed(type(error).__name__) from error


class _TtsService(EconomicalConnection, ElevenLabsTTSService):
    """pipecat's service with our connection options."""
