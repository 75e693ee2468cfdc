"""Answering a request: what is to be said, asked or called next."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from voicebot.sandbox.model import talk
from voicebot.sandbox.model.choice import Choice, choose, force, ordered, says_goodbye
from voicebot.sandbox.model.instructions import Rule, rules
from voicebot.sandbox.model.report import form, summary
from voicebot.sandbox.model.scene import Scene, read
from voicebot.sandbox.model.tools import Tool, tool_of
from voicebot.sandbox.model.words import echoes, likeness, rarity, stem, stems, tokens

_ONCE_MORE = re.compile(
    r"\b(?:pardon|say that again|repeat that|what was that|what did you say"
    r"|did(?: not|n't) (?:hear|catch))\b",
    re.IGNORECASE,
)
_FAILING = re.compile(r"\b(?:fails?|failed|failing|error|finds nothing|does not (?:work|answer))\b")
_FAREWELL = "Thank you for calling. Goodbye!"
_ENOUGH_FOR_A_RULE = 1.0
_ENOUGH_FOR_A_FACT = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A tool to be called."""

    id: str
    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the model answers: words, tools to be called, or both."""

    text: str = ""
    calls: tuple[Call, ...] = field(default=())


def reply(
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] = (),
    tool_choice: str | Mapping[str, Any] | None = None,
    response_format: Mapping[str, Any] | None = None,
) -> Reply:
    """Answer a chat request, given as its parts stand in the protocol."""
    scene = read(messages)
    if response_format and response_format.get("type") == "json_schema":
        return Reply(
            text=json.dumps(form(response_format["json_schema"]["schema"], scene), ensure_ascii=False)
        )
    offered = _offered(tools, tool_choice)
    plan = _Plan.of(scene, offered)
    if offered and (tool_choice == "required" or isinstance(tool_choice, Mapping)):
        return _calling(force(scene, offered, plan.rules), scene)
    if not offered and any("summar" in text.lower() for text in (*scene.role, *scene.step)):
        return Reply(text=summary(scene))
    if scene.fresh or _follows_orders(scene, plan):
        choice = ordered(scene, offered, plan.step)
        if choice is not None and not choice.tool.closes:
            return _calling(choice, scene)
    if scene.waiting:
        return _answer(scene, offered, plan)
    if scene.done:
        return _continue(scene, offered, plan)
    return _closing(scene, offered, plan, _next(scene, plan) or _opening(scene))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What the instructions want: of the step that is on, and of the role that is always on."""

    step: tuple[Rule, ...]
    role: tuple[Rule, ...]

    @staticmethod
    def of(scene: Scene, offered: Sequence[Tool]) -> _Plan:
        names = [tool.name for tool in offered]
        return _Plan(step=tuple(rules(scene.step, names)), role=tuple(rules(scene.role, names)))

    @property
    def rules(self) -> tuple[Rule, ...]:
        return self.step + self.role

    def unsaid(self, scene: Scene) -> list[Rule]:
        """What is to be said and has not been yet; a step that is come to again is said again."""
        since = scene.said[scene.said_before_step :]
        step = [rule for rule in self.step if rule.spoken and not _was_said(since, rule.text)]
        return [*step, *(rule for rule in self.role if rule.spoken and not _was_said(scene.said, rule.text))]


def _follows_orders(scene: Scene, plan: _Plan) -> bool:
    """Whether the last thing that was done is what the step orders: it may order more."""
    orders = {rule.text for rule in plan.step if rule.kind == "call" and not rule.condition}
    since = scene.done[scene.before_step :]
    return bool(since) and since[-1].name in orders and not talk.refused(since[-1].result)


def _answer(scene: Scene, offered: Sequence[Tool], plan: _Plan) -> Reply:
    """Answer the caller's last words."""
    if scene.said and _ONCE_MORE.search(scene.words):
        return Reply(text=scene.said[-1])
    rule, likely = _fitting(scene, plan.rules)
    if says_goodbye(scene):
        return _farewell(scene, offered, rule)
    choice = choose(scene, offered, plan.rules)
    if choice is not None and choice.score >= likely:
        if choice.rivals:
            return Reply(text=talk.which(choice.rivals))
        if choice.filled.missing:
            return Reply(text=talk.question(choice.filled.missing))
        return _calling(choice, scene)
    if rule is not None:
        return _with_its_end(scene, offered, plan, rule)
    told = _fact(scene, plan.rules) or _next(scene, plan)
    return _closing(scene, offered, plan, told) if told else Reply(text=talk.small_talk(scene))


def _with_its_end(scene: Scene, offered: Sequence[Tool], plan: _Plan, rule: Rule) -> Reply:
    """Say what a rule says, and end the call with it where the instructions want both in the same case."""
    together = {each.text for each in plan.rules if each.kind == "call" and each.condition == rule.condition}
    closing = next((tool for tool in offered if tool.closes and tool.name in together), None)
    if closing is None or rule.kind == "ask":
        return Reply(text=rule.text)
    return Reply(text=rule.text, calls=_calling(force(scene, [closing], ()), scene).calls)


def _continue(scene: Scene, offered: Sequence[Tool], plan: _Plan) -> Reply:
    """Go on after a tool has answered."""
    if scene.fresh:
        choice = choose(scene, offered, plan.rules)
        if choice is not None and choice.filled.explicit and not choice.filled.missing and not choice.rivals:
            return _calling(choice, scene)
    failed = [done.name for done in scene.done if talk.refused(done.result)]
    if failed:
        return Reply(text=_instead(failed, plan) or talk.outcomes(scene.done))
    step = _after(scene, plan) or _next(scene, plan)
    news = scene.done[scene.before_step :] if step and plan.step else scene.done
    results = talk.outcomes(news, step)
    if step and results == talk.NOTHING_TO_TELL:
        return _closing(scene, offered, plan, step)
    return Reply(text=f"{results} {step or talk.ELSE}")


def _closing(scene: Scene, offered: Sequence[Tool], plan: _Plan, text: str) -> Reply:
    """Say something, and end the call with it where the step says so and nothing is left to be asked."""
    choice = ordered(scene, [tool for tool in offered if tool.closes], plan.step)
    asks = text.rstrip().endswith("?") or any(rule.kind == "ask" and rule.text == text for rule in plan.step)
    if choice is None or asks:
        return Reply(text=text)
    return Reply(text=text, calls=_calling(choice, scene).calls)


def _opening(scene: Scene) -> str:
    """Speak first, or again, when nothing is left to be said by instruction."""
    return talk.introduction(scene) if not scene.said else talk.small_talk(scene)


def _farewell(scene: Scene, offered: Sequence[Tool], rule: Rule | None) -> Reply:
    text = rule.text if rule is not None and rule.kind == "say" else _FAREWELL
    closing = next((tool for tool in offered if tool.closes), None)
    if closing is None or closing.name in {done.name for done in scene.done}:
        return Reply(text=text)
    choice = force(scene, [closing], ())
    arguments = dict(choice.filled.arguments)
    properties = closing.parameters.get("properties") or {}
    if "reason" in properties and not properties["reason"].get("enum"):
        arguments["reason"] = "the caller said goodbye"
    return Reply(text=text, calls=(_call(scene, closing.name, arguments),))


def _next(scene: Scene, plan: _Plan) -> str:
    """What is always to be said and has not been yet, up to a question; the step's before the role's."""
    parts: list[str] = []
    for rule in plan.unsaid(scene):
        if not rule.condition:
            parts.append(rule.text)
            if rule.kind == "ask" or rule.text.endswith("?"):
                break
    return " ".join(parts)


def _instead(failed: Sequence[str], plan: _Plan) -> str:
    """What is to be said when one of these tools has failed, where the instructions have something."""
    for rule in plan.rules:
        if rule.spoken and _FAILING.search(rule.condition) and any(name in rule.condition for name in failed):
            return rule.text
    return ""


def _after(scene: Scene, plan: _Plan) -> str:
    """What is to be said after the tools that were just called.

    It stands beside the order to call one, or under a condition that names or describes one.
    """
    names = {done.name for done in scene.done}
    unsaid = [rule for rule in plan.unsaid(scene) if not _FAILING.search(rule.condition)]
    cases = {rule.condition for rule in plan.rules if rule.kind == "call" and rule.text in names} - {""}
    beside, _ = _fitting(scene, [rule for rule in unsaid if rule.condition in cases])
    if beside is not None:
        return beside.text
    for rule in unsaid:
        about = " ".join(stems(rule.condition))
        if any(name in rule.condition or (about and echoes(about, talk.spaced(name))) for name in names):
            return rule.text
    return ""


def _fitting(scene: Scene, told: Sequence[Rule]) -> tuple[Rule | None, float]:
    """The rule whose condition is most like the caller's words, and how like it is."""
    conditional = [rule for rule in told if rule.condition and rule.spoken]
    documents = [dict.fromkeys(stems(rule.condition), 1.0) for rule in conditional]
    weights = rarity(documents)
    words = stems(scene.words)
    if says_goodbye(scene):
        words = (*words, stem("goodbye"), stem("bye"), stem("leave"))
    scores = [likeness(words, document, weights) for document in documents]
    best = max(range(len(scores)), key=lambda index: scores[index], default=None)
    if best is None or scores[best] < _ENOUGH_FOR_A_RULE:
        return None, 0.0
    return conditional[best], scores[best]


def _fact(scene: Scene, told: Sequence[Rule]) -> str:
    """A statement of the instructions that answers the caller's question."""
    facts = [rule for rule in told if rule.kind == "fact"]
    documents = [dict.fromkeys(stems(rule.text), 1.0) for rule in facts]
    weights = rarity(documents)
    words = stems(scene.words)
    scores = [likeness(words, document, weights) for document in documents]
    best = max(range(len(scores)), key=lambda index: scores[index], default=None)
    wanted = 1.0 if _asks(scene.words) else _ENOUGH_FOR_A_FACT
    return "" if best is None or scores[best] < wanted else facts[best].text


def _asks(words: str) -> bool:
    first = (tokens(words) or [""])[0]
    question = {
        "what",
        "when",
        "where",
        "who",
        "how",
        "which",
        "why",
        "is",
        "are",
        "do",
        "does",
        "can",
        "could",
    }
    return "?" in words or first in question


def _was_said(before: Sequence[str], text: str) -> bool:
    return any(echoes(text, said) for said in before)


def _calling(choice: Choice, scene: Scene) -> Reply:
    return Reply(calls=(_call(scene, choice.tool.name, choice.filled.arguments),))


def _call(scene: Scene, name: str, arguments: Mapping[str, Any]) -> Call:
    """A call whose id depends on nothing but the request, and is new in every turn."""
    turn = [
        [turn.words for turn in scene.turns],
        scene.said,
        len(scene.past),
        len(scene.done),
        name,
        arguments,
    ]
    digest = hashlib.sha256(json.dumps(turn, sort_keys=True, default=str).encode()).hexdigest()
    return Call(id=f"call_{digest[:24]}", name=name, arguments=arguments)


def _offered(tools: Sequence[Mapping[str, Any]], tool_choice: str | Mapping[str, Any] | None) -> list[Tool]:
    read_tools = [tool_of(tool) for tool in tools if tool.get("type", "function") == "function"]
    if tool_choice == "none":
        return []
    if isinstance(tool_choice, Mapping):
        named = (tool_choice.get("function") or {}).get("name")
        return [tool for tool in read_tools if tool.name == named]
    return read_tools
