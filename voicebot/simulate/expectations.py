"""Compares what a turn was expected to do with what happened."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from voicebot.call.text.chat import Chat
from voicebot.call.text.exchange import Exchange, OutcomeRecorded
from voicebot.call.text.judge import Judge
from voicebot.simulate.script import Expect

_NON_WORD = re.compile(r"[\W_]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnmetExpectation:
    """An expectation of a turn that was not met, in words."""

    expected: str
    got: str


async def unmet_expectations(
    expect: Expect, exchange: Exchange, chat: Chat, judge: Judge | None
) -> list[UnmetExpectation]:
    """The expectations that were not met. ``judge`` has heard the turn; it is needed for ``meets``."""
    found = [
        *_failures(exchange),
        *_words(expect, exchange),
        *_functions(expect, exchange),
        *_routes(expect, exchange),
        *_places(expect, chat),
        *_results(expect, exchange, chat),
    ]
    for criterion in expect.meets if judge is not None else ():
        verdict = await judge.verdict(criterion) if judge is not None else None
        if verdict is not None and not verdict.passed:
            found.append(UnmetExpectation(expected=f"a reply that {criterion}", got=verdict.reason))
    return found


def _failures(exchange: Exchange) -> Iterator[UnmetExpectation]:
    for failure in exchange.failures:
        if failure.part != "agent":
            yield UnmetExpectation(expected="no failure", got=f"{failure.part}: {failure.reason}")


def _words(expect: Expect, exchange: Exchange) -> Iterator[UnmetExpectation]:
    heard = " ".join(reply.text for reply in exchange.replies)
    for words in expect.says:
        if _plain(words) not in _plain(heard):
            yield UnmetExpectation(expected=f"the words {words!r}", got=_quoted(heard))
    for words in expect.never_says:
        if _plain(words) in _plain(heard):
            yield UnmetExpectation(expected=f"never the words {words!r}", got=_quoted(heard))


def _functions(expect: Expect, exchange: Exchange) -> Iterator[UnmetExpectation]:
    if expect.functions is None:
        return
    calls = [(call.name, call.arguments) for call in exchange.functions]
    got = ", ".join(_call_text(name, arguments) for name, arguments in calls) or "no function was called"
    if not expect.functions and calls:
        yield UnmetExpectation(expected="no function", got=got)
    left = iter(calls)
    for wanted in expect.functions:
        name, arguments = (wanted, {}) if isinstance(wanted, str) else next(iter(wanted.items()))
        if not any(_fits(name, arguments, call) for call in left):
            yield UnmetExpectation(expected=f"the function {_call_text(name, arguments)}", got=got)
            return


def _fits(name: str, arguments: Mapping[str, Any], call: tuple[str, Mapping[str, Any]]) -> bool:
    called, given = call
    return called == name and all(
        key in given and (given[key] == value or str(given[key]).casefold() == str(value).casefold())
        for key, value in arguments.items()
    )


def _routes(expect: Expect, exchange: Exchange) -> Iterator[UnmetExpectation]:
    if not expect.has("route"):
        return
    done = [route.name for route in exchange.routes if route.status == "done"]
    got = ", ".join(
        f"{route.name} ({route.status}{f': {route.code}' if route.code else ''})" for route in exchange.routes
    )
    if expect.route is None and done:
        yield UnmetExpectation(expected="no route", got=got)
    elif expect.route is not None and expect.route not in done:
        yield UnmetExpectation(expected=f"the route {expect.route}", got=got or "no route was requested")


def _places(expect: Expect, chat: Chat) -> Iterator[UnmetExpectation]:
    at = chat.log.at
    agent, node = (at.agent, at.node) if at else (None, None)
    if expect.agent is not None and expect.agent != agent:
        yield UnmetExpectation(expected=f"the agent {expect.agent}", got=str(agent))
    if expect.node is not None and expect.node != node:
        yield UnmetExpectation(expected=f"the node {expect.node}", got=str(node))


def _results(expect: Expect, exchange: Exchange, chat: Chat) -> Iterator[UnmetExpectation]:
    outcomes = [step.outcome for step in exchange.steps if isinstance(step, OutcomeRecorded)]
    if expect.outcome is not None and expect.outcome not in outcomes:
        yield UnmetExpectation(
            expected=f"the outcome {expect.outcome}", got=", ".join(outcomes) or "none was recorded"
        )
    if expect.ended is not None and expect.ended is not chat.is_over:
        yield UnmetExpectation(
            expected="the end of the call" if expect.ended else "the call to continue",
            got="it ended" if chat.is_over else "it continued",
        )


def _plain(text: str) -> str:
    """The words in lower case, separated by single spaces."""
    return f" {_NON_WORD.sub(' ', text.casefold()).strip()} "


def _quoted(text: str) -> str:
    return f"“{text}”" if text else "nothing was said"


def _call_text(name: str, arguments: Mapping[str, Any]) -> str:
    return f"{name}({json.dumps(dict(arguments), ensure_ascii=False, default=str)[1:-1]})"
