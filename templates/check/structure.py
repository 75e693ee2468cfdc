"""Structure of a document: reads any JSON as a template and reports each structural problem with its pointer.

The other rules should also run on a document with a misspelt field. Invalid parts are therefore removed (or
replaced by an empty value) until the rest is a valid template, which the other rules check. ``Reading`` keeps
the original indexes of list items, so that pointers refer to the document as the author wrote it.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from templates import model
from templates.check.rules import problem_for
from templates.model_fields import fields_at, suggestion
from templates.problem import Problem, in_words_of_json, pointer
from templates.size import oversized
from templates.storable import unstorable

_PASSES = 12
"""Maximum number of repairs: more than a template has levels, because each repairs at least one level."""

MAX_PROBLEMS = 100
"""Maximum number of errors, and of warnings, in a report; a document with more is not repaired."""

_HINTS = 20
"""Maximum number of unknown fields for which a known one is suggested: a suggestion takes 0.2 ms."""

_EXPECTED = {
    "string_type": "a string",
    "int_type": "an integer",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}

_INVALID_VALUES = frozenset(
    {
        "value_error",
        "string_pattern_mismatch",
        "string_too_long",
        "too_short",
        "too_long",
        "greater_than_equal",
        "less_than_equal",
    }
)
"""Kinds of pydantic's errors about a value of the right type."""

_LISTED = "Use one of the values that the message lists."
_CORRECT = "Correct the value as the message says."

Path = tuple[str | int, ...]


@dataclass(slots=True)
class Reading:
    """Result of reading a document.

    Attributes:
        content: the template that remains; None when the document is not an object or cannot be stored.
        problems: structural problems.
        document: the repaired document from which ``content`` was made.
    """

    content: model.TemplateContent | None = None
    problems: list[Problem] = field(default_factory=list)
    document: Any = None
    _original_indexes: dict[int, list[int]] = field(default_factory=dict)
    _pointers_with_problems: set[str] = field(default_factory=set)
    _hints_left: int = _HINTS

    def hint(self, where: Path) -> str:
        """The field that an unknown one may stand for, as a sentence; "" when enough have been suggested."""
        self._hints_left -= 1
        if self._hints_left < 0:
            return ""
        known = fields_at(model.TemplateContent, where[:-1])
        hint = suggestion(str(where[-1]), known)
        return hint or (f" Known here: {', '.join(sorted(known))}." if known else "")

    def original_path(self, path: Path) -> Path:
        """Path in the original document for a path in the repaired one."""
        found: list[str | int] = []
        current = self.document
        for part in path:
            kept = self._original_indexes.get(id(current))
            found.append(
                kept[part] if kept is not None and isinstance(part, int) and part < len(kept) else part
            )
            current = _step(current, part)
        return tuple(found)

    def with_original_pointer(self, problem: Problem) -> Problem:
        """Copy of a problem of the repaired document, with its pointer into the original one."""
        if not self._original_indexes:
            return problem
        path: list[str | int] = []
        current = self.document
        for token in problem.pointer.split("/")[1:]:
            part = token.replace("~1", "/").replace("~0", "~")
            key = int(part) if isinstance(current, list) and part.isdigit() else part
            path.append(key)
            current = _step(current, key)
        return replace(problem, pointer=pointer(*self.original_path(tuple(path))))

    def has_problem_at(self, pointer: str) -> bool:
        """Whether there is a structural problem at this pointer; other problems there concern the repair."""
        return pointer in self._pointers_with_problems

    def add_problem(self, problem: Problem) -> None:
        """Add a structural problem, unless there is already one at its pointer."""
        if problem.pointer not in self._pointers_with_problems:
            self._pointers_with_problems.add(problem.pointer)
            self.problems.append(problem)

    def remove_entry(self, container: Any, key: str | int) -> None:
        """Remove an entry and keep the original indexes of the others."""
        if isinstance(container, list) and isinstance(key, int):
            self._original_indexes.setdefault(id(container), list(range(len(container)))).pop(key)
        del container[key]


def read(document: Any) -> Reading:
    """Read a document, repairing and reporting each structural problem. The argument is not changed."""
    reading = Reading()
    if not isinstance(document, dict):
        reading.add_problem(problem_for("wrong_type", (), "A template must be an object."))
        return reading
    for code, faults in (("too_large", oversized), ("unstorable", unstorable)):
        for path, fault in faults(document):
            reading.add_problem(problem_for(code, path, f"{_describe_place(path)} {fault}."))
        if reading.problems:
            return reading
    reading.document = copy.deepcopy(document)
    for _ in range(_PASSES):
        try:
            reading.content = model.TemplateContent.model_validate(reading.document)
        except ValidationError as error:
            located = _located(reading, error)
            for path, details in located:
                _add_problem(reading, path, details)
            if error.error_count() > MAX_PROBLEMS:
                break
            _repair(reading, located)
        else:
            break
    return reading


def _located(reading: Reading, error: ValidationError) -> list[tuple[Path, ErrorDetails]]:
    details = error.errors(include_url=False, include_input=False)[:MAX_PROBLEMS]
    return [(locate(reading.document, each), each) for each in details]


def _repair(reading: Reading, located: list[tuple[Path, ErrorDetails]]) -> None:
    # From the end, so that removing an item of a list does not change the indexes of later removals.
    repairs = {path: details["type"] for path, details in located}
    for path in sorted(repairs, key=_document_order, reverse=True):
        _repair_entry(reading, path, repairs[path])


def _document_order(path: Path) -> list[tuple[int, str]]:
    return [(part, "") if isinstance(part, int) else (-1, part) for part in path]


def locate(document: Any, details: ErrorDetails) -> Path:
    """Path in the document: pydantic's location without the names of union members."""
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


def _add_problem(reading: Reading, path: Path, details: ErrorDetails) -> None:
    where = reading.original_path(path)
    name = _describe_place(where)
    match details["type"]:
        case "missing":
            problem = problem_for("missing_field", where, f"{name} is missing.")
        case "extra_forbidden":
            problem = problem_for("unknown_field", where, f"Unknown field {name}.{reading.hint(where)}")
        case "literal_error":
            problem = problem_for(
                "invalid_value", where, f"{name} must be {details['ctx']['expected']}.", detail=_LISTED
            )
        case "union_tag_invalid" | "union_tag_not_found":
            message = "A function's 'type' must be 'builtin' or 'http'."
            problem = problem_for("invalid_value", (*where, "type"), message, detail=_LISTED)
        case kind if kind in _INVALID_VALUES:
            fault = in_words_of_json(details["msg"])
            problem = problem_for("invalid_value", where, f"{name}: {fault}.", detail=_CORRECT)
        case kind:
            expected = _EXPECTED.get(kind)
            message = (
                f"{name} must be {expected}." if expected else f"{name}: {in_words_of_json(details['msg'])}."
            )
            problem = problem_for("wrong_type", where, message)
    reading.add_problem(problem)


def _describe_place(where: Path) -> str:
    if not where:
        return "The template"
    if isinstance(where[-1], int):
        return f"Item {where[-1]} of '{where[-2]}'"
    return f"'{where[-1]}'"


def _repair_entry(reading: Reading, path: Path, kind: str) -> None:
    """Remove an invalid entry; set a missing required one to an empty value."""
    container = _value_at(reading.document, path[:-1])
    key = path[-1]
    if kind == "missing":
        container[key] = {} if key in ("nodes", "cases") else ""
    elif path == ("kind",) and reading.document.get("routes"):
        container[key] = "orchestrator"
    else:
        reading.remove_entry(container, key)


def _step(current: Any, key: str | int) -> Any:
    if isinstance(current, list) and isinstance(key, int):
        return current[key] if key < len(current) else None
    return current.get(key) if isinstance(current, dict) else None


def _value_at(document: Any, path: Path) -> Any:
    for part in path:
        document = document[part]
    return document
