"""Waiting until everything that the model brought so far has gone out to the carrier and into the context."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from pipecat.frames.frames import ControlFrame, Frame
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor


@dataclass
class DrainFrame(ControlFrame):
    """Travels behind all speech.

    ``synthesised`` is set when the voice has made the last of it, ``arrived`` when that has been handed to
    the carrier.

    pipecat's ``flush_pipeline`` does the same by three passes through the whole pipeline; this is one pass
    through the half behind the model.
    """

    interruptible: bool = field(default=False, init=False)
    synthesised: asyncio.Event = field(default_factory=asyncio.Event)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)


class DrainSink(FrameProcessor):
    """The end of the pipeline, behind the assistant's context."""

    def __init__(self) -> None:
        """Where drains arrive."""
        super().__init__(name="tail", enable_direct_mode=True)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Report drains; pass everything else on."""
        await super().process_frame(frame, direction)
        if isinstance(frame, DrainFrame):
            frame.arrived.set()
        else:
            await self.push_frame(frame, direction)
