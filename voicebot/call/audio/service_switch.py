"""The stage of a call's pipeline at which one of several connected services is active.

pipecat's own ``ServiceSwitcher`` sets up all its members before the call starts, so the first word waits for
the slowest of them, it copies every frame to every member, and it cannot take in a member later. This one
connects its members in the background, at any time of the call, and gives frames to the active one alone
(docs/decisions/0003-service-switch.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from copy import copy

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
    TranscriptionFrame,
    TTSAudioRawFrame,
)
from pipecat.pipeline.pipeline import Pipeline, PipelineSink, PipelineSource
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from voicebot.background import BackgroundTasks
from voicebot.call.audio.branch import Branch
from voicebot.call.audio.frames import DrainFrame
from voicebot.providers.service_spec import ServiceFailed, ServiceSpec

PREPARE_TIMEOUT_S = 10.0

# Passed on from inactive services too: the result of a function that an earlier agent called belongs in the
# context, and something waits for every drain and flush.
_ALWAYS_PASSED = (
    FunctionCallInProgressFrame,
    FunctionCallResultFrame,
    FunctionCallCancelFrame,
    DrainFrame,
    PipelineFlushFrame,
)

OnError = Callable[[str, ErrorFrame], Awaitable[None]]


class ServiceSwitch(FrameProcessor):
    """Passes frames to the active service; the others wait with their sockets open.

    Frames that arrive while the active service is still connecting are kept and delivered in order, so that a
    call starts (and its greeting is played) before any vendor has answered. Frames that the service does not
    process pass at once. No frame is dropped, so frames that control the call are not lost however long a
    vendor takes.
    """

    def __init__(
        self,
        initial: ServiceSpec,
        *,
        on_error: OnError,
        name: str,
        waits: type[Frame] | tuple[type[Frame], ...] = Frame,
    ) -> None:
        """Start with the service of the agent who answers.

        Args:
            initial: the first active service.
            on_error: called with the key of a service and every error of it.
            name: the kind of service.
            waits: the frames that are kept for a service that still connects; others pass by.
        """
        super().__init__(name=name, enable_direct_mode=True)
        self._on_error = on_error
        self._waits = waits
        self._branches: dict[str, Branch] = {}
        self._start: asyncio.Future[StartFrame] = asyncio.get_running_loop().create_future()
        self._active = self._add(initial)
        self._background = BackgroundTasks(f"{name} switch")
        self._is_closed = False
        self.on_worked: Callable[[str], None] = _ignore
        """Called with the provider of a service that has produced speech or words."""

    @property
    def active(self) -> str:
        """The key of the active service."""
        return self._active.spec.key

    @property
    def active_branch(self) -> Branch:
        """The active service."""
        return self._active

    @property
    def active_processors(self) -> Sequence[FrameProcessor]:
        """The processors of the active service."""
        return self._active.processors

    def is_ready(self, key: str) -> bool:
        """Whether a service with this key is connected and started."""
        branch = self._branches.get(key)
        return branch is not None and branch.ready

    async def prepare(self, spec: ServiceSpec, *, timeout_s: float = PREPARE_TIMEOUT_S) -> None:
        """Connect and start a service; services with equal keys are prepared once and shared.

        Raises:
            ServiceFailed: it did not connect within ``timeout_s`` seconds, or the vendor refused, or the call
                has ended.
        """
        if self._is_closed:
            raise ServiceFailed(spec.key, "the call has ended")
        branch = self._branches.get(spec.key)
        if branch is None or branch.failed:
            branch = self._replace(branch, self._add(spec))
        if branch.ready:
            return
        task = branch.preparing
        if task is None:
            # Shared by all waiting callers. Not a pipecat task, because those swallow exceptions.
            task = asyncio.create_task(self._prepare(branch, timeout_s), name=f"prepare {self.name}")
            task.add_done_callback(_retrieve)
            branch.preparing = task
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            waiting = asyncio.current_task()
            if not task.cancelled() or (waiting is not None and waiting.cancelling()):
                raise
            # Somebody else prepared the failed service anew while it was being released.
            raise ServiceFailed(spec.key, "was prepared again") from None

    async def replace(self, spec: ServiceSpec, *, timeout_s: float = PREPARE_TIMEOUT_S) -> None:
        """Connect a service and make it the active one; it gets the frames kept for the one that failed.

        Raises:
            ServiceFailed: it did not connect; nothing changed.
        """
        key = self._active.spec.key
        await self.prepare(spec, timeout_s=timeout_s)
        failed, branch = self._active, self._branches[spec.key]
        if failed.spec.key != key or branch is failed:
            return  # the agent has changed meanwhile, or the service kept its place
        await self._take_over(failed, branch)

    async def fall_back(self) -> str | None:
        """Make any other service that is ready the active one, in place of one that failed.

        Returns:
            Its key; None: there is none.
        """
        failed = self._active
        branch = next((each for each in self._branches.values() if each.ready), None)
        if branch is None or branch is failed:
            return None
        await self._take_over(failed, branch)
        return branch.spec.key

    async def _take_over(self, failed: Branch, branch: Branch) -> None:
        while failed.backlog:
            frame, direction = failed.backlog.popleft()
            await branch.queue_frame(frame, direction)
        self._active = branch
        self.became_active(branch)
        if failed.failed:
            self._branches.pop(failed.spec.key, None)
            self._background.start(self._release(failed), name="releasing a failed service")

    def switch(self, key: str) -> None:
        """Make the service with this key the active one: it gets all further frames.

        The active service keeps its place while it is connected again.

        Raises:
            ServiceFailed: it is another one, and not ready; the active service stays.
        """
        if key == self.active:
            return
        if not self.is_ready(key):
            raise ServiceFailed(key, "is not ready")
        self._active = self._branches[key]

    def give_up(self, key: str) -> None:
        """Stop using a failed service; frames for it are kept until another one is prepared."""
        branch = self._branches[key]
        branch.failed, branch.ready = True, False

    def became_active(self, branch: Branch) -> None:
        """Frames go to this service, which is ready, from now on."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Pass lifecycle frames to every service and all others to the active one."""
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
        """Release every service, connected or not."""
        self._is_closed = True
        await super().cleanup()  # type: ignore[no-untyped-call]
        releases = (self._release(branch) for branch in self._branches.values())
        await asyncio.gather(*releases, return_exceptions=True)
        await self._background.finish()

    def _add(self, spec: ServiceSpec) -> Branch:
        branch = Branch(spec=spec)
        self._branches[spec.key] = branch
        return branch

    def _join(self, branch: Branch, processors: Sequence[FrameProcessor]) -> Pipeline:
        """Make a pipeline of a branch's processors, with our own source and sink."""

        async def downstream(frame: Frame, direction: FrameDirection) -> None:
            await self._leave(branch, frame, direction)

        async def upstream(frame: Frame, direction: FrameDirection) -> None:
            if isinstance(frame, ErrorFrame) and frame.processor in processors:
                await self._service_failed(branch, frame)
            await self._leave(branch, frame, direction)

        branch.processors = processors
        branch.pipeline = Pipeline(
            list(processors), source=PipelineSource(upstream), sink=PipelineSink(downstream)
        )
        return branch.pipeline

    async def _service_failed(self, branch: Branch, frame: ErrorFrame) -> None:
        """Report an error of a service in use; ``prepare`` raises errors of others."""
        was_ready = branch.ready
        if not all(processor.is_usable for processor in branch.processors):
            branch.failed, branch.ready = True, False
        if was_ready and self._branches.get(branch.spec.key) is branch:  # not of one that was replaced
            await self._on_error(branch.spec.key, frame)

    def _replace(self, failed: Branch | None, branch: Branch) -> Branch:
        if failed is not None:
            # Its processors would try to connect for the rest of the call.
            self._background.start(self._release(failed), name="releasing a failed service")
        if failed is self._active:
            branch.backlog = failed.backlog
            self._active = branch
        return branch

    async def _prepare(self, branch: Branch, timeout_s: float) -> None:
        timeout = asyncio.timeout(timeout_s)
        try:
            async with timeout:
                pipeline = self._join(branch, await branch.spec.make())
                await pipeline.setup(self.processor_setup)
                await branch.spec.connected()
                start = await asyncio.shield(self._start)
                await pipeline.queue_frame(copy(start))
                await branch.started.wait()
        except BaseException as error:
            branch.failed = True  # it can be prepared again with new processors
            self._start_cleaning(branch)
            # With Python 3.11, asyncio.timeout does not replace a subclass of CancelledError by TimeoutError.
            if isinstance(error, TimeoutError) or timeout.expired():
                raise ServiceFailed(branch.spec.key, f"did not connect within {timeout_s:g} s") from error
            raise
        while branch.backlog:
            frame, direction = branch.backlog.popleft()
            await pipeline.queue_frame(frame, direction)
        branch.ready = True
        if branch is self._active:
            self.became_active(branch)

    async def _release(self, branch: Branch) -> None:
        preparing = branch.preparing
        if preparing is not None:
            # Its processors would outlive the call if it went on connecting.
            preparing.cancel()
            await asyncio.gather(preparing, return_exceptions=True)
        self._start_cleaning(branch)
        if branch.cleaning is not None:
            await asyncio.shield(branch.cleaning)

    def _start_cleaning(self, branch: Branch) -> None:
        """Close the sockets of a branch, once, in the background: a vendor may take long to close one."""
        if branch.pipeline is not None and branch.cleaning is None:
            work = _clean_up(branch.pipeline, branch.spec.key)
            branch.cleaning = self._background.start(work, name="releasing a service")

    async def _keep(self, frame: Frame, direction: FrameDirection) -> None:
        branch = self._active
        if isinstance(frame, InterruptionFrame):
            kept = [item for item in branch.backlog if not item[0].interruptible]
            branch.backlog.clear()
            branch.backlog.extend(kept)
        passes = isinstance(frame, SystemFrame) or not isinstance(frame, self._waits)
        if passes or direction is FrameDirection.UPSTREAM:
            await self.push_frame(frame, direction)
            return
        branch.backlog.append((frame, direction))

    async def _leave(self, branch: Branch, frame: Frame, direction: FrameDirection) -> None:
        if isinstance(frame, StartFrame):
            branch.started.set()
        elif isinstance(frame, CancelFrame):
            return  # process_frame has passed it on: nobody waits for a cancelled service
        elif isinstance(frame, InputAudioRawFrame):
            return  # the turn model, which got it, pushed it on; no stage behind it uses it
        elif branch is self._active or isinstance(frame, _ALWAYS_PASSED):
            if isinstance(frame, TTSAudioRawFrame | TranscriptionFrame):
                self.on_worked(branch.spec.provider)
            await self._pass_on(frame, direction)

    async def _pass_on(self, frame: Frame, direction: FrameDirection) -> None:
        """Pass on the output of a service."""
        await self.push_frame(frame, direction)

    async def _end(self, frame: EndFrame | CancelFrame, direction: FrameDirection) -> None:
        for branch in list(self._branches.values()):
            if branch.ready:
                await branch.queue_frame(frame, direction)
        if isinstance(frame, CancelFrame) or not self._active.ready:
            await self.push_frame(frame, direction)


async def _clean_up(pipeline: Pipeline, key: str) -> None:
    try:
        await pipeline.cleanup()
    except Exception as error:  # noqa: BLE001 - a half-open socket of a vendor must not end the call
        logger.debug("cleaning up {} failed: {}", key, type(error).__name__)


def _ignore(_provider: str) -> None:
    return None


def _retrieve(task: asyncio.Task[None]) -> None:
    """Mark a preparation's exception as retrieved: the waiting tasks have received it."""
    if not task.cancelled():
        task.exception()
