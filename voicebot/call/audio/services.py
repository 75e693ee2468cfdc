"""STT, LLM and TTS services made from a template's settings, as parts of the call's switches.

A part's key is its settings: agents with equal settings share one service. Audio is 8 kHz mono end to end, so
nothing is resampled between carrier and vendors.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

# Both clients load these when they are first used, which would be while the first caller waits.
import deepgram.listen.client
import deepgram.listen.v1.client  # noqa: F401
import openai.resources.chat.completions.completions  # noqa: F401
from deepgram import DeepgramClientEnvironment
from openai import AsyncOpenAI, AsyncStream, DefaultAsyncHttpxClient
from openai.types.chat import ChatCompletionChunk
from pipecat.audio.turn.smart_turn.local_smart_turn_v3 import LocalSmartTurnAnalyzerV3
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.audio.vad.vad_analyzer import VADParams
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.audio.vad_processor import VADProcessor
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.services.deepgram.stt import DeepgramSTTService
from pipecat.services.elevenlabs.tts import ElevenLabsTTSService
from pipecat.services.openai.llm import OpenAILLMService
from pipecat.turns.user_start import (
    BaseUserTurnStartStrategy,
    MinWordsUserTurnStartStrategy,
    TranscriptionUserTurnStartStrategy,
    VADUserTurnStartStrategy,
)
from pipecat.turns.user_stop import (
    BaseUserTurnStopStrategy,
    SpeechTimeoutUserTurnStopStrategy,
    TurnAnalyzerUserTurnStopStrategy,
)
from pipecat.turns.user_turn_processor import UserTurnProcessor
from pipecat.turns.user_turn_strategies import UserTurnStrategies
from pipecat.utils.http import connection_limits

from templates.model import TemplateContent, Turns
from voicebot.call.audio.service_switch import ServiceFailed, ServiceSpec, made
from voicebot.config import Settings, websocket_url

SAMPLE_RATE = 8000  # Hz, mono: what telephones carry
ELEVENLABS_URL = "https://api.elevenlabs.io"
CONNECTED_GRACE_S = 1.0
LLM_SILENCE_S = 5.0


class _PooledLLMService(OpenAILLMService):
    """pipecat's service on connections that all calls share.

    One of its own would cost each agent of each call 20 ms of TLS set-up in the event loop, and its first
    answer a handshake with the vendor.
    """

    def __init__(self, client: AsyncOpenAI, **kwargs: Any) -> None:
        self._pooled = client
        super().__init__(**kwargs)

    def create_client(self, *_: Any, **__: Any) -> AsyncOpenAI:
        return self._pooled

    async def get_chat_completions(self, context: LLMContext) -> AsyncStream[ChatCompletionChunk]:
        # The client tries again after a quick failure. What has not begun by then has failed for a caller.
        async with asyncio.timeout(LLM_SILENCE_S):
            return await super().get_chat_completions(context)


class VendorServices:
    """Makes the parts of one call; needs the vendors' keys and addresses."""

    def __init__(self, settings: Settings) -> None:
        """Check the vendors' addresses once, because a bad one would silently become the public one."""
        self._settings = settings
        self._openai = AsyncOpenAI(
            api_key=_secret(settings.openai_api_key),
            base_url=settings.openai_base_url,
            # A model that sends nothing for so long has failed: the caller must not wait for it in silence.
            timeout=LLM_SILENCE_S,
            max_retries=1,
            http_client=DefaultAsyncHttpxClient(
                limits=connection_limits(max_connections=1000, keepalive_expiry=None)
            ),
        )
        self._one_at_a_time = asyncio.Lock()
        if settings.deepgram_url:
            url = settings.deepgram_url
            socket = websocket_url(url)
            DeepgramClientEnvironment(base=url, production=socket, agent=socket, agent_rest=url)

    def stt(self, content: TemplateContent) -> ServiceSpec:
        """The caller's speech to text and the end of the caller's turns: STT, with a VAD where asked for."""
        key = _key("stt", _stt_settings(content), content.turns.model_dump(mode="json"))
        stt: list[FrameProcessor] = []

        async def make() -> list[FrameProcessor]:
            # The vendor's client reads all root certificates (for requests that no call makes), and a VAD its
            # model: tens of milliseconds that the event loop owes to every other call's audio.
            async with self._one_at_a_time:
                stt[:] = await asyncio.to_thread(self._stt, content)
            return stt

        async def connected() -> None:
            if not all(processor.is_usable for processor in stt):
                raise ServiceFailed(key, "the STT vendor refused the connection")

        return ServiceSpec(key=key, make=make, connected=connected)

    def _stt(self, content: TemplateContent) -> list[FrameProcessor]:
        url = self._settings.deepgram_url
        stt = DeepgramSTTService(
            api_key=_secret(self._settings.deepgram_api_key),
            base_url=websocket_url(url) if url else "",
            sample_rate=SAMPLE_RATE,
            settings=DeepgramSTTService.Settings.from_mapping(_stt_settings(content)),
        )
        turns = UserTurnProcessor(user_turn_strategies=turn_strategies(content.turns))
        return [*_vad(content.turns), stt, turns]

    def llm(self, content: TemplateContent) -> tuple[ServiceSpec, OpenAILLMService]:
        """The language model; it has no socket to wait for."""
        llm = _PooledLLMService(
            self._openai,
            settings=OpenAILLMService.Settings.from_mapping(self._llm_settings(content)),
        )

        async def connected() -> None:
            return None

        key = _key("llm", self._llm_settings(content))
        return ServiceSpec(key=key, make=made(llm), connected=connected), llm

    def tts(self, content: TemplateContent, on_request: OnRequest) -> ServiceSpec:
        """The agent's voice; ``on_request`` hears every text sent to be spoken, with its TTS context id."""
        open_ = asyncio.Event()
        key = _key("tts", _tts_settings(content))

        async def on_connected(_: FrameProcessor) -> None:
            open_.set()

        async def on_tts_request(_: FrameProcessor, context_id: str, text: str) -> None:
            await on_request(context_id, text)

        async def make() -> list[FrameProcessor]:
            tts = ElevenLabsTTSService(
                api_key=_secret(self._settings.elevenlabs_api_key),
                url=websocket_url(self._settings.elevenlabs_url or ELEVENLABS_URL),
                sample_rate=SAMPLE_RATE,
                settings=ElevenLabsTTSService.Settings.from_mapping(_tts_settings(content)),
            )
            tts.add_event_handler("on_connected", on_connected)
            tts.add_event_handler("on_tts_request", on_tts_request)
            return [tts]

        async def connected() -> None:
            try:
                await asyncio.wait_for(open_.wait(), CONNECTED_GRACE_S)
            except TimeoutError as error:
                raise ServiceFailed(key, "the TTS vendor refused the connection") from error

        return ServiceSpec(key=key, make=make, connected=connected)

    def _llm_settings(self, content: TemplateContent) -> dict[str, Any]:
        return {**content.llm.settings, "model": content.llm.model or self._settings.openai_model}


OnRequest = Callable[[str, str], Awaitable[None]]


def _vad(turns: Turns) -> list[FrameProcessor]:
    if turns.strategy == "stt":
        return []
    stop_s = 0.2 if turns.strategy == "smart_turn" else turns.end_silence_ms / 1000
    analyzer = SileroVADAnalyzer(sample_rate=SAMPLE_RATE, params=VADParams(stop_secs=stop_s))
    return [VADProcessor(vad_analyzer=analyzer)]


def tts_key(content: TemplateContent) -> str:
    """What makes two voices the same: equal vendor, voice, model, language and settings."""
    return _key("tts", _tts_settings(content))


def turn_strategies(turns: Turns) -> UserTurnStrategies:
    """When the caller's turn begins (and interrupts) and when it ends, as the template has it."""
    start: list[BaseUserTurnStartStrategy]
    if turns.min_words > 1:
        start = [
            MinWordsUserTurnStartStrategy(min_words=turns.min_words, enable_interruptions=turns.barge_in)
        ]
    else:
        start = [TranscriptionUserTurnStartStrategy(enable_interruptions=turns.barge_in)]
        if turns.strategy != "stt":
            start.insert(0, VADUserTurnStartStrategy(enable_interruptions=turns.barge_in))
    stop: BaseUserTurnStopStrategy
    if turns.strategy == "smart_turn":
        stop = TurnAnalyzerUserTurnStopStrategy(turn_analyzer=LocalSmartTurnAnalyzerV3())
    elif turns.strategy == "silero":
        # The VAD has waited for the silence already; what is left is the transcript.
        stop = SpeechTimeoutUserTurnStopStrategy(user_speech_timeout=0.0)
    else:
        stop = SpeechTimeoutUserTurnStopStrategy(
            user_speech_timeout=(turns.end_silence_ms - _endpointing_ms(turns)) / 1000
        )
    return UserTurnStrategies(start=start, stop=[stop])


def _endpointing_ms(turns: Turns) -> int:
    """The share of the closing silence that the STT vendor waits before it finalises; we wait the rest.

    A vendor that finalises late adds its own delay to ours; one that finalises at once cuts words apart.
    """
    return max(10, turns.end_silence_ms // 2)


def _stt_settings(content: TemplateContent) -> dict[str, Any]:
    # An author may listen otherwise than the agent speaks: a model that hears many languages wants "multi".
    settings: dict[str, Any] = {
        "language": content.language,
        "endpointing": _endpointing_ms(content.turns),
        **content.stt.settings,
    }
    if content.stt.model:
        settings["model"] = content.stt.model
    return settings


def _tts_settings(content: TemplateContent) -> dict[str, Any]:
    settings: dict[str, Any] = {
        **content.tts.settings,
        "voice": content.tts.voice_id,
        "language": content.language.partition("-")[0],
    }
    if content.tts.model:
        settings["model"] = content.tts.model
    return settings


def _key(kind: str, *settings: dict[str, Any]) -> str:
    return kind + json.dumps(settings, sort_keys=True, separators=(",", ":"))


def _secret(value: Any) -> str:
    """The key, or a word that a vendor will refuse, so that the refusal is the vendor's and is reported."""
    return value.get_secret_value() if value else "missing"
