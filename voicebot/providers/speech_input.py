"""Passes the caller's audio to its consumers: the STT service, the VAD and the turn model.

As a frame, each 20 ms of audio would pass a queue, a task and several event handlers at every stage of the
pipeline. Here it is a function call, and one task per service sends the audio to the vendor in pieces.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod

from loguru import logger
from pipecat.frames.frames import (
    Frame,
    InputAudioRawFrame,
    TranscriptionFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor, FrameProcessorSetup
from pipecat.services.stt_service import STTService

from voicebot.providers.pcm import bytes_per_ms, peak_to_peak
from voicebot.providers.service_spec import SAMPLE_RATE
from voicebot.providers.voice_activity import VoiceActivity

PIECE_MS = 60
MAX_UNSENT = 250
"""The most pieces that wait for a slow vendor. Later audio is dropped: the service has failed by then."""

AUDIO_IDLE_S = 1.0
"""Speech has ended when no audio arrives for this time."""

_QUIET_RANGE = 400
_QUIET_RATIO = 0.25
_DECAY_PER_MS = 0.9995
_MARGIN_MS = 200


class LastingTranscripts(STTService):
    """A service whose final transcripts are not dropped by an interruption.

    An interim transcript interrupts the agent. If a final one follows at once (when audio of the last seconds
    is transcribed again), it waits in a queue that the interruption clears.
    """

    async def push_frame(self, frame: Frame, direction: FrameDirection = FrameDirection.DOWNSTREAM) -> None:
        """Push a frame; a transcript so that no interruption drops it."""
        if isinstance(frame, TranscriptionFrame):
            frame.interruptible = False
        await super().push_frame(frame, direction)


class DirectStt(LastingTranscripts):
    """A service that takes audio without a frame around it."""

    @abstractmethod
    async def send_audio(self, audio: bytes) -> None:
        """Send 16-bit mono PCM at the rate of the pipeline to the vendor."""


class EndOfSpeech:
    """Recognises the silence in which a vendor decides that a turn has ended.

    Audio is silent when it is much quieter than the recent speech. Constant noise becomes the new reference
    within seconds.
    """

    def __init__(self, endpointing_ms: int) -> None:
        """``endpointing_ms``: the silence that the vendor waits for."""
        self.bytes_per_ms = bytes_per_ms(SAMPLE_RATE)
        self._window_ms = endpointing_ms + _MARGIN_MS
        self._loudest = 0.0
        self._quiet_ms = float(self._window_ms)

    def is_near(self, audio: bytes) -> bool:
        """Take the next audio; return whether it is such a silence."""
        level, ms = peak_to_peak(audio), len(audio) / self.bytes_per_ms
        self._loudest = max(level, self._loudest * _DECAY_PER_MS**ms)
        if level > _QUIET_RANGE and level > self._loudest * _QUIET_RATIO:
            self._quiet_ms = 0.0
            return False
        self._quiet_ms += ms
        return self._quiet_ms <= self._window_ms


class SpeechInput(FrameProcessor):
    """The first processor of an STT service's branch; frames only pass it.

    Audio is sent in pieces of 60 ms. It is sent at once after speech, so that a turn does not end later for
    it: when our VAD hears the end of speech, or, without a VAD, until the vendor has heard its silence.
    """

    def __init__(
        self,
        stt: STTService,
        *,
        endpointing_ms: int,
        vad: VoiceActivity | None = None,
        turn_model: FrameProcessor | None = None,
    ) -> None:
        """Nothing is sent before the setup.

        Args:
            stt: the service that transcribes.
            endpointing_ms: the silence that the vendor waits for.
            vad: reports speech to the processors behind this one.
            turn_model: gets the audio too.
        """
        super().__init__(name="speech-input", enable_direct_mode=True)
        self.silence_ms = endpointing_ms if vad is None else round(vad.params.stop_secs * 1000)
        """The silence after which the service is to finish a transcript, in ms."""
        self._stt, self._vad, self._turn_model = stt, vad, turn_model
        self._end_of_speech = EndOfSpeech(endpointing_ms) if vad is None else None
        self._sample_rate = SAMPLE_RATE
        self._piece = bytearray()
        self._unsent: asyncio.Queue[bytes | bool] = asyncio.Queue()
        self._sending: asyncio.Task[None] | None = None

    async def setup(self, setup: FrameProcessorSetup) -> None:  # type: ignore[override]
        """Start the task that sends audio at the rate of the pipeline."""
        await super().setup(setup)
        self._sample_rate = setup.audio_in_sample_rate
        if self._vad is not None:
            self._vad.set_sample_rate(self._sample_rate)
        if self._end_of_speech is not None:
            self._end_of_speech.bytes_per_ms = bytes_per_ms(self._sample_rate)
        self._sending = self.create_task(self._send())

    async def cleanup(self) -> None:
        """Stop sending."""
        await super().cleanup()  # type: ignore[no-untyped-call]
        if self._sending is not None:
            sending, self._sending = self._sending, None
            await self.cancel_task(sending)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Pass every frame on."""
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)

    def write(self, audio: bytes) -> None:
        """Take 16-bit mono PCM at the rate of the pipeline; return at once."""
        self._piece += audio
        change = self._vad.hear(audio) if self._vad is not None else None
        at_once = change is not None or (
            self._end_of_speech is not None and self._end_of_speech.is_near(audio)
        )
        if at_once or len(self._piece) >= PIECE_MS * bytes_per_ms(self._sample_rate):
            if self._unsent.qsize() < MAX_UNSENT:
                self._unsent.put_nowait(bytes(self._piece))
            self._piece.clear()
        if change is not None:
            self._unsent.put_nowait(change)

    async def _send(self) -> None:
        while True:
            item = await self._take_next()
            try:
                await (self._report(item) if isinstance(item, bool) else self._transcribe(item))
            except Exception as error:  # noqa: BLE001 - the top of a task: the next piece may succeed
                logger.opt(exception=error).error("{}: audio could not be sent", self._stt)
                await self._stt.push_error("audio could not be sent", exception=error)

    async def _take_next(self) -> bytes | bool:
        if self._vad is None or not self._vad.is_speaking:
            return await self._unsent.get()
        try:
            async with asyncio.timeout(AUDIO_IDLE_S):
                return await self._unsent.get()
        except TimeoutError:
            self._vad.stop()
            return False

    async def _transcribe(self, audio: bytes) -> None:
        if isinstance(self._stt, DirectStt) and self._turn_model is None:
            await self._stt.send_audio(audio)
            return
        frame = InputAudioRawFrame(audio=audio, sample_rate=self._sample_rate, num_channels=1)
        await self._stt.process_audio_frame(frame, FrameDirection.DOWNSTREAM)
        if self._turn_model is not None:
            await self._turn_model.queue_frame(frame)

    async def _report(self, is_speaking: bool) -> None:
        if self._vad is None:
            return
        params = self._vad.params
        if is_speaking:
            await self.broadcast_frame(VADUserStartedSpeakingFrame, start_secs=params.start_secs)
        else:
            await self.broadcast_frame(VADUserStoppedSpeakingFrame, stop_secs=params.stop_secs)
