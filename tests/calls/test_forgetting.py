"""What a server keeps of a call in memory once it is over: nothing."""

from __future__ import annotations

import asyncio
import gc

import pytest
from pipecat.pipeline.worker import PipelineWorker
from pipecat.services.elevenlabs.tts import ElevenLabsTTSService

from tests.calls.harness import BILL, HIGH, CallHarness, hear
from voicebot.call.audio.service_switch import ServiceSwitch
from voicebot.call.session import Session
from voicebot.call.transcript.recorder import CallWriter
from voicebot.providers.deepgram_stream import DeepgramStream
from voicebot.sandbox.caller import HangUp, Say, Step

_OF_A_CALL = (Session, PipelineWorker, ServiceSwitch, DeepgramStream, ElevenLabsTTSService, CallWriter)
_GONE_S = 20.0


def _kept() -> dict[str, int]:
    """How many of each are still held by anybody."""
    gc.collect()
    kinds = [type(one) for one in gc.get_objects()]
    return {kind.__name__: sum(issubclass(each, kind) for each in kinds) for kind in _OF_A_CALL}


@pytest.mark.long
async def test_nothing_of_a_call_is_kept_once_it_is_over(harness: CallHarness) -> None:
    """Session, pipeline, services and writer exist during calls and are freed after them."""
    billing = await harness.agent(voice=HIGH)
    number = await harness.orchestrator(harness.route("billing", billing))
    before = _kept()
    during: list[dict[str, int]] = []

    def look(step: Step) -> None:
        if isinstance(step, HangUp):
            during.append(_kept())

    script = (hear(), Say(text=BILL), hear(), HangUp())
    routed = await asyncio.gather(*(harness.place(*script, to=number, on_step=look) for _ in range(3)))
    assert [len(call.routes) for call in routed] == [1, 1, 1]
    assert all(seen[kind] > before[kind] for seen in during for kind in before)
    async with asyncio.timeout(_GONE_S):
        while any(count > before[kind] for kind, count in _kept().items()):
            await asyncio.sleep(0.5)
    # Fewer is possible: a call of an earlier test may still have been ending on the shared server.
    kept = _kept()
    assert all(kept[kind] <= before[kind] for kind in before)
