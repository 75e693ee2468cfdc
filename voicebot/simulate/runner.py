"""Plays scripted conversations, each as a text call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
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
from voicebot.simulate.expectations import UnmetExpectation, misses
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
    """What conversations are played on. ``http`` of None: functions are answered by the script alone."""

    library: Library
    find: Find
    llm: LlmFactory
    judge: Callable[[], Judge]
    http: HttpBinder | None = None
    turn_timeout_s: float = 60.0


@dataclass(slots=True, kw_only=True)
class PlayedTurn:
    """A turn and what came of it; no exchange: it was not played."""

    turn: Turn
    exchange: Exchange | None = None
    misses: list[UnmetExpectation] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Played:
    """A conversation and what came of it. ``fault``: why it could not be played at all."""

    name: str
    begin: str
    turns: list[PlayedTurn] = field(default_factory=list)
    fault: str | None = None
    duration_ms: int = 0

    @property
    def passed(self) -> bool:
        """Whether everything was as expected."""
        return self.fault is None and all(turn.exchange and not turn.misses for turn in self.turns)


async def play(script: Script, stage: SimulationSetup, *, at_once: int = 4) -> list[Played]:
    """Play every conversation of a script, some of them at once; results in the script's order."""
    room = asyncio.Semaphore(at_once)

    async def one(conversation: Conversation) -> Played:
        async with room:
            return await _play(script, conversation, stage)

    return list(await asyncio.gather(*map(one, script.conversations)))


async def _play(script: Script, conversation: Conversation, stage: SimulationSetup) -> Played:
    played = Played(name=conversation.name, begin=script.begins_with(conversation))
    played.turns = [PlayedTurn(turn=turn) for turn in conversation.turns]
    judge = stage.judge() if any(turn.expect.meets for turn in conversation.turns) else None
    began = time.monotonic()
    try:
        chat, opening = await Chat.begin(_setup(script, conversation, stage), await stage.find(played.begin))
        try:
            await _converse(played, chat, opening, judge)
        finally:
            await chat.hang_up()
    except NotFound:
        played.fault = f"There is no template {played.begin!r}."
    except CannotBegin as error:
        told = "; ".join(f"{fault.pointer} {fault.message}".strip() for fault in error.problems)
        played.fault = f"{played.begin} cannot take the call: {told}"
    except TurnTooLong as error:
        said = f"after “{error.exchange.said}”" if error.exchange.said else "as the call began"
        played.fault = f"The language model did not finish in time, {said}."
    finally:
        if judge is not None:
            await judge.close()
    played.duration_ms = round((time.monotonic() - began) * 1000)
    return played


async def _converse(played: Played, chat: Chat, opening: Exchange, judge: Judge | None) -> None:
    """Play turn after turn, up to the first that is not as expected: what follows would be about that."""
    for index, each in enumerate(played.turns):
        if each.turn.caller is None:
            each.exchange = opening
        elif chat.is_over:
            each.misses.append(UnmetExpectation(expected="that the call was still on", got="it had ended"))
            return
        else:
            if judge is not None and index == 0:
                judge.hear(opening)
            each.exchange = await chat.say(each.turn.caller)
        if judge is not None:
            judge.hear(each.exchange)
        each.misses = await misses(each.turn.expect, each.exchange, chat, judge)
        if each.misses:
            return


def _setup(script: Script, conversation: Conversation, stage: SimulationSetup) -> Setup:
    answers = script.answers_of(conversation)

    def http(log: ExchangeLog) -> HttpBinder:
        return stage.http or PreparedHttp(answers, log.unanswered)

    return Setup(
        library=stage.library,
        llm=stage.llm,
        http=http,
        payload=script.payload_of(conversation),
        turn_timeout_s=stage.turn_timeout_s,
    )
