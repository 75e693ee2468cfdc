"""What is said on a call, by both sides: kept for the transcript, the model's memory and the idle watch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from pipecat.frames.frames import LLMMessagesTransformFrame
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair

from telephony.carrier import MediaStream
from voicebot.call.idle import IdleWatch
from voicebot.call.routing import context as modes
from voicebot.call.transcript.recorder import CallRecorder
from voicebot.call.transcript.transcript import ActiveAgent, Cut, Transcript
from voicebot.clock import Clock


class Conversation:
    """Listens to both directions of one call (``scribe.Listener`` for what goes out).

    Times are ms since the session began, which is when the carrier's stream stood.
    """

    def __init__(
        self,
        media: MediaStream,
        clock: Clock,
        record: CallRecorder,
        role: Callable[[], ActiveAgent],
        *,
        first_seq: int,
        since_answer_ms: float = 0.0,
    ) -> None:
        """Listen to a stream.

        Args:
            media: whose marks tell what was heard.
            clock: for all times, which are told in ms since the answer.
            record: where utterances go.
            role: tells who speaks for us.
            first_seq: the number of the first utterance.
            since_answer_ms: how long ago the call was answered, when this is not its first stream.
        """
        self.transcript = Transcript(record.utterance, first_seq=first_seq)
        self._media = media
        self._clock = clock
        self._record = record
        self._role = role
        self._since_answer_ms = since_answer_ms
        self._began_ms = clock.monotonic_ms() - since_answer_ms
        self._caller_since: int | None = None
        self._last_sound_ms = 0
        self._cut: Cut | None = None
        self._corrections: set[asyncio.Task[None]] = set()
        self._idle: IdleWatch | None = None
        self._worker: PipelineWorker | None = None
        self._aggregators: LLMContextAggregatorPair | None = None
        self._is_over = False
        self._on_first_audio: Callable[[int], None] = lambda _gap_ms: None
        self._on_caller: Callable[[], None] = lambda: None
        self._on_empty_turn: Callable[[], None] = lambda: None

    def attend(
        self,
        aggregators: LLMContextAggregatorPair,
        worker: PipelineWorker,
        idle: IdleWatch,
        *,
        on_first_audio: Callable[[int], None],
        on_caller: Callable[[], None],
        on_empty_turn: Callable[[], None],
    ) -> None:
        """Begin to listen.

        Args:
            on_first_audio: told of every first audio of ours, with the silence before it in ms.
            on_caller: told whenever the caller has finished a turn with words.
            on_empty_turn: told whenever a turn of the caller brought no words.
        """
        self._idle, self._worker = idle, worker
        self._on_first_audio, self._on_caller = on_first_audio, on_caller
        self._on_empty_turn = on_empty_turn
        self._aggregators = aggregators
        self._began_ms = self._clock.monotonic_ms() - self._since_answer_ms
        user, assistant = aggregators
        user.add_event_handler("on_user_turn_started", self._caller_started)
        user.add_event_handler("on_user_turn_stopped", self._caller_stopped)
        assistant.add_event_handler("on_assistant_turn_stopped", self._agent_stopped)

    @property
    def caller_is_speaking(self) -> bool:
        """Whether the caller's turn is open."""
        return self._caller_since is not None

    def finish(self) -> None:
        """The call is over: what was being said counts as far as it was heard, by either side."""
        self._is_over = True
        if self._aggregators is not None and (words := self._aggregators.user().aggregation_string()):
            started = self._caller_since if self._caller_since is not None else self._now_ms()
            self.transcript.caller_said(words, self._role(), started_ms=started, ended_ms=self._now_ms())
        self.transcript.agent_interrupted(heard_until=self._heard_until(), at_ms=self._now_ms())

    # ------------------------------------------------------------------------- what goes out

    def on_sounding(self, context_id: str) -> None:
        """The first audio of a TTS context was handed to the carrier."""
        self._stir()
        position = self._media.playout.sent_ms
        self.transcript.sounding(context_id, self._role(), at_ms=self._now_ms(), position=position)
        self._on_first_audio(max(0, self._now_ms() - self._last_sound_ms))

    def on_word(self, text: str, *, spaced: bool) -> None:
        """A word was reached by the audio that was handed over."""
        self.transcript.word(text, spaced=spaced, position=self._media.playout.sent_ms)

    def on_silent(self) -> None:
        """The last audio of a TTS context was handed to the carrier."""
        self._last_sound_ms = self._now_ms()
        self.transcript.silent(position=self._media.playout.sent_ms, at_ms=self._now_ms())

    def on_cut(self) -> None:
        """An interruption stopped the output: keep what was heard, by the marks, and nothing else."""
        was_speaking = self.transcript.speaking_since is not None
        self._last_sound_ms = self._now_ms()
        self._cut = self.transcript.agent_interrupted(heard_until=self._heard_until(), at_ms=self._now_ms())
        if self._cut is not None and not self._cut.remembered:
            self._correct(self._cut.meant, self._cut.heard)
        if was_speaking:
            self._record.event("barge_in", self._role())

    async def _agent_stopped(self, _aggregator: Any, message: Any) -> None:
        if message.interrupted:
            cut, self._cut = self._cut, None
            if cut is not None and cut.heard != message.content:
                self._correct(message.content, cut.heard)
            return
        self.transcript.agent_finished(message.content, at_ms=self._now_ms())
        if message.content and self._idle is not None:
            self._idle.quiet()

    def _correct(self, sent: str, heard: str) -> None:
        """The model remembers what was sent until the interruption; make that what was heard."""
        frame = LLMMessagesTransformFrame(transform=modes.as_heard(sent, heard))
        frame.interruptible = False
        if self._worker is not None:
            task = asyncio.create_task(self._worker.queue_frame(frame))
            self._corrections.add(task)
            task.add_done_callback(self._corrections.discard)

    def _heard_until(self) -> float:
        playout, begin = self._media.playout, self.transcript.speaking_since
        if begin is None:
            return 0.0
        return begin + playout.heard_between(begin, playout.sent_ms, self._media.now_ms())

    # ------------------------------------------------------------------------- what comes in

    async def _caller_started(self, *_: Any) -> None:
        if self._idle is not None:
            self._idle.spoke()
        self._caller_since = self._now_ms()

    async def _caller_stopped(self, _aggregator: Any, _strategy: Any, message: Any) -> None:
        if self._is_over:
            return
        now = self._now_ms()
        started, self._caller_since = self._caller_since or now, None
        self._last_sound_ms = now
        if message.content:
            self.transcript.caller_said(message.content, self._role(), started_ms=started, ended_ms=now)
            self._on_caller()
        else:
            self._on_empty_turn()
            if self._idle is not None:
                self._idle.quiet()

    def _stir(self) -> None:
        if self._idle is not None:
            self._idle.stir()

    def _now_ms(self) -> int:
        return round(self._clock.monotonic_ms() - self._began_ms)
