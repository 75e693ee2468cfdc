"""The end of a call: it happens once, after the current speech has been heard."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from loguru import logger

from db.calls import CallEnd, EndedBy
from telephony.errors import CarrierError
from telephony.media import MediaStream
from templates.values import render
from voicebot.background import BackgroundTasks
from voicebot.call.agents import AgentPool
from voicebot.call.audio.pipeline import CallPipeline
from voicebot.call.audio.speech_output import SpeechOutput
from voicebot.call.dependencies import CallEnder
from voicebot.call.failure_texts import failure_texts
from voicebot.call.transcript.conversation import Conversation

GOODBYE_TIMEOUT_S = 20.0
HANG_UP_TIMEOUT_S = 5.0
PLAYED_TIMEOUT_S = 0.5
"""How long the wait for playout may take when no further speech follows."""
PAUSE_TIMEOUT_S = 10.0
PAUSE_POLL_S = 0.05
LAST_WORD_S = 0.2
"""How long the line stays open after the last word, so that a caller who speaks then is heard."""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a call ended. ``resumable``: only the stream ended, and the carrier may open another one."""

    ended_by: EndedBy
    reason: str
    outcome: str | None = None
    resumable: bool = False

    def record(self, at: datetime) -> CallEnd:
        """The end as it is stored."""
        return CallEnd(ended_by=self.ended_by, end_reason=self.reason, outcome=self.outcome, ended_at=at)


WITH_PERSON = End(ended_by="operator", reason="with_person", resumable=True)
"""The caller left the agent because the carrier connects them with a person; they may return."""


class Hangup:
    """Ends one call, never while the caller is speaking, and never without a goodbye."""

    def __init__(
        self,
        agents: AgentPool,
        carrier: CallEnder,
        media: MediaStream,
        pipeline: CallPipeline,
        speech_output: SpeechOutput,
        conversation: Conversation,
        tasks: BackgroundTasks,
    ) -> None:
        """The call has not ended; ``finish`` ends it."""
        self._agents = agents
        self._carrier = carrier
        self._media = media
        self._pipeline = pipeline
        self._speech_output = speech_output
        self._conversation = conversation
        self._tasks = tasks
        self._end: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self._cancellable: asyncio.Task[None] | None = None
        self._is_hanging_up = False

    @property
    def is_hanging_up(self) -> bool:
        """Whether a goodbye is being spoken, or the call is over."""
        return self._is_hanging_up

    @property
    def is_cancellable(self) -> bool:
        """Whether a goodbye is being spoken that ``cancel`` would stop."""
        return self._cancellable is not None and not self._cancellable.done()

    @property
    def is_final(self) -> bool:
        """Whether the call ends, and ``cancel`` would not stop it."""
        return self._is_hanging_up and not self.is_cancellable

    async def wait(self) -> End:
        """Wait for the end of the call."""
        return await self._end

    def finish(self, end: End) -> None:
        """End the call now; later ends change nothing."""
        if not self._end.done():
            self._end.set_result(end)

    async def finish_played(self, end: End) -> None:
        """End the call when the audio that was sent has been played: no TTS service can speak more."""
        await self._media.wait_all_heard(PLAYED_TIMEOUT_S)
        self.finish(end)

    def service_lost(self, kind: str) -> None:
        """End the call because no service of a kind works, with a goodbye if the TTS does."""
        end = End(ended_by="system", reason=f"{kind}_unavailable")
        if kind != "tts" and self._pipeline.tts.can_speak:
            self.start(end, failure_texts(self._agents.current.content.language).goodbye)
        else:
            self._tasks.start(self.finish_played(end), name="ending the call", droppable=True)

    def start(self, end: End, goodbye: str | None = None, *, cancellable: bool = False) -> None:
        """Hang up in the background, after the current speech and ``goodbye`` have been heard.

        Args:
            end: how the call ends.
            goodbye: what to say first.
            cancellable: whether ``cancel`` stops it, because the caller speaks.
        """
        work = self.hang_up(end, goodbye, cancellable=cancellable)
        task = self._tasks.start(work, name="hanging up")
        self._is_hanging_up = True
        if cancellable:
            self._cancellable = task

    def cancel(self) -> bool:
        """Do not hang up, because the caller speaks. False: no cancellable goodbye is being spoken."""
        if self._cancellable is None or self._cancellable.done() or self._end.done():
            return False
        self._cancellable.cancel()
        self._is_hanging_up = False
        self._pipeline.llm.cancel_end()
        return True

    async def hang_up(
        self, end: End, goodbye: str | None = None, *, cancellable: bool = False, pause_s: float = 0.0
    ) -> None:
        """Hang up after the current speech and ``goodbye`` have been heard; return when it is done.

        A goodbye that cannot be cancelled cannot be interrupted either. If the call ends in another way
        meanwhile, this returns at once and the carrier is not asked. ``pause_s`` is the pause before the
        goodbye.
        """
        if self._end.done():
            return
        self._is_hanging_up = True
        self._pipeline.llm.begin_end()
        self._conversation.forget_unspoken()
        saying = asyncio.create_task(
            self._say_goodbye(end, goodbye, cancellable=cancellable, pause_s=pause_s)
        )
        ends: tuple[asyncio.Future[Any], ...] = (saying, self._end)
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            saying.cancel()
        if self._end.done():
            return
        await saying
        self.finish(end)
        carrier_call_id = self._media.start.carrier_call_id
        try:
            async with asyncio.timeout(HANG_UP_TIMEOUT_S):
                await self._carrier.hang_up(carrier_call_id)
        except (CarrierError, TimeoutError) as error:
            # The end of the media stream makes the carrier call /resume, which hangs up as well.
            logger.warning("carrier call {}: hang-up failed: {}", carrier_call_id, type(error).__name__)

    async def _say_goodbye(self, end: End, goodbye: str | None, *, cancellable: bool, pause_s: float) -> None:
        if goodbye:
            await asyncio.sleep(pause_s)
            await self._speech_output.text(goodbye, interruptible=cancellable)
        has_answered = self._conversation.agent_has_answered
        await self.all_heard()
        has_answered = has_answered or self._conversation.agent_has_answered
        if end.ended_by == "agent" and not has_answered:
            agent = self._agents.current
            await self._speech_output.text(render(agent.content.idle.goodbye, agent.values))
            await self.all_heard()
        if cancellable:
            await self._caller_is_quiet()

    async def hand_over(self, is_at_pause: Callable[[], bool]) -> None:
        """Close the stream without ending the call, so that another process resumes it.

        The stream is closed when ``is_at_pause`` is true, or after 10 s. A call whose goodbye is being spoken
        ends here.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(PAUSE_TIMEOUT_S):
                while self._is_hanging_up or not is_at_pause():  # noqa: ASYNC110 - several parts decide
                    await asyncio.sleep(PAUSE_POLL_S)
        if not self._is_hanging_up:
            self.finish(End(ended_by="system", reason="shutdown", resumable=True))

    async def all_heard(self) -> None:
        """Wait until the caller has heard everything, for 20 s at most.

        A text may be complete before its audio is sent, and audio is sent before it is played.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_TIMEOUT_S):
                await self._pipeline.drain()
                await self._media.wait_all_heard(GOODBYE_TIMEOUT_S)

    async def _caller_is_quiet(self) -> None:
        """Wait for the end of the caller's words, which may cancel the hang-up.

        A goodbye that was interrupted by a sound without words is spoken to its end.
        """
        conversation, is_over = self._conversation, False
        await asyncio.sleep(LAST_WORD_S)
        with suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_TIMEOUT_S):
                while not is_over:
                    await conversation.caller_is_quiet()
                    while conversation.has_pending_speech:  # noqa: ASYNC110 - the watchdog has it spoken
                        await asyncio.sleep(PAUSE_POLL_S)
                    await self.all_heard()
                    is_over = not (conversation.caller_is_speaking or conversation.has_pending_speech)
