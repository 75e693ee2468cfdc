"""Runs scripted conversations, each as a text call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from db.errors import NotFound
from voicebot.call.dependencies import HttpBinder
from voicebot.call.text.answers import PreparedHttp
from voicebot.call.text.chat import CannotBegin, Chat, Setup, TurnTooLong
from voicebot.call.text.exchange import Exchange, ExchangeLog
from voicebot.call.text.judge import Judge
from voicebot.call.text.library import Library
from voicebot.call.text.services import LlmFactory
from voicebot.simulate.expectations import UnmetExpectation, unmet_expectations
from voicebot.simulate.script import Conversation, Script, Turn


class Find(Protocol):
    """Finds a template by name."""

    async def __call__(self, name: str) -> UUID:
        """Its id.

        Raises:
            NotFound: there is none.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationSetup:
    """What conversations run with.

    If ``http`` is None, only the script answers HTTP functions. ``missing`` are the variables without which
    no language model can be reached.
    """

    library: Library
    find: Find
    llm: LlmFactory
    judge: Callable[[], Judge]
    http: HttpBinder | None = None
    turn_timeout_s: float = 60.0
    missing: Sequence[str] = ()


@dataclass(slots=True, kw_only=True)
class TurnResult:
    """A turn and its result; ``exchange`` is None if the turn was not run."""

    turn: Turn
    exchange: Exchange | None = None
    unmet: list[UnmetExpectation] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class ConversationResult:
    """A conversation and its result; ``fault`` says why it could not be run."""

    name: str
    begin: str
    turns: list[TurnResult] = field(default_factory=list)
    fault: str | None = None
    duration_ms: int = 0

    @property
    def passed(self) -> bool:
        """Whether everything was as expected."""
        return self.fault is None and all(turn.exchange and not turn.unmet for turn in self.turns)


async def run(script: Script, setup: SimulationSetup, *, concurrency: int = 4) -> list[ConversationResult]:
    """Run the conversations of a script, ``concurrency`` at a time; results are in the script's order."""
    slots = asyncio.Semaphore(concurrency)

    async def one(conversation: Conversation) -> ConversationResult:
        async with slots:
            return await _run(script, conversation, setup)

    return list(await asyncio.gather(*map(one, script.conversations)))


async def _run(script: Script, conversation: Conversation, setup: SimulationSetup) -> ConversationResult:
    result = ConversationResult(name=conversation.name, begin=script.begins_with(conversation))
    result.turns = [TurnResult(turn=turn) for turn in conversation.turns]
    judge = setup.judge() if any(turn.expect.meets for turn in conversation.turns) else None
    began = time.monotonic()
    try:
        chat, opening = await Chat.begin(_setup(script, conversation, setup), await setup.find(result.begin))
        try:
            await _converse(result, chat, opening, judge)
        finally:
            await chat.hang_up()
    except NotFound:
        result.fault = f"There is no template {result.begin!r}."
    except CannotBegin as error:
        problems = "; ".join(f"{fault.pointer} {fault.message}".strip() for fault in error.problems)
        result.fault = f"{result.begin} cannot take the call: {problems}"
    except TurnTooLong as error:
        said = f"after “{error.exchange.said}”" if error.exchange.said else "as the call began"
        result.fault = f"The language model did not finish in time, {said}."
    finally:
        if judge is not None:
            await judge.close()
    result.duration_ms = round((time.monotonic() - began) * 1000)
    return result


async def _converse(result: ConversationResult, chat: Chat, opening: Exchange, judge: Judge | None) -> None:
    """Run the turns up to the first that is not as expected; later ones would only fail because of it."""
    for index, each in enumerate(result.turns):
        if each.turn.caller is None:
            each.exchange = opening
        elif chat.is_over:
            each.unmet.append(UnmetExpectation(expected="the call to continue", got="it had ended"))
            return
        else:
            if judge is not None and index == 0:
                judge.add(opening)
            each.exchange = await chat.say(each.turn.caller)
        if judge is not None:
            judge.add(each.exchange)
        each.unmet = await unmet_expectations(each.turn.expect, each.exchange, chat, judge)
        if each.unmet:
            return


def _setup(script: Script, conversation: Conversation, setup: SimulationSetup) -> Setup:
    answers = script.answers_of(conversation)

    def http(log: ExchangeLog) -> HttpBinder:
        return setup.http or PreparedHttp(answers, log.unanswered)

    return Setup(
        library=setup.library,
        llm=setup.llm,
        http=http,
        payload=script.payload_of(conversation),
        turn_timeout_s=setup.turn_timeout_s,
    )
