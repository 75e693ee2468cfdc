"""Models of what an agent says without its model, and of when the caller's turn ends."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from templates.bounds import Bounds, Count
from templates.flow import Flag
from templates.services import Part


class Greeting(Part):
    """The agent's first words, spoken without the language model."""

    text: str = Field(
        description="Text to speak. May contain `{{ name }}`. It is synthesised in advance.",
        examples=["Hello, this is Acme. How can I help you?"],
    )
    interruptible: Flag = Field(default=True, description="Whether the caller can interrupt it by speaking.")


class Turns(Part):
    """How the end of the caller's turn is detected, and whether the caller may interrupt."""

    strategy: Literal["stt", "silero", "smart_turn"] = Field(
        default="stt",
        description=(
            "How the end of a turn is detected. `stt`: by the speech-to-text provider (least CPU). `silero`: "
            "by voice activity. `smart_turn`: by a model that detects complete sentences (most CPU)."
        ),
    )
    end_silence_ms: Annotated[Count, Bounds(100, 5000)] = Field(
        default=600,
        description="Silence that ends the caller's turn, in ms.",
    )
    barge_in: Flag = Field(default=True, description="Whether the caller may interrupt the agent.")
    min_words: Annotated[Count, Bounds(0, 10)] = Field(
        default=0,
        description=(
            "Number of words after which the caller's speech interrupts the agent. 0: any speech interrupts."
        ),
    )


class Idle(Part):
    """What happens when the caller is silent."""

    after_ms: Annotated[Count, Bounds(2000, 120_000)] = Field(
        default=8000,
        description=(
            "Silence before each prompt, in ms, from the end of the last audio that the caller heard."
        ),
    )
    prompts: tuple[str, ...] = Field(
        default=("Are you still there?", "I can't hear you. Are you still on the line?"),
        description=(
            "Texts spoken one after another, each after `after_ms` of silence. May contain `{{ name }}`. If "
            "empty, the call ends after the first silence."
        ),
    )
    goodbye: str = Field(
        default="I'll hang up now. Goodbye.",
        description=(
            "Text spoken before the call ends because the last prompt was not answered. May contain "
            "`{{ name }}`."
        ),
    )


class Waiting(Part):
    """What a caller hears who waits for a person."""

    line: str = Field(
        default="",
        description=(
            "Text spoken while the caller waits. May contain `{{ name }}`, and `{{ expected_wait }}`: how "
            "long callers usually wait; a sentence with it is left out while that is unknown. Empty: a text "
            "in the agent's language that also names the keys 1 (call back) and 2 (go on with the agent)."
        ),
        examples=["A colleague will be with you in {{ expected_wait }}. Press 1 to be called back."],
    )
    every_ms: Annotated[Count, Bounds(1000, 300_000)] = Field(
        default=20_000, description="Time from one such text to the next, in ms."
    )
    max_ms: Annotated[Count, Bounds(1000, 3_600_000)] = Field(
        default=300_000,
        description="Time after which the caller is told that nobody came, and offered a call-back, in ms.",
    )
    audio: str | None = Field(
        default=None,
        description=(
            "URL of a WAV file (PCM of 8 or 16 bit, up to 2 MiB) that is played between the texts, again and "
            "again. Null: a soft tone."
        ),
        examples=["https://example.com/hold.wav"],
    )
    escalate_after_ms: Annotated[Count, Bounds(1000, 86_400_000)] = Field(
        default=120_000,
        description=(
            "Time without a claim after which the account's admins are notified, and after twice that time "
            "its owners, in ms."
        ),
    )


class Takeover(Part):
    """What is recorded while an operator has the call in a browser, instead of the agent."""

    transcribe: Flag | None = Field(
        default=None,
        description=(
            "Whether the words of the operator and of the caller are in the call's transcript. The agent and "
            "its model do not get them. Null: as the account sets it (`takeover` of `PATCH /account`)."
        ),
        examples=[True],
    )
