"""The last stage of a call's pipeline: what it sends, drops and passes on."""

from __future__ import annotations

import asyncio
import time

import pytest
from pipecat.frames.frames import (
    BotSpeakingFrame,
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    ErrorFrame,
    Frame,
    InterruptionFrame,
    OutputAudioRawFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.utils.text.base_text_aggregator import TextType

from telephony import output
from telephony.output import DropSpeechFrame, MarkFrame
from telephony.transport import CHUNK_BYTES, CallTransport
from tests.sandbox.test_vendors_pipecat import ServicePipeline
from tests.telephony.media_harness import until

MS = 16
"""Bytes of audio in a millisecond."""


class ScriptedWire:
    """Keeps what is sent; while `is_stuck`, sending audio does not return."""

    def __init__(self) -> None:
        self.sent: list[bytes | str] = []
        self.is_open = True
        self.is_stuck = False

    async def send_audio(self, pcm: bytes) -> None:
        if self.is_stuck:
            await asyncio.Event().wait()
        self.sent.append(pcm)

    async def send_mark(self, name: str) -> None:
        self.sent.append(name)

    async def send_clear(self) -> None:
        self.sent.append("clear")

    async def close(self) -> None:
        self.is_open = False

    def audio(self) -> bytes:
        """All audio sent."""
        return b"".join(part for part in self.sent if isinstance(part, bytes))


async def listen_for_nothing() -> None:
    await asyncio.Event().wait()


def call_on(wire: ScriptedWire) -> ServicePipeline:
    """A pipeline that consists of the two stages of the transport."""
    media = CallTransport(wire, listen_for_nothing)
    return ServicePipeline(Pipeline([media.input(), media.output()]))


def speech(number: int, ms: int, *, interruptible: bool = True) -> TTSAudioRawFrame:
    """Speech that can be told from other speech."""
    frame = TTSAudioRawFrame(bytes([number]) * (ms * MS), 8000, 1)
    frame.interruptible = interruptible
    return frame


async def test_audio_ends_at_the_output_and_nobody_is_told_again_and_again_that_the_bot_speaks() -> None:
    """Of an utterance, only its first audio and one begin and end of speech reach the other stages."""
    wire = ScriptedWire()
    async with call_on(wire) as line:
        await line.send([TTSStartedFrame(), *(speech(1, 100) for _ in range(5)), TTSStoppedFrame()])
        await line.after.until(TTSStoppedFrame)
        assert len(line.after.of(TTSAudioRawFrame)) == 1
        for stage in (line.before, line.after):
            assert len(stage.of(BotStartedSpeakingFrame)) == 1
            assert len(stage.of(BotStoppedSpeakingFrame)) == 1
            assert not stage.of(BotSpeakingFrame)
    assert {len(part) for part in wire.sent} == {CHUNK_BYTES}
    assert wire.audio() == speech(1, 500).audio.ljust(13 * CHUNK_BYTES, b"\0")


async def test_the_first_audio_of_each_context_goes_on() -> None:
    """Speech that was ready may be sent between the beginning of another context and its audio."""
    wire = ScriptedWire()
    slow, ready = speech(1, 80), speech(2, 80)
    slow.context_id, ready.context_id = "slow", "ready"
    async with call_on(wire) as line:
        await line.send([TTSStartedFrame(context_id="slow"), TTSStartedFrame(context_id="ready"), ready])
        await line.send([TTSStoppedFrame(context_id="ready"), slow, TTSStoppedFrame(context_id="slow")])
        await until(lambda: len(line.after.of(TTSStoppedFrame)) == 2)
        assert [frame.context_id for frame in line.after.of(TTSAudioRawFrame)] == ["ready", "slow"]


async def test_other_frames_keep_their_place_behind_the_audio_before_them() -> None:
    """A mark is sent, and another frame is passed on, when all audio before it was sent."""
    wire = ScriptedWire()
    async with call_on(wire) as line:
        await line.send([TTSStartedFrame(), speech(1, 90), TTSStoppedFrame(), MarkFrame(mark="one")])
        await line.send([TTSStartedFrame(), speech(2, 40), TTSStoppedFrame(), MarkFrame(mark="two")])
        await until(lambda: "two" in wire.sent and len(line.after.of(TTSStoppedFrame)) == 2)
        kinds = [type(frame) for frame in line.after.of(TTSStartedFrame, TTSAudioRawFrame, TTSStoppedFrame)]
    assert [len(part) // MS if isinstance(part, bytes) else part for part in wire.sent] == [
        *[40, 40, 40, "one"],
        *[40, "two"],
    ]
    assert kinds == [TTSStartedFrame, TTSAudioRawFrame, TTSStoppedFrame] * 2


async def test_an_interruption_drops_what_may_be_interrupted_and_nothing_else() -> None:
    """After a barge-in the carrier clears its buffer, and speech that is uninterruptible is still sent."""
    wire = ScriptedWire()
    async with call_on(wire) as line:
        await line.send([TTSStartedFrame(), speech(1, 2000), MarkFrame(mark="dropped"), speech(2, 60)])
        await line.send([speech(3, 100, interruptible=False)])
        await until(lambda: len(wire.sent) >= 3)
        await line.send([InterruptionFrame()])
        await until(lambda: "clear" in wire.sent)
        await until(lambda: bytes([3]) in wire.audio())
        assert not line.after.of(BotStoppedSpeakingFrame)  # there is still speech to send
        await line.send([TTSStoppedFrame()])
        await line.after.until(BotStoppedSpeakingFrame)
    assert len(wire.audio().split(bytes([1]))) - 1 < 2000 * MS
    assert "dropped" not in wire.sent
    assert wire.audio().count(bytes([3])) == 100 * MS
    after_clear = b"".join(part for part in wire.sent[wire.sent.index("clear") :] if isinstance(part, bytes))
    assert bytes([1]) not in after_clear


async def test_uninterruptible_speech_is_not_cleared_at_the_carrier() -> None:
    """A barge-in does not discard uninterruptible audio that the carrier has not played."""
    wire = ScriptedWire()
    async with call_on(wire) as line:
        await line.send([TTSStartedFrame(), speech(1, 400, interruptible=False)])
        await until(lambda: bytes([1]) in wire.audio())
        await line.send([InterruptionFrame(), TTSStoppedFrame()])
        await line.after.until(BotStoppedSpeakingFrame)
    assert wire.sent == [bytes([1]) * CHUNK_BYTES] * 10


async def test_speech_that_will_be_spoken_again_is_dropped_and_cleared() -> None:
    """Uninterruptible speech and its words are dropped if its voice has failed; marks stay in order."""
    wire = ScriptedWire()
    async with call_on(wire) as line:
        await line.send([TTSStartedFrame()])
        await line.after.until(TTSStartedFrame)
        word = _word("lost", line.after.get_clock().get_time() + 60_000_000_000)
        kept = MarkFrame(mark="kept")
        word.interruptible = kept.interruptible = False
        await line.send([speech(1, 60_000, interruptible=False), word, kept])
        await until(lambda: bytes([1]) in wire.audio())
        await line.send([DropSpeechFrame(), speech(2, 40)])
        await until(lambda: bytes([2]) in wire.audio())
        assert not line.after.of(TTSTextFrame)
    rest = [part for part in wire.sent if part != bytes([1]) * CHUNK_BYTES]
    # The carrier returns a mark at once whose audio is cleared: the order of these two means nothing.
    assert set(rest[:2]) == {"clear", "kept"}
    assert rest[2:] == [bytes([2]) * CHUNK_BYTES]


@pytest.mark.parametrize(("chunk_ms", "ahead"), [(40, 4), (66, 2), (200, 2)])
async def test_speech_is_sent_ahead_of_playout(chunk_ms: int, ahead: int) -> None:
    """At most 160 ms are sent that were not played, in Twilio's chunks; of longer chunks, two."""
    wire = ScriptedWire()
    media = CallTransport(wire, listen_for_nothing, chunk_bytes=chunk_ms * MS)
    began = time.monotonic()
    async with ServicePipeline(Pipeline([media.input(), media.output()])) as line:
        await line.send([TTSStartedFrame(), speech(1, 4000)])
        await until(lambda: len(wire.sent) >= ahead)
        sent, played = len(wire.sent), (time.monotonic() - began) * 1000 / chunk_ms
    assert ahead <= sent <= ahead + played + 1


async def test_words_go_on_at_their_time_and_not_after_an_interruption() -> None:
    """A frame with a timestamp is passed on at that time; a barge-in drops later ones."""
    wire = ScriptedWire()
    async with call_on(wire) as line:
        await line.send([TTSStartedFrame()])
        await line.after.until(TTSStartedFrame)
        now_ns = line.after.get_clock().get_time()
        for number, after_ms in enumerate((0, 50, 60_000)):
            await line.send([_word(str(number), now_ns + after_ms * 1_000_000 + 1)])
        await until(lambda: len(line.after.of(TTSTextFrame)) == 2)
        assert line.after.get_clock().get_time() >= now_ns + 50_000_000
        await line.send([InterruptionFrame(), _word("later", 1)])
        await until(lambda: len(line.after.of(TTSTextFrame)) == 3)
        assert [frame.text for frame in line.after.of(TTSTextFrame)] == ["0", "1", "later"]


async def test_a_word_is_not_held_back_by_a_later_one_that_came_first() -> None:
    """Frames with timestamps go on in the order of their times, whatever came first."""
    async with call_on(ScriptedWire()) as line:
        await line.send([TTSStartedFrame()])
        await line.after.until(TTSStartedFrame)
        now_ns = line.after.get_clock().get_time()
        await line.send([_word("late", now_ns + 60_000_000_000), MarkFrame(mark="taken")])
        await line.send([_word("early", now_ns + 20_000_000)])
        await until(lambda: [frame.text for frame in line.after.of(TTSTextFrame)] == ["early"])


async def test_the_words_of_speech_that_was_sent_do_not_come_behind_its_end() -> None:
    """Speech is sent ahead of playout, so its last words are not due yet; words of other speech wait."""
    async with call_on(ScriptedWire()) as line:
        await line.send([TTSStartedFrame(context_id="one")])
        await line.after.until(TTSStartedFrame)
        later_ns = line.after.get_clock().get_time() + 60_000_000_000
        for number, context_id in enumerate(("one", "one", "two")):
            await line.send([_word(str(number), later_ns + number, context_id)])
        await line.send([TTSStoppedFrame(context_id="one")])
        await line.after.until(TTSStoppedFrame)
        came = line.after.of(TTSTextFrame, TTSStoppedFrame)
        assert [frame.text for frame in came if isinstance(frame, TTSTextFrame)] == ["0", "1"]
        assert isinstance(came[-1], TTSStoppedFrame)
        await line.send([TTSStoppedFrame(context_id="two")])
        await until(lambda: len(line.after.of(TTSTextFrame)) == 3)


class SlowlyInterrupted(FrameProcessor):
    """A stage that is busy with an interruption until a word would have come behind it."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)
        if isinstance(frame, InterruptionFrame):
            await asyncio.sleep(0.1)


async def test_no_word_follows_the_interruption_that_has_dropped_it() -> None:
    """A word that becomes due while later stages handle an interruption is dropped."""
    wire = ScriptedWire()
    media = CallTransport(wire, listen_for_nothing)
    busy = SlowlyInterrupted(enable_direct_mode=True)
    async with ServicePipeline(Pipeline([media.input(), media.output(), busy])) as line:
        await line.send([TTSStartedFrame()])
        await line.after.until(TTSStartedFrame)
        now_ns = line.after.get_clock().get_time()
        await line.send([_word("dropped", now_ns + 50_000_000), MarkFrame(mark="taken")])
        await until(lambda: "taken" in wire.sent)
        await line.send([InterruptionFrame(), _word("later", now_ns + 51_000_000)])
        await until(lambda: "later" in [frame.text for frame in line.after.of(TTSTextFrame)])
        came = line.after.of(InterruptionFrame, TTSTextFrame)
    behind = came[[isinstance(frame, InterruptionFrame) for frame in came].index(True) + 1 :]
    assert [frame.text for frame in behind if isinstance(frame, TTSTextFrame)] == ["later"]


async def test_speech_without_an_end_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """When a service never says that its speech has ended, it counts as ended after a while."""
    monkeypatch.setattr(output, "SPEECH_TIMEOUT_S", 0.05)
    async with call_on(ScriptedWire()) as line:
        await line.send([TTSStartedFrame(), speech(1, 40)])
        await line.after.until(BotStartedSpeakingFrame)
        await line.after.until(BotStoppedSpeakingFrame)


async def test_a_carrier_that_does_not_read_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """When audio cannot be written for a time, an error is reported and nothing more is sent."""
    monkeypatch.setattr(output, "WRITE_TIMEOUT_S", 0.05)
    wire = ScriptedWire()
    wire.is_stuck = True
    async with call_on(wire) as line:
        await line.send([TTSStartedFrame(), speech(1, 4000), TTSStoppedFrame()])
        error = await line.before.until(ErrorFrame)
        assert "stopped reading" in error.error
        await line.after.until(TTSStoppedFrame)
        assert len(line.before.of(ErrorFrame)) == 1
    assert wire.sent == []


async def test_audio_of_another_rate_is_an_error() -> None:
    """Audio that is not at 8000 Hz is refused, and later audio is sent."""
    wire = ScriptedWire()
    async with call_on(wire) as line:
        await line.send(
            [OutputAudioRawFrame(bytes(640), 16_000, 1), OutputAudioRawFrame(bytes(640), 8000, 1)]
        )
        error = await line.before.until(ErrorFrame)
        assert "16000 Hz" in error.error
        await until(lambda: wire.sent)
    assert wire.sent == [bytes(640)]


def _word(text: str, at_ns: int, context_id: str | None = None) -> Frame:
    frame = TTSTextFrame(text, TextType.WORD, context_id=context_id)
    frame.pts = at_ns
    return frame
