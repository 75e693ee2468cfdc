"""Base classes of the providers. A provider has one instance per process and no state of calls."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from uuid import UUID

from loguru import logger
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.services.stt_service import STTService
from pydantic import SecretStr, ValidationError

from templates.bounds import VOICE_ID, TextPattern
from templates.check import ProviderRules
from templates.model import TemplateContent, Turns
from voicebot.config import Settings, Variables, fingerprint
from voicebot.providers.llm_failover import LlmEndpoint
from voicebot.providers.settings import ProviderSettings

SYNTHESIS_TIMEOUT_S = 15.0


class SynthesisFailed(Exception):
    """A greeting could not be synthesised; the message says why, without secrets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpokenText:
    """A text in the voice of a template, to be synthesised ahead of time."""

    account_id: UUID
    content: TemplateContent
    text: str
    sample_rate: int
    """Of the audio, in Hz."""
    lead_id: UUID | None = None
    """The lead whose values the text says; None: it is the same for everybody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """The key that this process uses for a provider.

    Attributes:
        variable: the environment variable that holds it; empty where the provider needs none.
        fingerprint: tells two keys apart without showing either; empty where there is none.
    """

    variable: str
    fingerprint: str

    @classmethod
    def of(cls, variable: str, key: SecretStr | None) -> Credential:
        """The credential of a key in a variable."""
        return cls(variable=variable, fingerprint=fingerprint(key))

    @property
    def stored_as(self) -> str:
        """The credential in stored rows."""
        return f"{self.variable}:{self.fingerprint}"


class Provider(ABC):
    """What providers of all kinds have in common.

    Attributes:
        name: what a template writes as ``provider``.
        settings: the model of a template's ``settings``.
        variables: the environment variables that it reads.
        has_models: whether a template's ``model`` has an effect.
    """

    name: str
    settings: ClassVar[type[ProviderSettings]]
    variables: ClassVar[type[Variables]]
    has_models: ClassVar[bool] = True

    @abstractmethod
    def __init__(self, settings: Settings) -> None:
        """Read the provider's variables.

        Raises:
            pydantic.ValidationError: a variable is malformed.
        """

    @property
    @abstractmethod
    def missing(self) -> tuple[str, ...]:
        """Names of the variables that have to be set before the provider can be used."""

    @property
    @abstractmethod
    def credential(self) -> Credential:
        """The key that it uses, by which its health is kept."""

    @classmethod
    def rules(cls, missing: tuple[str, ...] = ()) -> ProviderRules:
        """What the check of templates needs to know of the provider."""
        return ProviderRules(settings=cls.settings, has_models=cls.has_models, missing=missing)

    def accepted(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The author's settings that are valid and not null.

        A template that is saved now has no others. In one that was saved before its settings were checked, an
        invalid setting is left out, because a call must not fail for it.
        """
        given = dict(settings)
        while True:
            try:
                return self.settings.model_validate(given).model_dump(exclude_none=True)
            except ValidationError as error:
                names = {str(fault["loc"][0]) for fault in error.errors(include_input=False)}
            logger.warning(
                "provider {}: invalid settings are ignored: {}", self.name, ", ".join(sorted(names))
            )
            given = {name: value for name, value in given.items() if name not in names}


class SttProvider(Provider):
    """Turns the caller's speech into text."""

    reports_connected: ClassVar[bool] = True
    """Whether its pipecat service fires ``on_connected``; otherwise ``is_usable`` is read after its setup."""

    @abstractmethod
    def silence_ms(self, turns: Turns) -> int:
        """How much silence the vendor waits for before it finalises a transcript, in ms.

        The rest of ``turns.end_silence_ms`` is waited here. A vendor that finalises late adds its own delay
        to ours; one that finalises at once cuts words apart.
        """

    @abstractmethod
    def options(self, content: TemplateContent) -> dict[str, Any]:
        """All that is said to the vendor for a template: JSON values. Equal options share one service."""

    @abstractmethod
    def service(self, options: Mapping[str, Any]) -> STTService:
        """A pipecat service, not connected yet. May block for tens of ms: call it in a thread."""


class TtsProvider(Provider):
    """Turns the agent's words into speech.

    Attributes:
        voices: the form of its voice ids.
        voice_example: one of its voice ids.
    """

    voices: ClassVar[TextPattern] = VOICE_ID
    voice_example: ClassVar[str]

    @classmethod
    def rules(cls, missing: tuple[str, ...] = ()) -> ProviderRules:
        """What the check of templates needs to know of the provider."""
        return ProviderRules(
            settings=cls.settings,
            has_models=cls.has_models,
            missing=missing,
            voices=cls.voices,
            voice_example=cls.voice_example,
        )

    @abstractmethod
    def options(self, content: TemplateContent) -> dict[str, Any]:
        """All that is said to the vendor for a template: JSON values. Equal options share one service."""

    @abstractmethod
    def service(self, options: Mapping[str, Any]) -> FrameProcessor:
        """A pipecat service that fires ``on_connected`` and ``on_tts_request``, not connected yet."""

    @abstractmethod
    async def synthesise(self, options: Mapping[str, Any], text: str, sample_rate: int) -> bytes:
        """Speak a greeting: 16-bit little-endian mono PCM at ``sample_rate`` Hz.

        Raises:
            SynthesisFailed: the vendor refused or could not be reached.
        """


class LlmProvider(Provider):
    """Decides what the agent says and does."""

    @abstractmethod
    def options(self, content: TemplateContent) -> dict[str, Any]:
        """All that is said to the vendor for a template, but for the conversation: JSON values."""

    @abstractmethod
    def endpoint(self, options: Mapping[str, Any]) -> LlmEndpoint:
        """Where requests with these options are sent; it needs no connection of its own."""


def secret_of(value: SecretStr | None) -> str:
    """The key, or a placeholder that the vendor refuses, so that its refusal is reported."""
    return value.get_secret_value() if value else "missing"
