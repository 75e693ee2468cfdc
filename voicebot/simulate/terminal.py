"""A conversation in the terminal."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import threading
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from rich.console import Console

from voicebot.call.dependencies import HttpBinder
from voicebot.call.text.answers import Answers, PreparedHttp
from voicebot.call.text.chat import Chat, Setup
from voicebot.call.text.exchange import Exchange, ExchangeLog
from voicebot.simulate.report import lines, requests, requests_as_json, steps
from voicebot.simulate.runner import SimulationSetup

HELP = "[dim]Type what the caller says. /state shows the state of the call, /quit hangs up.[/]"


class Terminal:
    """Reads turns from standard input, and prints what happens in them."""

    def __init__(self, console: Console, *, as_json: bool = False, show_prompt: bool = False) -> None:
        """Print to ``console``.

        Args:
            console: where to.
            as_json: print one line of JSON per turn, and no prompt.
            show_prompt: print every request to the model too.
        """
        self._console = console
        self._as_json = as_json
        self._show_prompt = show_prompt
        self.model_failed = False
        """Whether a request to the language model failed."""

    async def converse(
        self, setup: SimulationSetup, template_id: UUID, payload: Mapping[str, Any], answers: Answers
    ) -> None:
        """Hold a conversation until one side ends it.

        Raises:
            CannotBegin, NotFound, TurnTooLong: as for ``Chat``.
        """

        def http(log: ExchangeLog) -> HttpBinder:
            return setup.http or PreparedHttp(answers, log.unanswered)

        chat_setup = Setup(
            library=setup.library,
            llm=setup.llm,
            http=http,
            payload=payload,
            turn_timeout_s=setup.turn_timeout_s,
        )
        chat, opening = await Chat.begin(chat_setup, template_id)
        if not self._as_json:
            self._console.print(HELP)
        self._show(opening)
        try:
            await self._take_turns(chat)
        finally:
            if not chat.is_over:
                self._show(await chat.hang_up())

    async def _take_turns(self, chat: Chat) -> None:
        read = _lines()
        while not chat.is_over and not self.model_failed and (said := await self._next(read)) is not None:
            if said == "/state":
                self._state(chat)
            elif said:
                self._show(await chat.say(said))

    async def _next(self, read: asyncio.Queue[str]) -> str | None:
        """What the caller says next; None when the caller hangs up."""
        if not self._as_json and sys.stdin.isatty():
            self._console.print("[bold]caller[/]  ", end="")
        line = await read.get()
        said = line.strip()
        return None if not line or said == "/quit" else said

    def _show(self, exchange: Exchange) -> None:
        self.model_failed |= exchange.model_failed
        if self._as_json:
            shown: dict[str, Any] = {"said": exchange.said, "steps": steps(exchange)}
            if self._show_prompt:
                shown["requests"] = requests_as_json(exchange)
            print(json.dumps(shown, ensure_ascii=False), flush=True)
            return
        for line in requests(exchange) if self._show_prompt else ():
            self._console.print(line, highlight=False, soft_wrap=True)
        for line in lines(exchange):
            self._console.print(line, highlight=False, soft_wrap=True)

    def _state(self, chat: Chat) -> None:
        at = chat.log.at
        state = {
            "agent": at.agent if at else None,
            "node": at.node if at else None,
            "variables": dict(chat.variables()),
            "agents": {a.name: a.reason or "ready" for a in chat.log.agents.values()},
        }
        self._console.print(json.dumps(state, indent=2, ensure_ascii=False, default=str), markup=False)


def _lines() -> asyncio.Queue[str]:
    """The lines of standard input as they arrive, "" at its end; a thread reads them."""
    lines: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def read() -> None:
        while not loop.is_closed():
            line = sys.stdin.readline()
            with contextlib.suppress(RuntimeError):  # The loop is closed: no reader is left.
                loop.call_soon_threadsafe(lines.put_nowait, line)
            if not line:
                return

    threading.Thread(target=read, name="standard input", daemon=True).start()
    return lines
