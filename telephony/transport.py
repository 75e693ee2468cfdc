"""The transport of a call: receives while the pipeline runs, and sends speech at the pace of playout.

pipecat's own output passes every 20 to 40 ms of audio through a queue, two waits with deadlines and all later
stages, and broadcasts five times a second that the bot speaks. No stage uses this, and with ten calls it took
a third of the CPU time of the process (docs/decisions/0026-audio-path.md). Here audio is not passed on,
except for the first audio of an utterance, which marks its beginning.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from pipecat.frames.frames import CancelFrame, Frame, StartFrame
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.transports.base_transport import BaseTransport

from telephony.output import CallOutput, Wire

SAMPLE_RATE = 8000
CHUNK_MS = 40
"""Audio per message; 20 ms would double the number of messages. It pads an utterance by 20 ms on average."""

CHUNK_BYTES = CHUNK_MS * SAMPLE_RATE // 1000 * 2


class CallTransport(BaseTransport):
    """The first and the last stage of a call's pipeline."""

    def __init__(
        self,
        wire: Wire,
        listen: Callable[[], Awaitable[None]],
        *,
        chunk_bytes: int = CHUNK_BYTES,
        sample_rate: int = SAMPLE_RATE,
    ) -> None:
        """Nothing is received before the pipeline starts.

        Args:
            wire: where audio is sent.
            listen: receives from the carrier until the socket is closed.
            chunk_bytes: the size of each message's audio, 16-bit mono PCM.
            sample_rate: of the audio that is sent, in Hz.
        """
        super().__init__()
        self._input = CallInput(listen)
        self._output = CallOutput(wire, chunk_bytes=chunk_bytes, sample_rate=sample_rate)

    def input(self) -> CallInput:
        """The first stage of the pipeline."""
        return self._input

    def output(self) -> CallOutput:
        """The stage that sends."""
        return self._output


class CallInput(FrameProcessor):
    """Passes every frame on, and receives from the carrier while the pipeline runs."""

    def __init__(self, listen: Callable[[], Awaitable[None]]) -> None:
        """``listen`` receives until the socket is closed."""
        super().__init__(name="call-input", enable_direct_mode=True)
        self._listen = listen
        self._listening: asyncio.Task[None] | None = None

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Pass a frame on; start to receive behind the StartFrame."""
        await super().process_frame(frame, direction)
        if isinstance(frame, CancelFrame):
            await self._stop()
        await self.push_frame(frame, direction)
        if isinstance(frame, StartFrame):
            self._listening = self.create_task(self._receive())

    async def cleanup(self) -> None:
        """Stop to receive."""
        await super().cleanup()  # type: ignore[no-untyped-call]
        await self._stop()

    async def _receive(self) -> None:
        await self._listen()

    async def _stop(self) -> None:
        listening, self._listening = self._listening, None
        if listening is not None:
            await self.cancel_task(listening)
