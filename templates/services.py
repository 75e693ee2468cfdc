"""Models of the services of an agent: TTS, STT and LLM, with their backups."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from templates.bounds import MODEL_NAME, VOICE_ID

DEFAULT_VOICE_ID = "21m00Tcm4TlvDq8ikWAM"
"""ElevenLabs' premade voice "Rachel", which its API reference uses in examples."""


class Part(BaseModel):
    """Base of the parts of a template: immutable, unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TtsService(Part):
    """One voice of one provider."""

    provider: str = Field(
        default="elevenlabs", description="Who synthesises the speech: `elevenlabs` or `deepgram`."
    )
    voice_id: Annotated[str, VOICE_ID] = Field(
        default=DEFAULT_VOICE_ID,
        description=(
            "The provider's identifier of the voice: 1 to 64 letters, digits, `_` or `-`. For `deepgram` it "
            "is the name of an Aura model, which implies the language."
        ),
        examples=["21m00Tcm4TlvDq8ikWAM", "aura-2-thalia-en"],
    )
    model: Annotated[str | None, MODEL_NAME] = Field(
        default=None,
        description="The provider's model; null: its usual one. `deepgram` has none besides the voice.",
        examples=["eleven_flash_v2_5"],
    )
    settings: dict[str, Any] = Field(
        default_factory=dict,
        description="The provider's own settings. Only those of its settings model are accepted.",
        examples=[{"stability": 0.5, "speed": 1.05}],
    )


class Tts(TtsService):
    """The agent's voice, and the voices that take over when its provider fails."""

    backup: tuple[TtsService, ...] = Field(
        default=(),
        description=(
            "Voices that take over when the provider fails, tried in order: they continue a sentence at the "
            "word that was heard."
        ),
        examples=[[{"provider": "deepgram", "voice_id": "aura-2-thalia-en"}]],
    )


class SttService(Part):
    """One provider of speech to text."""

    provider: str = Field(
        default="deepgram", description="Who transcribes the caller: `deepgram` or `elevenlabs` (Scribe)."
    )
    model: Annotated[str | None, MODEL_NAME] = Field(
        default=None, description="The provider's model; null: its usual one.", examples=["nova-3"]
    )
    settings: dict[str, Any] = Field(
        default_factory=dict,
        description=(
            "The provider's own settings. Only those of its settings model are accepted. Set `language` "
            "where callers speak more languages than the agent: `multi` (deepgram) or `auto` (elevenlabs)."
        ),
        examples=[{"keyterm": ["Acme", "SureFit"]}],
    )


class Stt(SttService):
    """Who turns the caller's speech into text, and who takes over when that provider fails."""

    backup: tuple[SttService, ...] = Field(
        default=(),
        description=(
            "Providers that take over when the provider fails, tried in order: they are given the audio that "
            "was not transcribed yet."
        ),
        examples=[[{"provider": "elevenlabs"}]],
    )


class LlmService(Part):
    """One language model of one provider."""

    provider: str = Field(
        default="openai",
        description="Who answers: `openai`, or an endpoint that the operator named (VOICEBOT_LLM_ENDPOINTS).",
    )
    model: Annotated[str | None, MODEL_NAME] = Field(
        default=None, description="The provider's model; null: the server's default.", examples=["gpt-4.1"]
    )
    settings: dict[str, Any] = Field(
        default_factory=dict,
        description="The provider's own settings. Only those of its settings model are accepted.",
        examples=[{"temperature": 0.2}],
    )


class Llm(LlmService):
    """The language model that decides what is said and done, and the models that take over when it fails."""

    backup: tuple[LlmService, ...] = Field(
        default=(),
        description=(
            "Models that take over when the provider fails, tried in order: the request is asked of them at "
            "once."
        ),
        examples=[[{"provider": "openai", "model": "gpt-4.1-mini"}]],
    )
