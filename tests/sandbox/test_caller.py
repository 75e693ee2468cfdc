"""A scripted caller against a server that talks, on real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from tests.sandbox.twilio_server import Peer, StandIn, settings, stand_in
from tests.sandbox.voice_ids import two_voices
from voicebot.sandbox.audio.analysis import analyse
from voicebot.sandbox.audio.measurement import LOUD, loudness
from voicebot.sandbox.audio.mulaw import Samples, samples_of
from voicebot.sandbox.caller import (
    Caller,
    Dtmf,
    ExpectAnotherVoice,
    ExpectSameVoice,
    HangUp,
    Interrupt,
    Listen,
    Say,
    Step,
    Wait,
    WaitForHangUp,
)
from voicebot.sandbox.carrier import Call, Carrier
from voicebot.sandbox.speech.synthesis import synthesize

LOW, HIGH = two_voices()


@pytest.fixture
async def server() -> AsyncIterator[StandIn]:
    async with stand_in() as running:
        yield running


def speech(text: str, voice_id: str) -> Samples:
    return samples_of(synthesize(text, voice_id))


async def hear_out(peer: Peer, quiet_ticks: int = 15) -> None:
    """Wait until the caller has spoken from now on and has then been quiet for 300 ms."""
    judged, has_spoken, quiet = len(peer.heard), False, 0

    def finished() -> bool:
        nonlocal judged, has_spoken, quiet
        for frame in peer.heard[judged:]:
            is_loud = loudness(frame)[0] >= LOUD
            has_spoken, quiet = has_spoken or is_loud, 0 if is_loud else quiet + 1
        judged = len(peer.heard)
        return has_spoken and quiet >= quiet_ticks

    await peer.until(finished)


async def call_with(
    server: StandIn, script: Sequence[Step], *, attentive: bool = True
) -> tuple[Caller, Call]:
    caller = Caller(script=tuple(script), voice_id="somebody", attentive=attentive)
    async with Carrier(settings(server)) as carrier:
        call = carrier.call(from_="+15550100", to="+15550199", person=caller)
        await asyncio.wait_for(call.ended(), 30)
    return caller, call


async def test_caller_hears_that_another_agent_answers(server: StandIn) -> None:
    """A caller who is routed hears the first agent out, speaks, hears another voice, and hangs up."""

    async def talk(peer: Peer) -> None:
        await peer.play(speech("Thanks for calling Harbor Clinic.", LOW))
        await hear_out(peer)
        await peer.play(speech("This is billing, how can I help?", HIGH))
        await peer.over.wait()

    server.talk = talk
    caller, call = await call_with(
        server, [Listen(), Say(text="My bill is wrong."), ExpectAnotherVoice(), HangUp()]
    )
    assert caller.outcome.failure is None
    assert [report.voice for report in caller.outcome.steps] == ["A", "A", "B", "B"]
    assert call.ended_by == "caller"
    seen = analyse(call.recording())
    assert [part.voice for part in seen.agent] == ["A", "B"]
    assert len(seen.caller) == 1
    assert len(seen.gaps) == 1
    assert seen.gaps[0].previous_voice == "A"


async def test_same_agent_answering_is_not_taken_for_another(server: StandIn) -> None:
    """A caller who expects another voice gives up, within the bound, when the same one continues."""

    async def talk(peer: Peer) -> None:
        await peer.play(speech("Thanks for calling Harbor Clinic.", LOW))
        await hear_out(peer)
        await peer.play(speech("I am afraid nobody else is here.", LOW))
        await peer.over.wait()

    server.talk = talk
    script: list[Step] = [
        Listen(),
        Say(text="Billing please."),
        ExpectAnotherVoice(timeout_ms=4000),
        HangUp(),
    ]
    caller, call = await call_with(server, script)
    assert "no other voice was heard than A" in (caller.outcome.failure or "")
    assert len(caller.outcome.steps) == 2
    assert call.ended_by == "caller"


@pytest.mark.parametrize("attentive", [True, False])
async def test_caller_recognises_the_voice_from_before(server: StandIn, attentive: bool) -> None:
    """The agent that continues after the caller's question has the same voice."""

    async def talk(peer: Peer) -> None:
        await peer.play(speech("Thanks for calling Harbor Clinic.", HIGH))
        await hear_out(peer)
        await peer.play(speech("We open at nine in the morning.", HIGH))
        await peer.over.wait()

    server.talk = talk
    script: list[Step] = [Listen(), Say(text="When do you open?"), Listen(), ExpectSameVoice(), HangUp()]
    caller, _ = await call_with(server, script, attentive=attentive)
    assert caller.outcome.failure is None


async def test_inattentive_caller_still_knows_another_voice(server: StandIn) -> None:
    """A caller who does not recognise at every turn tells the voices apart when a step asks for it."""

    async def talk(peer: Peer) -> None:
        await peer.play(speech("Thanks for calling Harbor Clinic.", HIGH))
        await hear_out(peer)
        await peer.play(speech("This is billing, how can I help?", LOW))
        await peer.over.wait()

    server.talk = talk
    script: list[Step] = [Listen(), Say(text="My bill is wrong."), Listen(), ExpectAnotherVoice(), HangUp()]
    caller, _ = await call_with(server, script, attentive=False)
    assert caller.outcome.failure is None
    assert [report.voice is None for report in caller.outcome.steps] == [True, True, True, False, False]
    wrong, _ = await call_with(server, [*script[:3], ExpectSameVoice(), HangUp()], attentive=False)
    assert "was heard, not" in (wrong.outcome.failure or "")


async def test_interrupting_caller_talks_over_the_agent(server: StandIn) -> None:
    """A caller who interrupts begins to speak while the agent speaks, 500 ms after it began."""

    async def talk(peer: Peer) -> None:
        await peer.play(speech("This is a very long announcement that nobody wants to hear to its end.", LOW))
        await peer.over.wait()

    server.talk = talk
    caller, call = await call_with(server, [Interrupt(text="Stop.", after_ms=500), HangUp()])
    assert caller.outcome.failure is None
    seen = analyse(call.recording())
    begins_ms = seen.caller[0].start_ms - seen.agent[0].start_ms
    assert 480 <= begins_ms <= 800 + 2 * call.line.lateness().max_ms


async def test_silent_agent_ends_the_grace_of_the_caller(server: StandIn) -> None:
    """A caller gives up after the bound of the step when the agent never speaks, and says which."""
    caller, call = await call_with(server, [Listen(timeout_ms=300), HangUp()])
    assert (caller.outcome.failure or "").startswith("step 1, Listen(")
    assert call.ended_by == "caller"


async def test_keys_are_pressed_and_the_server_hangs_up(server: StandIn) -> None:
    """Pressed keys reach the server one by one, and a caller who waits for the hang-up is content with it."""

    async def talk(peer: Peer) -> None:
        await peer.until(lambda: len(peer.events("dtmf")) == 3)

    server.talk = talk
    caller, call = await call_with(server, [Wait(ms=100), Dtmf(digits="42#"), WaitForHangUp(timeout_ms=3000)])
    assert caller.outcome.ok, caller.outcome
    assert call.ended_by == "twiml"
    assert [message["dtmf"]["digit"] for message in server.peers[0].events("dtmf")] == ["4", "2", "#"]


async def test_hang_up_in_the_middle_of_a_script_is_a_failure(server: StandIn) -> None:
    """A script that the other side cuts short is reported with the step it was in."""

    async def talk(peer: Peer) -> None:
        await peer.until(lambda: len(peer.heard) > 5)

    server.talk = talk
    caller, _ = await call_with(server, [Wait(ms=10), Listen(), HangUp()])
    assert (caller.outcome.failure or "").startswith("step 2, Listen(")
