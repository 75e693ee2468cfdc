"""Delays of the servers: constant, so that a bench can subtract them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class Latency:
    """Delays in ms; they may be changed while the servers run.

    Attributes:
        first_token_ms: OpenAI: from the request to the first chunk of an answer.
        token_ms: OpenAI: between chunks (about a word each).
        first_audio_ms: ElevenLabs and Aura: from a text to its first audio.
        audio_ms: ElevenLabs and Aura: between pieces of audio (200 ms of sound each).
        transcript_ms: Deepgram and Scribe: from the end of an utterance, as its endpointing decided, to the
            transcript.
    """

    first_token_ms: float = 60.0
    token_ms: float = 3.0
    first_audio_ms: float = 40.0
    audio_ms: float = 4.0
    transcript_ms: float = 0.0
