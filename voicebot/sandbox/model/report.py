"""Reporting on a conversation that is quoted in the request: in a few sentences, or in a form to fill."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from voicebot.sandbox.model.scene import Scene
from voicebot.sandbox.model.talk import topic
from voicebot.sandbox.model.words import stem, tokens, touches

Schema = Mapping[str, Any]

_SENTENCES = 5
_SPEAKERS = {"user": "caller", "assistant": "agent", "customer": "caller", "bot": "agent"}
_LINE = re.compile(r"[-*]?\s*(caller|user|customer|agent|assistant|bot)\s*:\s*(.+)", re.IGNORECASE)
_TO_DO = frozenset(map(stem, ("next", "steps", "actions", "todo", "recommendation", "advice")))


def summary(scene: Scene) -> str:
    """Sum a quoted conversation up: what the caller said and what was last answered, in their words."""
    lines = _lines(scene)
    caller = [said for speaker, said in lines if speaker == "caller"]
    agent = [said for speaker, said in lines if speaker != "caller"]
    told = [f"The caller said: {said.rstrip('.!? ')}." for said in caller[-(_SENTENCES - 1) :]]
    if agent:
        told.append(f"The agent last said: {agent[-1].rstrip('.!? ')}.")
    return " ".join(told) or "Nothing was said yet."


def form(schema: Schema, scene: Scene) -> Any:
    """Fill a JSON Schema from a quoted conversation: a value of the right type for everything required."""
    return _value("", schema, scene)


def _value(name: str, schema: Schema, scene: Scene) -> Any:
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    kind = schema.get("type")
    kind = next((one for one in kind if one != "null"), "null") if isinstance(kind, list) else kind
    match kind:
        case "object":
            properties: Mapping[str, Schema] = schema.get("properties") or {}
            return {inner: _value(inner, properties[inner], scene) for inner in properties}
        case "array":
            count = max(1, int(schema.get("minItems", 1)))
            return [_value(name, schema.get("items") or {"type": "string"}, scene)] * count
        case "number" | "integer":
            low = schema.get("minimum", 0)
            middle = (low + schema.get("maximum", low + 1)) / 2
            return int(middle) if kind == "integer" else middle
        case "boolean":
            return False
        case "null":
            return None
    return _text(name, scene)[: int(schema.get("maxLength", 1000))]


def _text(name: str, scene: Scene) -> str:
    """What is to be done, for a field that asks for it; what was said, for any other."""
    if not any(touches(stem(token), _TO_DO) for token in tokens(name.replace("_", " "))):
        return summary(scene)
    caller = [said for speaker, said in _lines(scene) if speaker == "caller"]
    about = topic(caller[-1]) if caller else ""
    return f"Speak with the caller about {about}." if about else "Ask the caller what they need."


def _lines(scene: Scene) -> list[tuple[str, str]]:
    texts = (*scene.material, *(turn.words for turn in scene.turns))
    return [line for text in texts for line in _quoted(text)]


def _quoted(text: str) -> Iterator[tuple[str, str]]:
    """Read a JSON document, JSON lines, or lines "speaker: words"."""
    document = _json(text)
    if document is not None:
        yield from _utterances(document)
        return
    for line in text.splitlines():
        inner = _json(line.strip()) if line.strip().startswith("{") else None
        named = _LINE.match(line.strip())
        if inner is not None:
            yield from _utterances(inner)
        elif named:
            yield _speaker(named[1]), named[2]


def _utterances(value: Any) -> Iterator[tuple[str, str]]:
    """Find whatever has a speaker and words, however deep it lies."""
    if isinstance(value, Mapping):
        speaker = value.get("speaker") or value.get("role")
        said = value.get("said") or value.get("text") or value.get("content")
        if isinstance(speaker, str) and isinstance(said, str):
            yield _speaker(speaker), said
        for inner in value.values():
            yield from _utterances(inner)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for inner in value:
            yield from _utterances(inner)


def _speaker(name: str) -> str:
    return _SPEAKERS.get(name.lower(), name.lower())


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
