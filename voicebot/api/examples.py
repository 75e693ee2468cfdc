"""Examples of answers for OpenAPI, made from the schemas and the examples of their fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_ID = "019aa2c4-7c1e-7a52-9d5b-0f8d7a4b1c2d"
_FORMATS = {
    "uuid": _ID,
    "date-time": "2026-11-28T09:30:00Z",
    "date": "2026-11-28",
    "time": "09:30:00",
    "email": "ada@example.com",
    "uri": "https://example.com",
}
_OTHERS: Mapping[str, Any] = {
    "application/schema+json": {"title": "Conversation template", "type": "object", "required": ["name"]},
    "text/event-stream": 'id: 7\nevent: handoff.created\ndata: {"handoff_id": "' + _ID + '", "epoch": 0}\n\n',
    "text/plain": "voicebot_calls_live 2.0\n",
}
"""Examples of answers that are described by no schema, by media type."""

_REF = "#/components/schemas/"
_MAX_DEPTH = 12


def add_answer_examples(document: dict[str, Any]) -> None:
    """Give each JSON answer of success that has no example one that its schema allows."""
    schemas = document["components"]["schemas"]
    for operations in document["paths"].values():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                for kind, media in answer.get("content", {}).items() if status.startswith("2") else ():
                    if not media.keys() & {"example", "examples"}:
                        value = _OTHERS.get(kind) or example_of(media.get("schema", {}), schemas)
                        media["examples"] = {"answer": {"value": value}}


def example_of(schema: Mapping[str, Any], schemas: Mapping[str, Any], depth: int = 0) -> Any:
    """A value that a schema allows: its example or default, or one made of its parts."""
    if "$ref" in schema:
        return example_of(schemas[schema["$ref"].removeprefix(_REF)], schemas, depth)
    for known in ("examples", "const", "enum", "default"):
        if known in schema:
            value = schema[known]
            return value[0] if known in ("examples", "enum") else value
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in schema:
            return example_of(schema[choice][0], schemas, depth)
    match schema.get("type"):
        case "object":
            return _object(schema, schemas, depth)
        case "array":
            few = depth >= _MAX_DEPTH or not schema.get("items")
            return [] if few else [example_of(schema["items"], schemas, depth + 1)]
        case kind:
            return _plain(str(kind), schema)


def _plain(kind: str, schema: Mapping[str, Any]) -> Any:
    if kind == "string":
        return _FORMATS.get(schema.get("format", ""), "text")
    if kind in ("integer", "number"):
        return schema.get("minimum", 1)
    return {"boolean": True, "null": None}.get(kind, {})


def _object(schema: Mapping[str, Any], schemas: Mapping[str, Any], depth: int) -> dict[str, Any]:
    properties = schema.get("properties", {})
    required = schema.get("required", ())
    wanted = properties if depth < _MAX_DEPTH else {name: properties[name] for name in required}
    return {name: example_of(inner, schemas, depth + 1) for name, inner in wanted.items()}
