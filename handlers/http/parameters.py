"""Validation of the arguments of an HTTP function against its declared parameters.

It runs on the event loop during calls, so its cost is bounded: the arguments have a limited size, and the
validation takes a limited number of steps.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import islice
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import UnknownType, ValidationError
from jsonschema.validators import extend
from referencing import Registry

from handlers.http.errors import InvalidArguments, InvalidDeclaration
from templates.parameters import matches, read_parameters

MAX_PROBLEMS = 5
MAX_PROBLEM_CHARS = 200

MAX_ARGUMENT_CHARS = 16_384
"""Maximum size of a call's arguments in characters of JSON."""

MAX_STEPS = 10_000
"""Maximum number of steps of a validation, which runs on the event loop; an ordinary one takes under 100."""

_STEPS_OF_A_CHARACTER = 4
"""Steps for each character that a pattern is matched against."""


class Parameters:
    """The declared parameters of a function, for the validation of arguments."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        """Args:
        schema: a JSON Schema of type object, or an empty one for a function without arguments. An undeclared
            argument is refused unless the schema allows it.
        """
        read = read_parameters(schema)
        self._usable = not read.faults
        closed = {"type": "object", "additionalProperties": False, **read.schema}
        self._validator = _Validator(closed, registry=Registry())

    def check(self, arguments: Mapping[str, Any]) -> None:
        """Validate arguments.

        Raises:
            InvalidArguments: they do not match; the message names up to ``MAX_PROBLEMS`` problems.
            InvalidDeclaration: the schema cannot be used.
        """
        if not self._usable:
            raise InvalidDeclaration(_MISDECLARED)
        characters = len(json.dumps(dict(arguments)))
        if characters > MAX_ARGUMENT_CHARS:
            raise InvalidArguments([f"arguments: have more than {MAX_ARGUMENT_CHARS} characters as JSON"])
        steps = _STEPS.set(_Steps(of_an_error=characters // 16))
        try:
            errors = list(islice(self._validator.iter_errors(dict(arguments)), MAX_PROBLEMS))
        except UnknownType:
            raise InvalidDeclaration(_MISDECLARED) from None
        except _TooManySteps:
            raise InvalidArguments(["arguments: have too many values; give fewer"]) from None
        finally:
            _STEPS.reset(steps)
        if errors:
            raise InvalidArguments([_described(error) for error in errors])


_MISDECLARED = "Not done: the function's parameters are not declared correctly."


def _pattern(_: object, pattern: str, value: object, __: object) -> Iterator[ValidationError]:
    if isinstance(value, str):
        _STEPS.get().take(_STEPS_OF_A_CHARACTER * len(value))
        if not matches(pattern, value):
            yield ValidationError(f"{value!r} does not match {pattern!r}")


def _unique_items(_: object, unique: object, value: object, __: object) -> Iterator[ValidationError]:
    """Compare items by their JSON: jsonschema compares each pair of items."""
    if unique and isinstance(value, list):
        items = {json.dumps(_canonical(item), sort_keys=True) for item in value}
        if len(items) < len(value):
            yield ValidationError("has items that are equal")


def _canonical(value: Any) -> Any:
    """A value with integral floats as integers, which are equal in JSON Schema."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {key: _canonical(inner) for key, inner in value.items()}
    return [_canonical(inner) for inner in value] if isinstance(value, list) else value


class _TooManySteps(Exception):
    """The validation needs more steps than allowed."""


@dataclass(slots=True)
class _Steps:
    """The steps that one validation may still take.

    A keyword is one step, as is each of its entries. An error is as many steps as its message takes, which
    may contain all arguments.
    """

    of_an_error: int
    left: int = MAX_STEPS

    def take(self, count: int) -> None:
        """Count steps.

        Raises:
            _TooManySteps: there are none left.
        """
        self.left -= count
        if self.left < 0:
            raise _TooManySteps


_STEPS: ContextVar[_Steps] = ContextVar("steps of the running validation")


def _counted(keyword: Callable[..., Any]) -> Callable[..., Any]:
    def validate(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        steps = _STEPS.get()
        steps.take(1 + (len(value) if isinstance(value, (list, dict)) else 0))
        for error in keyword(validator, value, instance, schema) or ():
            steps.take(steps.of_an_error)
            yield error

    return validate


_KEYWORDS = {**Draft202012Validator.VALIDATORS, "pattern": _pattern, "uniqueItems": _unique_items}
_Validator = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator, {name: _counted(keyword) for name, keyword in _KEYWORDS.items()}
)


def _described(error: ValidationError) -> str:
    where = ".".join(str(part) for part in error.absolute_path) or "arguments"
    message = error.message
    if len(message) > MAX_PROBLEM_CHARS:
        message = f"does not match '{error.validator}' of its schema"
    return f"{where}: {message}"
