"""A whole call through the simulated carrier, against a server on a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest

from tests.sandbox.stand_in import Peer, StandIn, settings, stand_in, tone
from voicebot.sandbox.carrier import Carrier
from voicebot.sandbox.mulaw import through_the_line


@pytest.fixture
async def server() -> AsyncIterator[StandIn]:
    async with stand_in() as running:
        yield running


async def test_call_is_answered_streamed_and_hung_up_by_the_server(server: StandIn) -> None:
    """A server that plays, waits for its mark and closes leads the call on to its resume document."""

    async def talk(peer: Peer) -> None:
        await peer.play(tone(300))
        await peer.mark("said")
        await peer.until(lambda: bool(peer.marks))

    server.talk = talk
    async with Carrier(settings(server)) as carrier:
        call = carrier.call(from_="+15550100", to="+15550199")
        assert await asyncio.wait_for(call.ended(), 5) == "completed"
    assert call.ended_by == "twiml"
    assert call.complaints == ()
    received = call.recording().received
    loud = np.flatnonzero(received)
    expected = through_the_line(tone(300))
    start = loud[0] - np.flatnonzero(expected)[0]
    assert np.array_equal(received[start : start + len(expected)], expected)
