"""Operators who take a call over through the audio socket, as a browser does."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from db import processes
from db.ids import new_id
from tests.api.server_fixture import serving
from tests.calls.harness import BILL, HIGHEST, CallHarness, hear
from tests.calls.takeover_desk import TONE_HZ, Desk, close_code, sine, strength
from voicebot.call.person.takeover import GIVEN_BACK, TAKEN_OVER
from voicebot.providers.pcm import Resampler
from voicebot.sandbox.caller import HangUp, Say, WaitFor, WaitForHangUp
from voicebot.sandbox.speech.scripted import pitch_hz, tone_pcm

HELLO = "Hello, this is a person."


@pytest.fixture
def desk(harness: CallHarness) -> Desk:
    """An operator and a caller."""
    return Desk(harness)


async def test_listening_then_speaking_then_giving_the_caller_back(desk: Desk) -> None:
    """Muted, the caller hears nothing; then both hear each other, the agent is silent; then it continues."""
    speaks, given_back = asyncio.Event(), asyncio.Event()
    number = await desk.harness.orchestrator(desk.harness.route("billing", await desk.harness.agent()))
    first, then = WaitFor(event=speaks, timeout_ms=40_000), WaitFor(event=given_back, timeout_ms=40_000)
    call, person = desk.call(first, Say(text=BILL), then, hear(), HangUp(), to=number)
    await desk.claim(call)
    async with desk.browser() as browser:
        await browser.say(sine(TONE_HZ, 16_000, 0.6))
        muted = call.recording().received
        assert (await desk.state())[0] == "claimed"
        await browser.send(mute=False)
        await desk.until("bridged")
        asked = len(desk.harness.asked())
        await browser.say_until_heard(call)
        del browser.heard[:]
        speaks.set()
        async with asyncio.timeout(60):
            while strength(browser.samples(), pitch_hz(person.voice_id), 16_000) <= 0.3:
                await asyncio.sleep(0.05)
            whole = len(browser.heard) + 2 * 16_000 * 3
            while len(browser.heard) < whole:
                await asyncio.sleep(0.05)
        assert len(desk.harness.asked()) == asked
        await browser.send(leave="return")
        assert await close_code(browser.socket) == 1000
        given_back.set()
    await call.ended()
    got = await desk.harness.facts(call, person)

    assert got.outcome.ok, got.outcome.failure
    assert strength(muted[-4000:], TONE_HZ, 8000) < 0.1
    assert strength(browser.samples(), pitch_hz(person.voice_id), 16_000) > 0.3
    assert await desk.state() == ("resolved", "returned")
    assert got.record["resumes"] == 0
    context = str(desk.harness.asked()[asked]["messages"])  # the next one may be of the agent it routes to
    assert TAKEN_OVER in context
    assert GIVEN_BACK in context


async def test_resolving_ends_the_call(desk: Desk) -> None:
    """An operator who has spoken and resolves ends the call, and the end names them."""
    number = await desk.harness.orchestrator(desk.harness.route("billing", await desk.harness.agent()))
    done = asyncio.Event()
    call, person = desk.call(
        WaitFor(event=done, timeout_ms=40_000), WaitForHangUp(timeout_ms=40_000), to=number
    )
    await desk.claim(call)
    async with desk.browser() as browser:
        await browser.send(mute=False)
        await desk.until("bridged")
        done.set()
        await browser.send(leave="resolve")
        assert await close_code(browser.socket) == 1000
    await call.ended()
    got = await desk.harness.facts(call, person)
    assert (await desk.state())[0] == "resolved"
    assert (got.record["ended_by"], got.record["end_reason"]) == ("operator", "handoff_resolved")


async def test_the_socket_closes_with_the_call(desk: Desk) -> None:
    """The caller hangs up: the socket of the operator is closed, and the handoff is resolved."""
    number = await desk.harness.orchestrator(desk.harness.route("billing", await desk.harness.agent()))
    over = asyncio.Event()
    call, _ = desk.call(WaitFor(event=over, timeout_ms=40_000), HangUp(), to=number)
    await desk.claim(call)
    async with desk.browser() as browser:
        await browser.send(mute=False)
        await desk.until("bridged")
        over.set()
        assert await close_code(browser.socket) == 1000
    await call.ended()
    await desk.until("resolved")


async def test_sockets_that_are_refused(desk: Desk) -> None:
    """Other users, false tokens, unreadable control, frames of over a second, and a second listener."""
    number = await desk.harness.orchestrator(desk.harness.route("billing", await desk.harness.agent()))
    over = asyncio.Event()
    call, _ = desk.call(WaitFor(event=over, timeout_ms=60_000), HangUp(), to=number)
    await desk.claim(call)
    for url in (
        await desk.url("admin"),
        await desk.url("viewer"),
        await desk.url(token="vs_false"),
    ):
        async with connect(url, close_timeout=1) as socket:
            assert await close_code(socket) == 1008
    frames: list[tuple[str | bytes, int]] = [
        ("nonsense", 1007),
        ('{"mute":"yes"}', 1007),
        ('{"other":1}', 1007),
        (bytes(32_002), 1009),
    ]
    for frame, code in frames:
        async with connect(await desk.url(), close_timeout=1) as socket:
            await socket.send(frame)
            assert await close_code(socket) == code, frame
    async with desk.browser() as browser:
        async with connect(await desk.url(), close_timeout=1) as second:
            assert await close_code(second) == 1008
        with contextlib.suppress(ConnectionClosed):
            for _ in range(8):
                await browser.socket.send(bytes(32_000))
        assert await close_code(browser.socket) == 1008
    assert (await desk.state())[0] == "claimed"
    over.set()
    await call.ended()


@pytest.mark.long
async def test_both_persons_are_transcribed_where_the_template_says_so(desk: Desk) -> None:
    """The record has the words of both, in order, and the model has none of them."""
    speaks, given_back = asyncio.Event(), asyncio.Event()
    number = await desk.harness.orchestrator(
        desk.harness.route("billing", await desk.harness.agent()), takeover={"transcribe": True}
    )
    first, then = WaitFor(event=speaks, timeout_ms=60_000), WaitFor(event=given_back, timeout_ms=60_000)
    call, person = desk.call(first, Say(text=BILL), then, hear(), HangUp(), to=number)
    await desk.claim(call)
    async with desk.browser() as browser:
        await browser.send(mute=False)
        await desk.until("bridged")
        desk.harness.sandbox.transcripts.announce(HELLO, voice_id=HIGHEST)
        await browser.say(Resampler(8000, 16_000).process(tone_pcm(HELLO, HIGHEST)) + bytes(32_000))
        await desk.until_said(call, "operator", HELLO)
        speaks.set()
        await desk.until_said(call, "caller", BILL)
        await browser.send(leave="return")
        assert await close_code(browser.socket) == 1000
        given_back.set()
    await call.ended()
    got = await desk.harness.facts(call, person)

    assert got.outcome.ok, got.outcome.failure
    between = [each for each in got.said() if each in (("operator", HELLO), ("caller", BILL))]
    assert between == [("operator", HELLO), ("caller", BILL)]
    asked = str([request["messages"] for request in desk.harness.asked()])
    assert HELLO not in asked
    assert BILL not in asked
    await desk.harness.vendors_are_disconnected()


@pytest.mark.long
async def test_a_socket_that_reaches_another_server(desk: Desk, tmp_path: Path) -> None:
    """It is relayed to the server that has the call; while that has no address, it is told to retry."""
    harness, over = desk.harness, asyncio.Event()
    number = await harness.orchestrator(harness.route("billing", await harness.agent()))
    call, person = desk.call(WaitFor(event=over, timeout_ms=60_000), HangUp(), to=number)
    await desk.claim(call)
    state = harness.server.app_state
    shutil.copy(state.settings.data_dir / "secret.key", tmp_path)
    elsewhere = state.settings.replace({"VOICEBOT_DATA_DIR": str(tmp_path)})
    async with serving(elsewhere) as other:
        async with connect(await desk.url(server=other.url), close_timeout=1) as refused:
            assert await close_code(refused) == 1013
        await has_address(harness, desk.handoff["call_id"])
        async with desk.browser(other.url) as browser:
            await browser.send(mute=False)
            await desk.until("bridged")
            await browser.say_until_heard(call)
            async with asyncio.timeout(60):
                while len(browser.heard) < 16_000:
                    await asyncio.sleep(0.05)
            await browser.send(leave="return")
            assert await close_code(browser.socket) == 1000
        over.set()
    await call.ended()
    await harness.facts(call, person)
    assert await desk.state() == ("resolved", "returned")


async def has_address(harness: CallHarness, call_id: str) -> None:
    """Let the process that has a call be found at the server's URL, which is unknown before it listens."""
    database, holder = harness.server.app_state.database, new_id()
    found = await database.fetchrow(
        "SELECT p.address FROM calls c JOIN processes p ON p.id = c.held_by WHERE c.id = $1", call_id
    )
    assert found is not None
    await processes.seen(database, holder, draining=False, address=harness.server.url)
    await database.execute("UPDATE processes SET seen_at = now() + interval '1 hour' WHERE id = $1", holder)
    await database.execute("UPDATE calls SET held_by = $2 WHERE id = $1", call_id, holder)


@pytest.mark.parametrize("hz", [300.0, 1000.0, 3000.0])
@pytest.mark.parametrize(("rate", "other"), [(8000, 16_000), (16_000, 24_000), (8000, 24_000)])
def test_the_rate_is_changed_back_and_forth_without_loss(hz: float, rate: int, other: int) -> None:
    """A tone of speech, in pieces of any length, is the same tone at the other rate."""
    up, down = Resampler(rate, other), Resampler(other, rate)
    audio = sine(hz, rate, 1.0)
    pieces = [up.process(audio[start : start + 322]) for start in range(0, len(audio), 322)]
    higher = b"".join(pieces)
    back = b"".join(down.process(higher[start : start + 646]) for start in range(0, len(higher), 646))
    assert len(higher) * rate == len(audio) * other
    assert len(back) == len(audio)
    assert strength(np.frombuffer(higher, dtype="<i2"), hz, other) > 0.9
    assert strength(np.frombuffer(back, dtype="<i2"), hz, rate) > 0.9
