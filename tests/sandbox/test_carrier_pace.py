"""The line keeps real time and measures its lateness."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest

from tests.sandbox.twilio_server import Peer, settings, stand_in, tone
from voicebot.sandbox.audio.mulaw import Samples
from voicebot.sandbox.carrier import TICK, Call, Carrier, Line, LineDead, PhoneCall


async def test_line_makes_up_for_a_stall_without_losing_a_frame() -> None:
    """After a stall of 300 ms the line catches up with real time and reports its lateness."""
    line, frames = Line(), 0

    async def count(_: Samples) -> None:
        nonlocal frames
        frames += 1

    line.open()
    running = asyncio.create_task(line.run(count))
    await asyncio.sleep(0.1)
    time.sleep(0.3)  # noqa: ASYNC251 - the stall itself
    while line.now() - line.said.cursor >= 2 * TICK:
        await line.next_frame()
    running.cancel()
    assert frames * TICK == line.said.cursor == line.heard.cursor >= 0.38 * 8000
    assert line.lateness().max_ms >= 250
    assert line.lateness().late >= 10


async def test_dead_line_wakes_and_refuses_its_listeners() -> None:
    """Waiting for a frame of a closed line raises LineDead, before and after the close."""
    line = Line()
    line.open()
    waiting = asyncio.create_task(line.next_frame())
    await asyncio.sleep(0)
    line.close()
    with pytest.raises(LineDead):
        await waiting
    with pytest.raises(LineDead):
        await line.next_frame()


async def test_many_calls_at_once_each_keep_their_own_time() -> None:
    """Twenty calls at once: each sends as many frames as its time holds, and hears its own server's sound.

    The server sends all its audio at once, so the recording of it has no gap however late the line is.
    """

    async def talk(peer: Peer) -> None:
        await peer.play(tone(300))
        await peer.over.wait()

    async def person(call: PhoneCall) -> None:
        def heard() -> int:
            return len(np.flatnonzero(call.line.heard.sounded()))

        while await call.line.next_frame() < 8000 or heard() < 2300:
            pass
        call.hang_up()

    def whole(call: Call) -> None:
        events = {event.name: event.at_ms for event in call.events}
        frames = call.streams[0].frames
        late_ms = call.line.lateness().max_ms
        assert abs(frames * 20 - (events["ended"] - events["stream.connected"])) <= 40 + 2 * late_ms
        received = call.recording().received
        loud = np.flatnonzero(received)
        assert loud[-1] - loud[0] == pytest.approx(2400, abs=40)

    async with stand_in(talk) as server, Carrier(settings(server)) as carrier:
        calls = [carrier.call(from_="+15550100", to="+15550199", person=person) for _ in range(20)]
        await asyncio.wait_for(asyncio.gather(*(call.ended() for call in calls)), 30)
    for call in calls:
        whole(call)
