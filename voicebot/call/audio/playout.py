"""Observes the audio sent to the carrier and inserts marks, to find out what the caller has heard.

``MarkInserter`` is the stage before the output, ``PlayoutObserver`` the stage behind it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from pipecat.frames.frames import (
    Frame,
    InterruptionFrame,
    LLMAssistantPushAggregationFrame,
    LLMFullResponseEndFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from voicebot.call.audio.frames import DrainFrame, SpeechLostFrame
from voicebot.providers.pcm import duration_ms

_NEVER_NS = float("inf")
_TEXT_ENDS = (LLMFullResponseEndFrame, LLMAssistantPushAggregationFrame)

MARK_EVERY_MS = 500.0

LOOP_PASSES = 3
"""Iterations of the event loop in which the next stage takes what was passed on to it."""


class PlayoutListener(Protocol):
    """Receives what the observer sees. Its methods run on the event loop and must return at once."""

    def on_interruption_passes(self, *, lost: bool) -> None:
        """An interruption has left the TTS; see :meth:`on_interrupted`."""
        ...

    def on_interruption_stopped(self) -> None:
        """An interruption has left the TTS, but must not stop what is spoken."""
        ...

    def on_audio_made(self, context_id: str) -> None:
        """A TTS made audio in a context."""
        ...

    def on_synthesised(self, context_id: str) -> None:
        """A TTS has made all audio of a context."""
        ...

    @property
    def is_protected(self) -> bool:
        """Whether something is spoken that the caller must not interrupt."""
        ...

    def on_audio_started(self, context_id: str) -> None:
        """The first audio of a TTS context was handed to the carrier."""
        ...

    def on_word(self, text: str, *, spaced: bool, offset_ms: float | None) -> None:
        """The audio handed over has reached a word.

        Args:
            text: the word.
            spaced: whether the word contains its own spaces.
            offset_ms: where in the audio of its context it begins; None if the TTS does not say.
        """
        ...

    def on_audio_ended(self) -> None:
        """The last audio of a TTS context was handed to the carrier."""
        ...

    def on_text_ended(self) -> None:
        """What was spoken last is complete: no other context continues it."""
        ...

    def on_interrupted(self, *, lost: bool) -> None:
        """An interruption stopped the output; ``lost``: because the TTS failed."""
        ...


class MarkInserter(FrameProcessor):
    """Inserts a mark after each half second of speech and at its end, and reports the audio that a TTS made.

    It stops interruptions while uninterruptible speech is playing: the output would discard part of it, and
    the carrier would discard what it has not played. The frame that ends a text is moved after its audio:
    pipecat gives it the time of the last word, by a clock that does not know when the word is played.
    """

    def __init__(self, mark: Callable[[str], Frame]) -> None:
        """``mark`` makes the carrier's mark frame for a name."""
        super().__init__(name="mark-inserter", enable_direct_mode=True)
        self._mark = mark
        self._count = 0
        self._unmarked_ms = 0.0
        self._listener: PlayoutListener | None = None
        self._made_at_ns: dict[str, int] = {}
        self._commit: LLMAssistantPushAggregationFrame | None = None
        self._is_speaking = False

    @property
    def is_speaking(self) -> bool:
        """Whether the speech of an agent is on its way to the carrier, and has not all passed here."""
        return self._is_speaking

    def listen(self, listener: PlayoutListener) -> None:
        """Report to ``listener`` from now on."""
        self._listener = listener

    def made_at_ns(self, context_id: str) -> int | None:
        """When the first audio of a context was made, by pipecat's clock."""
        return self._made_at_ns.get(context_id)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Pass every frame on, insert marks, and note drains."""
        await super().process_frame(frame, direction)
        if isinstance(frame, InterruptionFrame) and self._stops(frame):
            return
        self._report(frame)
        if isinstance(frame, LLMAssistantPushAggregationFrame):
            self._commit = frame
            return
        if isinstance(frame, LLMFullResponseEndFrame):
            frame.pts = None
        await self.push_frame(frame, direction)
        if isinstance(frame, TTSStoppedFrame | InterruptionFrame):
            await self._push_commit(dropped=isinstance(frame, InterruptionFrame))
        await self._mark_speech(frame)

    async def _mark_speech(self, frame: Frame) -> None:
        if isinstance(frame, TTSAudioRawFrame):
            self._unmarked_ms += duration_ms(frame)
            if self._unmarked_ms >= MARK_EVERY_MS:
                await self._push_mark()
        elif isinstance(frame, TTSStoppedFrame):
            await self._push_mark()
        elif isinstance(frame, InterruptionFrame):
            self._unmarked_ms = 0.0
        elif isinstance(frame, DrainFrame):
            frame.synthesised.set()

    def _stops(self, frame: InterruptionFrame) -> bool:
        listener = self._listener
        if listener is None or not listener.is_protected or isinstance(frame, SpeechLostFrame):
            return False
        listener.on_interruption_stopped()
        return True

    def _report(self, frame: Frame) -> None:
        if isinstance(frame, TTSStartedFrame | TTSAudioRawFrame):
            self._is_speaking = True
        elif isinstance(frame, TTSStoppedFrame | InterruptionFrame):
            self._is_speaking = False
        if isinstance(frame, TTSAudioRawFrame) and frame.context_id is not None:
            self._made_at_ns.setdefault(frame.context_id, self.get_clock().get_time())
        if self._listener is None:
            return
        if isinstance(frame, InterruptionFrame):
            self._listener.on_interruption_passes(lost=isinstance(frame, SpeechLostFrame))
        elif isinstance(frame, TTSAudioRawFrame) and frame.context_id is not None:
            self._listener.on_audio_made(frame.context_id)
        elif isinstance(frame, TTSStoppedFrame) and frame.context_id is not None:
            self._listener.on_synthesised(frame.context_id)

    async def _push_commit(self, *, dropped: bool) -> None:
        commit, self._commit = self._commit, None
        if commit is not None and not (dropped and commit.interruptible):
            commit.pts = None
            await self.push_frame(commit)

    async def _push_mark(self) -> None:
        self._unmarked_ms = 0.0
        self._count += 1
        await self.push_frame(self._mark(f"heard-{self._count}"))


class PlayoutObserver(FrameProcessor):
    """Reports frames as their audio is handed to the carrier, which happens in real time.

    The word timestamps of a TTS count from the moment at which the audio was made, but the audio may be
    played later, after other speech. Each word is therefore held until the audio of its context begins, plus
    its offset.
    """

    def __init__(self, marks: MarkInserter) -> None:
        """No listener is set yet. ``marks`` says when the audio of a context was made."""
        super().__init__(name="playout-observer", enable_direct_mode=True)
        self._marks = marks
        self._listener: PlayoutListener | None = None
        self._announced: set[str] = set()
        """Contexts that have begun without audio; what is ready may be spoken between beginning and audio."""
        self._context: str | None = None
        self._began_at_ns = 0
        self._stopped: set[str] = set()
        self._silent: set[str] = set()
        self._held: list[TTSTextFrame] = []
        self._timer: asyncio.Task[None] | None = None

    def listen(self, listener: PlayoutListener) -> None:
        """Report to ``listener`` from now on."""
        self._listener = listener

    async def cleanup(self) -> None:
        """Stop waiting for words."""
        await super().cleanup()  # type: ignore[no-untyped-call]
        timer, self._timer = self._timer, None
        if timer is not None:
            await self.cancel_task(timer)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Report what a frame means, and pass it on, a word when its audio has begun."""
        await super().process_frame(frame, direction)
        if isinstance(frame, InterruptionFrame):
            self._interrupted(frame)
            # The context handles an interruption before words that are still in the pipeline, and would add
            # them to the next utterance.
            for _ in range(LOOP_PASSES):
                await asyncio.sleep(0)
        elif isinstance(frame, TTSTextFrame):
            self._held.append(frame)
            await self._release()
            return
        else:
            self._report(frame)
            if isinstance(frame, TTSAudioRawFrame | TTSStoppedFrame):
                await self._release()
            if isinstance(frame, TTSStoppedFrame) and self._listener is not None:
                self._listener.on_audio_ended()
        await self.push_frame(frame, direction)

    def _report(self, frame: Frame) -> None:
        if isinstance(frame, TTSStartedFrame) and frame.context_id is not None:
            self._announced.add(frame.context_id)
        elif isinstance(frame, TTSAudioRawFrame) and frame.context_id in self._announced:
            self._announced.remove(frame.context_id)
            self._context = frame.context_id
            self._began_at_ns = self.get_clock().get_time()
            if self._listener is not None:
                self._listener.on_audio_started(self._context)
        elif isinstance(frame, TTSStoppedFrame) and frame.context_id is not None:
            self._announced.discard(frame.context_id)
            ended = self._stopped if frame.context_id == self._context else self._silent
            ended.add(frame.context_id)
        elif self._listener is not None and isinstance(frame, _TEXT_ENDS):
            self._listener.on_text_ended()

    def _interrupted(self, frame: InterruptionFrame) -> None:
        lost = isinstance(frame, SpeechLostFrame)
        self._announced.clear()
        self._held = [] if lost else [word for word in self._held if not word.interruptible]
        if self._listener is not None:
            self._listener.on_interrupted(lost=lost)
        if isinstance(frame, SpeechLostFrame):
            frame.noted.set()

    async def _release(self) -> None:
        """Pass on, in order, the words whose audio has begun; those of a silent context were not spoken."""
        self._held = [word for word in self._held if word.context_id not in self._silent]
        now_ns = self.get_clock().get_time()
        while (
            due := next((word for word in self._held if self._due_at_ns(word) <= now_ns), None)
        ) is not None:
            self._held.remove(due)
            if self._listener is not None:
                spaced = bool(due.includes_inter_frame_spaces)
                self._listener.on_word(due.text, spaced=spaced, offset_ms=self._offset_ms(due))
            await self.push_frame(due)
        waits = [at_ns for word in self._held if (at_ns := self._due_at_ns(word)) < _NEVER_NS]
        if waits and self._timer is None:
            self._timer = self.create_task(self._release_later((min(waits) - now_ns) / 1e9))

    async def _release_later(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        self._timer = None
        await self._release()

    def _due_at_ns(self, word: TTSTextFrame) -> float:
        if word.context_id is None or word.context_id in self._stopped:
            return 0
        if word.context_id != self._context:
            return _NEVER_NS
        return self._began_at_ns + (self._offset_ms(word) or 0) * 1e6

    def _offset_ms(self, word: TTSTextFrame) -> float | None:
        """How long after the beginning of its context's audio a word begins; None if the TTS does not say."""
        made_at_ns = self._marks.made_at_ns(word.context_id) if word.context_id is not None else None
        if word.pts is None or made_at_ns is None or word.context_id != self._context:
            return None
        return max(0.0, (word.pts - made_at_ns) / 1e6)
