"""How a call speaks other than by the model: greetings made ahead, and fixed texts."""

from __future__ import annotations

from collections.abc import Sequence

from pipecat.frames.frames import (
    Frame,
    LLMAssistantPushAggregationFrame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.utils.text.base_text_aggregator import TextType

from db.ids import new_id
from voicebot.call.audio.pipeline import CallPipeline
from voicebot.call.audio.playout_observer import BYTES_PER_MS
from voicebot.call.transcript.transcript import Source, Transcript
from voicebot.providers.service_spec import SAMPLE_RATE

CHUNK_MS = 200
_NS_PER_MS = 1_000_000


class SpeechOutput:
    """Speaks on one call in whatever voice is active."""

    def __init__(self, pipeline: CallPipeline, transcript: Transcript) -> None:
        self._pipeline = pipeline
        self._transcript = transcript
        self._sources: dict[str, tuple[Source | None, bool]] = {}

    async def text(
        self, text: str, source: Source = "filler", *, interruptible: bool = True, remembered: bool = True
    ) -> None:
        """Have ``text`` synthesised and spoken behind what is being said already; returns at once.

        ``remembered`` says that it enters the model's memory when it has been spoken.
        """
        self._sources[text] = (source, remembered)
        frame = TTSSpeakFrame(text, append_to_context=remembered)
        frame.interruptible = interruptible
        await self._pipeline.gate.after.push_frame(frame)

    async def requested(self, context_id: str, text: str) -> None:
        """The TTS service was asked for ``text``: remember what it is for the transcript."""
        source, remembered = self._sources.pop(text, (None, True))
        self._transcript.requested(context_id, text, source, remembered=remembered)

    async def audio(self, text: str, audio: bytes, *, interruptible: bool) -> None:
        """Speak a greeting that is there already: raw PCM, 16 bit, mono, 8,000 Hz.

        Its words are timed evenly over the audio, so that an interruption leaves what was heard.
        """
        context_id = f"greeting-{new_id()}"
        self._transcript.requested(context_id, text, "greeting")
        tts = self._pipeline.tts
        for frame in _frames(text, audio, context_id, tts.get_clock().get_time()):
            frame.interruptible = interruptible
            await tts.push_frame(frame)


def _frames(text: str, audio: bytes, context_id: str, now_ns: int) -> Sequence[Frame]:
    """A greeting as a TTS service would push it: start, audio, timed words, stop, and into the context."""
    step = CHUNK_MS * BYTES_PER_MS
    chunks = [
        TTSAudioRawFrame(audio[at : at + step], SAMPLE_RATE, 1, context_id=context_id)
        for at in range(0, len(audio), step)
    ]
    words: list[Frame] = []
    duration_ns, spoken = len(audio) * _NS_PER_MS // BYTES_PER_MS, 0
    for word in text.split():
        frame = TTSTextFrame(word, TextType.WORD, context_id=context_id)
        frame.pts = now_ns + duration_ns * spoken // max(len(text), 1)
        spoken += len(word) + 1
        words.append(frame)
    commit = LLMAssistantPushAggregationFrame()
    commit.pts = now_ns + duration_ns
    started, stopped = TTSStartedFrame(context_id=context_id), TTSStoppedFrame(context_id=context_id)
    return [started, *chunks, *words, stopped, commit]
