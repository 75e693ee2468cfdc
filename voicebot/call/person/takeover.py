"""Takeover of a call by an operator in a browser, over the call's own media stream.

At first the operator only listens. When they speak, the agent stops: its STT gets silence, its model gets no
requests, and its speech ends. When they return the caller, the agent continues and is told about it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from pipecat.frames.frames import InterruptionFrame, LLMMessagesAppendFrame, OutputAudioRawFrame

from telephony.media import MediaStream
from voicebot.call.audio.frames import uninterruptible
from voicebot.call.audio.pipeline import CallPipeline
from voicebot.call.person.person_speech import PersonSpeech
from voicebot.clock import Clock
from voicebot.providers.pcm import Resampler, bytes_per_ms

OPERATOR_RATE = 16_000
"""The sample rate in Hz of the audio to and from the operator: 16-bit mono PCM."""

PIECE_MS = 40
"""The unit in which audio is given to the output, so that the output keeps no rest."""

MAX_AHEAD_MS = 400.0
"""The most operator audio that waits to be played; more is dropped, so that the delay stays short."""

TAKEN_OVER = "A person has taken the call over and speaks with the caller. You are silent until they leave."
GIVEN_BACK = (
    "The person has spoken with the caller and has left the call. You did not hear what they said to each "
    "other: ask if you need to know. Go on with the conversation; do not greet again."
)


class Takeover:
    """The takeover of one call."""

    def __init__(
        self,
        media: MediaStream,
        clock: Clock,
        pipeline: CallPipeline,
        speech: PersonSpeech,
        run_model: Callable[[], Any],
    ) -> None:
        """No operator is connected.

        Args:
            media: the call's stream, which has the caller's audio.
            clock: the time.
            pipeline: the call's pipeline, to whose output the operator's audio goes.
            speech: transcribes what is said, for the record.
            run_model: runs the model, so that the agent speaks.
        """
        self._media = media
        self._clock = clock
        self._pipeline = pipeline
        self._speech = speech
        self._run_model = run_model
        self._listener: Callable[[bytes], None] | None = None
        self._speaks = False
        self._to_operator = Resampler(media.sample_rate, OPERATOR_RATE)
        self._to_caller = Resampler(OPERATOR_RATE, media.sample_rate)
        self._unsent = b""
        self._sent_until_ms = 0.0
        self.ended = asyncio.Event()
        """Set when the call has ended."""
        media.on_audio(self._heard)

    @property
    def speaks(self) -> bool:
        """Whether the operator has the call, and the agent is silent."""
        return self._speaks

    def listen(self, listener: Callable[[bytes], None]) -> bool:
        """Give the caller's audio (16-bit mono PCM at 16,000 Hz) to ``listener``; False: there is one."""
        if self._listener is not None or self.ended.is_set():
            return False
        self._listener = listener
        return True

    async def begin(self) -> None:
        """Give the call to the operator; the agent is silent. Repeating it changes nothing."""
        if self._speaks:
            return
        self._speaks = True
        self._unsent, self._sent_until_ms = b"", 0.0
        self._pipeline.stt.gets_silence = True
        self._pipeline.llm.pause()
        await self._pipeline.worker.queue_frame(InterruptionFrame())
        self._speech.begin()
        await self._tell(TAKEN_OVER)

    async def speak(self, audio: bytes) -> None:
        """Play audio of the operator (16-bit mono PCM at 16,000 Hz) to the caller, if they speak."""
        if not self._speaks or self.ended.is_set():
            return
        now = self._clock.monotonic_ms()
        spoken = self._to_caller.process(audio)
        self._speech.hear("operator", spoken)
        self._unsent += spoken
        self._sent_until_ms = max(self._sent_until_ms, now)
        rate = self._media.sample_rate
        size = PIECE_MS * bytes_per_ms(rate)
        while len(self._unsent) >= size:
            piece, self._unsent = self._unsent[:size], self._unsent[size:]
            if self._sent_until_ms - now >= MAX_AHEAD_MS:
                continue
            self._sent_until_ms += PIECE_MS
            await self._pipeline.tts.push_frame(OutputAudioRawFrame(piece, rate, 1))

    async def leave(self) -> bool:
        """End the takeover; the agent continues if the operator had the call. Return whether they had it."""
        self._listener = None
        had_call, self._speaks = self._speaks, False
        if had_call and not self.ended.is_set():
            self._speech.end()
            self._pipeline.stt.gets_silence = False
            self._pipeline.llm.resume()
            await self._tell(GIVEN_BACK)
            await self._run_model()
        return had_call

    def end(self) -> None:
        """The call has ended."""
        self._speech.end(at_once=True)
        self.ended.set()

    async def _tell(self, text: str) -> None:
        message = cast("Any", {"role": "developer", "content": text})
        frame = LLMMessagesAppendFrame(messages=[message])
        await self._pipeline.worker.queue_frame(uninterruptible(frame))

    def _heard(self, audio: bytes) -> None:
        if self._speaks:
            self._speech.hear("caller", audio)
        if self._listener is not None:
            self._listener(self._to_operator.process(audio))
