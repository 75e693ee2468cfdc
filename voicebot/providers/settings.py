"""The settings that an author may write for each provider, validated when a template is saved.

This module imports no vendor's package and not pipecat, because the process that checks templates needs it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

LANGUAGE_TAG = r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$"
"""The form of a language tag (BCP 47) in a provider's settings."""

Term = Annotated[str, Field(min_length=1, max_length=100)]
Terms = Annotated[list[Term], Field(max_length=100)]


class ProviderSettings(BaseModel):
    """The settings that an author may write. Only these reach the vendor; null means the vendor's default."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ElevenLabsTtsSettings(ProviderSettings):
    """`tts.settings` for the provider `elevenlabs`."""

    stability: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None, description="How steady the voice is (0 to 1). Null: the voice's own.", examples=[0.5]
    )
    similarity_boost: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None,
        description="How closely it follows the original (0 to 1). Null: the voice's own.",
        examples=[0.75],
    )
    style: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None,
        description="How much the style is exaggerated (0 to 1). Null: the voice's own.",
        examples=[0.2],
    )
    use_speaker_boost: bool | None = Field(
        default=None,
        description="Whether likeness is raised at the cost of latency. Null: the voice's own.",
        examples=[False],
    )
    speed: Annotated[float, Field(ge=0.7, le=1.2)] | None = Field(
        default=None, description="Speech rate (0.7 to 1.2). Null: the voice's own.", examples=[1.05]
    )
    apply_text_normalization: Literal["auto", "on", "off"] | None = Field(
        default=None,
        description="Whether numbers and the like are spelled out. Null: `auto`.",
        examples=["on"],
    )


class DeepgramTtsSettings(ProviderSettings):
    """`tts.settings` for the provider `deepgram`: Aura."""

    speed: Annotated[float, Field(ge=0.7, le=1.5)] | None = Field(
        default=None,
        description="Speech rate (0.7 to 1.5; Aura-2 in English and Spanish). Null: 1.",
        examples=[1.1],
    )


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


class ElevenLabsSttSettings(ProviderSettings):
    """`stt.settings` for the provider `elevenlabs`: Scribe in real time."""

    language: Annotated[str, Field(pattern=rf"{LANGUAGE_TAG}|^auto$")] | None = Field(
        default=None,
        description="Language tag that is transcribed, or `auto`. Null: the template's `language`.",
        examples=["de-DE", "auto"],
    )
    keyterms: (
        Annotated[list[Annotated[str, Field(min_length=1, max_length=50)]], Field(max_length=100)] | None
    ) = Field(default=None, description="Terms that callers say.", examples=[["Acme", "SureFit"]])
    no_verbatim: bool | None = Field(
        default=None,
        description="Whether filler words and false starts are left out. Null: no.",
        examples=[True],
    )
    filter_background_audio: bool | None = Field(
        default=None,
        description="Whether background audio is filtered out. Null: no.",
        examples=[True],
    )
    vad_silence_threshold_secs: Annotated[float, Field(ge=0.3, le=3)] | None = Field(
        default=None,
        description=(
            "Silence before a transcript is final, in s, for `turns.strategy` `stt`. Null: half of "
            "`turns.end_silence_ms`, but at least 0.3."
        ),
        examples=[0.4],
    )
    vad_threshold: Annotated[float, Field(ge=0.1, le=0.9)] | None = Field(
        default=None,
        description="How loud speech has to be (0.1 to 0.9, lower is more sensitive).",
        examples=[0.4],
    )
    min_speech_duration_ms: Annotated[int, Field(ge=50, le=2000)] | None = Field(
        default=None, description="The shortest speech that counts, in ms.", examples=[100]
    )
    min_silence_duration_ms: Annotated[int, Field(ge=50, le=2000)] | None = Field(
        default=None, description="The shortest silence that counts, in ms.", examples=[100]
    )


class OpenAILlmSettings(ProviderSettings):
    """`llm.settings` for `openai` and for every endpoint that the operator named."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = Field(
        default=None, description="How much answers vary (0 to 2). Null: the model's default.", examples=[0.2]
    )
    top_p: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None,
        description="Share of likely tokens considered (0 to 1). Null: the model's default.",
        examples=[0.9],
    )
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = Field(
        default=None,
        description="Penalty for frequent tokens (-2 to 2). Null: the model's default.",
        examples=[0.5],
    )
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = Field(
        default=None,
        description="Penalty for tokens said before (-2 to 2). Null: the model's default.",
        examples=[0.5],
    )
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = Field(
        default=None, description="Makes answers repeatable where the model supports it.", examples=[7]
    )
    max_tokens: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        default=None, description="Most tokens of an answer, for models that do not reason.", examples=[300]
    )
    max_completion_tokens: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        default=None, description="Most tokens of an answer, reasoning included.", examples=[2000]
    )
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high"] | None = Field(
        default=None,
        description="How long a reasoning model thinks; callers wait.",
        examples=["low"],
    )
    verbosity: Literal["low", "medium", "high"] | None = Field(
        default=None, description="How long answers are, where the model supports it.", examples=["low"]
    )
    parallel_tool_calls: bool | None = Field(
        default=None, description="Whether the model may call several functions at once.", examples=[False]
    )
