"""The functions offered in a request: which one the caller's words are for, and its arguments."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from voicebot.sandbox.model.arguments import DEFINITE, Filled, asks_for, fill, kind_of
from voicebot.sandbox.model.conversation import Conversation, Turn
from voicebot.sandbox.model.instructions import Rule, quotes
from voicebot.sandbox.model.words import alike, occurs, spaced, stems, tokens

_NAME, _WHEN, _TEXT = 2.0, 1.0, 0.7
_ENOUGH, _ENOUGH_WITH_ARGUMENT, _ENOUGH_TO_ROUTE = 2.0, 0.65, 0.45
_BACK = re.compile(
    r"\b(?:take|send|put|transfer|connect|go|going)(?: me)? back\b|\bback to (?:the|my)\b", re.I
)
_TAKES = re.compile(r"\s+takes (\w+) \(\w+, (required|optional)\)")
_CLOSING = re.compile(r"^(?:end|hang|finish)(?: up)?(?: the)?(?: call| conversation)?$")
_AGREES, _DECLINES = frozenset(("yes", "yeah", "correct", "right", "sure")), frozenset(("no", "nope"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A function that is offered.

    `table` has the values of the argument `chooser`, and the case of each; `takes` the members of the
    argument `variables` for each value, and whether they are required.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    chooser: str = ""
    table: Mapping[str, str] = field(default_factory=dict)
    takes: Mapping[str, Mapping[str, bool]] = field(default_factory=dict)

    @property
    def properties(self) -> Mapping[str, Mapping[str, Any]]:
        """The schema of each argument."""
        return self.parameters.get("properties") or {}

    @property
    def ends_call(self) -> bool:
        """Whether its name says that it ends the call; it is then never chosen by likeness."""
        return bool(_CLOSING.match(spaced(self.name)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A function that may be called, and how like the caller's words it is."""

    function: Function
    score: float
    filled: Filled


def function_of(offered: Mapping[str, Any]) -> Function:
    """Read a function as a request offers it. Lines `value: when` in its description are its table."""
    function = offered["function"]
    parameters, description = function.get("parameters") or {}, str(function.get("description") or "")
    lines = [
        line.lstrip("-* ").partition(":") for line in description.splitlines() if not line.startswith("  ")
    ]
    for name, schema in (parameters.get("properties") or {}).items():
        table = {value: when for value, _, when in lines if value in schema.get("enum", ())}
        if table:
            return Function(
                name=function["name"],
                description="",
                parameters=parameters,
                chooser=name,
                table=table,
                takes=_takes(description, table),
            )
    return Function(name=function["name"], description=description, parameters=parameters)


def _takes(description: str, table: Iterable[str]) -> dict[str, dict[str, bool]]:
    """Read the lines `takes NAME (TYPE, required)` under each value of a table."""
    found: dict[str, dict[str, bool]] = {value: {} for value in table}
    value = ""
    for line in description.splitlines():
        if not line.startswith("  "):
            value = line.partition(":")[0]
        elif (taken := _TAKES.match(line)) and value in found:
            found[value][taken[1]] = taken[2] == "required"
    return found


def choose(conversation: Conversation, functions: Sequence[Function], rules: Sequence[Rule]) -> Choice | None:
    """Return the function that the caller's last words are most like; None when none is like enough."""
    called = {call.name for call in conversation.done()}
    able = [each for each in functions if not each.ends_call and each.name not in called]
    choices = (_judge(conversation, each, rules) for each in able)
    return max((each for each in choices if each), key=lambda choice: choice.score, default=None)


def ordered(
    conversation: Conversation, functions: Sequence[Function], rules: Sequence[Rule]
) -> Choice | None:
    """Return the first function that the rules order without a condition, if all it needs is known."""
    called = {call.name for call in (*conversation.done(), *conversation.earlier)}
    for rule in rules:
        function = next((each for each in functions if _wants(rule, each) and not rule.condition), None)
        if function is not None and function.name not in called and not function.table:
            filled = arguments_of(conversation, function, rules)
            if not filled.missing:
                return Choice(function=function, score=_NAME, filled=filled)
    return None


def arguments_of(
    conversation: Conversation, function: Function, rules: Sequence[Rule], target: str = ""
) -> Filled:
    """Fill a function's arguments; `target` is the value of its table that was chosen."""
    thread = _thread(conversation, function, rules)
    filled = fill(function.parameters, thread)
    past = [call for call in (*conversation.earlier, *conversation.done()) if call.name == function.name]
    if filled.told and past and not function.table:  # a new value for one argument keeps the others
        filled.arguments = {**past[-1].arguments, **filled.arguments}
    filled.arguments.update(_dictated(conversation, function, rules))
    for name, schema in _inner_schemas(function, rules, target).items():
        inner = fill(schema, thread)
        filled.arguments.update({name: inner.arguments} if inner.arguments else {})
        filled.missing += inner.missing
    for name in filled.missing:  # told before, when the function was not spoken of yet
        before = [
            t
            for t in reversed(conversation.turns)
            if any(occurs(w, stems(t.words)) for w in stems(spaced(name)))
        ]
        schema = function.properties.get(name) or {}
        if kind_of(name, schema) in DEFINITE:
            filled.arguments.update(
                fill({"properties": {name: schema}, "required": [name]}, before).arguments
            )
    known = {*filled.arguments, function.chooser}
    filled.missing = [name for name in filled.missing if name not in known]
    return filled


def stems_said(said: str, asked: str = "") -> tuple[str, ...]:
    """Return the stems of what was said; "yes" adds "agrees" and what was asked, "no" adds "declines"."""
    there = set(tokens(said))
    question = re.split(r"(?<=[.!?])\s+", asked)[-1]
    meant = ["confirms agrees", question if "?" in question else ""] if there & _AGREES else []
    return stems(" ".join([said, *meant, *(["declines"] if there & _DECLINES else [])]))


def likeness(said: Iterable[str], text: Mapping[str, float]) -> float:
    """Add up the weights in `text` of the stems that were said."""
    return sum(max((text[word] for word in text if alike(word, each)), default=0.0) for each in said)


def _judge(conversation: Conversation, function: Function, rules: Sequence[Rule]) -> Choice | None:
    thread, texts = _thread(conversation, function, rules), _texts(function, rules)
    if function.table:  # by the caller's words, or by the request whose missing parts they answer
        for turn in (thread[0], thread[-1]):
            scores = {value: likeness(stems_said(turn.words), text) for value, text in texts.items()}
            scores.update({"back": 3.0} if "back" in scores and _BACK.search(turn.words) else {})
            target = max(scores, key=lambda value: scores[value])
            if scores[target] >= _ENOUGH_TO_ROUTE:
                filled = arguments_of(conversation, function, rules, target)
                free = [n for n, schema in function.properties.items() if kind_of(n, schema) == "text"]
                filled.arguments = {
                    **dict.fromkeys(free, turn.words),
                    **filled.arguments,
                    function.chooser: target,
                }
                return Choice(function=function, score=scores[target], filled=filled)
        return None
    direct = max(likeness(stems_said(turn.words, turn.asked), texts[""]) for turn in thread)
    filled = arguments_of(conversation, function, rules)
    told = [name for name in filled.told if name in (function.parameters.get("required") or ())]
    answers = any(asks_for(conversation.asked, name) for name in told)
    if not (answers or direct >= _ENOUGH or (told and direct >= _ENOUGH_WITH_ARGUMENT)):
        return None
    return Choice(function=function, score=direct + len(told) + answers, filled=filled)


def _texts(function: Function, rules: Sequence[Rule]) -> dict[str, dict[str, float]]:
    """Return the stems that each way to call a function is known by, with their weights."""
    if function.table:
        return {value: _text((_NAME, spaced(value)), (_WHEN, when)) for value, when in function.table.items()}
    parts = [(_NAME, spaced(function.name)), (_TEXT, function.description)]
    parts += [(_NAME, rule.condition) for rule in rules if _wants(rule, function)]
    for name, schema in function.properties.items():
        parts += [(_WHEN, spaced(name)), (_TEXT, str(schema.get("description") or ""))]
        parts += [(_NAME, spaced(str(value))) for value in schema.get("enum") or ()]
    return {"": _text(*parts)}


def _text(*parts: tuple[float, str]) -> dict[str, float]:
    return {word: weight for weight, text in sorted(parts) for word in stems(text)}


def _thread(conversation: Conversation, function: Function, rules: Sequence[Rule]) -> list[Turn]:
    """Return the last turn and, while each answers a question for an argument, those before; newest first."""
    names = [*function.properties, *(part for parts in _parts(function, rules).values() for part in parts)]
    names += [name for taken in function.takes.values() for name in taken]
    thread: list[Turn] = []
    for turn in reversed(conversation.turns):
        if thread and turn.acted:
            break
        thread.append(turn)
        if not any(asks_for(turn.asked, name) for name in names):
            break
    return thread or [Turn(words="")]


def _wants(rule: Rule, function: Function) -> bool:
    return rule.kind == "call" and rule.text == function.name


def _dictated(conversation: Conversation, function: Function, rules: Sequence[Rule]) -> dict[str, str]:
    """Return arguments that a rule gives in quotation marks: after their name, or the only required one."""
    spoken = stems(conversation.words)
    sources = [
        rule.source
        for rule in rules
        if _wants(rule, function)
        and (not rule.condition or any(occurs(word, spoken) for word in stems(rule.condition)))
    ]
    required = list(function.parameters.get("required") or ())
    found: dict[str, str] = {}
    for source in reversed(sources):
        if len(required) == len(quotes(source)) == 1:
            found[required[0]] = quotes(source)[0]
        for name in function.properties:
            named = re.search(rf"\b{re.escape(spaced(name))}\W*[\"“]([^\"”]+)", source)
            found.update({name: named[1]} if named else {})
    return found


def _inner_schemas(function: Function, rules: Sequence[Rule], target: str) -> dict[str, Mapping[str, Any]]:
    """Return the schema of each argument that is an object: what the rules name, or what the target takes."""
    found: dict[str, Mapping[str, Any]] = {
        name: {"properties": {part: {} for part in parts}, "required": parts}
        for name, parts in _parts(function, rules, target).items()
    }
    taken = function.takes.get(target) or {}
    for name, schema in function.properties.items() if taken else ():
        members = {each: inner for each, inner in (schema.get("properties") or {}).items() if each in taken}
        if members:
            found[name] = {"properties": members, "required": [each for each in members if taken[each]]}
    return found


def _parts(function: Function, rules: Sequence[Rule], target: str = "") -> dict[str, list[str]]:
    """Return, for an argument that may be any object, the names in backticks beside it in a rule."""
    found: dict[str, list[str]] = {}
    for name, schema in function.properties.items():
        for rule in rules if schema.get("type") == "object" and not schema.get("properties") else ():
            about = [value for value in function.table if value in f"{rule.condition} {rule.source}"]
            if f"`{name}`" in rule.source and (not (about and target) or target in about):
                named = re.findall(r"`([A-Za-z_]\w*)`", rule.source)
                found[name] = [part for part in named if part != name]
    return found
