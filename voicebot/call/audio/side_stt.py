"""An STT service beside a call's pipeline: nothing of what it hears reaches the turns or the model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from copy import copy

from loguru import logger
from pipecat.frames.frames import (
    ErrorFrame,
    Frame,
    InterimTranscriptionFrame,
    StartFrame,
    TranscriptionFrame,
)
from pipecat.pipeline.pipeline import Pipeline, PipelineSink, PipelineSource
from pipecat.processors.frame_processor import FrameDirection, FrameProcessorSetup

from voicebot.providers.service_spec import ServiceFailed, ServiceSpec
from voicebot.providers.speech_input import SpeechInput

CONNECT_S = 5.0
"""How long the service may take to connect, in seconds."""

MAX_WAITING_BYTES = 480_000
"""Audio that is kept while the service connects: 10 s at 24,000 Hz, and more at a lower rate."""


class SideStt:
    """Transcribes one voice with a service of its own.

    A service that fails is not replaced: what is spoken then is in no transcript, and the call continues.
    """

    def __init__(
        self,
        spec: ServiceSpec,
        on_words: Callable[[str, bool], None],
        on_failure: Callable[[ServiceSpec, BaseException | None], None],
    ) -> None:
        """Not connected yet.

        Args:
            spec: the service.
            on_words: called with each transcript, and whether it is final.
            on_failure: called once, when the service cannot be used or be used any more.
        """
        self._spec = spec
        self._on_words = on_words
        self._on_failure = on_failure
        self._pipeline: Pipeline | None = None
        self._input: SpeechInput | None = None
        self._started = asyncio.Event()
        self._waiting = bytearray()
        self._has_failed = False

    async def connect(self, setup: FrameProcessorSetup, start: StartFrame) -> None:
        """Connect within 5 s; ``setup`` and ``start`` are those of the call's pipeline."""
        try:
            async with asyncio.timeout(CONNECT_S):
                processors = list(await self._spec.make())
                source, sink = PipelineSource(self._upstream), PipelineSink(self._downstream)
                self._pipeline = Pipeline(processors, source=source, sink=sink)
                await self._pipeline.setup(setup)
                await self._spec.connected()
                await self._pipeline.queue_frame(copy(start))
                await self._started.wait()
        except (TimeoutError, ServiceFailed) as error:
            self._fail(error)
            return
        speech = next((each for each in processors if isinstance(each, SpeechInput)), None)
        if speech is not None:
            speech.write(bytes(self._waiting))
        self._input = speech
        self._waiting.clear()

    def hear(self, audio: bytes) -> None:
        """Take 16-bit mono PCM at the call's rate; return at once."""
        if self._input is not None:
            self._input.write(audio)
        elif not self._has_failed and len(self._waiting) < MAX_WAITING_BYTES:
            self._waiting += audio

    async def close(self) -> None:
        """Close the service."""
        self._input, self._has_failed = None, True
        if self._pipeline is not None:
            try:
                await self._pipeline.cleanup()
            except Exception as error:  # noqa: BLE001 - a half-open socket of a vendor must not end the call
                logger.debug("cleaning up {} failed: {}", self._spec.key, type(error).__name__)

    async def _downstream(self, frame: Frame, _: FrameDirection) -> None:
        if isinstance(frame, StartFrame):
            self._started.set()
        elif isinstance(frame, TranscriptionFrame | InterimTranscriptionFrame):
            self._on_words(frame.text, isinstance(frame, TranscriptionFrame))

    async def _upstream(self, frame: Frame, _: FrameDirection) -> None:
        if isinstance(frame, ErrorFrame):
            self._fail(frame.exception)

    def _fail(self, error: BaseException | None) -> None:
        if not self._has_failed:
            self._has_failed, self._input = True, None
            self._on_failure(self._spec, error)
