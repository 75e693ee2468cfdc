"""What a tool would be called with: what was said, what was said before, and what the instructions give."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from voicebot.sandbox.model.arguments import Filled, Heard, asks_for, fill
from voicebot.sandbox.model.instructions import Rule, quotes
from voicebot.sandbox.model.readers import kind_of
from voicebot.sandbox.model.scene import Scene, Turn
from voicebot.sandbox.model.tools import Tool, spaced
from voicebot.sandbox.model.words import stems, touches

_NAMED = re.compile(r"`([A-Za-z_]\w*)`")


def filled(scene: Scene, tool: Tool, rules: Sequence[Rule], target: str = "") -> Filled:
    """Fill a tool's arguments; `target` is the line of its table that was chosen."""
    thread = thread_of(scene, tool, rules)
    earlier = tuple(reversed(scene.turns[: max(0, len(scene.turns) - len(thread))]))
    heard = Heard(turns=tuple(thread), earlier=earlier)
    found = fill(tool.parameters, heard, f"{spaced(tool.name)} {tool.description}")
    if found.explicit:
        before = _as_before(scene, tool)
        found.arguments.update({name: before[name] for name in found.missing if name in before})
    found.arguments.update(_dictated(scene, tool, rules))
    found.missing = [name for name in found.missing if name not in found.arguments]
    for name in _open_objects(tool):
        parts = _parts(name, tool, rules, target)
        inner = fill({"properties": {part: {} for part in parts}, "required": parts}, heard)
        if inner.arguments:
            found.arguments[name] = inner.arguments
        if tool.table:  # whoever takes over has to know it
            found.missing.extend(inner.missing)
    return found


def thread_of(scene: Scene, tool: Tool, rules: Sequence[Rule]) -> list[Turn]:
    """The caller's last turn, and those it goes on from because the tool's arguments were asked for."""
    names = [*tool.properties, *(part for name in _open_objects(tool) for part in _parts(name, tool, rules))]
    thread: list[Turn] = []
    for turn in reversed(scene.turns):
        if thread and turn.acted:
            break
        thread.append(turn)
        if not any(asks_for(turn.asked, name) for name in names):
            break
    return thread or [Turn(words="")]


def wants(rule: Rule, tool: Tool) -> bool:
    """Whether a rule is to call the tool."""
    return rule.kind == "call" and rule.text == tool.name


def _as_before(scene: Scene, tool: Tool) -> dict[str, Any]:
    """The arguments of the tool's last call: who says one of them anew means the others to stay."""
    calls = [done.arguments for done in (*scene.past, *scene.done) if done.name == tool.name]
    return dict(calls[-1]) if calls else {}


def _dictated(scene: Scene, tool: Tool, rules: Sequence[Rule]) -> dict[str, Any]:
    """Arguments that the instructions give in quotation marks, after their name or as the only one."""
    texts = [name for name, schema in tool.properties.items() if schema.get("type") == "string"]
    found: dict[str, Any] = {}
    for step in (rule.step for rule in rules if wants(rule, tool) and _may_hold(rule, scene.words)):
        for name in texts:
            named = re.search(rf"\b{re.escape(spaced(name))}\b\W*(?:is|of|to|as|=)?\s*[\"“]([^\"”]+)", step)
            if named:
                found.setdefault(name, named[1])
        required = [name for name in tool.parameters.get("required") or () if name in texts]
        if len(required) == 1 and len(quotes(step)) == 1:
            found.setdefault(required[0], quotes(step)[0])
    return found


def _may_hold(rule: Rule, words: str) -> bool:
    """Without a condition a rule always holds; with one, where the caller speaks of it."""
    spoken = stems(words)
    return not rule.condition or any(touches(word, spoken) for word in stems(rule.condition))


def _open_objects(tool: Tool) -> list[str]:
    """Arguments that hold whatever is put into them."""
    return [
        name
        for name, schema in tool.properties.items()
        if kind_of(name, schema) == "object" and not schema.get("properties")
    ]


def _parts(name: str, tool: Tool, rules: Sequence[Rule], target: str = "") -> list[str]:
    """What the instructions name, in backticks, as the parts of such an argument.

    Where they speak of lines of the tool's table, it is about these alone.
    """
    found: list[str] = []
    for rule in rules:
        named = _NAMED.findall(rule.step)
        about = [value for value in tool.table if re.search(rf"\b{re.escape(value)}\b", _whole(rule))]
        if re.search(rf"\b{re.escape(name)}\b", rule.step) and (not (about and target) or target in about):
            found.extend(part for part in named if part not in (name, tool.name))
    return list(dict.fromkeys(found))


def _whole(rule: Rule) -> str:
    return f"{rule.condition} {rule.step}"
