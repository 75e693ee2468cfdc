"""The parameters of an HTTP function: an author's JSON Schema, expanded for the model.

A model receives the properties only, so references are replaced by the schemas that they refer to. Arguments
are validated during calls, so patterns are matched by RE2 in linear time; Python's engine can need
exponential time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import re2
from jsonpointer import JsonPointerException, resolve_pointer

Path = tuple[str | int, ...]
SchemaFaultKind = Literal["remote", "unknown", "endless", "pattern", "names", "keyword", "deep"]

MAX_PARTS = 500
"""Maximum number of parts of an expanded schema: nested references can multiply to millions of parts."""

MAX_LEVELS = 16
"""Maximum number of levels of an expanded schema: each reference and each schema inside another is one."""

MAX_PATTERN_MEMORY = 128 * 1024
"""Memory of a compiled pattern in bytes: RE2 refuses a pattern that needs more."""

_RE2_OPTIONS = re2.Options()
_RE2_OPTIONS.log_errors = False
_RE2_OPTIONS.max_mem = MAX_PATTERN_MEMORY
_SCHEMA_KEYWORDS = frozenset(
    {
        "additionalProperties",
        "contains",
        "contentSchema",
        "else",
        "if",
        "items",
        "not",
        "propertyNames",
        "then",
    }
)
_UNSUPPORTED_KEYWORDS = ("unevaluatedItems", "unevaluatedProperties")
"""Keywords whose validation takes time that is exponential in the number of levels."""

_SCHEMA_LIST_KEYWORDS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_SCHEMA_MAP_KEYWORDS = frozenset({"dependentSchemas", "patternProperties", "properties"})
_OMITTED_KEYWORDS = frozenset({"$defs", "definitions", "$ref", "$schema", "$id"})
_ANNOTATION_KEYWORDS = frozenset({"title", "description", "default", "examples", "deprecated"})


@dataclass(frozen=True, slots=True)
class SchemaFault:
    """A reason why a schema cannot be used.

    Attributes:
        path: keys and indexes of the place in the author's schema.
        kind: ``remote``: a reference to another document; ``unknown``: a reference to a missing part;
            ``endless``: a recursive reference, or more than ``MAX_PARTS`` parts; ``pattern``: not supported
            by RE2, or too large; ``names``: ``patternProperties``, which is not supported; ``keyword``: one
            of ``_UNSUPPORTED_KEYWORDS``; ``deep``: more than ``MAX_LEVELS`` levels.
        text: the reference or pattern as written.
    """

    path: Path
    kind: SchemaFaultKind
    text: str


@dataclass(frozen=True, slots=True)
class ReadParameters:
    """An expanded schema, and the reasons why the original cannot be used."""

    schema: Mapping[str, Any]
    faults: Sequence[SchemaFault] = ()


def read_parameters(schema: Mapping[str, Any]) -> ReadParameters:
    """Expand the references of a JSON Schema; an invalid reference becomes the schema that accepts any
    value."""
    reader = _Reader(schema)
    read = reader.schema(schema, (), ())
    return ReadParameters(read if isinstance(read, dict) else {}, tuple(dict.fromkeys(reader.faults)))


def declared_parameters(schema: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The (properties, required) of a function's ``parameters``, as the model receives them.

    Args:
        schema: a JSON Schema of type object; an empty one means a function without arguments.
    """
    return properties_and_required(read_parameters(schema).schema)


def parameter_names(schema: Mapping[str, Any]) -> frozenset[str]:
    """The names of a function's parameters. Only the references at the top are expanded."""
    read = _TopReader(schema).schema(schema, (), ())
    return frozenset(properties_and_required(read if isinstance(read, dict) else {})[0])


def properties_and_required(schema: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The (properties, required) of an expanded schema."""
    properties = schema.get("properties", {})
    required = schema.get("required", [])
    return (
        dict(properties) if isinstance(properties, Mapping) else {},
        [str(name) for name in required]
        if isinstance(required, Sequence) and not isinstance(required, str)
        else [],
    )


def matches(pattern: str, text: str) -> bool:
    """Whether a text contains a match of an RE2 pattern; an invalid pattern matches every text."""
    compiled = _compiled(pattern)
    return compiled is None or compiled.search(text) is not None


@lru_cache(maxsize=64)
def _compiled(pattern: str) -> Any:
    try:
        return re2.compile(pattern, _RE2_OPTIONS)
    except re2.error:
        return None


@dataclass(slots=True)
class _Reader:
    root: Mapping[str, Any]
    faults: list[SchemaFault] = field(default_factory=list)
    parts: int = 0
    level: int = 0

    def schema(self, schema: Any, path: Path, parents: tuple[str, ...]) -> Any:
        """One schema; ``parents`` are the references that led here."""
        self.parts += 1
        if not isinstance(schema, Mapping):
            return schema
        if self.parts > MAX_PARTS:
            if self.parts == MAX_PARTS + 1:
                self._add_fault("endless", path, parents[-1] if parents else "")
            return {}
        if self.level == MAX_LEVELS:
            self._add_fault("deep", path, parents[-1] if parents else "")
            return {}
        self.level += 1
        try:
            return self._read(schema, path, parents)
        finally:
            self.level -= 1

    def _read(self, schema: Mapping[str, Any], path: Path, parents: tuple[str, ...]) -> Any:
        read = {
            key: self._member(key, value, (*path, key), parents)
            for key, value in schema.items()
            if key not in _OMITTED_KEYWORDS and key not in _UNSUPPORTED_KEYWORDS
        }
        if "$dynamicRef" in schema:
            self._add_fault("remote", (*path, "$dynamicRef"), read.pop("$dynamicRef"))
        self._patterns(schema, path)
        if "$ref" not in schema:
            return read
        target = self._resolve(schema["$ref"], (*path, "$ref"), parents)
        clash = target.keys() & read.keys() - _ANNOTATION_KEYWORDS
        return {**read, "allOf": [*read.get("allOf", ()), target]} if clash else {**target, **read}

    def _member(self, key: str, value: Any, path: Path, parents: tuple[str, ...]) -> Any:
        if key in _SCHEMA_KEYWORDS:
            return self.schema(value, path, parents)
        if key in _SCHEMA_LIST_KEYWORDS and isinstance(value, list):
            return [self.schema(each, (*path, index), parents) for index, each in enumerate(value)]
        if key in _SCHEMA_MAP_KEYWORDS and isinstance(value, Mapping):
            return {name: self.schema(each, (*path, name), parents) for name, each in value.items()}
        return value

    def _resolve(self, reference: Any, path: Path, parents: tuple[str, ...]) -> dict[str, Any]:
        text = str(reference)
        if not text.startswith("#"):
            self._add_fault("remote", path, text)
            return {}
        if text in parents:
            self._add_fault("endless", path, text)
            return {}
        try:
            found = resolve_pointer(self.root, text[1:])
        except JsonPointerException:
            found = None
        if not isinstance(found, Mapping | bool):
            self._add_fault("unknown", path, text)
            return {}
        place = tuple(
            part.replace("~1", "/").replace("~0", "~") for part in text[2:].split("/") if text != "#"
        )
        read = self.schema(found, place, (*parents, text))
        return read if isinstance(read, dict) else ({} if read else {"not": {}})

    def _patterns(self, schema: Mapping[str, Any], path: Path) -> None:
        pattern = schema.get("pattern")
        if isinstance(pattern, str) and _compiled(pattern) is None:
            self._add_fault("pattern", (*path, "pattern"), pattern)
        if schema.get("patternProperties"):
            self._add_fault("names", (*path, "patternProperties"), "")
        for keyword in _UNSUPPORTED_KEYWORDS:
            if keyword in schema:
                self._add_fault("keyword", (*path, keyword), keyword)

    def _add_fault(self, kind: SchemaFaultKind, path: Path, text: Any) -> None:
        self.faults.append(SchemaFault(path, kind, str(text)))


class _TopReader(_Reader):
    """Reads the top of a schema and leaves the schemas in it as they are."""

    __slots__ = ()

    def _member(self, key: str, value: Any, path: Path, parents: tuple[str, ...]) -> Any:
        return value
