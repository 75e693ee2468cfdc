"""One place in a call's pipeline where one of several prepared services does the work.

pipecat's own ``ServiceSwitcher`` sets all its members up before the call starts, so the first word waits for
the slowest of them, copies every frame to every member, and cannot take a member in later. This one connects
its members in the background, at any time of the call, and gives frames to the active one alone
(docs/decisions/0003-service-switch.md).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from copy import copy
from dataclasses import dataclass, field

from loguru import logger
from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    ErrorFrame,
    Frame,
    FunctionCallCancelFrame,
    FunctionCallInProgressFrame,
    FunctionCallResultFrame,
    InputAudioRawFrame,
    InterruptionFrame,
    PipelineFlushFrame,
    StartFrame,
    SystemFrame,
)
from pipecat.pipeline.pipeline import Pipeline, PipelineSink, PipelineSource
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from voicebot.call.audio.drain import DrainFrame
from voicebot.providers.service_spec import ServiceFailed, ServiceSpec

PREPARE_TIMEOUT_S = 10.0
BACKLOG_FRAMES = 500  # 10 s of 20 ms carrier audio, kept while the active part still connects

# A function that outlives its agent still owes the conversation its result; somebody waits for a drain's end.
_ALWAYS_PASSED = (
    FunctionCallInProgressFrame,
    FunctionCallResultFrame,
    FunctionCallCancelFrame,
    DrainFrame,
    PipelineFlushFrame,
)

OnError = Callable[[str, ErrorFrame], Awaitable[None]]


@dataclass(slots=True, kw_only=True)
class _Branch:
    part: ServiceSpec
    processors: Sequence[FrameProcessor] = ()
    pipeline: Pipeline | None = None
    started: asyncio.Event = field(default_factory=asyncio.Event)
    ready: bool = False
    failed: bool = False
    preparing: asyncio.Task[None] | None = None
    backlog: deque[tuple[Frame, FrameDirection]] = field(default_factory=lambda: deque(maxlen=BACKLOG_FRAMES))

    async def queue_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Give a frame to the processors, which are there once the branch is ready."""
        if self.pipeline is not None:
            await self.pipeline.queue_frame(frame, direction)


class ServiceSwitch(FrameProcessor):
    """Routes frames to the active part; the others wait with their sockets open.

    Frames that come while the active part still connects are kept and given to it in order, so that a call
    starts (and its first greeting sounds) before any vendor has answered.
    """

    def __init__(self, initial: ServiceSpec, *, on_error: OnError, name: str) -> None:
        """``on_error`` is told of every error of every part, by the part's key."""
        super().__init__(name=name)
        self._on_error = on_error
        self._branches: dict[str, _Branch] = {}
        self._start: asyncio.Future[StartFrame] = asyncio.get_running_loop().create_future()
        self._active = self._add(initial)
        self._releases: set[asyncio.Task[None]] = set()
        self._held: list[Frame] | None = None
        self._held_since_ns = 0

    @property
    def active(self) -> str:
        """The key of the part that does the work."""
        return self._active.part.key

    @property
    def active_processors(self) -> Sequence[FrameProcessor]:
        """The processors of the part that does the work."""
        return self._active.processors

    def is_ready(self, key: str) -> bool:
        """Whether a part with this key is connected and started."""
        branch = self._branches.get(key)
        return branch is not None and branch.ready

    async def prepare(self, part: ServiceSpec, *, timeout_s: float = PREPARE_TIMEOUT_S) -> None:
        """Connect and start ``part``; equal parts (by key) are prepared once and shared.

        Raises:
            PartFailed: it did not connect within ``timeout_s`` seconds, or the vendor refused.
        """
        branch = self._branches.get(part.key)
        if branch is None or branch.failed:
            branch = self._replace(branch, self._add(part))
        if branch.ready:
            return
        task = branch.preparing
        if task is None or task.done():
            # pipecat's own tasks swallow what they raise
            task = asyncio.create_task(self._prepare(branch, timeout_s), name=f"prepare {self.name}")
            task.add_done_callback(_retrieve)
            branch.preparing = task
        await asyncio.shield(task)

    def switch(self, key: str) -> None:
        """Give all further frames to the part with this key.

        Raises:
            PartFailed: it is not ready; the active part stays.
        """
        if not self.is_ready(key):
            raise ServiceFailed(key, "is not ready")
        self._active = self._branches[key]

    def give_up(self, key: str) -> None:
        """Stop using a part that broke down; what comes for it is kept until another one is prepared."""
        branch = self._branches[key]
        branch.failed, branch.ready = True, False

    def hold(self) -> None:
        """Keep what the active part brings, until it is released: another's words are still being heard."""
        self._held = []
        self._held_since_ns = self.get_clock().get_time()

    async def release(self) -> None:
        """Let out what was held, in order; what was timed comes as much later as it was held."""
        late_ns = self.get_clock().get_time() - self._held_since_ns
        while self._held:
            frame = self._held.pop(0)
            if frame.pts:
                frame.pts += late_ns
            await self.push_frame(frame)
        self._held = None

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Pass lifecycle frames to every part and all others to the active one."""
        await super().process_frame(frame, direction)
        if isinstance(frame, StartFrame):
            self._start.set_result(frame)
            await self.push_frame(frame, direction)
        elif isinstance(frame, EndFrame | CancelFrame):
            await self._end(frame, direction)
        elif self._active.ready:
            await self._active.queue_frame(frame, direction)
        else:
            await self._keep(frame, direction)

    async def cleanup(self) -> None:
        """Release every part, connected or not."""
        await super().cleanup()  # type: ignore[no-untyped-call]
        parts = (self._release_part(branch) for branch in self._branches.values())
        await asyncio.gather(*parts, *self._releases, return_exceptions=True)

    def _add(self, part: ServiceSpec) -> _Branch:
        branch = _Branch(part=part)
        self._branches[part.key] = branch
        return branch

    def _join(self, branch: _Branch, processors: Sequence[FrameProcessor]) -> Pipeline:
        """Put a branch's processors together, with our ends."""
        part = branch.part

        async def downstream(frame: Frame, direction: FrameDirection) -> None:
            await self._leave(branch, frame, direction)

        async def upstream(frame: Frame, direction: FrameDirection) -> None:
            if isinstance(frame, ErrorFrame) and frame.processor in processors:
                if not all(processor.is_usable for processor in processors):
                    branch.failed, branch.ready = True, False
                if self._branches.get(part.key) is branch:  # nobody wants to hear of one that was replaced
                    await self._on_error(part.key, frame)
            await self._leave(branch, frame, direction)

        branch.processors = processors
        branch.pipeline = Pipeline(
            list(processors), source=PipelineSource(upstream), sink=PipelineSink(downstream)
        )
        return branch.pipeline

    def _replace(self, failed: _Branch | None, branch: _Branch) -> _Branch:
        if failed is not None:
            # Its processors would go on trying to connect for the rest of the call.
            self._releases.add(asyncio.create_task(self._release_part(failed)))
        if failed is self._active:
            branch.backlog = failed.backlog
            self._active = branch
        return branch

    async def _prepare(self, branch: _Branch, timeout_s: float) -> None:
        key = branch.part.key
        try:
            async with asyncio.timeout(timeout_s):
                pipeline = self._join(branch, await branch.part.make())
                await pipeline.setup(self.processor_setup)
                await branch.part.connected()
                start = await asyncio.shield(self._start)
                await pipeline.queue_frame(copy(start))
                await branch.started.wait()
        except TimeoutError as error:
            await self._drop(branch)
            raise ServiceFailed(key, f"did not connect within {timeout_s:g} s") from error
        except ServiceFailed:
            await self._drop(branch)
            raise
        while branch.backlog:
            frame, direction = branch.backlog.popleft()
            await pipeline.queue_frame(frame, direction)
        branch.ready = True

    async def _drop(self, branch: _Branch) -> None:
        """Release a part that failed; it can be tried again with fresh processors."""
        branch.failed = True
        await self._release_part(branch)

    async def _release_part(self, branch: _Branch) -> None:
        preparing = branch.preparing
        if preparing is not None and preparing is not asyncio.current_task():
            # Released while it still connects, its processors would outlive the call.
            preparing.cancel()
            await asyncio.gather(preparing, return_exceptions=True)
        if branch.pipeline is None:
            return
        try:
            await branch.pipeline.cleanup()
        except Exception as error:  # an edge: a vendor's half-open socket must not take the call down
            logger.debug("{}: cleaning up {} failed: {}", self, branch.part.key, type(error).__name__)

    async def _keep(self, frame: Frame, direction: FrameDirection) -> None:
        branch = self._active
        if isinstance(frame, InterruptionFrame):
            kept = [item for item in branch.backlog if not item[0].interruptible]
            branch.backlog.clear()
            branch.backlog.extend(kept)
        urgent = isinstance(frame, SystemFrame) and not isinstance(frame, InputAudioRawFrame)
        if urgent or direction is FrameDirection.UPSTREAM:
            await self.push_frame(frame, direction)
        else:
            branch.backlog.append((frame, direction))

    async def _leave(self, branch: _Branch, frame: Frame, direction: FrameDirection) -> None:
        if isinstance(frame, InterruptionFrame) and self._held is not None:
            self._held = [held for held in self._held if not held.interruptible]
        if isinstance(frame, StartFrame):
            branch.started.set()
        elif isinstance(frame, CancelFrame):
            return  # passed on already: nobody waits for a cancelled part
        elif branch is self._active or isinstance(frame, _ALWAYS_PASSED):
            urgent = isinstance(frame, SystemFrame | EndFrame) or direction is FrameDirection.UPSTREAM
            if self._held is None or urgent:
                await self.push_frame(frame, direction)
            else:
                self._held.append(frame)

    async def _end(self, frame: EndFrame | CancelFrame, direction: FrameDirection) -> None:
        for branch in list(self._branches.values()):
            if branch.ready:
                await branch.queue_frame(frame, direction)
        if isinstance(frame, CancelFrame) or not self._active.ready:
            await self.push_frame(frame, direction)


def _retrieve(task: asyncio.Task[None]) -> None:
    """Whoever waited for a preparation has its error; if nobody did, it is no news."""
    if not task.cancelled():
        task.exception()
