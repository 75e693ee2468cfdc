"""Switching between connected services: voicebot.call.audio.service_switch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from pipecat.frames.frames import (
    EndFrame,
    ErrorFrame,
    Frame,
    InputAudioRawFrame,
    InterruptionFrame,
    TextFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor, FrameProcessorSetup
from pipecat.workers.runner import WorkerRunner

from voicebot.call.audio.frames import DrainFrame
from voicebot.call.audio.service_switch import ServiceSwitch
from voicebot.call.audio.stt_switch import SttSwitch
from voicebot.providers.service_spec import ServiceFailed, ServiceSpec, made


class Vendor(FrameProcessor):
    """Connects when a test lets it, and prefixes every text with its name."""

    def __init__(self, name: str, *, connects: bool = True) -> None:
        super().__init__(name=name)
        self.may_connect = asyncio.Event()
        if connects:
            self.may_connect.set()

    async def setup(self, setup: FrameProcessorSetup) -> None:  # type: ignore[override] # as FrameProcessor has it
        await super().setup(setup)
        await self.may_connect.wait()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, TextFrame):
            frame = TextFrame(f"{self.name}:{frame.text}")
        await self.push_frame(frame, direction)


class Busy(Vendor):
    """Holds a text until a test releases it."""

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
    """Collects what leaves the switch."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.audio: list[InputAudioRawFrame] = []
        self.drains: list[DrainFrame] = []
        self.interruptions = 0

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, TextFrame):
            self.texts.append(frame.text)
        elif isinstance(frame, InputAudioRawFrame):
            self.audio.append(frame)
        elif isinstance(frame, InterruptionFrame):
            self.interruptions += 1
        elif isinstance(frame, DrainFrame):
            self.drains.append(frame)
        await self.push_frame(frame, direction)


def spec(vendor: FrameProcessor) -> ServiceSpec:
    """A service that is connected when it is set up."""

    async def connected() -> None:
        return None

    return ServiceSpec(key=vendor.name, make=made(vendor), connected=connected)


async def no_error(key: str, _frame: ErrorFrame) -> None:
    """No error is expected."""
    raise AssertionError(key)


@asynccontextmanager
async def running(switch: ServiceSwitch) -> AsyncIterator[tuple[PipelineWorker, Sink]]:
    """A worker around the switch that has passed its StartFrame."""
    sink = Sink()
    worker = PipelineWorker(
        Pipeline([switch, sink]),
        params=PipelineParams(audio_in_sample_rate=8000, audio_out_sample_rate=8000),
        enable_rtvi=False,
        enable_turn_tracking=False,
        idle_timeout_secs=None,
    )
    started = asyncio.Event()
    worker.add_event_handler("on_pipeline_started", lambda *_: started.set())
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    task = asyncio.create_task(runner.run())
    try:
        async with asyncio.timeout(30):
            await started.wait()
            yield worker, sink
    finally:
        await runner.cancel()
        await task


async def test_the_pipeline_starts_before_the_first_vendor_has_connected() -> None:
    """A vendor that hangs at connect does not hold the StartFrame; frames kept meanwhile arrive in order."""
    slow = Vendor("slow", connects=False)
    switch = ServiceSwitch(spec(slow), on_error=no_error, name="tts")
    async with running(switch) as (worker, sink):
        preparing = asyncio.create_task(switch.prepare(spec(slow)))
        for n in range(3):
            await worker.queue_frame(TextFrame(str(n)))
        await asyncio.sleep(0.05)
        assert sink.texts == []
        slow.may_connect.set()
        await preparing
        await worker.queue_frame(TextFrame("3"))
        await worker.flush_pipeline()
        assert sink.texts == ["slow:0", "slow:1", "slow:2", "slow:3"]


async def test_only_the_active_service_gets_frames() -> None:
    """After a switch the new service gets all frames, none lost and none twice."""
    first, second = Vendor("first"), Vendor("second")
    switch = ServiceSwitch(spec(first), on_error=no_error, name="tts")
    async with running(switch) as (worker, sink):
        await switch.prepare(spec(first))
        await switch.prepare(spec(second))
        await worker.queue_frame(TextFrame("a"))
        await worker.flush_pipeline()
        switch.switch("second")
        await worker.queue_frame(TextFrame("b"))
        await worker.flush_pipeline()
        assert sink.texts == ["first:a", "second:b"]


async def test_an_equal_service_is_not_made_again() -> None:
    """Agents with equal settings share one service, also when both are prepared at the same time."""
    times = 0
    vendor = Vendor("first", connects=False)

    async def make() -> list[FrameProcessor]:
        nonlocal times
        times += 1
        return [vendor]

    def equal() -> ServiceSpec:
        return replace(spec(vendor), make=make)

    switch = ServiceSwitch(equal(), on_error=no_error, name="stt")
    async with running(switch):
        preparing = asyncio.gather(switch.prepare(equal()), switch.prepare(equal()))
        vendor.may_connect.set()
        await preparing
        await switch.prepare(equal())
    assert times == 1


async def test_a_service_that_is_not_ready_cannot_be_switched_to() -> None:
    """Switching to a service that is not connected raises ServiceFailed; the active one stays."""
    switch = ServiceSwitch(spec(Vendor("first")), on_error=no_error, name="tts")
    with pytest.raises(ServiceFailed):
        switch.switch("unknown")
    assert switch.active == "first"


async def test_a_service_that_does_not_connect_in_time_fails() -> None:
    """A service that does not connect in time raises ServiceFailed and can be prepared again."""
    first, dead = Vendor("first"), Vendor("other", connects=False)
    switch = ServiceSwitch(spec(first), on_error=no_error, name="tts")
    async with running(switch) as (worker, sink):
        await switch.prepare(spec(first))
        with pytest.raises(ServiceFailed, match="did not connect"):
            await switch.prepare(spec(dead), timeout_s=0.05)
        await switch.prepare(spec(Vendor("other")))
        switch.switch("other")
        await worker.queue_frame(TextFrame("again"))
        await worker.flush_pipeline()
        assert sink.texts == ["other:again"]


async def test_rows_2_and_3_control_does_not_wait_for_an_stt_that_connects() -> None:
    """What an STT does not work on passes it at once while it connects, or connects again."""
    slow = Vendor("slow", connects=False)
    switch = SttSwitch(spec(slow), on_error=no_error)
    async with running(switch) as (worker, sink):
        preparing = asyncio.create_task(switch.prepare(spec(slow)))
        await worker.queue_frame(TextFrame("tools of the first node"))
        await worker.flush_pipeline()
        assert sink.texts == ["tools of the first node"]
        slow.may_connect.set()
        await preparing
        switch.give_up("slow")
        await worker.queue_frame(TextFrame("gate of the next agent"))
        await worker.flush_pipeline()
        assert sink.texts[1:] == ["gate of the next agent"]


async def test_speech_for_a_tts_that_connects_is_kept_whole() -> None:
    """However many frames wait for a TTS, all of them arrive in order."""
    slow = Vendor("slow", connects=False)
    switch = ServiceSwitch(spec(slow), on_error=no_error, name="tts")
    async with running(switch) as (worker, sink):
        preparing = asyncio.create_task(switch.prepare(spec(slow)))
        count = 1000
        await worker.queue_frames([TextFrame(str(n)) for n in range(count)])
        slow.may_connect.set()
        await preparing
        await worker.flush_pipeline()
        assert sink.texts == [f"slow:{n}" for n in range(count)]


async def test_an_interruption_passes_while_nothing_is_connected() -> None:
    """An interruption passes a TTS that still connects and drops the speech kept for it."""
    slow = Vendor("slow", connects=False)
    switch = ServiceSwitch(spec(slow), on_error=no_error, name="tts")
    async with running(switch) as (worker, sink):
        preparing = asyncio.create_task(switch.prepare(spec(slow)))
        await worker.queue_frame(TextFrame("dropped"))
        await asyncio.sleep(0.05)
        await worker.queue_frame(InterruptionFrame())
        await asyncio.sleep(0.05)
        assert sink.interruptions == 1
        slow.may_connect.set()
        await preparing
        await worker.flush_pipeline()
        assert sink.texts == []


async def test_a_drain_passes_a_service_that_is_replaced_meanwhile() -> None:
    """A drain inside the old service reaches the output although another service is active by then."""
    first, second = Busy("first"), Vendor("second")
    switch = ServiceSwitch(spec(first), on_error=no_error, name="tts")
    async with running(switch) as (worker, sink):
        await switch.prepare(spec(first))
        await switch.prepare(spec(second))
        drain = DrainFrame()
        await worker.queue_frames([TextFrame("a"), drain])
        flush = asyncio.create_task(worker.flush_pipeline())
        await first.at_work.wait()
        switch.switch("second")
        first.may_go_on.set()
        assert await asyncio.wait_for(flush, 30)
        assert sink.drains == [drain]


async def test_the_end_passes_every_spec() -> None:
    """An EndFrame ends the pipeline although one service is idle and another still connects."""
    first, second, slow = Vendor("first"), Vendor("second"), Vendor("slow", connects=False)
    switch = ServiceSwitch(spec(first), on_error=no_error, name="tts")
    async with running(switch) as (worker, sink):
        await switch.prepare(spec(first))
        await switch.prepare(spec(second))
        preparing = asyncio.create_task(switch.prepare(spec(slow)))
        await worker.queue_frames([TextFrame("last"), EndFrame()])
        async with asyncio.timeout(30):
            while not worker.has_finished():
                await asyncio.sleep(0.01)
        assert sink.texts == ["first:last"]
        preparing.cancel()


async def test_the_callers_audio_ends_at_the_switch() -> None:
    """No stage behind the switch gets the caller's audio, even if a service passes it on."""
    first = Vendor("first")
    switch = ServiceSwitch(spec(first), on_error=no_error, name="stt")
    async with running(switch) as (worker, sink):
        await switch.prepare(spec(first))
        frame = InputAudioRawFrame(audio=bytes(320), sample_rate=8000, num_channels=1)
        await worker.queue_frames([frame, TextFrame("behind")])
        await worker.flush_pipeline()
        assert sink.texts == ["first:behind"]
        assert sink.audio == []


async def test_a_backup_takes_over_although_the_failed_service_is_prepared_again() -> None:
    """A target that shares the service prepares it again meanwhile, in vain: the backup becomes active."""
    first, again = Vendor("first"), Vendor("first", connects=False)
    backup = Vendor("backup", connects=False)
    switch = ServiceSwitch(spec(first), on_error=no_error, name="stt")
    async with running(switch) as (worker, sink):
        await switch.prepare(spec(first))
        switch.give_up("first")
        replacing = asyncio.create_task(switch.replace(spec(backup)))
        await asyncio.sleep(0)
        with pytest.raises(ServiceFailed):
            await switch.prepare(spec(again), timeout_s=0.05)
        await worker.queue_frame(TextFrame("kept"))
        backup.may_connect.set()
        await replacing
        assert switch.active == "backup"
        await worker.flush_pipeline()
        assert sink.texts == ["backup:kept"]


class Refused(Vendor):
    """Is released when a test lets it."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.may_end = asyncio.Event()
        self.releases: list[str] = []

    async def cleanup(self) -> None:
        self.releases.append("begun")
        await self.may_end.wait()
        await super().cleanup()  # type: ignore[no-untyped-call]
        self.releases.append("ended")


async def test_a_vendor_that_takes_long_to_close_a_socket_does_not_delay_the_next_attempt() -> None:
    """A service that refuses fails at once, can be prepared again, and is released once, to the end."""
    first, refused = Vendor("first"), Refused("shared")

    async def connected() -> None:
        raise ServiceFailed("shared", "refused")

    switch = ServiceSwitch(spec(first), on_error=no_error, name="stt")
    async with running(switch):
        with pytest.raises(ServiceFailed, match="refused"):
            await switch.prepare(replace(spec(refused), connected=connected))
        await switch.prepare(spec(Vendor("shared")))
        assert switch.is_ready("shared")
        assert refused.releases == ["begun"]
        refused.may_end.set()
    assert refused.releases == ["begun", "ended"]


async def test_whoever_waits_for_a_service_that_is_prepared_again_hears_that_it_failed() -> None:
    """Two agents share a service that fails while it connects: neither of them waits for ever."""
    first, failing = Vendor("first"), Vendor("shared", connects=False)
    switch = ServiceSwitch(spec(first), on_error=no_error, name="stt")
    async with running(switch):
        one = asyncio.create_task(switch.prepare(spec(failing)))
        await asyncio.sleep(0)
        switch.give_up("shared")
        await switch.prepare(spec(Vendor("shared")))
        with pytest.raises(ServiceFailed, match="was prepared again"):
            await one


class CompletedMeanwhile(asyncio.CancelledError):
    """What ``asyncio.wait_for`` of pipecat and Python 3.11 raises for a result and a cancellation at once."""


async def test_a_service_that_connects_just_when_its_time_is_over_is_released() -> None:
    """The attempt counts as one that took too long, and its sockets do not outlive it."""
    first, late = Vendor("first"), Refused("late")
    late.may_end.set()

    async def connected() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            raise CompletedMeanwhile from error

    switch = ServiceSwitch(spec(first), on_error=no_error, name="tts")
    async with running(switch):
        with pytest.raises(ServiceFailed, match="did not connect"):
            await switch.prepare(replace(spec(late), connected=connected), timeout_s=0.01)
        await switch.prepare(spec(Vendor("late")))
    assert late.releases == ["begun", "ended"]


async def test_nothing_is_connected_after_the_call() -> None:
    """Somebody who tries again while the call ends does not open sockets that nobody would close."""
    first, slow, again = Vendor("first"), Vendor("slow", connects=False), Vendor("slow")
    switch = ServiceSwitch(spec(first), on_error=no_error, name="tts")
    async with running(switch):
        preparing = asyncio.create_task(switch.prepare(spec(slow)))
        await asyncio.sleep(0)
    with pytest.raises(ServiceFailed):
        await preparing
    with pytest.raises(ServiceFailed, match="the call has ended"):
        await switch.prepare(spec(again))


async def test_without_another_one_any_ready_service_takes_over() -> None:
    """The frames kept for a service that failed go to one that another agent has connected."""
    first, other = Vendor("first"), Vendor("other")
    switch = ServiceSwitch(spec(first), on_error=no_error, name="tts")
    async with running(switch) as (worker, sink):
        await switch.prepare(spec(first))
        assert await switch.fall_back() is None
        await switch.prepare(spec(other))
        switch.give_up("first")
        await worker.queue_frame(TextFrame("kept"))
        assert await switch.fall_back() == "other"
        await worker.flush_pipeline()
        assert sink.texts == ["other:kept"]
