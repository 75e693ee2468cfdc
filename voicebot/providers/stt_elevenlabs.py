"""ElevenLabs Scribe in real time (`stt.provider: elevenlabs`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from pipecat.services.elevenlabs.stt import CommitStrategy, ElevenLabsRealtimeSTTService
from pipecat.services.stt_service import STTService

from templates.model import TemplateContent, Turns
from voicebot.config import Settings
from voicebot.providers.provider import Credential, SttProvider, secret_of
from voicebot.providers.settings import ElevenLabsSttSettings
from voicebot.providers.speech_input import LastingTranscripts
from voicebot.providers.tts_elevenlabs import ELEVENLABS_URL, ElevenLabsVariables
from voicebot.providers.websocket import EconomicalConnection

LEAST_SILENCE_MS, MOST_SILENCE_MS = 300, 3000
"""Bounds that the vendor sets to the silence before it commits a transcript, in ms."""


class ElevenLabsStt(SttProvider):
    """ElevenLabs Scribe in real time.

    With ``turns.strategy: stt`` the vendor's own voice activity detection commits transcripts. With a VAD of
    ours, pipecat commits when the caller stops speaking.
    """

    name = "elevenlabs"
    settings = ElevenLabsSttSettings
    variables = ElevenLabsVariables

    def __init__(self, settings: Settings) -> None:
        self._variables = settings.read(ElevenLabsVariables)
        url = urlsplit(self._variables.url or ELEVENLABS_URL)
        self._host = url.netloc + url.path
        self._make = _RealtimeService if url.scheme == "https" else _WithoutTls

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the variables that have to be set."""
        return self._variables.missing

    @property
    def credential(self) -> Credential:
        """The vendor's key."""
        return Credential.of("ELEVENLABS_API_KEY", self._variables.api_key)

    def silence_ms(self, turns: Turns) -> int:
        """Half of the silence that ends a turn, within the vendor's bounds."""
        return min(max(LEAST_SILENCE_MS, turns.end_silence_ms // 2), MOST_SILENCE_MS)

    def options(self, content: TemplateContent) -> dict[str, Any]:
        """The connection's parameters; the author's settings take precedence."""
        by_vendor = content.turns.strategy == "stt"
        silence = {"vad_silence_threshold_secs": self.silence_ms(content.turns) / 1000} if by_vendor else {}
        options = {
            "language": content.language,
            "commit_strategy": CommitStrategy.VAD.value if by_vendor else CommitStrategy.MANUAL.value,
            **silence,
            **self.accepted(content.stt.settings),
        }
        if options["language"] == "auto":
            options["language"] = None
        return {**options, "model": content.stt.model} if content.stt.model else options

    def service(self, options: Mapping[str, Any]) -> STTService:
        """pipecat's service."""
        settings = {name: value for name, value in options.items() if name != "commit_strategy"}
        return self._make(
            api_key=secret_of(self._variables.api_key),
            base_url=self._host,
            audio_passthrough=False,
            commit_strategy=CommitStrategy(options["commit_strategy"]),
            reconnect_on_error=False,
            settings=ElevenLabsRealtimeSTTService.Settings.from_mapping(settings),
        )


class _RealtimeService(LastingTranscripts, EconomicalConnection, ElevenLabsRealtimeSTTService):
    """pipecat's service with our connection options, and with transcripts that no interruption drops."""


class _WithoutTls(_RealtimeService):
    """For an ``http://`` URL: pipecat always writes ``wss://`` (docs/decisions/0017-providers.md)."""

    async def _websocket_connect(self, uri: str, **kwargs: Any) -> Any:
        return await super()._websocket_connect(uri.replace("wss://", "ws://", 1), **kwargs)
