"""One service of a switch, with the processors that belong to it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from pipecat.frames.frames import Frame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from voicebot.providers.service_spec import ServiceSpec


@dataclass(slots=True, kw_only=True)
class Branch:
    """One service and its processors, which exist once it was prepared."""

    spec: ServiceSpec
    processors: Sequence[FrameProcessor] = ()
    pipeline: Pipeline | None = None
    started: asyncio.Event = field(default_factory=asyncio.Event)
    ready: bool = False
    failed: bool = False
    preparing: asyncio.Task[None] | None = None
    cleaning: asyncio.Task[None] | None = None
    backlog: deque[tuple[Frame, FrameDirection]] = field(default_factory=deque)

    async def queue_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Give a frame to the processors; they exist when the branch is ready."""
        if self.pipeline is not None:
            await self.pipeline.queue_frame(frame, direction)
