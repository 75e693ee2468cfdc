"""The template reference, generated from the JSON Schema and from the arguments of the built-in functions.

``python -m voicebot.authoring.reference`` prints ``docs/template-reference.md``; a test compares both.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from handlers.registry import BUILTIN_FUNCTIONS, HANDLERS
from templates.schema import template_schema
from templates.sets.file_model import NAME_FIELDS, FileRoute, FileTemplate
from voicebot.providers.registry import DECLARED

Schema = Mapping[str, Any]

_INTRODUCTION = """\
# Template reference

This file is generated: `python -m voicebot.authoring.reference > docs/template-reference.md`. Do not edit it.

A template is a JSON document (or YAML in a file). All durations are in milliseconds. A field with the default
"required" must be present; every other field may be left out. A draft may have problems, an active template
must pass the check. `GET /api/v1/templates/schema` returns the same fields as JSON Schema.
"""

_FILES = """\
## Fields in files

In files (see [templates in git](guides/templates-in-git.md)) a name can replace an id.
"""

_FUNCTIONS = """\
## Built-in functions

An author offers a built-in function to the model with `{"type": "builtin", "name": "…"}` in `functions`.
`route_to_agent` is offered automatically when there is an agent to route to, and `park_call` and
`cancel_escalation` (no arguments) where `escalate_to_person` is. The model provides the arguments.
"""


_MISSING = object()


class MissingText(ValueError):
    """A field has no description or no example; add it to the model's field."""


class Reference:
    """Writes the tables of one schema document, whose ``$defs`` are ``definitions``."""

    def __init__(self, definitions: Mapping[str, Schema]) -> None:
        self._definitions = definitions

    def section(self, title: str, schema: Schema) -> str:
        """A heading, the schema's description, and a table of its properties."""
        return f"## {title}\n\n{schema['description']}\n\n{self.table(schema)}"

    def table(self, schema: Schema) -> str:
        """A table of the properties of an object schema.

        Raises:
            MissingText: a property has no description or no example.
        """
        properties: Mapping[str, Schema] = schema.get("properties", {})
        if not properties:
            return "No arguments.\n"
        required = schema.get("required", ())
        lines = ["| field | type | default | meaning | example |", "|---|---|---|---|---|"]
        for name, field in properties.items():
            default = "required" if name in required else self._default(field)
            meaning, example = field.get("description"), self.example(field)
            if not meaning or example is _MISSING:
                raise MissingText(f"{schema.get('title')}.{name} needs a description and an example.")
            cells = (f"`{name}`", self.type(field), default, meaning, _code(example))
            lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
        return "\n".join(lines) + "\n"

    def type(self, schema: Schema) -> str:
        """The type of a value in words, with a link for an object that has a section of its own."""
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            return f"[{name}](#{name.lower()})"
        if values := schema.get("enum") or ([schema["const"]] if "const" in schema else None):
            return ", ".join(_code(value) for value in values)
        options = schema.get("anyOf") or schema.get("oneOf")
        if options:
            return " or ".join(self.type(option) for option in options)
        if schema.get("type") == "array":
            return f"list of {self.type(schema.get('items', {}))}"
        if isinstance(schema.get("additionalProperties"), Mapping):
            return f"object of {self.type(schema['additionalProperties'])}"
        return _scalar_type(schema)

    def example(self, schema: Schema) -> Any:
        """The first example of a schema, else one made of its values, its default or its parts."""
        for value in (*schema.get("examples", ()), *schema.get("enum", ()), schema.get("const")):
            if value is not None or "examples" in schema:
                return value
        if schema.get("default") not in (None, "", []):
            return schema["default"]
        if "$ref" in schema:
            return self._object_example(self._definitions[schema["$ref"].rpartition("/")[2]])
        if "items" in schema:
            item = self.example(schema["items"])
            return item if item is _MISSING else [item]
        options = (self.example(option) for option in schema.get("anyOf") or schema.get("oneOf") or ())
        return next((example for example in options if example is not _MISSING), _MISSING)

    def _object_example(self, schema: Schema) -> dict[str, Any]:
        properties = schema["properties"]
        names = schema.get("required") or list(properties)[:2]
        return {name: self.example(properties[name]) for name in names}

    def _default(self, schema: Schema) -> str:
        if "default" not in schema:  # made by a factory
            return "its fields' defaults" if "$ref" in schema else "`{}`"
        return _code(schema["default"])


def template_reference() -> str:
    """The whole reference as Markdown.

    Raises:
        MissingText: a field has no description or no example.
    """
    return "\n".join(_parts())


def _parts() -> Iterator[str]:
    schema = template_schema(builtins=BUILTIN_FUNCTIONS, providers=DECLARED)
    definitions: Mapping[str, Schema] = schema["$defs"]
    reference = Reference(definitions)
    yield _INTRODUCTION
    yield reference.section("Template", schema)
    for name in _in_order_of_use(schema, definitions):
        yield reference.section(name, definitions[name])
    yield _FILES
    yield reference.table(_file_fields())
    yield _FUNCTIONS
    for name, handler in HANDLERS.items():
        arguments = handler.arguments.model_json_schema()
        yield f"### `{name}`\n\n{handler.description}\n"
        yield Reference(arguments.get("$defs", {})).table(arguments)


def _in_order_of_use(schema: Schema, definitions: Mapping[str, Schema]) -> list[str]:
    """Names of the definitions in the order in which the schema, and then they themselves, refer to them."""
    found: list[str] = []
    pending = [schema.get("properties", {})]
    while pending:
        for name in _references(pending.pop(0)):
            if name not in found:
                found.append(name)
                pending.append(definitions[name])
    return found


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"].rpartition("/")[2]
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def _file_fields() -> Schema:
    """The fields that a template and a route have only in files."""
    found = {
        name: field
        for model in (FileTemplate, FileRoute)
        for name, field in model.model_json_schema()["properties"].items()
        if name in NAME_FIELDS.values()
    }
    return {"title": "files", "properties": found}


def _scalar_type(schema: Schema) -> str:
    kind = schema.get("format") or schema.get("type") or "any JSON value"
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f"{kind} from {low} to {high}"
    longest = schema.get("maxLength")
    return f"{kind} of up to {longest} characters" if longest is not None else str(kind)


def _code(value: Any) -> str:
    return f"`{json.dumps(value, ensure_ascii=False)}`"


if __name__ == "__main__":
    print(template_reference(), end="")
