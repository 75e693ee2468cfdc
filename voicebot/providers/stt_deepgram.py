"""Deepgram's streaming transcription (`stt.provider: deepgram`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipecat.services.stt_service import STTService
from pydantic import Field, SecretStr

from templates.model import TemplateContent, Turns
from voicebot.config import Settings, Url, Variables, websocket_url
from voicebot.providers.deepgram_stream import DeepgramStream
from voicebot.providers.provider import Credential, SttProvider, secret_of
from voicebot.providers.settings import DeepgramSttSettings

DEEPGRAM_URL = "https://api.deepgram.com"
DEFAULTS: Mapping[str, Any] = {"model": "nova-3-general", "interim_results": True, "punctuate": True}
"""What is said to the vendor where the template says nothing else."""


class DeepgramVariables(Variables):
    """The key of Deepgram, and its URL where it is not the vendor's own."""

    api_key: SecretStr | None = Field(None, alias="DEEPGRAM_API_KEY")
    url: Url | None = Field(None, alias="DEEPGRAM_URL")

    @property
    def missing(self) -> tuple[str, ...]:
        """The variables that have to be set; a server of one's own may need no key."""
        return () if self.api_key or self.url else ("DEEPGRAM_API_KEY",)


class DeepgramStt(SttProvider):
    """Deepgram's streaming transcription."""

    name = "deepgram"
    settings = DeepgramSttSettings
    variables = DeepgramVariables
    reports_connected = False

    def __init__(self, settings: Settings) -> None:
        self._variables = settings.read(DeepgramVariables)

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the variables that have to be set."""
        return self._variables.missing

    @property
    def credential(self) -> Credential:
        """The vendor's key."""
        return Credential.of("DEEPGRAM_API_KEY", self._variables.api_key)

    def silence_ms(self, turns: Turns) -> int:
        """Half of the silence that ends a turn."""
        return max(10, turns.end_silence_ms // 2)

    def options(self, content: TemplateContent) -> dict[str, Any]:
        """The connection's parameters; the author's settings take precedence."""
        options = {
            "language": content.language,
            "endpointing": self.silence_ms(content.turns),
            **self.accepted(content.stt.settings),
        }
        return {**options, "model": content.stt.model} if content.stt.model else options

    def service(self, options: Mapping[str, Any]) -> STTService:
        """A stream of its own."""
        return DeepgramStream(
            websocket_url(self._variables.url or DEEPGRAM_URL),
            secret_of(self._variables.api_key),
            [pair for name, value in {**DEFAULTS, **options}.items() for pair in _query(name, value)],
        )


def _query(name: str, value: Any) -> list[tuple[str, str]]:
    """The query parameters of one option: a list is repeated, a boolean is ``true`` or ``false``."""
    if isinstance(value, list):
        return [(name, str(each)) for each in value]
    return [(name, str(value).lower() if isinstance(value, bool) else str(value))]
