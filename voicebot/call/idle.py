"""The caller's silence: prompts, then a goodbye, timed from when the caller heard our last word."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from templates.values import render
from voicebot.background import BackgroundTasks
from voicebot.call.agents import AgentPool
from voicebot.call.audio.speech_output import SpeechOutput
from voicebot.call.hangup import End, Hangup
from voicebot.call.transcript.recorder import CallRecorder


class IdleTimer:
    """Times the silence of both sides, by the rules of the current agent's template.

    ``start`` starts the timer when everything sent was heard, ``cancel`` stops it, and ``reset`` also forgets
    the prompts that the caller left unanswered.
    """

    def __init__(
        self,
        agents: AgentPool,
        recorder: CallRecorder,
        speech_output: SpeechOutput,
        hangup: Hangup,
        tasks: BackgroundTasks,
        is_busy: Callable[[], bool],
    ) -> None:
        """``is_busy`` says whether we are working, so that the silence is not the caller's."""
        self._agents = agents
        self._recorder = recorder
        self._speech_output = speech_output
        self._hangup = hangup
        self._tasks = tasks
        self._is_busy = is_busy
        self._prompted = 0
        self._timer: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Neither side speaks any more: start the timer."""
        self.cancel()
        self._timer = self._tasks.start(self._run(), name="timing the caller's silence", droppable=True)

    def cancel(self) -> None:
        """Stop the timer."""
        if self._timer is not None and self._timer is not asyncio.current_task():
            self._timer.cancel()
        self._timer = None

    def reset(self) -> None:
        """The caller spoke: stop the timer and begin with the first prompt the next time."""
        self.cancel()
        self._prompted = 0

    async def _run(self) -> None:
        await self._hangup.all_heard()
        agent = self._agents.current
        idle = agent.content.idle
        await asyncio.sleep(idle.after_ms / 1000)
        while self._is_busy():  # noqa: ASYNC110 - a pause, not a wait for an event
            await asyncio.sleep(idle.after_ms / 1000)
        self._timer = None
        if self._hangup.is_hanging_up:
            return
        if self._prompted < len(idle.prompts):
            prompt = render(idle.prompts[self._prompted], agent.values)
            self._prompted += 1
            self._recorder.event("idle.prompted", number=self._prompted)
            await self._speech_output.text(prompt)
        else:
            goodbye = render(idle.goodbye, agent.values)
            self._hangup.start(End(ended_by="system", reason="idle"), goodbye, cancellable=True)
