"""Choosing a tool: whose name, description, arguments and routing table are most like the caller's words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from voicebot.sandbox.model.arguments import Filled, Heard, asks_for, fill
from voicebot.sandbox.model.instructions import Rule, quotes
from voicebot.sandbox.model.readers import kind_of
from voicebot.sandbox.model.scene import Scene, Turn
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
_CLOSING = re.compile(
    r"^(?:end|hang|finish|terminate|close)_?(?:up|the)?_?(?:call|conversation|line)?", re.IGNORECASE
)
_AGREES = {"yes", "yeah", "yep", "correct", "right", "exactly", "sure", "absolutely"}
_REFUSES = {"no", "nope"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A tool that is offered. `table` holds its routing table: an enum value and when to choose it."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    chooser: str = ""
    table: Mapping[str, str] = field(default_factory=dict)

    @property
    def closes(self) -> bool:
        """Whether it ends the call: that is done at a farewell and never by likeness."""
        return bool(_CLOSING.match(self.name)) and bool(
            {"call", "conversation", "up"} & set(_split(self.name))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A tool with what it would be called with, and how like the caller's words it is."""

    tool: Tool
    score: float
    filled: Filled
    rivals: tuple[str, ...] = ()


def tool_of(offered: Mapping[str, Any]) -> Tool:
    """Read a tool as it stands in a request."""
    function = offered["function"]
    parameters = function.get("parameters") or {}
    description = str(function.get("description") or "")
    properties: Mapping[str, Mapping[str, Any]] = parameters.get("properties") or {}
    for name, schema in properties.items():
        values = [str(value) for value in schema.get("enum") or ()]
        lines = _table(values, f"{description}\n{schema.get('description', '')}")
        if lines:
            table = {value: lines.get(value, "") for value in values}
            return Tool(
                name=function["name"], description="", parameters=parameters, chooser=name, table=table
            )
    return Tool(name=function["name"], description=description, parameters=parameters)


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
    filled = _filled(scene, tool, rules)
    if tool.table:
        target = max(tool.table, key=lambda value: likeness(words, _documents(tool, rules)[value], weights))
        filled.arguments.setdefault(tool.chooser, target)
    properties = tool.parameters.get("properties") or {}
    for name in tool.parameters.get("required") or ():
        filled.arguments.setdefault(name, _anything(properties.get(name) or {}, scene.words))
    return Choice(tool=tool, score=score(tool), filled=filled)


def _judge(scene: Scene, tool: Tool, rules: Sequence[Rule], weights: Mapping[str, float]) -> Choice | None:
    if tool.table:
        return _judge_table(scene, tool, rules, weights)
    document = _documents(tool, rules)[""]
    thread = _thread(scene, tool)
    direct = max(likeness(_words(turn.words, turn.asked), document, weights) for turn in thread)
    filled = _filled(scene, tool, rules)
    required = tool.parameters.get("required") or ()
    told = [name for name in filled.explicit if name in required]
    indirect = 0.6 * likeness(stems(scene.asked), document, weights) if told else 0.0
    answers = any(asks_for(scene.asked, name) for name in told)
    if not (answers or direct >= _ENOUGH or (told and direct + indirect >= _ENOUGH_WITH_EVIDENCE)):
        return None
    return Choice(tool=tool, score=direct + indirect + len(told) + answers, filled=filled)


def _judge_table(
    scene: Scene, tool: Tool, rules: Sequence[Rule], weights: Mapping[str, float]
) -> Choice | None:
    words = _words(scene.words)
    scores = {
        value: likeness(words, document, weights) for value, document in _documents(tool, rules).items()
    }
    if "back" in scores:
        scores["back"] += 3.0 if _BACK.search(scene.words) else 0.0
    target = max(scores, key=lambda value: scores[value])
    if scores[target] < _ENOUGH_TO_ROUTE:
        return None
    rivals = tuple(value for value, score in scores.items() if scores[target] - score < _TIE)
    filled = _filled(scene, tool, rules)
    filled.arguments[tool.chooser] = target
    for name, schema in (tool.parameters.get("properties") or {}).items():
        if kind_of(name, schema) == "free":  # whoever takes over is told why, even where it is optional
            filled.arguments.setdefault(name, scene.words[: int(schema.get("maxLength", 500))])
    if tool.chooser in filled.missing:
        filled.missing.remove(tool.chooser)
    return Choice(tool=tool, score=scores[target], filled=filled, rivals=rivals if len(rivals) > 1 else ())


def _documents(tool: Tool, rules: Sequence[Rule]) -> dict[str, dict[str, float]]:
    """What each way to call a tool is known by: stems and how much each of them counts."""
    if tool.table:
        return {
            value: _document((_NAME, _spaced(value)), (_WHEN, when)) for value, when in tool.table.items()
        }
    parts = [(_NAME, _spaced(tool.name)), (_TEXT, _positive(tool.description))]
    for name, schema in (tool.parameters.get("properties") or {}).items():
        parts.append((_WHEN, _spaced(name)))
        parts.append((_SMALL, str(schema.get("description") or "")))
        parts.extend((_NAME, _spaced(str(value))) for value in schema.get("enum") or ())
    parts.extend((_NAME, rule.condition) for rule in rules if _wants(rule, tool))
    return {"": _document(*parts)}


def _document(*parts: tuple[float, str]) -> dict[str, float]:
    document: dict[str, float] = {}
    for weight, text in parts:
        for word in stems(text):
            document[word] = max(weight, document.get(word, 0.0))
    return document


def _thread(scene: Scene, tool: Tool) -> list[Turn]:
    """The caller's last turn, and those it goes on from because the tool's arguments were asked for."""
    thread: list[Turn] = []
    for turn in reversed(scene.turns):
        if thread and turn.acted:
            break
        thread.append(turn)
        if not any(asks_for(turn.asked, name) for name in tool.parameters.get("properties") or ()):
            break
    return thread or [Turn(words="")]


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
        tool = next((tool for tool in tools if _wants(rule, tool) and not rule.condition), None)
        if tool is not None and tool.name not in {done.name for done in (*scene.done, *scene.past)}:
            filled = _filled(scene, tool, rules)
            if not filled.missing and not tool.table:
                return Choice(tool=tool, score=_NAME, filled=filled)
    return None


def _wants(rule: Rule, tool: Tool) -> bool:
    return rule.kind == "call" and rule.text == tool.name


def _dictated(tool: Tool, rules: Sequence[Rule]) -> dict[str, Any]:
    """Arguments that the instructions give in quotation marks, after their name or as the only one."""
    properties: Mapping[str, Mapping[str, Any]] = tool.parameters.get("properties") or {}
    texts = [name for name, schema in properties.items() if schema.get("type") == "string"]
    found: dict[str, Any] = {}
    for step in (rule.step for rule in rules if _wants(rule, tool)):
        for name in texts:
            named = re.search(rf"\b{re.escape(_spaced(name))}\b\W*(?:is|of|to|as|=)?\s*[\"“]([^\"”]+)", step)
            if named:
                found.setdefault(name, named[1])
        required = [name for name in tool.parameters.get("required") or () if name in texts]
        if len(required) == 1 and len(quotes(step)) == 1:
            found.setdefault(required[0], quotes(step)[0])
    return found


def _filled(scene: Scene, tool: Tool, rules: Sequence[Rule]) -> Filled:
    thread = _thread(scene, tool)
    earlier = tuple(reversed(scene.turns[: max(0, len(scene.turns) - len(thread))]))
    heard = Heard(turns=tuple(thread), earlier=earlier)
    about = f"{_spaced(tool.name)} {tool.description}"
    filled = fill(tool.parameters, heard, about)
    dictated = _dictated(tool, rules)
    filled.arguments.update(dictated)
    filled.missing = [name for name in filled.missing if name not in dictated]
    return filled


def _repeats(choice: Choice, scene: Scene) -> bool:
    """The same call with the same arguments was made before, and it did not fail."""
    if not choice.filled.arguments or choice.tool.table:
        return False
    return any(
        past.name == choice.tool.name and past.arguments == choice.filled.arguments for past in scene.past
    )


def _table(values: Sequence[str], text: str) -> dict[str, str]:
    """Find lines "value: when" in a text."""
    lines: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, when = line.strip().lstrip("-*• ").partition(":")
        if colon and name.strip() in values:
            lines[name.strip()] = when.strip()
    return lines


def _positive(description: str) -> str:
    """Leave out what must not be done, and what is to be said."""
    parts = re.split(r"(?<=[.!?;])\s+", description)
    return " ".join(
        p for p in parts if not re.match(r"\s*(?:do not|don't|never|say|not)\b", p, re.IGNORECASE)
    )


def _anything(schema: Mapping[str, Any], words: str) -> Any:
    if schema.get("enum"):
        return schema["enum"][0]
    by_type: dict[str, Any] = {"integer": 0, "number": 0, "boolean": True, "array": [], "object": {}}
    return by_type.get(str(schema.get("type")), words)


def _split(name: str) -> list[str]:
    return tokens(_spaced(name))


def _spaced(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).replace("_", " ").replace("-", " ")
