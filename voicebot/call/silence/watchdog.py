"""Watches one call for silence, and has broken what is ours to break.

A silence is measured at the carrier: from the end of what was handed over and played, or from the caller's
last words. What we owe the caller is read from the parts of the call at that moment; nothing has to announce
a silence. The policy decides what is done about it, one step at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from telephony.media import MediaStream
from voicebot.background import BackgroundTasks
from voicebot.call.agents import AgentPool
from voicebot.call.audio.pipeline import CallPipeline
from voicebot.call.hangup import Hangup
from voicebot.call.routing.router import Router
from voicebot.call.silence.policy import (
    BROKEN_MS,
    MAX_BROKEN,
    MAX_WORDLESS,
    Owed,
    Situation,
    Step,
    next_step,
    patience_ms,
)
from voicebot.call.silence.remedies import Remedies
from voicebot.call.transcript.conversation import Conversation
from voicebot.call.transcript.tts_requests import TtsRequests
from voicebot.call.waiting import WaitingForPerson

CHECK_S = 0.1

LATE_MS = 50.0
"""By how much a check may be late; more is no time in which a voice or a model could be heard of."""

_FILLED = (Owed.WORK, Owed.SPEECH, Owed.REST, Owed.GOODBYE)
"""What a filler is spoken for."""

_OF_THE_VOICE = (Step.REPLACE_VOICE, Step.NO_VOICE)
"""Taken during another step too, which may wait until its own words have been spoken."""


@dataclass(slots=True)
class _Turn:
    """What was done about silence since the caller's last words."""

    empty: int = 0
    wordless: int = 0
    asked: int = 0
    lost: int = 0
    was_silent: bool = False
    """Whether a voice was replaced because it made no audio."""
    fillers: int = 0
    has_spoken: bool = False


class SilenceWatchdog:
    """Breaks the silences of one call."""

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
        remedies: Remedies,
        tasks: BackgroundTasks,
        on_voice_lost: Callable[[], None],
        *,
        is_timed: bool,
    ) -> None:
        """Observe the responses of the model.

        Args:
            agents: the source of the active agent, whose template has the limits.
            media: the stream whose clock times silence.
            pipeline: its services and what they are doing.
            conversation: when either side was heard.
            requests: what is to be spoken, and what was to be and was not.
            hangup: whether the call ends.
            router: whether a route is under way.
            waiting: whether the caller waits for a person, who has texts of their own.
            remedies: performs the steps.
            tasks: the background tasks of the call.
            on_voice_lost: called when no voice speaks what it is given.
            is_timed: whether there is silence at all; otherwise (a text call) only empty answers and models
                that repeat themselves are acted upon.
        """
        self._agents = agents
        self._media = media
        self._pipeline = pipeline
        self._conversation = conversation
        self._requests = requests
        self._hangup = hangup
        self._router = router
        self._waiting = waiting
        self._remedies = remedies
        self._tasks = tasks
        self._on_voice_lost = on_voice_lost
        self._is_timed = is_timed
        self._turn = _Turn()
        self._prompted = 0
        self._prompted_at_ms = float("-inf")
        self._failures = 0
        self._broken = 0
        self._broken_since_ms = 0.0
        self._has_returned = False
        self._has_failed = False
        self._needs_answer = False
        self._state: tuple[Owed, bool] | None = None
        self._state_since_ms = 0.0
        self._acting: asyncio.Task[None] | None = None
        self._replacing: asyncio.Task[None] | None = None
        pipeline.llm.on_response(self._response_ended)

    @property
    def is_acting(self) -> bool:
        """Whether a step is being performed."""
        return self._acting is not None and not self._acting.done()

    def start(self) -> None:
        """Watch from now on: the first agent has been activated."""
        if self._is_timed:
            self._tasks.start(self._watch(), name="watching for silence", droppable=True)

    # ---------------------------------------------------------------------- what the parts report

    def caller_started(self) -> None:
        """The caller's turn began: unanswered prompts are forgotten."""
        self._prompted = 0

    def caller_spoke(self) -> None:
        """The caller finished a turn with words, which the model is asked to answer."""
        self._turn = _Turn()
        self._needs_answer = self._has_returned = False
        if self._acting is not None:
            self._acting.cancel()

    def agent_changed(self) -> None:
        """Another agent has the call: what the last one was to say is not said any more."""
        self._requests.forget_unspoken()
        self._turn = _Turn()

    def expect_words(self) -> None:
        """The model repeats itself: one more answer without words is accepted in this turn."""
        self._turn.wordless = max(self._turn.wordless, MAX_WORDLESS - 1)

    def model_failed(self) -> None:
        """The model failed before or during its response."""
        self._has_failed = True
        if not self._is_timed or self.is_acting or self._pipeline.llm.is_shut:
            return  # another attempt follows, or no response is wanted: the agent changes, or the call ends
        self._failures += 1
        self._needs_answer = True
        self.check()

    def voice_failed(self) -> None:
        """The voice failed: another connection speaks what it has not spoken."""
        tts = self._pipeline.tts
        if tts.can_speak:
            tts.give_up(tts.active)
        now_ms = self._media.now_ms()
        self._broken_since_ms = self._broken_since_ms if self._broken else now_ms
        self._broken += self._requests.is_waiting_for_tts
        if self._broken > MAX_BROKEN and now_ms - self._broken_since_ms >= BROKEN_MS:
            self._on_voice_lost()
        elif self._replacing is None or self._replacing.done():
            self._turn.lost += 1
            self._state_since_ms = now_ms  # another voice has the time of one that begins
            work = self._remedies.replace_voice()
            self._replacing = self._tasks.start(work, name="replacing the voice", droppable=True)

    def _response_ended(self, has_content: bool) -> None:
        failed, self._has_failed = self._has_failed, False
        if failed:
            return
        if has_content:
            self._failures = 0
        turn = self._turn
        if self._pipeline.llm.has_text:
            turn.empty = turn.wordless = 0
            turn.has_spoken = True
            return
        turn.wordless += 1
        if self._pipeline.llm.is_shut:
            return
        # After words to the caller an empty answer is a way to say nothing more.
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
                self._state_since_ms += late_ms  # the loop was late, which is not the voice's fault
            self.check()

    def check(self, *, response_is_over: bool = False) -> None:
        """Look at the call now, and start the step that is due."""
        if self._conversation.caller_is_speaking:
            return
        situation = self._situation(response_is_over)
        step = next_step(situation)
        overtakes = step is Step.FILL and situation.owed is Owed.SPEECH  # what a step has the voice speak
        if self.is_acting and step not in _OF_THE_VOICE and not overtakes:
            return
        work = self._work(step)
        if work is None:
            return
        task = self._tasks.start(work, name=f"silence: {step.name.lower()}", droppable=True)
        if step is Step.FILL:
            # What is not ready is owed by the voice from now on, not from the next look.
            self._state, self._state_since_ms = (Owed.SPEECH, situation.can_speak), self._media.now_ms()
        else:
            self._needs_answer = False
        if not self.is_acting:
            self._acting = task

    def _situation(self, response_is_over: bool) -> Situation:
        content, turn, now_ms = self._agents.current.content, self._turn, self._media.now_ms()
        tts, owed = self._pipeline.tts, self._owed()
        can_speak = tts.can_speak
        if (owed, can_speak) != self._state:
            self._state, self._state_since_ms = (owed, can_speak), now_ms
        if can_speak and owed in (Owed.NOTHING, Owed.PERSON):
            self._broken = 0  # everything was spoken
        owed_ms, silent_ms = now_ms - self._state_since_ms, self._silent_ms()
        return Situation(
            owed=owed,
            silent_ms=silent_ms,
            limit_ms=content.limits.silence_ms,
            idle_after_ms=content.idle.after_ms,
            prompts_left=len(content.idle.prompts) - self._prompted,
            owed_ms=owed_ms,
            response_is_over=response_is_over,
            failures=self._failures if self._needs_answer else 0,
            empty=turn.empty,
            wordless=turn.wordless,
            asked=turn.asked,
            lost=turn.lost,
            patience_ms=patience_ms(
                tts.pace_ms, usual_pace_ms=tts.usual_pace_ms, replaces_silent=turn.was_silent
            ),
            can_return=self._can_return(),
            can_fill=self._can_fill(owed, can_speak),
            can_speak=can_speak,
            was_heard=self._media.playout.sent_ms > 0,
        )

    def _silent_ms(self) -> float:
        """How long neither side has been heard; a caller who is not understood is heard all the same."""
        if not self._is_timed:
            return 0.0
        stt = self._pipeline.stt
        # The silence before a prompt was the caller's; the time until the prompt is heard is ours.
        silent_ms = min(self._conversation.silent_ms, self._media.now_ms() - self._prompted_at_ms)
        return min(silent_ms, stt.quiet_ms) if stt.owes_words else silent_ms

    def _owed(self) -> Owed:
        llm, is_routing = self._pipeline.llm, self._router.is_routing
        if llm.is_paused:  # a person has the call, or the carrier is about to connect one
            return Owed.PERSON
        # While the model responds, a voice that has spoken some of its words may only wait for the next ones.
        can_speak = self._pipeline.tts.can_speak
        waits = self._requests.is_synthesising or (self._requests.is_waiting_for_tts and can_speak)
        if (waits and not llm.is_responding) or self._requests.owes_audio:
            return Owed.SPEECH
        if self._requests.has_unspoken and not is_routing:
            return Owed.REST
        if self._hangup.is_hanging_up:
            return Owed.GOODBYE
        if self._needs_answer and not is_routing:
            return Owed.ANSWER
        works = llm.is_responding or llm.is_shut or self._pipeline.is_calling_functions
        connects = not llm.is_ready(llm.active) or not can_speak
        listens = self._requests.is_waiting_for_tts or self._pipeline.stt.owes_words
        if is_routing or works or connects or listens:
            return Owed.WORK
        if not self._conversation.agent_has_answered:
            return Owed.ANSWER
        if self._waiting.suspends_idle:
            return Owed.PERSON
        return Owed.REPETITION if self._pipeline.stt.is_unheard else Owed.NOTHING

    def _can_fill(self, owed: Owed, can_speak: bool) -> bool:
        filler = self._remedies.filler(self._turn.fillers) if owed in _FILLED else None
        if filler is None:
            return False
        if owed is Owed.SPEECH or not can_speak:  # only audio that is ready can be heard now
            return filler[1] is not None
        return not self._requests.is_waiting_for_tts

    def _can_return(self) -> bool:
        """Whether the agent who answered the call may be able to answer; it is tried once in a turn."""
        current, answering = self._agents.current, self._agents.answering
        if current is answering or answering.keys is None or self._has_returned:
            return False
        shares_model = current.keys is not None and current.keys.llm == answering.keys.llm
        return not (self._failures and shares_model)

    def _work(self, step: Step) -> Coroutine[Any, Any, None] | None:
        """Count a step, and return how it is performed; None: there is nothing to perform."""
        remedies, turn = self._remedies, self._turn
        if step is Step.NO_VOICE:
            self._on_voice_lost()
        elif step is Step.REPLACE_VOICE:
            turn.was_silent = True
            self.voice_failed()
        elif step is Step.ASK:
            turn.asked += 1
        elif step is Step.RETURN:
            self._has_returned = True
        elif step is Step.FILL:
            turn.fillers += 1
            return remedies.fill(turn.fillers - 1)
        elif step is Step.LEAVE:
            self._prompted_at_ms = self._media.now_ms()
        elif step is Step.PROMPT:
            self._prompted_at_ms = self._media.now_ms()
            self._prompted += 1
            return remedies.prompt(self._prompted - 1)
        perform = {
            Step.CONTINUE: remedies.speak_unspoken,
            Step.ASK: remedies.ask,
            Step.ASK_AGAIN: remedies.ask_again,
            Step.APOLOGISE: remedies.apologise,
            Step.RETURN: remedies.return_call,
            Step.ASK_CALLER: remedies.ask_caller,
            Step.GIVE_UP: remedies.give_up,
            Step.LEAVE: remedies.leave,
        }.get(step)
        return perform() if perform is not None else None
