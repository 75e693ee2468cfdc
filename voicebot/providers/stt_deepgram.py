"""Deepgram's streaming transcription (`stt.provider: deepgram`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pipecat.services.stt_service import STTService
from pydantic import Field, SecretStr

from templates.model import TemplateContent, Turns
from voicebot.config import Settings, Url, Variables, websocket_url
from voicebot.providers.deepgram_stream import DeepgramStream
from voicebot.providers.provider import LANGUAGE_TAG, ProviderSettings, SttProvider, secret_of

DEEPGRAM_URL = "https://api.deepgram.com"
DEFAULTS: Mapping[str, Any] = {"model": "nova-3-general", "interim_results": True, "punctuate": True}
"""What is said to the vendor where the template says nothing else."""

Term = Annotated[str, Field(min_length=1, max_length=100)]
Terms = Annotated[list[Term], Field(max_length=100)]


class DeepgramVariables(Variables):
    """The key of Deepgram, and its URL where it is not the vendor's own."""

    api_key: SecretStr | None = Field(None, alias="DEEPGRAM_API_KEY")
    url: Url | None = Field(None, alias="DEEPGRAM_URL")

    @property
    def missing(self) -> tuple[str, ...]:
        """The variables that have to be set; a server of one's own may need no key."""
        return () if self.api_key or self.url else ("DEEPGRAM_API_KEY",)


class DeepgramSttSettings(ProviderSettings):
    """`stt.settings` for the provider `deepgram`: streaming transcription."""

    language: Annotated[str, Field(pattern=rf"{LANGUAGE_TAG}|^multi$")] | None = Field(
        default=None,
        description="Language tag that is transcribed, or `multi`. Null: the template's `language`.",
        examples=["de-DE", "multi"],
    )
    endpointing: Annotated[int, Field(ge=10, le=5000)] | None = Field(
        default=None,
        description="Silence before a transcript is final, in ms. Null: half of `turns.end_silence_ms`.",
        examples=[300],
    )
    keyterm: Terms | None = Field(
        default=None, description="Terms that callers say (models of generation 3).", examples=[["Acme"]]
    )
    keywords: Terms | None = Field(
        default=None,
        description="Terms that callers say, each with an optional `:boost` (models before generation 3).",
        examples=[["Acme:2"]],
    )
    punctuate: bool | None = Field(
        default=None, description="Whether to punctuate. Null: yes.", examples=[True]
    )
    smart_format: bool | None = Field(
        default=None,
        description="Whether to format numbers, dates and the like. Null: no.",
        examples=[True],
    )
    numerals: bool | None = Field(
        default=None, description="Whether to write numbers as digits. Null: no.", examples=[True]
    )
    dictation: bool | None = Field(
        default=None, description="Whether spoken punctuation becomes signs. Null: no.", examples=[True]
    )
    profanity_filter: bool | None = Field(
        default=None, description="Whether to mask profanity. Null: no.", examples=[True]
    )
    redact: Annotated[list[Annotated[str, Field(pattern="^[a-z_]{1,40}$")]], Field(max_length=50)] | None = (
        Field(default=None, description="Kinds of information that are masked.", examples=[["pci", "ssn"]])
    )
    replace: Terms | None = Field(
        default=None, description="Terms to replace, each as `term:replacement`.", examples=[["akme:Acme"]]
    )
    version: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] | None = Field(
        default=None, description="Version of the model. Null: the latest.", examples=["2021-03-17.0"]
    )


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
