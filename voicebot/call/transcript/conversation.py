"""Follows what both sides of a call say: for the transcript, the model's context and the idle timer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from pipecat.frames.frames import LLMMessagesTransformFrame

from telephony.media import MediaStream
from voicebot.background import BackgroundTasks
from voicebot.call.agents import AgentPool
from voicebot.call.audio.frames import uninterruptible
from voicebot.call.audio.pipeline import CallPipeline
from voicebot.call.routing import context
from voicebot.call.transcript.recorder import CallRecorder
from voicebot.call.transcript.speech import Cut
from voicebot.call.transcript.transcript import Transcript
from voicebot.clock import Clock

PAUSE_MS = 500.0
"""The last word has ended when the TTS has made no audio for this time."""

MIN_WAIT_MS = 10.0
"""The shortest pause before playout is checked again."""


class ConversationListener(Protocol):
    """Receives the turns of a conversation. Its methods must return at once."""

    def caller_started(self) -> None:
        """The caller's turn began."""
        ...

    def caller_finished(self, words: str) -> None:
        """The caller's turn ended; without words it was noise."""
        ...

    def agent_audio_started(self, gap_ms: int) -> None:
        """The first audio of a TTS context was sent, ``gap_ms`` milliseconds after the last sound."""
        ...


class Conversation:
    """Both directions of one call; implements ``PlayoutListener``.

    Times are milliseconds since the call was answered.
    """

    def __init__(
        self,
        media: MediaStream,
        clock: Clock,
        agents: AgentPool,
        recorder: CallRecorder,
        transcript: Transcript,
        pipeline: CallPipeline,
        tasks: BackgroundTasks,
        listener: ConversationListener,
        *,
        since_answer_ms: float = 0.0,
    ) -> None:
        """Start to follow a call.

        Args:
            media: the stream whose marks say what was heard.
            clock: the source of all times.
            agents: the source of the active agent, to whom utterances belong.
            recorder: for barge-ins.
            transcript: for utterances.
            pipeline: where turns and audio are observed.
            tasks: the background tasks of the call.
            listener: receives the turns.
            since_answer_ms: how long ago a resumed call was answered.
        """
        self._media = media
        self._clock = clock
        self._agents = agents
        self._recorder = recorder
        self._transcript = transcript
        self._pipeline = pipeline
        self._tasks = tasks
        self._listener = listener
        self._answered_at_ms = clock.monotonic_ms() - since_answer_ms
        self._caller_since: int | None = None
        self._caller_until_ms = media.now_ms()
        self._last_sound_ms = 0
        self._context_position = 0.0
        self._cut: Cut | None = None
        self._recording: asyncio.TimerHandle | None = None
        self._caller_is_quiet = asyncio.Event()
        self._caller_is_quiet.set()
        self._has_answered = False
        self._is_over = False
        media.on_mark(self._record_played)
        pipeline.marks.listen(self)
        pipeline.playout.listen(self)
        user, assistant = pipeline.aggregators
        user.add_event_handler("on_user_turn_started", self._caller_started)
        user.add_event_handler("on_user_turn_stopped", self._caller_stopped)
        assistant.add_event_handler("on_assistant_turn_stopped", self._agent_stopped)

    @property
    def caller_is_speaking(self) -> bool:
        """Whether the caller's turn is open."""
        return self._caller_since is not None

    @property
    def silent_ms(self) -> float:
        """How long both sides have been silent at the carrier, in ms; 0 while one of them speaks.

        The caller's speech ended before their turn, by the silence that ends a turn.
        """
        if self.caller_is_speaking:
            return 0.0
        since = max(self._caller_until_ms, self._media.playout.ends_at())
        return max(0.0, self._media.now_ms() - since)

    async def caller_is_quiet(self) -> None:
        """Wait for the end of the caller's turn; return at once while the caller does not speak."""
        await self._caller_is_quiet.wait()

    @property
    def agent_has_answered(self) -> bool:
        """Whether an agent has begun to speak since the caller's last words, or since it got the call."""
        return self._has_answered

    @property
    def quiet_ms(self) -> int:
        """How long ago the last turn or the last sent audio ended, in ms; 0 while one of them lasts."""
        if self._caller_since is not None or self._transcript.is_speaking:
            return 0
        return max(0, self._now_ms() - self._last_sound_ms)

    @property
    def is_open(self) -> bool:
        """Whether an utterance has begun and is not recorded yet."""
        return self.caller_is_speaking or self._transcript.unheard_since is not None

    @property
    def elapsed_ms(self) -> int:
        """The time since the answer, in ms."""
        return self._now_ms()

    def expect_answer(self) -> None:
        """Expect the first words of an agent that takes the call over."""
        self._has_answered = False

    def as_heard(self, text: str) -> str:
        """What the caller hears of a text that was put into the context ahead of its audio."""
        return self._transcript.requests.as_heard(text)

    @property
    def has_pending_speech(self) -> bool:
        """Whether interrupted speech is still to be spoken, or the TTS has texts to synthesise."""
        return self._transcript.requests.has_unspoken or self._transcript.requests.is_waiting_for_tts

    def forget_unspoken(self) -> None:
        """Discard what is unspoken."""
        self._transcript.requests.forget_unspoken()

    def finish(self) -> None:
        """Record what both sides were saying when the call ended, as far as it was heard."""
        self._is_over = True
        now = self._now_ms()
        if words := self._pipeline.aggregators.user().aggregation_string():
            started = self._caller_since if self._caller_since is not None else now
            self._transcript.caller_said(words, self._agents.active, started_ms=started, ended_ms=now)
        else:
            self._transcript.caller_ended()
        self._cut_off(now, lost=True)
        if self._recording is not None:
            self._recording.cancel()

    # ------------------------------------------------------------------------- what we say

    @property
    def is_protected(self) -> bool:
        """Whether something is spoken that the caller must not interrupt."""
        return self._transcript.requests.is_protected

    def on_interruption_passes(self, *, lost: bool) -> None:
        """An interruption has left the TTS, and is on its way to the output."""
        self._transcript.requests.interruption_passes(lost=lost)

    def on_interruption_stopped(self) -> None:
        """An interruption has left the TTS and goes no further."""
        self._transcript.requests.interruption_passes()
        self._transcript.requests.keep_dropped()

    def on_audio_made(self, context_id: str) -> None:
        """A TTS made audio in a context."""
        self._transcript.requests.audio_made(context_id)

    def on_synthesised(self, context_id: str) -> None:
        """A TTS has made all it makes of a context."""
        self._transcript.requests.synthesised(context_id)

    def on_audio_started(self, context_id: str) -> None:
        """The first audio of a TTS context was handed to the carrier."""
        now, position = self._now_ms(), self._media.playout.sent_ms
        self._context_position = position
        self._has_answered = self._has_answered or self._transcript.requests.is_answer(context_id)
        self._transcript.audio_started(context_id, self._agents.active, at_ms=now, position=position)
        self._listener.agent_audio_started(max(0, now - self._last_sound_ms))
        self._record_played()

    def on_word(self, text: str, *, spaced: bool, offset_ms: float | None) -> None:
        """The audio handed over has reached a word."""
        sent = self._media.playout.sent_ms
        position = sent if offset_ms is None else self._context_position + offset_ms
        timed = offset_ms is not None
        self._transcript.word(text, spaced=spaced, position=position, is_timed=timed)

    def on_text_ended(self) -> None:
        """What was spoken last is complete."""
        self._transcript.text_ended()

    def on_audio_ended(self) -> None:
        """The last audio of a TTS context was handed to the carrier."""
        self._last_sound_ms = self._now_ms()
        self._transcript.audio_ended(position=self._media.playout.sent_ms, at_ms=self._last_sound_ms)
        self._correct_swallowed()
        self._record_played()

    def on_interrupted(self, *, lost: bool) -> None:
        """An interruption stopped the output: keep what was heard according to the marks."""
        self._last_sound_ms = now = self._now_ms()
        cuts = self._cut_off(now, lost=lost)
        for cut in reversed(cuts):  # the last message of an agent is the first that is corrected
            if cut.memory == "later":
                self._cut = cut
            elif cut.memory == "already":
                self._correct(cut.meant, cut.heard)
        if cuts and not lost:
            self._recorder.event("barge_in")

    async def _agent_stopped(self, _aggregator: Any, message: Any) -> None:
        cut, self._cut = self._cut, None
        if cut is not None and cut.heard != message.content:
            self._correct(message.content, cut.heard)
        if message.interrupted or cut is not None:
            return  # the end of an interrupted utterance may overtake the interruption
        self._transcript.agent_finished(message.content, at_ms=self._now_ms())
        self._correct_swallowed()
        self._record_played()

    def _record_played(self, *_: Any) -> None:
        """Record what has been played; check again when the rest should have been played without a mark."""
        playout, now_ms = self._media.playout, self._media.now_ms()
        while (until := self._transcript.unplayed_until) is not None and playout.heard_to(until, now_ms):
            self._transcript.played(until)
        if self._recording is not None:
            self._recording.cancel()
            self._recording = None
        if until is not None:
            wait_s = max(playout.heard_by(until) - now_ms, MIN_WAIT_MS) / 1000
            self._recording = asyncio.get_running_loop().call_later(wait_s, self._record_played)

    def _correct_swallowed(self) -> None:
        """Remove words that the TTS has skipped from the model's context."""
        swallowed = self._transcript.take_swallowed()
        if swallowed is not None and swallowed.memory == "already":
            self._correct(swallowed.meant, swallowed.heard)

    def _correct(self, sent: str, heard: str) -> None:
        """Replace the interrupted utterance in the model's context by what was heard of it."""
        frame = LLMMessagesTransformFrame(transform=context.as_heard(sent, heard))
        work = self._pipeline.worker.queue_frame(uninterruptible(frame))
        self._tasks.start(work, name="correcting the context", droppable=True)

    def _cut_off(self, at_ms: int, *, lost: bool) -> Sequence[Cut]:
        """End the current speech at the position that the caller has heard."""
        playout, now_ms = self._media.playout, self._media.now_ms()
        if now_ms - playout.ends_at() >= PAUSE_MS:
            self._transcript.voice_paused(playout.sent_ms)
        begin = self._transcript.unheard_since or 0.0
        heard_until = begin + playout.heard_between(begin, playout.sent_ms, now_ms)
        return self._transcript.agent_interrupted(heard_until=heard_until, at_ms=at_ms, lost=lost)

    # --------------------------------------------------------------------- what the caller says

    async def _caller_started(self, *_: Any) -> None:
        self._caller_since = self._now_ms()
        self._transcript.caller_began(self._caller_since)
        self._caller_is_quiet.clear()
        self._listener.caller_started()

    async def _caller_stopped(self, _aggregator: Any, _strategy: Any, message: Any) -> None:
        if self._is_over:
            return
        now = self._now_ms()
        started, self._caller_since = self._caller_since or now, None
        self._last_sound_ms = now
        # A late transcript ends a turn whose words ended long before.
        silence_ms = min(now - started, self._agents.current.content.turns.end_silence_ms)
        self._caller_until_ms = self._media.now_ms() - max(
            silence_ms, self._pipeline.stt.transcribed_quiet_ms
        )
        if message.content:
            self._has_answered = False
            self._transcript.requests.forget_unspoken()
            agent = self._agents.active
            self._transcript.caller_said(message.content, agent, started_ms=started, ended_ms=now)
        else:
            self._transcript.caller_ended()
        self._listener.caller_finished(message.content or "")
        self._caller_is_quiet.set()

    def keys_began(self) -> None:
        """The caller presses keys: that is a turn, until ``keys_ended``."""
        if self._caller_since is None:
            self._caller_since = self._now_ms()
            self._caller_is_quiet.clear()
            self._listener.caller_started()

    def keys_ended(self, keys: str) -> None:
        """The caller has entered ``keys``; empty: nothing was entered."""
        self._caller_since = None
        self._pipeline.stt.forget_unheard()  # the tones of the keys are audible
        self._last_sound_ms = self._now_ms()
        self._caller_until_ms = self._media.now_ms()
        if keys:
            self._has_answered = False
            self._transcript.requests.forget_unspoken()
        self._listener.caller_finished(keys)
        self._caller_is_quiet.set()

    def _now_ms(self) -> int:
        return round(self._clock.monotonic_ms() - self._answered_at_ms)
