"""All providers, by kind and by the name that templates write, and the services that calls make of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from openai import AsyncOpenAI
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.services.llm_service import LLMService
from pipecat.services.openai.llm import OpenAILLMService
from pipecat.services.stt_service import STTService

from db.provider_health import ProviderKind
from templates.bounds import MODEL_NAME, VOICE_ID
from templates.check import ProviderTable
from templates.model import LlmService, SttService, TemplateContent, TtsService
from voicebot.config import Settings, Variables
from voicebot.providers import llm_openai
from voicebot.providers.backups import candidates
from voicebot.providers.llm_failover import LlmEndpoint, LlmWatch
from voicebot.providers.llm_openai import EndpointVariables, OpenAILlm
from voicebot.providers.pace import Pace
from voicebot.providers.provider import (
    Credential,
    LlmProvider,
    Provider,
    SttProvider,
    SynthesisFailed,
    TtsProvider,
)
from voicebot.providers.service_spec import (
    Connection,
    OnRequest,
    ServiceSpec,
    connected_at_once,
    failing,
    made,
)
from voicebot.providers.stt_deepgram import DeepgramStt
from voicebot.providers.stt_elevenlabs import ElevenLabsStt
from voicebot.providers.tts_deepgram import DeepgramTts
from voicebot.providers.tts_elevenlabs import ElevenLabsTts
from voicebot.providers.turns import with_turns

STT: Mapping[str, type[SttProvider]] = {"deepgram": DeepgramStt, "elevenlabs": ElevenLabsStt}
TTS: Mapping[str, type[TtsProvider]] = {"elevenlabs": ElevenLabsTts, "deepgram": DeepgramTts}
LLM: Mapping[str, type[LlmProvider]] = {"openai": OpenAILlm}
"""Endpoints that the operator names (``VOICEBOT_LLM_ENDPOINTS``) are added to these."""

VARIABLES: frozenset[type[Variables]] = frozenset(
    {EndpointVariables, *(each.variables for kind in (STT, TTS, LLM) for each in kind.values())}
)
"""The environment variables of all providers."""

DECLARED: ProviderTable = {
    "tts": {name: provider.rules() for name, provider in TTS.items()},
    "stt": {name: provider.rules() for name, provider in STT.items()},
    "llm": {name: provider.rules() for name, provider in LLM.items()},
}
"""The rules of all providers that need no variable to exist."""

ProviderT = TypeVar("ProviderT", bound=Provider)


class UnknownProvider(Exception):
    """The template names a provider, a voice or a model that this server cannot use."""


class Providers:
    """The providers with the variables of this process. Implements ``call.dependencies.ServiceFactory``."""

    def __init__(self, settings: Settings) -> None:
        """Read the variables of every provider.

        Raises:
            pydantic.ValidationError: a variable is malformed.
        """
        self._stt = {name: provider(settings) for name, provider in STT.items()}
        self._tts = {name: provider(settings) for name, provider in TTS.items()}
        self._llm: dict[str, LlmProvider] = {name: provider(settings) for name, provider in LLM.items()}
        self._llm |= llm_openai.endpoints(settings)
        self._paces = {name: Pace() for name in TTS}
        self._one_at_a_time = asyncio.Lock()

    def rules(self, *, configured: bool = True) -> ProviderTable:
        """What the check of templates needs to know, by kind and name.

        With ``configured`` false nothing is said about variables that are not set on this machine.
        """
        kinds: Mapping[str, Mapping[str, Provider]] = {"tts": self._tts, "stt": self._stt, "llm": self._llm}
        return {
            kind: {
                name: provider.rules(provider.missing if configured else ())
                for name, provider in providers.items()
            }
            for kind, providers in kinds.items()
        }

    def credentials(self) -> Mapping[tuple[ProviderKind, str], tuple[Credential, bool]]:
        """The credential of each provider of a kind, and whether the provider can be used with it."""
        kinds: Mapping[ProviderKind, Mapping[str, Provider]] = {
            "tts": self._tts,
            "stt": self._stt,
            "llm": self._llm,
        }
        return {
            (kind, name): (provider.credential, not provider.missing)
            for kind, providers in kinds.items()
            for name, provider in providers.items()
        }

    def stt(self, content: TemplateContent) -> ServiceSpec:
        """The caller's speech to text and the end of the caller's turns: STT, with a VAD where asked for."""
        try:
            provider = _find(self._stt, content.stt)
        except UnknownProvider as error:
            return failing(f"stt:{content.stt.provider}", str(error))
        options = provider.options(content)
        key = _key("stt", content.stt.provider, options, content.turns.model_dump(mode="json"))
        connection = Connection(key)

        def build() -> tuple[STTService, list[FrameProcessor]]:
            stt = provider.service(options)
            return stt, with_turns(stt, content.turns, provider.silence_ms(content.turns))

        async def make() -> Sequence[FrameProcessor]:
            # A client may read all root certificates, and a VAD its model. On the event loop, these tens of
            # ms would delay the audio of all other calls.
            async with self._one_at_a_time:
                stt, processors = await asyncio.to_thread(build)
            connection.watch(stt, reports_connected=provider.reports_connected)
            return processors

        return ServiceSpec(key=key, make=make, connected=connection.wait, provider=content.stt.provider)

    def llm(
        self, content: TemplateContent, watch: LlmWatch | None = None
    ) -> tuple[ServiceSpec, LLMService[Any]]:
        """The language model, with its backups; it has no socket to wait for."""
        preferred, *backups = candidates(content, "llm")
        try:
            endpoints = [self._endpoint(preferred)]
        except UnknownProvider as error:
            # The call reports the failure; the service itself is never set up.
            return failing(f"llm:{content.llm.provider}", str(error)), OpenAILLMService(api_key="missing")
        for backup in backups:
            with suppress(UnknownProvider):
                endpoints.append(self._endpoint(backup))
        service = llm_openai.llm_service(endpoints, watch)
        key = _key("llm", content.llm.provider, *(endpoint.options for endpoint in endpoints))
        spec = ServiceSpec(
            key=key, make=made(service), connected=connected_at_once, provider=content.llm.provider
        )
        return spec, service

    def _endpoint(self, content: TemplateContent) -> LlmEndpoint:
        provider = _find(self._llm, content.llm)
        return provider.endpoint(provider.options(content))

    def tts(self, content: TemplateContent, on_request: OnRequest) -> ServiceSpec:
        """The agent's voice; ``on_request`` is called with every text to be spoken and its TTS context id."""
        try:
            provider = _find(self._tts, content.tts)
        except UnknownProvider as error:
            return failing(f"tts:{content.tts.provider}", str(error))
        options = provider.options(content)
        key = _key("tts", content.tts.provider, options)
        connection = Connection(key)

        async def on_tts_request(_: FrameProcessor, context_id: str, text: str) -> None:
            await on_request(context_id, text)

        async def make() -> Sequence[FrameProcessor]:
            service = provider.service(options)
            connection.watch(service)
            service.add_event_handler("on_tts_request", on_tts_request)
            return [service]

        name = content.tts.provider
        return ServiceSpec(
            key=key, make=make, connected=connection.wait, provider=name, pace=self._paces[name]
        )

    def tts_key(self, content: TemplateContent) -> str:
        """Equal for templates that sound the same: equal provider, voice, model, language and settings."""
        provider = self._tts.get(content.tts.provider)
        return _key("tts", content.tts.provider, provider.options(content) if provider else {})

    async def synthesise(self, content: TemplateContent, text: str, sample_rate: int) -> bytes:
        """Speak a greeting in a template's voice: 16-bit little-endian mono PCM at ``sample_rate`` Hz.

        Raises:
            SynthesisFailed: the provider is unknown, refused, or could not be reached.
        """
        try:
            provider = _find(self._tts, content.tts)
        except UnknownProvider as error:
            raise SynthesisFailed(str(error)) from error
        return await provider.synthesise(provider.options(content), text, sample_rate)

    def openai_client(self) -> tuple[AsyncOpenAI, str] | None:
        """A client of OpenAI that does not repeat requests, and the model to use; None: there is no key."""
        openai = self._llm["openai"]
        if not isinstance(openai, OpenAILlm) or not openai.has_key:
            return None
        return openai.client.with_options(max_retries=0), openai.default_model


def _find(providers: Mapping[str, ProviderT], service: TtsService | SttService | LlmService) -> ProviderT:
    """The provider that a template names, with a voice and a model that are safe in a vendor's URL.

    Raises:
        UnknownProvider: there is none, or the form of the voice or of the model is wrong.
    """
    if service.provider not in providers:
        raise UnknownProvider(f"this server has no provider '{service.provider}'")
    if service.model is not None and not MODEL_NAME.matches(service.model):
        raise UnknownProvider("the model's name is not valid")
    if isinstance(service, TtsService) and not VOICE_ID.matches(service.voice_id):
        raise UnknownProvider("the voice id is not valid")
    return providers[service.provider]


def _key(kind: str, provider: str, *settings: Mapping[str, Any]) -> str:
    return kind + json.dumps([provider, *settings], sort_keys=True, separators=(",", ":"))
