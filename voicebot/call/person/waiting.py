"""A caller who waits for a person: what they hear meanwhile, and how the waiting ends.

While a request for a person is open, the caller may be silent. They hear comfort audio, a short text at
intervals, and a text when a person has claimed the request. They can talk to the agent, continue with it, or
be called back, by asking for it or by pressing a key. They are told when nobody is available and when the
author's limit has passed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal, cast
from uuid import UUID

from pipecat.frames.frames import LLMMessagesAppendFrame

from handlers.context import HandoffRequest, HandoffStatus
from telephony.media import MediaStream
from templates.model import Waiting
from voicebot.background import BackgroundTasks
from voicebot.call.agents import AgentPool
from voicebot.call.audio.comfort import ComfortAudio, tone
from voicebot.call.audio.frames import uninterruptible
from voicebot.call.audio.pipeline import CallPipeline
from voicebot.call.audio.speech_output import SpeechOutput
from voicebot.call.hangup import Hangup
from voicebot.call.person.waiting_texts import WaitingTexts, waiting_line, waiting_texts
from voicebot.call.transcript.conversation import Conversation
from voicebot.call.transcript.recorder import CallRecorder
from voicebot.clock import Clock

CALL_BACK_KEY = "1"
AGENT_KEY = "2"
PARK_REASON = "The caller waited for a person and asked by a key to be called back."

TICK_S = 0.06
COMFORT_AFTER_MS = 400
"""Silence before comfort audio begins, so that it does not sound between two sentences."""
LINE_AFTER_MS = 800
"""Silence before a text is spoken, so that it does not interrupt a caller who pauses."""
FIRST_LINE_MS = 3000.0
"""When the first text is due if an agent requested the person, because the agent speaks first."""
REPEATED_AFTER_MS = 15_000.0
"""The caller is told at most once within this time that nobody is available."""

Phase = Literal["none", "waiting", "claimed", "connected", "offered", "transferring"]
"""``transferring``: a destination is being called for the caller. ``offered``: nobody came; the keys keep
their meaning until the caller says something."""

CLAIMED = (
    "A person has taken over the caller's request and will join this call shortly; the caller has been told. "
    "Do not end the call."
)
NOT_REACHED = (
    "The person who has taken the request could not be reached by telephone ({cause}) and may try again. The "
    "caller waits; do not end the call."
)
RETURNED_TO_QUEUE = "The person who had taken over the request is not available any more; the caller waits."
NOBODY_THERE = (
    "No person is available at the moment. Say so honestly if the caller asks, and offer to have them called "
    "back (park_call), another destination if you have one, or to take a message."
)
WAIT_OVER = (
    "No person came in time; the caller has been told and does not wait any more. Offer to have them called "
    "back (park_call), another destination if you have one, or to take a message, or help them yourself."
)
CALLED_BACK = (
    "The caller chose to be called back; a person will call them. The caller does not wait any more."
)
NUMBER_WITHHELD = (
    "The caller wants to be called back, but their number is withheld; they have been asked for one. "
    "Repeat it, and call park_call with the number in `reason`."
)
GOES_ON = "The caller does not wait for a person any more and goes on with you."
ENDED = "The request for a person has been closed without a conversation; help the caller yourself."


class WaitingForPerson:
    """The waiting of one caller. Its methods return at once."""

    def __init__(
        self,
        media: MediaStream,
        clock: Clock,
        agents: AgentPool,
        recorder: CallRecorder,
        pipeline: CallPipeline,
        speech_output: SpeechOutput,
        conversation: Conversation,
        hangup: Hangup,
        tasks: BackgroundTasks,
        recording: Callable[[str], Awaitable[bytes | None]],
        *,
        has_phone: bool,
    ) -> None:
        """No person was requested yet. ``recording`` gets the author's recording at a URL."""
        self.has_phone = has_phone
        self._clock = clock
        self._agents = agents
        self._recorder = recorder
        self._pipeline = pipeline
        self._speech_output = speech_output
        self._conversation = conversation
        self._hangup = hangup
        self._tasks = tasks
        self._comfort = ComfortAudio(pipeline, clock)
        self._recording = recording
        self._sound = tone(pipeline.sample_rate)
        self._phase: Phase = "none"
        self._status: HandoffStatus | None = None
        self._left: set[UUID] = set()
        self._is_told = False
        self._since_ms = self._line_at_ms = 0.0
        self._spoken_ms = float("-inf")
        self._told_absence = False
        self._absence_said_ms = float("-inf")
        self._waiter: asyncio.Task[None] | None = None
        media.on_dtmf(self._key_pressed)

    @property
    def suspends_idle(self) -> bool:
        """Whether the caller waits for or talks to a person: no idle prompts, no hang-up."""
        return self.hears_comfort or self._phase == "connected"

    @property
    def hears_comfort(self) -> bool:
        """Whether the caller hears comfort audio when nobody speaks."""
        return self.is_waiting or self._phase == "transferring"

    @property
    def is_waiting(self) -> bool:
        """Whether the caller waits for a person from the queue."""
        return self._phase in ("waiting", "claimed")

    @property
    def takes_keys(self) -> bool:
        """Whether the keys choose between a call-back and the agent."""
        return self.is_waiting or self._phase == "offered"

    def hand_off(self, request: HandoffRequest) -> None:
        """Request a person, or a call-back, which ends the waiting."""
        self._recorder.hand_off(request)
        if request.intent == "escalate" and not self.suspends_idle:
            self._begin(first_line_ms=FIRST_LINE_MS)
        elif request.intent == "park":
            self._end()

    def resume(self) -> None:
        """The agent that resumes the call says that the operator was not reached."""
        self._is_told = True

    def begin_transfer(self) -> None:
        """A destination is being called; the caller stays with the agent meanwhile."""
        if not self.suspends_idle:
            self._begin(first_line_ms=0.0)
            self._phase = "transferring"

    def end_transfer(self) -> None:
        """Nobody accepted the caller at the destination."""
        if self._phase == "transferring":
            self._stop()
            self._phase = "none"

    def leave(self) -> bool:
        """Continue with the agent; False: the caller was not waiting."""
        if not self.is_waiting:
            return False
        self._recorder.withdraw_handoff("caller_returned")
        self._end()
        return True

    def caller_spoke(self) -> None:
        """The caller spoke: after the offer that follows a vain wait, keys lose their meaning."""
        if self._phase == "offered":
            self._phase = "none"

    def handoff_changed(self, status: HandoffStatus) -> None:
        """Take the current status of the request, which the queue reports periodically."""
        if status.handoff_id in self._left:
            return
        before, self._status = self._status, status
        if status.phase == "ended":
            self._left.add(status.handoff_id)
            if self.suspends_idle:
                self._ended(status, was_connected=self._phase == "connected")
            return
        if status.phase == "connected":
            self._stop()
            self._phase = "connected"
        elif status.phase == "claimed":
            self._has_claim(status, before)
        elif status.phase == "waiting" and self._phase != "waiting":
            was_claimed = self._phase == "claimed"
            self._begin(first_line_ms=0.0)
            if was_claimed:
                self._not_reached(RETURNED_TO_QUEUE)

    # ------------------------------------------------------------------------------- the phases

    def _has_claim(self, status: HandoffStatus, before: HandoffStatus | None) -> None:
        """A person has claimed the request, or could not be reached by telephone."""
        if self._phase != "claimed":
            self._begin(first_line_ms=self._content.every_ms)
            self._phase = "claimed"
            if status.cause is None:
                self._tell_agent(CLAIMED)
                self._say(self._texts.claimed, remembered=True)
                return
            is_told, self._is_told = self._is_told, False
            before = status if is_told else None
        if status.cause is not None and (before is None or before.cause != status.cause):
            self._not_reached(NOT_REACHED.format(cause=status.cause))

    def _begin(self, *, first_line_ms: float) -> None:
        now = self._clock.monotonic_ms()
        self._phase = "waiting"
        self._since_ms, self._line_at_ms = now, now + first_line_ms
        self._told_absence = False
        if self._waiter is None:
            self._tasks.start(self._load_sound(), name="loading a recording", droppable=True)
            self._waiter = self._tasks.start(self._wait(), name="waiting for a person", droppable=True)

    def _not_reached(self, told: str) -> None:
        """The person who had claimed the request does not come: tell the caller at once, and keep waiting."""
        self._tell_agent(told)
        now = self._clock.monotonic_ms()
        if self._phase == "waiting" and self._status is not None and not self._status.someone_is_there:
            self._tell_absence(now)
            self._say(self._texts.nobody, remembered=True)
        else:
            self._say(self._texts.not_reached, remembered=True)
        self._line_at_ms = now + self._content.every_ms

    def _tell_absence(self, now_ms: float) -> None:
        """Tell the agent once that nobody is available; the caller is about to hear it."""
        if not self._told_absence:
            self._told_absence = True
            self._tell_agent(NOBODY_THERE)
        self._absence_said_ms = now_ms

    def _ended(self, status: HandoffStatus, *, was_connected: bool) -> None:
        self._end()
        if was_connected:
            return
        if status.cause == "converted_to_park":
            self._tell_agent(CALLED_BACK)
            self._say(self._texts.called_back, remembered=True)
        else:
            self._tell_agent(ENDED)
            self._say(self._texts.ended, remembered=True)

    def _end(self) -> None:
        if self._status is not None:
            self._left.add(self._status.handoff_id)
        self._stop()
        self._phase = "none"

    def _stop(self) -> None:
        self._comfort.stop()
        waiter, self._waiter = self._waiter, None
        if waiter is not None and waiter is not asyncio.current_task():
            waiter.cancel()

    async def _wait(self) -> None:
        """Play comfort audio, speak texts and apply the limit until the waiting ends."""
        while self.hears_comfort and not self._hangup.is_hanging_up:
            quiet_ms = self._conversation.quiet_ms
            if quiet_ms >= LINE_AFTER_MS and self.is_waiting:
                await self._speak_if_due()
            if quiet_ms >= COMFORT_AFTER_MS and self.hears_comfort:
                await self._comfort.play(self._sound)
            else:
                self._comfort.stop()
            await asyncio.sleep(TICK_S)
        self._waiter = None

    async def _load_sound(self) -> None:
        """Play the tone until the author's recording is loaded, then the recording."""
        url = self._content.audio
        recording = await self._recording(url) if url else None
        self._sound = recording or tone(self._pipeline.sample_rate)

    async def _speak_if_due(self) -> None:
        now, waiting = self._clock.monotonic_ms(), self._content
        if now - self._since_ms >= waiting.max_ms:
            self._give_up()
            return
        if now < max(self._line_at_ms, self._spoken_ms + waiting.every_ms):
            return
        self._spoken_ms, status = now, self._status
        if self._phase == "claimed" and status is not None and status.cause is None:
            text = self._texts.claimed
        elif self._phase == "waiting" and status is not None and not status.someone_is_there:
            self._tell_absence(now)
            text = self._texts.nobody
        else:
            agent = self._agents.current
            wait_ms = None if status is None else status.expected_wait_ms
            text = waiting_line(waiting.line, agent.values, agent.content.language, wait_ms)
        await self._speech_output.text(text, remembered=False)

    def _give_up(self) -> None:
        """The author's limit has passed: the caller goes back to the agent and is offered a call-back."""
        self._recorder.withdraw_handoff("wait_over")
        self._end()
        self._phase = "offered"
        self._tell_agent(WAIT_OVER)
        if self._clock.monotonic_ms() - self._absence_said_ms >= REPEATED_AFTER_MS:
            self._say(self._texts.nobody, remembered=True)

    # ------------------------------------------------------------------------------- keys and words

    def _key_pressed(self, digit: str) -> None:
        if not self.takes_keys:
            return
        if digit == CALL_BACK_KEY and not self.has_phone:
            self._tell_agent(NUMBER_WITHHELD)
            self._say(self._texts.number_withheld, remembered=True)
        elif digit == CALL_BACK_KEY:
            self._recorder.hand_off(HandoffRequest(intent="park", reason=PARK_REASON))
            self._end()
            self._tell_agent(CALLED_BACK)
            self._say(self._texts.called_back, remembered=True)
        elif digit == AGENT_KEY:
            self.leave()
            self._phase = "none"
            self._tell_agent(GOES_ON)
            self._say(self._texts.goes_on, remembered=True)
        else:
            self._line_at_ms = self._spoken_ms = float("-inf")  # the caller asks for the text

    @property
    def _content(self) -> Waiting:
        return self._agents.current.content.waiting

    @property
    def _texts(self) -> WaitingTexts:
        return waiting_texts(self._agents.current.content.language)

    def _say(self, text: str, *, remembered: bool) -> None:
        work = self._speech_output.text(text, remembered=remembered)
        self._tasks.start(work, name="speaking to a waiting caller", droppable=True)

    def _tell_agent(self, text: str) -> None:
        message = cast(Any, {"role": "developer", "content": text})
        work = self._pipeline.worker.queue_frame(uninterruptible(LLMMessagesAppendFrame(messages=[message])))
        self._tasks.start(work, name="telling the agent", droppable=True)
