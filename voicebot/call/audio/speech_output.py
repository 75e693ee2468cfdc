"""Speech that the model does not produce: greetings synthesised ahead of time, and fixed texts."""

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
from db.utterances import Source
from voicebot.call.audio.pipeline import CallPipeline
from voicebot.call.transcript.tts_requests import TtsRequests
from voicebot.providers.pcm import bytes_per_ms

CHUNK_MS = 200
_NS_PER_S = 1_000_000_000


class SpeechOutput:
    """Speaks on one call in the active voice."""

    def __init__(self, pipeline: CallPipeline, requests: TtsRequests) -> None:
        self._pipeline = pipeline
        self._requests = requests

    async def text(
        self,
        text: str,
        source: Source = "filler",
        *,
        interruptible: bool = True,
        remembered: bool = True,
        is_announcement: bool = False,
    ) -> None:
        """Have ``text`` synthesised and spoken after everything queued so far; return at once.

        Args:
            text: the words.
            source: what the transcript names as their source.
            interruptible: whether a barge-in stops it.
            remembered: whether it enters the model's context when it has been spoken.
            is_announcement: whether it announces another agent; then it does not answer the caller.
        """
        if not any(map(str.isalnum, text)):
            return  # a TTS makes no audio of it
        self._requests.expect(
            text, source, remembered=remembered, interruptible=interruptible, is_announcement=is_announcement
        )
        frame = TTSSpeakFrame(text, append_to_context=remembered)
        frame.interruptible = interruptible
        await self._pipeline.speak(frame)

    async def audio(
        self,
        text: str,
        audio: bytes,
        source: Source = "greeting",
        *,
        interruptible: bool = True,
        remembered: bool = True,
    ) -> None:
        """Speak what was synthesised ahead of time: a greeting, or a filler.

        Args:
            text: its words; they are timed evenly over the audio, so that an interruption keeps those heard.
            audio: raw PCM, 16 bit, little endian, mono, at the call's rate.
            source: what the transcript names as their source.
            interruptible: whether a barge-in stops it.
            remembered: whether it enters the model's context when it has been spoken.
        """
        context_id = f"{source}-{new_id()}"
        self._requests.requested(context_id, text, source, remembered=remembered, interruptible=interruptible)
        tts = self._pipeline.tts
        now_ns, rate = tts.get_clock().get_time(), self._pipeline.sample_rate
        for frame in _frames(text, audio, rate, context_id, now_ns, remembered):
            frame.interruptible = interruptible
            await tts.push_frame(frame)


def _frames(
    text: str, audio: bytes, sample_rate: int, context_id: str, now_ns: int, remembered: bool
) -> Sequence[Frame]:
    """The frames that a TTS service pushes: start, audio, timed words, stop, commit to the context."""
    step = CHUNK_MS * bytes_per_ms(sample_rate)
    chunks = [
        TTSAudioRawFrame(audio[at : at + step], sample_rate, 1, context_id=context_id)
        for at in range(0, len(audio), step)
    ]
    words: list[Frame] = []
    duration_ns, spoken = len(audio) // 2 * _NS_PER_S // sample_rate, 0
    for word in text.split():
        frame = TTSTextFrame(word, TextType.WORD, context_id=context_id)
        frame.append_to_context = remembered
        frame.pts = max(1, now_ns + duration_ns * spoken // max(len(text), 1))  # 0 is no time to pipecat
        spoken += len(word) + 1
        words.append(frame)
    started = TTSStartedFrame(context_id=context_id)
    started.append_to_context = remembered
    commits = [LLMAssistantPushAggregationFrame()] if remembered else []
    return [started, *chunks, *words, *commits, TTSStoppedFrame(context_id=context_id)]
