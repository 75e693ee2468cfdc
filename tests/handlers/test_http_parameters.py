"""Validation of a function's arguments: its result, and its CPU time, which is time of the event loop."""

from __future__ import annotations

import time
from typing import Any

import pytest

from handlers.http.errors import InvalidArguments, InvalidDeclaration
from handlers.http.parameters import MAX_ARGUMENT_CHARS, Parameters

MAX_CPU_S = 0.25
"""CPU time that no validation may need, several times what the slowest one needs on a slow machine."""


def of(**properties: Any) -> Parameters:
    """Return the parameters with these properties."""
    return Parameters({"type": "object", "properties": properties})


def items_of(schema: dict[str, Any]) -> Parameters:
    """Return parameters with a list ``a`` of values of a schema."""
    return of(a={"type": "array", "items": schema})


EXPENSIVE = {
    "branches": (of(a={"anyOf": [{"type": "string"}] * 400}), [0] * 5000),
    "branches_of_items": (items_of({"anyOf": [{"type": "string"}] * 90}), [0] * 5000),
    "nested_branches": (
        of(a={"oneOf": [{"type": "array", "items": {"oneOf": [{"type": "integer"}] * 20}}] * 20}),
        [0] * 5000,
    ),
    "unique_objects": (of(a={"type": "array", "uniqueItems": True}), [{"a": n} for n in range(1300)]),
    "required": (items_of({"required": [f"x{n}" for n in range(400)]}), [{}] * 4000),
    "enum": (items_of({"enum": [str(n) for n in range(400)]}), ["z"] * 3000),
    "pattern": (items_of({"pattern": "(a{1,30}){30}b"}), ["a" * 8000] * 2),
}


@pytest.mark.parametrize("kind", EXPENSIVE)
def test_validation_takes_bounded_cpu_time(kind: str) -> None:
    """Whatever schema and arguments are, a validation ends soon, with a result or a refusal."""
    parameters, value = EXPENSIVE[kind]
    began = time.thread_time()
    try:
        parameters.check({"a": value})
    except InvalidArguments as error:
        assert "a" in str(error)  # noqa: PT017 -- either outcome is right
    assert time.thread_time() - began < MAX_CPU_S


def test_nested_unevaluated_properties_are_not_validated_on_a_call() -> None:
    """A schema with keywords of exponential cost makes the function fail, without a validation."""
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(12):
        schema = {"allOf": [schema], "unevaluatedProperties": {"type": "object"}}
    began = time.thread_time()
    with pytest.raises(InvalidDeclaration):
        Parameters(schema).check({"a": {"b": {"c": {}}}})
    assert time.thread_time() - began < MAX_CPU_S


def test_large_honest_arguments_are_accepted() -> None:
    """A list of 40 objects with ten described fields each, and a long text, pass."""
    fields = {f"field_{n}": {"type": "string", "minLength": 1, "maxLength": 200} for n in range(10)}
    parameters = of(
        a={"type": "array", "maxItems": 50, "items": {"type": "object", "properties": fields}},
        note={"type": "string", "maxLength": 8000},
    )
    parameters.check({"a": [dict.fromkeys(fields, "x")] * 40, "note": "word " * 1500})


def test_oversized_arguments_are_refused() -> None:
    """Arguments that are longer than allowed are refused before they are validated."""
    with pytest.raises(InvalidArguments, match=f"{MAX_ARGUMENT_CHARS} characters"):
        of(a={"type": "string"}).check({"a": "x" * MAX_ARGUMENT_CHARS})


@pytest.mark.parametrize(
    ("items", "is_unique"),
    [([1, 2], True), ([1, 1.0], False), ([1, True], True), ([{"a": 1, "b": 2}, {"b": 2, "a": 1}], False)],
)
def test_unique_items_are_compared_as_json(items: list[Any], is_unique: bool) -> None:
    """Numbers are equal by value, and objects by their members, whatever their order."""
    parameters = of(a={"type": "array", "uniqueItems": True})
    if is_unique:
        parameters.check({"a": items})
    else:
        with pytest.raises(InvalidArguments, match="equal"):
            parameters.check({"a": items})
