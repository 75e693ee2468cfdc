"""Audio and marks over real sockets: the messages, their order, and the playout estimate."""

from __future__ import annotations

import asyncio

from pipecat.frames.frames import (
    InterruptionFrame,
)

from telephony.media import MarkEcho
from telephony.output import AHEAD_S
from telephony.transport import CHUNK_MS
from tests.telephony.media_app import MediaApp, call, tone
from tests.telephony.media_harness import STREAM_SID, loop_delay, media_message, until

# ----------------------------------------------------------------------------------------------- audio


async def test_mulaw_goes_through_the_pipeline_byte_for_byte() -> None:
    """All µ-law values that the pipeline returns are unchanged and in order."""
    app = MediaApp()
    audio = bytes(value for value in range(256) if value != 0x7F) * 8  # 0x7F and 0xFF are both silence
    audio = audio[: len(audio) // 320 * 320]
    async with call(app) as twilio:
        for offset in range(0, len(audio), 160):
            await twilio.say(media_message(audio[offset : offset + 160]))
        await until(lambda: len(twilio.audio()) >= len(audio))
    assert twilio.audio() == audio
    assert app.echo.frames == []  # the audio is no frame of the pipeline
    assert {len(message["media"]["payload"]) for message in twilio.of("media")} == {428}  # 320 bytes


async def test_audio_is_sent_at_the_pace_of_playing() -> None:
    """The carrier's buffer holds little more than what is sent ahead."""
    app = MediaApp()
    ahead: list[float] = []
    async with call(app) as twilio, loop_delay() as delay:
        await app.say(tone(800), "end")
        while not twilio.of("mark"):
            await asyncio.sleep(0.01)
            ahead.append(len(twilio.audio()) / 8.0 - twilio.heard_ms())
    assert max(ahead) <= delay.allowed_ms(AHEAD_S * 1000 + 10)


# ----------------------------------------------------------------------------------------------- marks


async def test_marks_travel_behind_their_audio_and_come_back_in_order() -> None:
    """Each mark is sent directly after the audio queued before it, and is reported as played."""
    app = MediaApp()
    async with call(app) as twilio:
        await app.say(tone(200), "one")
        await app.say(tone(120), "two")
        await until(lambda: len(app.marks) == 2)
    events = [message["event"] for message in twilio.received]
    assert events == ["media"] * (200 // CHUNK_MS) + ["mark"] + ["media"] * (120 // CHUNK_MS) + ["mark"]
    assert app.marks == [MarkEcho(name="one", outcome="played"), MarkEcho(name="two", outcome="played")]
    assert all(message["streamSid"] == STREAM_SID for message in twilio.received)


async def test_interruption_clears_audio() -> None:
    """Audio after an interruption is not heard, a wait ends, and later audio is heard."""
    app = MediaApp()
    errors: list[float] = []
    async with call(app) as twilio, loop_delay() as delay:
        assert app.media is not None
        assert app.worker is not None
        for cut in range(3):
            began = twilio.heard_ms()
            await app.say(tone(10_000))
            await until(lambda: twilio.heard_ms() > began + 250)  # noqa: B023 (awaited here)
            waiting = asyncio.create_task(app.media.wait_all_heard(30.0))
            await twilio.wait_for("mark", cut + 1)
            await app.worker.queue_frame(InterruptionFrame())
            await twilio.wait_for("clear", cut + 1)
            assert await asyncio.wait_for(waiting, 5.0)
            assert app.heard_ms() < began + 9_900
            errors.append(abs(app.heard_ms() - twilio.heard_ms()))
        await app.say(tone(120), "after")
        await until(lambda: app.marks)
        assert app.media.playout.all_heard(app.media.now_ms())
    assert max(errors) <= delay.allowed_ms(40.0)
    assert app.marks == [MarkEcho(name="after", outcome="played")]


async def test_a_mark_still_at_the_carrier_when_it_clears_is_reported_as_cleared() -> None:
    """A mark returned because of a clear is not reported as played."""
    app = MediaApp()
    async with call(app, delay_s=0.5) as twilio:
        await app.say(tone(120), "whole")
        await until(lambda: app.marks)
        await app.say(tone(200), "cut")
        await twilio.wait_for("mark", 2)
        assert app.worker is not None
        await app.worker.queue_frame(InterruptionFrame())
        await until(lambda: len(app.marks) == 2)
    assert app.marks == [MarkEcho(name="whole", outcome="played"), MarkEcho(name="cut", outcome="cleared")]


async def test_what_was_heard_is_known_within_40_ms() -> None:
    """During two utterances the estimate differs from the carrier's playout by at most 40 ms."""
    app = MediaApp()
    errors: list[float] = []
    async with call(app) as twilio, loop_delay() as delay:
        for number in range(2):
            await app.say(tone(600), f"m{number}")
            while len(app.marks) <= number:
                await asyncio.sleep(0.015)
                errors.append(abs(app.heard_ms() - twilio.heard_ms()))
            await asyncio.sleep(0.2)  # a pause between the utterances
        assert app.heard_ms() == 1200.0
    assert max(errors) <= delay.allowed_ms(40.0)


async def test_a_carrier_with_latency_is_learned_from_its_marks() -> None:
    """After one mark the estimate includes the carrier's latency, so it is not early."""
    app = MediaApp()
    errors: list[float] = []
    async with call(app, delay_s=0.2) as twilio, loop_delay() as delay:
        await app.say(tone(200), "first")
        await until(lambda: app.marks)
        await app.say(tone(600), "second")
        while len(app.marks) < 2:
            await asyncio.sleep(0.015)
            errors.append(abs(app.heard_ms() - twilio.heard_ms()))
        assert app.media is not None
        assert 200 <= app.media.playout.lag_ms < delay.allowed_ms(300)
    assert max(errors) <= delay.allowed_ms(40.0)


async def test_wait_all_heard_ends_with_playout() -> None:
    """After a flush the wait sends a mark and ends when the carrier has played everything."""
    app = MediaApp()
    async with call(app) as twilio:
        await app.say(tone(300))
        assert app.worker is not None
        assert app.media is not None
        assert await app.worker.flush_pipeline()
        assert await app.media.wait_all_heard(30.0)
        assert twilio.heard_ms() >= 320 - 1  # 300 ms, padded to whole chunks
        assert app.heard_ms() == 320.0
    assert app.marks == []  # the mark of a wait is not reported
    assert len(twilio.of("mark")) == 1


async def test_waiting_does_not_depend_on_marks() -> None:
    """A carrier that returns no marks delays a wait by the grace, the first time only."""
    app = MediaApp()
    async with call(app, ignores_marks=True) as twilio, loop_delay() as delay:
        durations = []
        for _ in range(2):
            await app.say(tone(80))
            await twilio.wait_for("media", 1)
            assert app.worker is not None
            assert app.media is not None
            assert await app.worker.flush_pipeline()
            began = app.media.now_ms()
            assert await app.media.wait_all_heard(30.0)
            durations.append(app.media.now_ms() - began)
    assert durations[0] > 1200
    assert durations[1] < delay.allowed_ms(1200)
