"""Detects silence on one call, and starts the step that breaks it.

Silence is measured at the carrier: it begins when the audio that was sent has been played, or at the end of
the caller's last words. What the caller is waiting for is read from the parts of the call at each check, so
no part has to report a silence. ``policy`` chooses the step; one step runs at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from telephony.media import MediaStream
from voicebot.background import BackgroundTasks
from voicebot.call.agents import AgentPool
from voicebot.call.audio.pipeline import CallPipeline
from voicebot.call.hangup import Hangup
from voicebot.call.person.waiting import WaitingForPerson
from voicebot.call.routing.router import Router
from voicebot.call.silence.policy import (
    MAX_TTS_FAILURES,
    MAX_WORDLESS,
    TTS_OUTAGE_MS,
    Pending,
    Situation,
    Step,
    next_step,
    tts_timeout_ms,
)
from voicebot.call.silence.steps import SilenceSteps
from voicebot.call.transcript.conversation import Conversation
from voicebot.call.transcript.tts_requests import TtsRequests

CHECK_S = 0.1

LATE_MS = 50.0
"""A check that is later than this does not count as waiting time of the TTS: the event loop was late."""

_FILLED = (Pending.WORK, Pending.SPEECH, Pending.UNSPOKEN, Pending.GOODBYE)
"""A filler may be spoken while one of these is pending."""

_TTS_STEPS = (Step.REPLACE_TTS, Step.NO_TTS)
"""Steps that may run during another step, because that one may wait for its own speech."""


@dataclass(slots=True)
class _Turn:
    """Steps and model answers since the caller's last words."""

    empty: int = 0
    wordless: int = 0
    asked: int = 0
    lost: int = 0
    was_silent: bool = False
    """Whether the TTS service was replaced because it made no audio."""
    fillers: int = 0
    has_spoken: bool = False


class SilenceWatchdog:
    """Detects and breaks the silences of one call."""

    def __init__(
        self,
        agents: AgentPool,
        media: MediaStream,
        pipeline: CallPipeline,
        conversation: Conversation,
        requests: TtsRequests,
        hangup: Hangup,
        router: Router,
        waiting: WaitingForPerson,
        steps: SilenceSteps,
        tasks: BackgroundTasks,
        *,
        is_timed: bool,
    ) -> None:
        """Observe the responses of the model.

        Args:
            agents: the source of the active agent, whose template has the limits.
            media: the stream whose clock times silence.
            pipeline: the source of the services' state.
            conversation: says when either side was heard.
            requests: the texts for the TTS, and those that were not spoken.
            hangup: says whether the call is ending, and ends it when no TTS service works.
            router: says whether a route is in progress.
            waiting: says whether the caller waits for a person; then other texts are spoken.
            steps: runs the steps.
            tasks: the background tasks of the call.

            is_timed: False for a text call, which has no silence: only empty and repeated answers are
                handled.
        """
        self._agents = agents
        self._media = media
        self._pipeline = pipeline
        self._conversation = conversation
        self._requests = requests
        self._hangup = hangup
        self._router = router
        self._waiting = waiting
        self._steps = steps
        self._tasks = tasks

        self._is_timed = is_timed
        self._turn = _Turn()
        self._prompted = 0
        self._prompted_at_ms = float("-inf")
        self._llm_failures = 0
        self._tts_failures = 0
        self._tts_failing_since_ms = 0.0
        self._has_returned = False
        self._has_failed = False
        self._needs_answer = False
        self._state: tuple[Pending, bool] | None = None
        self._state_since_ms = 0.0
        self._acting: asyncio.Task[None] | None = None
        self._replacing: asyncio.Task[None] | None = None
        pipeline.llm.on_response(self._response_ended)

    @property
    def is_acting(self) -> bool:
        """Whether a step is running."""
        return self._acting is not None and not self._acting.done()

    def start(self) -> None:
        """Start to check; the first agent has been activated."""
        if self._is_timed:
            self._tasks.start(self._watch(), name="watching for silence", droppable=True)

    # ---------------------------------------------------------------------- what the parts report

    def caller_started(self) -> None:
        """The caller's turn began: count idle prompts from 0 again."""
        self._prompted = 0

    def caller_spoke(self) -> None:
        """The caller finished a turn with words; the model is asked to answer it."""
        self._turn = _Turn()
        self._needs_answer = self._has_returned = False
        if self._acting is not None:
            self._acting.cancel()

    def agent_changed(self) -> None:
        """Another agent has the call: discard what the previous one had not spoken."""
        self._requests.forget_unspoken()
        self._turn = _Turn()

    def expect_words(self) -> None:
        """The model repeats itself: accept only one more answer without words in this turn."""
        self._turn.wordless = max(self._turn.wordless, MAX_WORDLESS - 1)

    def llm_failed(self) -> None:
        """The model failed before or during its response."""
        self._has_failed = True
        if not self._is_timed or self.is_acting or self._pipeline.llm.is_shut:
            return  # another attempt follows, or no response is needed: the agent changes, or the call ends
        self._llm_failures += 1
        self._needs_answer = True
        self.check()

    def tts_failed(self) -> None:
        """The TTS service failed: another connection speaks what is left."""
        tts = self._pipeline.tts
        if tts.can_speak:
            tts.give_up(tts.active)
        now_ms = self._media.now_ms()
        self._tts_failing_since_ms = self._tts_failing_since_ms if self._tts_failures else now_ms
        self._tts_failures += self._requests.is_waiting_for_tts
        if self._tts_failures > MAX_TTS_FAILURES and now_ms - self._tts_failing_since_ms >= TTS_OUTAGE_MS:
            self._hangup.service_lost("tts")
        elif self._replacing is None or self._replacing.done():
            self._turn.lost += 1
            self._state_since_ms = now_ms  # the new connection gets the whole timeout
            work = self._steps.replace_tts()
            self._replacing = self._tasks.start(work, name="replacing the voice", droppable=True)

    def _response_ended(self, has_content: bool) -> None:
        failed, self._has_failed = self._has_failed, False
        if failed:
            return
        if has_content:
            self._llm_failures = 0
        turn = self._turn
        if self._pipeline.llm.has_text:
            turn.empty = turn.wordless = 0
            turn.has_spoken = True
            return
        turn.wordless += 1
        if self._pipeline.llm.is_shut:
            return
        # After a spoken answer, an empty one means that the model has nothing to add.
        has_answered = turn.has_spoken or self._conversation.agent_has_answered
        if not has_content and not has_answered and not self._conversation.caller_is_speaking:
            turn.empty += 1
            self._needs_answer = True
        self._needs_answer = self._needs_answer or turn.wordless > MAX_WORDLESS
        if self._needs_answer:
            self.check(response_is_over=True)

    # ------------------------------------------------------------------------------------ watching

    async def _watch(self) -> None:
        while True:
            since_ms = self._media.now_ms()
            await asyncio.sleep(CHECK_S)
            late_ms = self._media.now_ms() - since_ms - CHECK_S * 1000
            if late_ms > LATE_MS:
                self._state_since_ms += late_ms  # the event loop was late, not the TTS
            self.check()

    def check(self, *, response_is_over: bool = False) -> None:
        """Check the call now, and start the step that is due."""
        if self._conversation.caller_is_speaking:
            return
        situation = self._situation(response_is_over)
        step = next_step(situation)
        overtakes = step is Step.FILL and situation.pending is Pending.SPEECH  # that of the running step
        if self.is_acting and step not in _TTS_STEPS and not overtakes:
            return
        work = self._work(step)
        if work is None:
            return
        task = self._tasks.start(work, name=f"silence: {step.name.lower()}", droppable=True)
        if step is Step.FILL:
            # A filler that is not ready is pending speech from now on, not from the next check.
            self._state, self._state_since_ms = (Pending.SPEECH, situation.can_speak), self._media.now_ms()
        else:
            self._needs_answer = False
        if not self.is_acting:
            self._acting = task

    def _situation(self, response_is_over: bool) -> Situation:
        content, turn, now_ms = self._agents.current.content, self._turn, self._media.now_ms()
        tts, pending = self._pipeline.tts, self._pending()
        can_speak = tts.can_speak
        if (pending, can_speak) != self._state:
            self._state, self._state_since_ms = (pending, can_speak), now_ms
        if can_speak and pending in (Pending.NOTHING, Pending.PERSON):
            self._tts_failures = 0  # everything was spoken
        pending_ms, silent_ms = now_ms - self._state_since_ms, self._silent_ms()
        return Situation(
            pending=pending,
            silent_ms=silent_ms,
            limit_ms=content.limits.silence_ms,
            idle_after_ms=content.idle.after_ms,
            prompts_left=len(content.idle.prompts) - self._prompted,
            pending_ms=pending_ms,
            response_is_over=response_is_over,
            llm_failures=self._llm_failures if self._needs_answer else 0,
            empty=turn.empty,
            wordless=turn.wordless,
            asked=turn.asked,
            lost=turn.lost,
            tts_timeout_ms=tts_timeout_ms(
                tts.pace_ms, usual_pace_ms=tts.usual_pace_ms, replaces_silent=turn.was_silent
            ),
            can_return=self._can_return(),
            can_fill=self._can_fill(pending, can_speak),
            can_speak=can_speak,
            was_heard=self._media.playout.sent_ms > 0,
        )

    def _silent_ms(self) -> float:
        """How long both sides have been silent; speech of the caller counts even if it is not transcribed."""
        if not self._is_timed:
            return 0.0
        stt = self._pipeline.stt
        # The silence before an idle prompt was the caller's; the time until it is heard is ours.
        silent_ms = min(self._conversation.silent_ms, self._media.now_ms() - self._prompted_at_ms)
        return min(silent_ms, stt.quiet_ms) if stt.awaits_transcript else silent_ms

    def _pending(self) -> Pending:
        llm, is_routing = self._pipeline.llm, self._router.is_routing
        if llm.is_paused:  # a person has the call, or the carrier is about to connect one
            return Pending.PERSON
        # While the model responds, the TTS may only be waiting for more text.
        can_speak = self._pipeline.tts.can_speak
        waits = self._requests.is_synthesising or (self._requests.is_waiting_for_tts and can_speak)
        if (waits and not llm.is_responding) or self._requests.awaits_audio:
            return Pending.SPEECH
        if self._requests.has_unspoken and not is_routing:
            return Pending.UNSPOKEN
        if self._hangup.is_hanging_up:
            return Pending.GOODBYE
        if self._needs_answer and not is_routing:
            return Pending.ANSWER
        works = llm.is_responding or llm.is_shut or self._pipeline.is_calling_functions
        connects = not llm.is_ready(llm.active) or not can_speak
        listens = self._requests.is_waiting_for_tts or self._pipeline.stt.awaits_transcript
        if is_routing or works or connects or listens:
            return Pending.WORK
        if not self._conversation.agent_has_answered:
            return Pending.ANSWER
        if self._waiting.suspends_idle:
            return Pending.PERSON
        return Pending.REPETITION if self._pipeline.stt.is_unheard else Pending.NOTHING

    def _can_fill(self, pending: Pending, can_speak: bool) -> bool:
        filler = self._steps.filler(self._turn.fillers) if pending in _FILLED else None
        if filler is None:
            return False
        if pending is Pending.SPEECH or not can_speak:  # only audio that is ready can be heard now
            return filler[1] is not None
        return not self._requests.is_waiting_for_tts

    def _can_return(self) -> bool:
        """Whether the call can go back to the answering agent, which is tried once in a turn."""
        current, answering = self._agents.current, self._agents.answering
        if current is answering or answering.keys is None or self._has_returned:
            return False
        shares_model = current.keys is not None and current.keys.llm == answering.keys.llm
        return not (self._llm_failures and shares_model)

    def _work(self, step: Step) -> Coroutine[Any, Any, None] | None:
        """Count a step and return its coroutine; None: the step has no work."""
        steps, turn = self._steps, self._turn
        if step is Step.NO_TTS:
            self._hangup.service_lost("tts")
        elif step is Step.REPLACE_TTS:
            turn.was_silent = True
            self.tts_failed()
        elif step is Step.ASK:
            turn.asked += 1
        elif step is Step.RETURN:
            self._has_returned = True
        elif step is Step.FILL:
            turn.fillers += 1
            return steps.fill(turn.fillers - 1)
        elif step is Step.LEAVE:
            self._prompted_at_ms = self._media.now_ms()
        elif step is Step.PROMPT:
            self._prompted_at_ms = self._media.now_ms()
            self._prompted += 1
            return steps.prompt(self._prompted - 1)
        perform = {
            Step.CONTINUE: steps.speak_unspoken,
            Step.ASK: steps.ask,
            Step.ASK_AGAIN: steps.ask_again,
            Step.APOLOGISE: steps.apologise,
            Step.RETURN: steps.return_call,
            Step.ASK_CALLER: steps.ask_caller,
            Step.GIVE_UP: steps.give_up,
            Step.LEAVE: steps.leave,
        }.get(step)
        return perform() if perform is not None else None
