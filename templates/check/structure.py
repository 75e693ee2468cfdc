"""From any JSON document to a template: every fault of shape with its pointer, and what can still be read.

A document with a misspelt field deserves to hear about its unreachable node too, so faulty parts are taken
out (or replaced by something empty) until the rest is a template, and the other rules look at that.
``Reading`` remembers where list items stood, so that pointers lead into the document as the author wrote it.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from templates import flow, functions, model
from templates.check.rules import broken
from templates.problem import Problem, pointer
from templates.storable import unstorable

_PASSES = 12
"""More rounds than a template has levels: each round repairs at least one level."""

_EXPECTED = {
    "string_type": "a text",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}

Path = tuple[str | int, ...]


def _field_names() -> frozenset[str]:
    parts = [part for module in (flow, functions, model) for part in vars(module).values()]
    models = [part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)]
    return frozenset(name for part in models for name in part.model_fields)


_FIELD_NAMES = _field_names()


@dataclass(slots=True)
class Reading:
    """What could be read of a document.

    Attributes:
        content: the template that is left; None when the document is no object at all, or cannot be kept.
        problems: faults of shape.
        document: the repaired document, which ``content`` was read from.
    """

    content: model.TemplateContent | None = None
    problems: list[Problem] = field(default_factory=list)
    document: Any = None
    _original: dict[int, list[int]] = field(default_factory=dict)
    _faulty: set[str] = field(default_factory=set)

    def original_path(self, path: Path) -> Path:
        """Where a place of the repaired document was in the original one."""
        found: list[str | int] = []
        current = self.document
        for part in path:
            kept = self._original.get(id(current))
            found.append(
                kept[part] if kept is not None and isinstance(part, int) and part < len(kept) else part
            )
            current = _step(current, part)
        return tuple(found)

    def relocate(self, problem: Problem) -> Problem:
        """A problem of the repaired document, with its place in the original one."""
        if not self._original:
            return problem
        path: list[str | int] = []
        current = self.document
        for token in problem.pointer.split("/")[1:]:
            part = token.replace("~1", "/").replace("~0", "~")
            key = int(part) if isinstance(current, list) and part.isdigit() else part
            path.append(key)
            current = _step(current, key)
        return replace(problem, pointer=pointer(*self.original_path(tuple(path))))

    def spoilt(self, place: str) -> bool:
        """Whether a fault of shape was found just there: what other rules say of the repair would mislead."""
        return place in self._faulty

    def note(self, problem: Problem) -> None:
        """Keep a fault of shape, once."""
        if problem.pointer not in self._faulty:
            self._faulty.add(problem.pointer)
            self.problems.append(problem)

    def take_out(self, container: Any, key: str | int) -> None:
        """Remove an entry, remembering where the others stood."""
        if isinstance(container, list) and isinstance(key, int):
            self._original.setdefault(id(container), list(range(len(container)))).pop(key)
        del container[key]


def read(document: Any) -> Reading:
    """Read a document as leniently as possible, noting every fault of shape."""
    reading = Reading()
    if not isinstance(document, dict):
        reading.note(broken("wrong_type", (), "A template should be an object."))
        return reading
    for path, fault in unstorable(document):
        reading.note(broken("unstorable", path, f"{_called(path)} {fault}."))
    if reading.problems:
        return reading
    reading.document = copy.deepcopy(document)
    for _ in range(_PASSES):
        try:
            reading.content = model.TemplateContent.model_validate(reading.document)
        except ValidationError as error:
            _repair(reading, error)
        else:
            break
    return reading


def _repair(reading: Reading, error: ValidationError) -> None:
    located = [(_locate(reading.document, details), details) for details in error.errors(include_url=False)]
    for path, details in located:
        _note(reading, path, details)
    # From the end, so that taking out a list's item does not move those still to be taken out.
    repairs = {path: details["type"] for path, details in located}
    for path in sorted(repairs, key=_order, reverse=True):
        _mend(reading, path, repairs[path])


def _order(path: Path) -> list[tuple[int, str]]:
    return [(part, "") if isinstance(part, int) else (-1, part) for part in path]


def _locate(document: Any, details: ErrorDetails) -> Path:
    """The path in the document: pydantic's, without the names of union members that it mixes in."""
    path: list[str | int] = []
    current = document
    for index, part in enumerate(details["loc"]):
        is_last = index == len(details["loc"]) - 1
        if isinstance(current, dict) and (part in current or (is_last and details["type"] == "missing")):
            path.append(part)
            current = current.get(part)
        elif isinstance(current, list) and isinstance(part, int) and part < len(current):
            path.append(part)
            current = current[part]
    return tuple(path)


def _note(reading: Reading, path: Path, details: ErrorDetails) -> None:
    where = reading.original_path(path)
    name = _called(where)
    match details["type"]:
        case "missing":
            problem = broken("missing_field", where, f"{name} is missing.")
        case "extra_forbidden":
            near = get_close_matches(str(where[-1]), _FIELD_NAMES, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            problem = broken("unknown_field", where, f"There is no field {name} here.{hint}")
        case "literal_error":
            problem = broken("invalid_value", where, f"{name} should be {details['ctx']['expected']}.")
        case "union_tag_invalid" | "union_tag_not_found":
            message = "A function's 'type' should be 'builtin' or 'http'."
            problem = broken("invalid_value", (*where, "type"), message)
        case kind:
            expected = _EXPECTED.get(kind)
            message = f"{name} should be {expected}." if expected else f"{name}: {details['msg']}."
            problem = broken("wrong_type", where, message)
    reading.note(problem)


def _called(where: Path) -> str:
    if isinstance(where[-1], int):
        return f"Item {where[-1]} of '{where[-2]}'"
    return f"'{where[-1]}'"


def _mend(reading: Reading, path: Path, kind: str) -> None:
    """Take the faulty entry out; what is required and missing becomes empty."""
    container = _at(reading.document, path[:-1])
    key = path[-1]
    if kind == "missing":
        container[key] = {} if key in ("nodes", "cases") else ""
    elif path == ("kind",) and reading.document.get("routes"):
        container[key] = "orchestrator"
    else:
        reading.take_out(container, key)


def _step(current: Any, key: str | int) -> Any:
    if isinstance(current, list) and isinstance(key, int):
        return current[key] if key < len(current) else None
    return current.get(key) if isinstance(current, dict) else None


def _at(document: Any, path: Path) -> Any:
    for part in path:
        document = document[part]
    return document
