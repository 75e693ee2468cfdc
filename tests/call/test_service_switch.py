"""One service at a time, the others connected in the background: voicebot.call.audio.service_switch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from pipecat.frames.frames import EndFrame, ErrorFrame, Frame, InterruptionFrame, TextFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor, FrameProcessorSetup
from pipecat.workers.runner import WorkerRunner

from voicebot.call.audio.frames import DrainFrame
from voicebot.call.audio.service_switch import ServiceSwitch
from voicebot.providers.service_spec import ServiceFailed, ServiceSpec, made


class Vendor(FrameProcessor):
    """Connects when told to, and signs every text that passes through it."""

    def __init__(self, name: str, *, connects: bool = True) -> None:
        super().__init__(name=name)
        self.may_connect = asyncio.Event()
        if connects:
            self.may_connect.set()

    async def setup(self, setup: FrameProcessorSetup) -> None:
        await super().setup(setup)
        await self.may_connect.wait()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, TextFrame):
            frame = TextFrame(f"{self.name}:{frame.text}")
        await self.push_frame(frame, direction)


class Busy(Vendor):
    """Takes its time over a text."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.at_work = asyncio.Event()
        self.may_go_on = asyncio.Event()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        if isinstance(frame, TextFrame):
            self.at_work.set()
            await self.may_go_on.wait()
        await super().process_frame(frame, direction)


class Sink(FrameProcessor):
    """Keeps what comes out."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.drains: list[DrainFrame] = []
        self.interruptions = 0

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, TextFrame):
            self.texts.append(frame.text)
        elif isinstance(frame, InterruptionFrame):
            self.interruptions += 1
        elif isinstance(frame, DrainFrame):
            self.drains.append(frame)
        await self.push_frame(frame, direction)


def part(vendor: FrameProcessor) -> ServiceSpec:
    """A part whose vendor is connected once it is set up."""

    async def connected() -> None:
        return None

    return ServiceSpec(key=vendor.name, make=made(vendor), connected=connected)


async def no_error(key: str, frame: ErrorFrame) -> None:
    """No error is expected."""
    raise AssertionError(key)


@asynccontextmanager
async def running(switch: ServiceSwitch) -> AsyncIterator[tuple[PipelineWorker, Sink]]:
    """A worker around the switch that has passed its StartFrame."""
    sink = Sink()
    worker = PipelineWorker(
        Pipeline([switch, sink]), enable_rtvi=False, enable_turn_tracking=False, idle_timeout_secs=None
    )
    started = asyncio.Event()
    worker.add_event_handler("on_pipeline_started", lambda *_: started.set())
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    task = asyncio.create_task(runner.run())
    try:
        async with asyncio.timeout(5):
            await started.wait()
            yield worker, sink
    finally:
        await runner.cancel()
        await task


async def test_the_pipeline_starts_before_the_first_vendor_has_connected() -> None:
    """A vendor that hangs at connect does not hold the StartFrame, and what came meanwhile is delivered in
    order."""
    slow = Vendor("slow", connects=False)
    switch = ServiceSwitch(part(slow), on_error=no_error, name="tts")
    async with running(switch) as (worker, sink):
        preparing = asyncio.create_task(switch.prepare(part(slow)))
        for n in range(3):
            await worker.queue_frame(TextFrame(str(n)))
        await asyncio.sleep(0.05)
        assert sink.texts == []
        slow.may_connect.set()
        await preparing
        await worker.queue_frame(TextFrame("3"))
        await worker.flush_pipeline()
        assert sink.texts == ["slow:0", "slow:1", "slow:2", "slow:3"]


async def test_only_the_active_part_gets_frames() -> None:
    """After a switch the new part does the work, without a frame lost or doubled."""
    first, second = Vendor("first"), Vendor("second")
    switch = ServiceSwitch(part(first), on_error=no_error, name="tts")
    async with running(switch) as (worker, sink):
        await switch.prepare(part(first))
        await switch.prepare(part(second))
        await worker.queue_frame(TextFrame("a"))
        await worker.flush_pipeline()
        switch.switch("second")
        await worker.queue_frame(TextFrame("b"))
        await worker.flush_pipeline()
        assert sink.texts == ["first:a", "second:b"]


async def test_an_equal_part_is_not_made_again() -> None:
    """Agents with equal settings share a part, which is made once, also when both are prepared at a time."""
    times = 0
    vendor = Vendor("first", connects=False)

    async def make() -> list[FrameProcessor]:
        nonlocal times
        times += 1
        return [vendor]

    def equal() -> ServiceSpec:
        return replace(part(vendor), make=make)

    switch = ServiceSwitch(equal(), on_error=no_error, name="stt")
    async with running(switch):
        preparing = asyncio.gather(switch.prepare(equal()), switch.prepare(equal()))
        vendor.may_connect.set()
        await preparing
        await switch.prepare(equal())
    assert times == 1


async def test_a_part_that_is_not_ready_cannot_be_switched_to() -> None:
    """Switching to a part that has not connected is refused, and the active one stays."""
    switch = ServiceSwitch(part(Vendor("first")), on_error=no_error, name="tts")
    with pytest.raises(ServiceFailed):
        switch.switch("unknown")
    assert switch.active == "first"


async def test_a_part_that_does_not_connect_in_time_fails() -> None:
    """A vendor that never accepts the connection gives PartFailed in time, and may be tried again."""
    first, dead = Vendor("first"), Vendor("other", connects=False)
    switch = ServiceSwitch(part(first), on_error=no_error, name="tts")
    async with running(switch) as (worker, sink):
        await switch.prepare(part(first))
        with pytest.raises(ServiceFailed, match="did not connect"):
            await switch.prepare(part(dead), timeout_s=0.05)
        await switch.prepare(part(Vendor("other")))
        switch.switch("other")
        await worker.queue_frame(TextFrame("again"))
        await worker.flush_pipeline()
        assert sink.texts == ["other:again"]


async def test_an_interruption_passes_while_nothing_is_connected() -> None:
    """A barge-in reaches the output although the voice still connects, and drops what was to be said."""
    slow = Vendor("slow", connects=False)
    switch = ServiceSwitch(part(slow), on_error=no_error, name="tts")
    async with running(switch) as (worker, sink):
        preparing = asyncio.create_task(switch.prepare(part(slow)))
        await worker.queue_frame(TextFrame("dropped"))
        await asyncio.sleep(0.05)
        await worker.queue_frame(InterruptionFrame())
        await asyncio.sleep(0.05)
        assert sink.interruptions == 1
        slow.may_connect.set()
        await preparing
        await worker.flush_pipeline()
        assert sink.texts == []


async def test_a_drain_comes_out_of_a_part_that_is_replaced_meanwhile() -> None:
    """Whoever waits for a drain that is inside the old part when the switch changes is not left waiting."""
    first, second = Busy("first"), Vendor("second")
    switch = ServiceSwitch(part(first), on_error=no_error, name="tts")
    async with running(switch) as (worker, sink):
        await switch.prepare(part(first))
        await switch.prepare(part(second))
        drain = DrainFrame()
        await worker.queue_frames([TextFrame("a"), drain])
        flush = asyncio.create_task(worker.flush_pipeline())
        await first.at_work.wait()
        switch.switch("second")
        first.may_go_on.set()
        assert await asyncio.wait_for(flush, 2)
        assert sink.drains == [drain]


async def test_the_end_passes_every_part() -> None:
    """An EndFrame ends the pipeline although one part is idle and another still connects."""
    first, second, slow = Vendor("first"), Vendor("second"), Vendor("slow", connects=False)
    switch = ServiceSwitch(part(first), on_error=no_error, name="tts")
    async with running(switch) as (worker, sink):
        await switch.prepare(part(first))
        await switch.prepare(part(second))
        preparing = asyncio.create_task(switch.prepare(part(slow)))
        await worker.queue_frames([TextFrame("last"), EndFrame()])
        async with asyncio.timeout(2):
            while not worker.has_finished():
                await asyncio.sleep(0.01)
        assert sink.texts == ["first:last"]
        preparing.cancel()
