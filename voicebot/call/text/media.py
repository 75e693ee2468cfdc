"""The media stream of a text call: the caller's words arrive as turns, ours count as heard at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    ControlFrame,
    Frame,
    InterruptionFrame,
    PipelineFlushFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.transports.base_transport import BaseTransport

from telephony.media import MarkEcho, MediaClosed, MediaStart
from telephony.playout import Playout
from voicebot.clock import Clock
from voicebot.providers.pcm import duration_ms
from voicebot.providers.service_spec import SAMPLE_RATE

NAME = "text"
_INSTANT = "instant"


@dataclass
class _MarkFrame(ControlFrame):
    mark: str = ""


class TextMedia:
    """A ``telephony.carrier.MediaStream`` without audio."""

    def __init__(self, clock: Clock) -> None:
        """All times come from ``clock``."""
        self._clock = clock
        self._closed: Callable[[MediaClosed], None] | None = None
        self._mark_observers: list[Callable[[MarkEcho], None]] = []
        self._dtmf_observers: list[Callable[[str], None]] = []
        self._is_open = True
        self.sample_rate = SAMPLE_RATE
        self.playout = Playout()
        self.start = MediaStart(stream_id=NAME, carrier_call_id=NAME, account_ref="", token="", parameters={})
        self._input = _Edge("text-in")
        self._output = _Output(self._heard, self._marked)
        self.transport: BaseTransport = _Transport(self._input, self._output)

    # ------------------------------------------------------------------------- the caller's side

    @property
    def activity(self) -> int:
        """A count of the frames that passed the ends of the pipeline, without those of ``flush_pipeline``."""
        return self._input.passed + self._output.passed

    async def begin_turn(self, text: str) -> None:
        """The caller says ``text``; the turn stays open."""
        await self._input.broadcast_frame(UserStartedSpeakingFrame)
        said_at = self._clock.now().isoformat()
        await self._input.push_frame(TranscriptionFrame(text, "caller", said_at, finalized=True))

    async def end_turn(self) -> None:
        """The caller's turn ends."""
        await self._input.broadcast_frame(UserStoppedSpeakingFrame)

    def press(self, digits: str) -> None:
        """The caller presses keys."""
        for digit in digits:
            for observer in self._dtmf_observers:
                observer(digit)

    def hang_up(self) -> None:
        """The caller ends the call."""
        self._close(MediaClosed(by="carrier", code=1000, reason="", announced=True))

    # ------------------------------------------------------------------------------- MediaStream

    def now_ms(self) -> float:
        """The clock of ``playout``: milliseconds, monotonic."""
        return self._clock.monotonic_ms()

    def mark_frame(self, name: str) -> Frame:
        """A frame that is reported as played when it reaches the output."""
        return _MarkFrame(mark=name)

    async def wait_all_heard(self, timeout_s: float) -> bool:
        """Return True at once: what was sent counts as heard."""
        return True

    def on_mark(self, observer: Callable[[MarkEcho], None]) -> None:
        """Call ``observer`` with every mark."""
        self._mark_observers.append(observer)

    def on_audio(self, observer: Callable[[bytes], None]) -> None:
        """A text call has no audio: ``observer`` is never called."""

    def on_dtmf(self, observer: Callable[[str], None]) -> None:
        """Call ``observer`` with every key."""
        self._dtmf_observers.append(observer)

    def on_stop(self, observer: Callable[[], None]) -> None:
        """No carrier announces the end of a text call: ``observer`` is never called."""

    def on_closed(self, observer: Callable[[MediaClosed], None]) -> None:
        """Call ``observer`` once when the stream is closed by either side."""
        self._closed = observer

    async def refuse(self, close_code: int, reason: str) -> None:
        """Close the stream."""
        self._close(MediaClosed(by="us", code=close_code, reason=reason, announced=False))

    async def close(self) -> None:
        """Close the stream."""
        self._close(MediaClosed(by="us", code=1000, reason="", announced=False))

    # ------------------------------------------------------------------------------------- inside

    def _close(self, closed: MediaClosed) -> None:
        if self._is_open and self._closed is not None:
            self._closed(closed)
        self._is_open = False

    def _heard(self, duration_ms: float) -> None:
        now = self.now_ms()
        self.playout.audio_sent(duration_ms, now)
        self.playout.mark_sent(_INSTANT, now)
        self.playout.mark_echoed(_INSTANT, now)

    def _marked(self, name: str) -> None:
        for observer in self._mark_observers:
            observer(MarkEcho(name=name, outcome="played"))


class _Transport(BaseTransport):
    def __init__(self, source: FrameProcessor, sink: FrameProcessor) -> None:
        super().__init__(name=NAME)
        self._source = source
        self._sink = sink

    def input(self) -> FrameProcessor:
        return self._source

    def output(self) -> FrameProcessor:
        return self._sink


class _Edge(FrameProcessor):
    """Passes every frame on and counts them."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name)
        self.passed = 0

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if not isinstance(frame, PipelineFlushFrame):
            self.passed += 1
        await self.push_frame(frame, direction)


class _Output(_Edge):
    """Broadcasts when the bot starts and stops speaking, as pipecat's outputs do."""

    def __init__(self, heard: Callable[[float], None], marked: Callable[[str], None]) -> None:
        super().__init__("text-out")
        self._heard = heard
        self._marked = marked
        self._speaking = False

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        if isinstance(frame, _MarkFrame):
            self._marked(frame.mark)
        if isinstance(frame, TTSAudioRawFrame):
            self._heard(duration_ms(frame))
            if not self._speaking:
                self._speaking = True
                await self.broadcast_frame(BotStartedSpeakingFrame)
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSStoppedFrame | InterruptionFrame) and self._speaking:
            self._speaking = False
            await self.broadcast_frame(BotStoppedSpeakingFrame)
