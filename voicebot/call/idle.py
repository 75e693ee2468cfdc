"""The caller's silence: prompts, then goodbye, timed from what the caller last *heard*."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from templates.values import render
from voicebot.call.agents import Agent


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleRules:
    """How long to wait before each prompt (ms), the prompts, and the last words."""

    after_ms: int
    prompts: tuple[str, ...]
    goodbye: str


def rules_of(agent: Agent) -> IdleRules:
    """How long an agent waits, and what it says then."""
    idle = agent.content.idle
    return IdleRules(
        after_ms=idle.after_ms,
        prompts=tuple(render(prompt, agent.values) for prompt in idle.prompts),
        goodbye=render(idle.goodbye, agent.values),
    )


class IdleWatch:
    """Runs a timer while both sides are silent.

    ``quiet`` starts it (it first waits until everything sent was heard), ``stir`` stops it, and ``spoke``
    also forgets the prompts that went unanswered.
    """

    def __init__(
        self,
        rules: Callable[[], IdleRules],
        *,
        heard: Callable[[], Awaitable[object]],
        busy: Callable[[], bool],
        prompt: Callable[[int, str], Awaitable[None]],
        give_up: Callable[[str], Awaitable[None]],
    ) -> None:
        """Watch with these.

        Args:
            rules: the current agent's.
            heard: returns once all that was sent has been heard.
            busy: whether a function still works, which is no silence of the caller's.
            prompt: speaks the n-th prompt.
            give_up: says goodbye and ends the call.
        """
        self._rules = rules
        self._heard = heard
        self._busy = busy
        self._prompt = prompt
        self._give_up = give_up
        self._prompted = 0
        self._timer: asyncio.Task[None] | None = None

    def quiet(self) -> None:
        """Neither side speaks or works any more: begin to wait."""
        self.stir()
        self._timer = asyncio.create_task(self._wait(), name="idle-watch")

    def stir(self) -> None:
        """Something happens: stop waiting."""
        if self._timer is not None and self._timer is not asyncio.current_task():
            self._timer.cancel()
        self._timer = None

    def spoke(self) -> None:
        """The caller said something: stop waiting, and begin with the first prompt the next time."""
        self.stir()
        self._prompted = 0

    async def _wait(self) -> None:
        await self._heard()
        rules = self._rules()
        await asyncio.sleep(rules.after_ms / 1000)
        while self._busy():  # noqa: ASYNC110 - a pause, not a wait for an event
            await asyncio.sleep(rules.after_ms / 1000)
        self._timer = None
        if self._prompted < len(rules.prompts):
            self._prompted += 1
            await self._prompt(self._prompted, rules.prompts[self._prompted - 1])
        else:
            await self._give_up(rules.goodbye)
