"""Transitions that set variables with values of the model, and transitions that depend on variables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from templates.flow import Branch, Condition, ConditionalTransition, Operator
from templates.model import Variable
from templates.provision import is_needed
from templates.values import coerce, require_short, schema_of


class VariableStore(Protocol):
    """The variables of one agent on a call."""

    async def keep(self, values: Mapping[str, Any]) -> None:
        """Set variables."""
        ...

    def variables(self) -> Mapping[str, Any]:
        """The variables by name."""
        ...


def arguments_schema(variables: Sequence[Variable]) -> tuple[dict[str, Any], Sequence[str]]:
    """The JSON Schema of each variable as an argument, and the names of those that must be given."""
    properties = {
        each.name: schema_of(each) | ({"description": each.description} if each.description else {})
        for each in variables
    }
    return properties, [each.name for each in variables if is_needed(each) or each.default is None]


def read_arguments(variables: Sequence[Variable], arguments: Mapping[str, Any]) -> dict[str, Any] | str:
    """The values of the variables in their types, or what the model has to ask for."""
    values: dict[str, Any] = {}
    faults: list[str] = []
    for variable in variables:
        value = arguments.get(variable.name)
        about = f"{variable.name} ({variable.description})" if variable.description else variable.name
        if value is None or value == "":
            if variable.default is None:
                faults.append(f"{about} is missing")
            continue
        try:
            values[variable.name] = coerce(variable.type, value)
            require_short(values[variable.name])
        except ValueError as error:
            faults.append(f"{about} must be {error}")
    if faults:
        return (
            f"Not done: {'; '.join(faults)}. Ask the caller for it, then call again. Do not make up a value."
        )
    return values


def chosen_node(
    transition: str | Branch | ConditionalTransition | None, values: Mapping[str, Any]
) -> str | None:
    """The node that a transition leads to with these variables; None: the conversation stays."""
    if isinstance(transition, ConditionalTransition):
        found = (each.to for each in transition.conditions if holds(each, values))
        return next(found, transition.default)
    return transition if isinstance(transition, str) else None


def holds(condition: Condition, values: Mapping[str, Any]) -> bool:
    """Whether a condition is true. What cannot be compared, such as a text with a number, is not."""
    try:
        return _OPERATORS[condition.operator](values.get(condition.variable), condition.value)
    except TypeError:
        return False


def _is_set(value: Any) -> bool:
    return value is not None and value != ""


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, str) and isinstance(other, str):
        return one.strip().casefold() == other.strip().casefold()
    return bool(one == other)


_OPERATORS: Mapping[Operator, Callable[[Any, Any], bool]] = {
    "equals": _equal,
    "not_equals": lambda one, other: not _equal(one, other),
    "greater_than": lambda one, other: bool(one > other),
    "at_least": lambda one, other: bool(one >= other),
    "less_than": lambda one, other: bool(one < other),
    "at_most": lambda one, other: bool(one <= other),
    "contains": lambda one, other: str(other).casefold() in str(one or "").casefold(),
    "is_set": lambda one, _: _is_set(one),
    "is_not_set": lambda one, _: not _is_set(one),
}
