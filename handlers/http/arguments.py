"""What a model fills in, held against the parameters that the author declared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import UnknownType, ValidationError
from jsonschema.validators import extend
from referencing import Registry

from handlers.http.errors import InvalidArguments, Misdeclared
from templates.parameters import matches, read_parameters

MAX_PROBLEMS = 5
MAX_PROBLEM_CHARS = 200


class Parameters:
    """A function's declared parameters."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        """``schema``: a JSON Schema of type object, or empty for a function without arguments.

        An argument that is not declared is refused unless the schema says otherwise, so that nothing which
        the author did not name reaches the server.
        """
        read = read_parameters(schema)
        self._usable = not read.faults
        closed = {"type": "object", "additionalProperties": False, **read.schema}
        self._validator = _Validator(closed, registry=Registry())

    def check(self, arguments: Mapping[str, Any]) -> None:
        """Let fitting arguments pass.

        Raises:
            InvalidArguments: naming what does not fit, so that the model can correct it.
            Misdeclared: the schema itself is broken.
        """
        if not self._usable:
            raise Misdeclared(_MISDECLARED)
        try:
            errors = list(islice(self._validator.iter_errors(dict(arguments)), MAX_PROBLEMS))
        except UnknownType:
            raise Misdeclared(_MISDECLARED) from None
        if errors:
            raise InvalidArguments([_described(error) for error in errors])


_MISDECLARED = "Not done: the function's parameters are not declared properly."


def _pattern(_: object, pattern: str, value: object, __: object) -> Iterator[ValidationError]:
    if isinstance(value, str) and not matches(pattern, value):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


_Validator = extend(Draft202012Validator, {"pattern": _pattern})  # type: ignore[no-untyped-call]


def _described(error: ValidationError) -> str:
    where = ".".join(str(part) for part in error.absolute_path) or "arguments"
    message = error.message
    if len(message) > MAX_PROBLEM_CHARS:
        message = f"does not fit '{error.validator}' of its schema"
    return f"{where}: {message}"
