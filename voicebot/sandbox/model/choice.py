"""Choosing a tool: whose name, description, arguments and routing table are most like the caller's words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from voicebot.sandbox.model.arguments import Filled, asks_for
from voicebot.sandbox.model.filling import filled, thread_of, wants
from voicebot.sandbox.model.instructions import Rule
from voicebot.sandbox.model.readers import kind_of
from voicebot.sandbox.model.scene import Scene
from voicebot.sandbox.model.tools import Tool, positive, spaced
from voicebot.sandbox.model.words import likeness, rarity, stem, stems, tokens

_NAME, _WHEN, _TEXT, _SMALL = 2.0, 1.0, 0.7, 0.5
_ENOUGH, _ENOUGH_WITH_EVIDENCE, _ENOUGH_TO_ROUTE = 2.0, 0.65, 0.45
_TIE = 0.05
_BACK = re.compile(
    r"\b(?:take|send|bring|put|transfer|connect|switch|pass|get|hand|route) me back\b"
    r"|\b(?:go|going|went|come) back\b|\bback to (?:the|your|that|my)\b|\breturn (?:me )?to\b"
    r"|\bprevious (?:agent|person|lady|man|menu)\b|\bmain menu\b|\bwhere i (?:was|started)\b",
    re.IGNORECASE,
)
_BYE = re.compile(
    r"\b(?:good ?bye|bye|hang up|see you|farewell|so long|that is all|that's all|that will be all"
    r"|that'll be all|nothing else|no more questions|end the call)\b",
    re.IGNORECASE,
)
_ANYTHING_ELSE = re.compile(r"\banything else|else i can\b", re.IGNORECASE)
_AGREES = {"yes", "yeah", "yep", "correct", "right", "exactly", "sure", "absolutely"}
_REFUSES = {"no", "nope"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A tool with what it would be called with, and how like the caller's words it is."""

    tool: Tool
    score: float
    filled: Filled
    rivals: tuple[str, ...] = ()


def says_goodbye(scene: Scene) -> bool:
    """Tell whether the caller takes their leave."""
    if _BYE.search(scene.words):
        return True
    refused = bool(_REFUSES & set(tokens(scene.words)[:2])) and len(tokens(scene.words)) <= 5
    return refused and bool(_ANYTHING_ELSE.search(scene.asked))


def choose(scene: Scene, tools: Sequence[Tool], rules: Sequence[Rule]) -> Choice | None:
    """Choose the tool that the caller's last words are for, or none."""
    able = [tool for tool in tools if not tool.closes and tool.name not in {done.name for done in scene.done}]
    documents = [document for tool in able for document in _documents(tool, rules).values()]
    weights = rarity(documents)
    choices = [_judge(scene, tool, rules, weights) for tool in able]
    best = max((c for c in choices if c is not None), key=lambda choice: choice.score, default=None)
    return None if best is None or _repeats(best, scene) else best


def force(scene: Scene, tools: Sequence[Tool], rules: Sequence[Rule]) -> Choice:
    """Choose the likeliest tool because one must be called; what is missing becomes the caller's words."""
    weights = rarity([document for tool in tools for document in _documents(tool, rules).values()])
    words = _words(scene.words)

    def score(tool: Tool) -> float:
        return max(likeness(words, document, weights) for document in _documents(tool, rules).values())

    tool = max(tools, key=score)
    found = filled(scene, tool, rules)
    if tool.table:
        target = max(tool.table, key=lambda value: likeness(words, _documents(tool, rules)[value], weights))
        found.arguments.setdefault(tool.chooser, target)
    for name in tool.parameters.get("required") or ():
        found.arguments.setdefault(name, _anything(tool.properties.get(name) or {}, scene.words))
    return Choice(tool=tool, score=score(tool), filled=found)


def _judge(scene: Scene, tool: Tool, rules: Sequence[Rule], weights: Mapping[str, float]) -> Choice | None:
    if tool.table:
        return _judge_table(scene, tool, rules, weights)
    document = _documents(tool, rules)[""]
    thread = thread_of(scene, tool, rules)
    direct = max(likeness(_words(turn.words, turn.asked), document, weights) for turn in thread)
    found = filled(scene, tool, rules)
    required = tool.parameters.get("required") or ()
    told = [name for name in found.explicit if name in required]
    indirect = 0.6 * likeness(stems(scene.asked), document, weights) if told else 0.0
    answers = any(asks_for(scene.asked, name) for name in told)
    if not (answers or direct >= _ENOUGH or (told and direct + indirect >= _ENOUGH_WITH_EVIDENCE)):
        return None
    return Choice(tool=tool, score=direct + indirect + len(told) + answers, filled=found)


def _judge_table(
    scene: Scene, tool: Tool, rules: Sequence[Rule], weights: Mapping[str, float]
) -> Choice | None:
    thread = thread_of(scene, tool, rules)
    said, scores = scene.words, _likeness_of_lines(scene.words, tool, weights)
    if (
        max(scores.values()) < _ENOUGH_TO_ROUTE and len(thread) > 1
    ):  # an answer, to what a route needs to know
        said = thread[-1].words
        scores = _likeness_of_lines(said, tool, weights)
    target = max(scores, key=lambda value: scores[value])
    if scores[target] < _ENOUGH_TO_ROUTE:
        return None
    rivals = tuple(value for value, score in scores.items() if scores[target] - score < _TIE)
    found = filled(scene, tool, rules, target)
    found.arguments[tool.chooser] = target
    for name, schema in tool.properties.items():
        if kind_of(name, schema) == "free":  # whoever takes over is told why, even where it is optional
            found.arguments.setdefault(name, said[: int(schema.get("maxLength", 500))])
    if tool.chooser in found.missing:
        found.missing.remove(tool.chooser)
    return Choice(tool=tool, score=scores[target], filled=found, rivals=rivals if len(rivals) > 1 else ())


def _likeness_of_lines(said: str, tool: Tool, weights: Mapping[str, float]) -> dict[str, float]:
    """How like what was said each line of a tool's table is."""
    words = _words(said)
    scores = {value: likeness(words, each, weights) for value, each in _documents(tool, ()).items()}
    if "back" in scores:
        scores["back"] += 3.0 if _BACK.search(said) else 0.0
    return scores


def _documents(tool: Tool, rules: Sequence[Rule]) -> dict[str, dict[str, float]]:
    """What each way to call a tool is known by: stems and how much each of them counts."""
    if tool.table:
        return {value: _document((_NAME, spaced(value)), (_WHEN, when)) for value, when in tool.table.items()}
    parts = [(_NAME, spaced(tool.name)), (_TEXT, positive(tool.description))]
    for name, schema in tool.properties.items():
        parts.append((_WHEN, spaced(name)))
        parts.append((_SMALL, str(schema.get("description") or "")))
        parts.extend((_NAME, spaced(str(value))) for value in schema.get("enum") or ())
    parts.extend((_NAME, rule.condition) for rule in rules if wants(rule, tool))
    return {"": _document(*parts)}


def _document(*parts: tuple[float, str]) -> dict[str, float]:
    document: dict[str, float] = {}
    for weight, text in parts:
        for word in stems(text):
            document[word] = max(weight, document.get(word, 0.0))
    return document


def _words(said: str, asked: str = "") -> tuple[str, ...]:
    """The stems of what was said; a yes or no stands for what it does, and a yes for what was asked, too."""
    there = set(tokens(said))
    offer = re.split(r"(?<=[.!?])\s+", asked)[-1]
    offered = stems(offer) if there & _AGREES and "?" in offer else ()
    agrees = (stem("confirms"), stem("agrees"), stem("accepts")) if there & _AGREES else ()
    refuses = (stem("declines"), stem("refuses")) if there & _REFUSES else ()
    return tuple(dict.fromkeys((*stems(said), *agrees, *refuses, *offered)))


def ordered(scene: Scene, tools: Sequence[Tool], rules: Sequence[Rule]) -> Choice | None:
    """Choose the first tool that is to be called whatever the caller says, if all it needs is known."""
    for rule in rules:
        tool = next((tool for tool in tools if wants(rule, tool) and not rule.condition), None)
        if tool is not None and tool.name not in {done.name for done in (*scene.done, *scene.past)}:
            found = filled(scene, tool, rules)
            if not found.missing and not tool.table:
                return Choice(tool=tool, score=_NAME, filled=found)
    return None


def _repeats(choice: Choice, scene: Scene) -> bool:
    """The same call with the same arguments was made before, and it did not fail."""
    if not choice.filled.arguments or choice.tool.table:
        return False
    return any(
        past.name == choice.tool.name and past.arguments == choice.filled.arguments for past in scene.past
    )


def _anything(schema: Mapping[str, Any], words: str) -> Any:
    if schema.get("enum"):
        return schema["enum"][0]
    by_type: dict[str, Any] = {"integer": 0, "number": 0, "boolean": True, "array": [], "object": {}}
    return by_type.get(str(schema.get("type")), words)
