"""The answer to a request, by the rules of docs/guides/sandbox.md, in their order."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from voicebot.sandbox.model import wording
from voicebot.sandbox.model.conversation import Conversation, read
from voicebot.sandbox.model.functions import (
    Choice,
    Function,
    arguments_of,
    choose,
    function_of,
    likeness,
    ordered,
    stems_said,
)
from voicebot.sandbox.model.instructions import Rule, rules
from voicebot.sandbox.model.words import repeats, stems

_BYE = re.compile(
    r"\b(?:good ?bye|bye|hang up|see you|that is all|that's all|nothing else|end the call)\b",
    re.IGNORECASE,
)
_FAILING = re.compile(r"\b(?:fails?|failed|error)\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A function to be called."""

    id: str
    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the model answers: text, function calls, or both."""

    text: str = ""
    calls: tuple[Call, ...] = ()


def reply(
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] = (),
    tool_choice: str | Mapping[str, Any] | None = None,
    response_format: Mapping[str, Any] | None = None,
) -> Reply:
    """Answer a chat request, given by its members in the protocol.

    Raises:
        KeyError, TypeError: the request is not as the protocol says.
    """
    conversation = read(messages)
    if response_format and response_format.get("type") == "json_schema":
        document = wording.form(response_format["json_schema"]["schema"], conversation)
        return Reply(text=json.dumps(document, ensure_ascii=False))
    functions = [] if tool_choice == "none" else [function_of(tool) for tool in tools]
    if not functions and any("summar" in text.lower() for text in (*conversation.role, *conversation.step)):
        return Reply(text=wording.summary(conversation))
    return _Answer(conversation, functions).reply()


class _Answer:
    """One request with what its instructions want."""

    def __init__(self, conversation: Conversation, functions: Sequence[Function]) -> None:
        names = [function.name for function in functions]
        self.conversation, self.functions = conversation, functions
        self.ending = next((function for function in functions if function.ends_call), None)
        self.step, role = rules(conversation.step, names), rules(conversation.role, names)
        self.rules = [*self.step, *role]
        since = conversation.said[conversation.said_before_step :]
        self.unsaid = [rule for rule in self.step if rule.spoken and not _was_said(rule, since)]
        self.unsaid += [rule for rule in role if rule.spoken and not _was_said(rule, conversation.said)]

    def reply(self) -> Reply:
        """Decide on the answer."""
        choice = ordered(self.conversation, self.functions, self.step)
        if (
            choice is not None
            and choice.function != self.ending
            and (self.conversation.fresh or self._goes_on())
        ):
            return self._take(choice)
        if self.conversation.waiting:
            return self._to_caller()
        if self.conversation.calls:
            return self._after_calls()
        return self._say(self._next() or (wording.ELSE if self.conversation.said else wording.HELLO))

    def _goes_on(self) -> bool:
        """Whether the newest call is one that the step orders, and did not fail: the step may order more."""
        orders = {rule.text for rule in self.step if rule.kind == "call" and not rule.condition}
        newest = self.conversation.done()[self.conversation.calls_before_step :][-1:]
        return any(call.name in orders and not call.failed for call in newest)

    def _to_caller(self) -> Reply:
        rule, score = self._fitting(self.rules)
        if self._says_goodbye():
            return self._goodbye(rule)
        choice = choose(self.conversation, self.functions, self.rules)
        if choice is not None and choice.score >= score:
            return self._take(choice)
        if rule is None:
            return self._say(self._fact() or self._next() or wording.GO_ON)
        ends = any(each.condition == rule.condition and self._is_ending(each) for each in self.rules)
        return self._end(rule.text) if ends else Reply(text=rule.text)

    def _take(self, choice: Choice) -> Reply:
        if choice.filled.missing:
            return Reply(text=wording.question(choice.filled.missing[0]))
        return self._call(choice.function, choice.filled.arguments)

    def _after_calls(self) -> Reply:
        """Say what the instructions say after these functions, or when one fails; else the results."""
        done = self.conversation.done()
        failed = [call.name for call in done if call.failed]
        spoken = [rule for rule in self.rules if rule.spoken and _FAILING.search(rule.condition)]
        instead = [rule.text for rule in spoken if any(name in rule.condition for name in failed)]
        if failed:
            return Reply(text=(*instead, wording.results(done))[0])
        names = {call.name for call in done}
        cases = {rule.condition for rule in self.rules if rule.kind == "call" and rule.text in names} - {""}
        beside, _ = self._fitting([rule for rule in self.unsaid if rule.condition in cases])
        after = [rule.text for rule in self.unsaid if any(name in rule.condition for name in names - {""})]
        after = [text for text in after if text not in {rule.text for rule in spoken}]
        told = beside.text if beside is not None else (*after, self._next())[0]
        return self._say(told or f"{wording.results(done) or wording.DONE} {wording.ELSE}")

    def _say(self, text: str) -> Reply:
        """Say something, and end the call with it where the step orders that and nothing is asked."""
        ends = any(self._is_ending(rule) and not rule.condition for rule in self.step)
        return self._end(text) if ends and not text.endswith("?") else Reply(text=text)

    def _says_goodbye(self) -> bool:
        declines = (
            re.match(r"no\b", self.conversation.words, re.IGNORECASE)
            and "anything else" in self.conversation.asked
        )
        return bool(declines or _BYE.search(self.conversation.words))

    def _goodbye(self, rule: Rule | None) -> Reply:
        text = rule.text if rule is not None and rule.kind == "say" else wording.GOODBYE
        return self._end(text, "the caller said goodbye")

    def _is_ending(self, rule: Rule) -> bool:
        return rule.kind == "call" and self.ending is not None and rule.text == self.ending.name

    def _end(self, text: str, reason: str = "") -> Reply:
        """Say something and end the call, if there is a function for it."""
        if self.ending is None:
            return Reply(text=text)
        arguments = arguments_of(self.conversation, self.ending, self.rules).arguments
        if reason and "reason" in self.ending.properties:
            arguments["reason"] = reason
        for name in self.ending.parameters.get("required") or ():
            arguments.setdefault(name, self.conversation.words)
        return Reply(text=text, calls=self._call(self.ending, arguments).calls)

    def _next(self) -> str:
        """Return unconditional words that were not said yet, up to the first question."""
        parts: list[str] = []
        for rule in self.unsaid:
            if not rule.condition:
                parts.append(rule.text)
                if rule.text.endswith("?"):
                    break
        return " ".join(parts)

    def _fitting(self, told: Sequence[Rule]) -> tuple[Rule | None, float]:
        """Return the rule whose condition is most like the caller's words, and how like it is."""
        able = [
            rule for rule in told if rule.condition and rule.spoken and not _FAILING.search(rule.condition)
        ]
        best, score = _most_like(stems_said(self.conversation.words), [rule.condition for rule in able])
        return (able[best], score) if score >= 1.0 else (None, 0.0)

    def _fact(self) -> str:
        """Return the statement of the instructions that is most like the caller's question."""
        facts = [rule.text for rule in self.rules if rule.kind == "fact"]
        words = self.conversation.words
        best, score = _most_like(stems(words), facts)
        return facts[best] if score >= (1.0 if "?" in words else 1.5) else ""

    def _call(self, function: Function, arguments: Mapping[str, Any]) -> Reply:
        """Call a function; the id depends on nothing but the request."""
        turns, calls = [turn.words for turn in self.conversation.turns], len(self.conversation.calls)
        state = [
            turns,
            self.conversation.said,
            len(self.conversation.earlier),
            calls,
            function.name,
            arguments,
        ]
        digest = hashlib.sha256(json.dumps(state, sort_keys=True, default=str).encode()).hexdigest()
        return Reply(calls=(Call(id=f"call_{digest[:24]}", name=function.name, arguments=arguments),))


def _was_said(rule: Rule, said: Sequence[str]) -> bool:
    return any(repeats(rule.text, each) for each in said)


def _most_like(words: Sequence[str], texts: Sequence[str]) -> tuple[int, float]:
    """Return the index of the text with most of the words, and how many it has; (0, 0.0) without texts."""
    scores = [likeness(words, dict.fromkeys(stems(text), 1.0)) for text in texts]
    return (scores.index(max(scores)), max(scores)) if scores else (0, 0.0)
