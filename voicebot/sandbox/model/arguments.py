"""Filling a tool's arguments from what the caller said, now and before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from voicebot.sandbox.model.readers import DEFINITE, READERS, Schema, Search, kind_of
from voicebot.sandbox.model.scene import Turn
from voicebot.sandbox.model.words import stems, touches


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What may hold an argument: the turns in which it was spoken of, and those before; both latest first."""

    turns: tuple[Turn, ...]
    earlier: tuple[Turn, ...] = ()


@dataclass(slots=True, kw_only=True)
class Filled:
    """What was found. `explicit` names arguments of a definite type, `missing` ones still to be asked for."""

    arguments: dict[str, Any] = field(default_factory=dict)
    explicit: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def fill(parameters: Schema, heard: Heard, about: str = "") -> Filled:
    """Fill what can be filled of a tool's parameters (JSON Schema); `about` is the tool's own text."""
    filled = Filled()
    properties: Mapping[str, Schema] = parameters.get("properties") or {}
    required = [name for name in parameters.get("required") or () if name in properties]
    now = [Search(turn.words, turn.asked, stems(about)) for turn in heard.turns]
    before = [Search(turn.words, "") for turn in heard.earlier]
    for name in [*required, *(name for name in properties if name not in required)]:
        kind = kind_of(name, properties[name])
        wanted = name in required or kind in DEFINITE
        value = _first(kind, name, properties[name], _likeliest(now, name, properties)) if wanted else None
        if value is None and name in required and kind in DEFINITE:
            value = _from_before(kind, name, properties[name], before)
        elif value is not None and (kind in DEFINITE or any(s.asks(name) for s in now)):
            filled.explicit.append(name)
        if value is not None:
            filled.arguments[name] = value
        elif name in required:
            filled.missing.append(name)
    return filled


def asks_for(asked: str, name: str) -> bool:
    """Tell whether something that was said asks for an argument of this name."""
    return Search("", asked).asks(name)


def _likeliest(searches: Sequence[Search], name: str, others: Iterable[str]) -> list[Search]:
    """Look first where the argument was asked for, and last where another one was."""
    asked = {id(search): any(search.asks(other) for other in others) for search in searches}
    return sorted(searches, key=lambda search: 0 if search.asks(name) else 1 + asked[id(search)])


def _first(kind: str, name: str, schema: Schema, searches: Sequence[Search]) -> Any:
    values = (READERS[kind](name, schema, search) for search in searches)
    return next((value for value in values if value is not None), None)


def _from_before(kind: str, name: str, schema: Schema, before: Sequence[Search]) -> Any:
    """Look further back, but only where the caller named what the argument is about."""
    wanted = stems(name.replace("_", " "))
    for search in before:
        if any(touches(word, stems(search.text)) for word in wanted):
            value = READERS[kind](name, schema, search)
            if value is not None:
                return value
    return None
