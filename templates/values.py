r"""Typed variables: validated, coerced and defaulted before a call; inserted into texts once.

Two rules keep a caller's words from becoming part of a template. Values reach prompts through the flow's
state, which pipecat inserts once on entering a node, so a value that contains ``{{ x }}`` stays what it is.
And text that has to go into a node itself (the conversation so far) passes through ``literal``, so that
pipecat gives it back unchanged.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime
from typing import Any

from templates.model import Source, Variable, VariableType
from templates.problem import Problem, pointer

_INSERTION = r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)\s*\}\}"
PLACEHOLDER = re.compile(rf"(\\?){_INSERTION}")
r"""What pipecat takes for a placeholder: ``{{ key }}`` or ``{{ key.sub }}``; a leading backslash escapes it.

Its documentation states this in ``FlowConfig``'s docstring; a test compares us with a real ``FlowManager``.
"""

BRACED = re.compile(_INSERTION)
"""A placeholder, escaped or not; it begins with what it looks for, so that long texts are searched fast."""


class InvalidValues(ValueError):
    """The values given for a template's variables do not fit them.

    Trying again with the same values does not help.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{problem.pointer}: {problem.message}" for problem in self.problems))


def resolve(
    variables: Iterable[Variable],
    given: Mapping[str, Any],
    *,
    source: Source,
    known: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A value for every declared variable, ready to be stored as JSON.

    Args:
        variables: the template's declarations.
        given: what the ``source`` provides. Names that the template does not declare are left aside, because
            one payload serves all templates of a call.
        source: which variables ``given`` may fill. Only these are checked for being required.
        known: values for the variables of the other source, e.g. the payload's when a route hands over
            ``call`` ones. They are validated too, but none is required.

    Returns:
        name → value for all variables: the given or known value in its type, else the default, else ``None``.
        Pass it through ``state`` before it goes into ``FlowManager.state``.

    Raises:
        InvalidValues: with every problem at once, each with a pointer into ``given`` (or ``known``).
    """
    problems: list[Problem] = []
    values: dict[str, Any] = {}
    for variable in variables:
        provided = given if variable.source == source else (known or {})
        value = provided.get(variable.name)
        if _is_blank(value):
            values[variable.name] = variable.default
            if variable.required and variable.default is None and variable.source == source:
                problems.append(_missing_required(variable))
            continue
        try:
            values[variable.name] = coerce(variable.type, value)
        except ValueError as error:
            problems.append(_wrong_type(variable, str(error)))
    if problems:
        raise InvalidValues(problems)
    return values


def coerce(kind: VariableType, value: Any) -> Any:
    """The value in the JSON form of its type: ``"42"`` becomes 42 for an integer, but ``"forty"`` is refused.

    Raises:
        ValueError: saying what was expected; the value itself is not repeated, since it may be private.
    """
    return _COERCIONS[kind](value)


class PromptValue(Mapping[str, Any]):
    """A value as prompts see it: absent is "", and a path into it never fails, whatever the payload held.

    pipecat refuses to enter a node whose placeholder leads nowhere, which would end the call over an optional
    field.
    """

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value

    def __getitem__(self, key: str) -> PromptValue:
        return PromptValue(self._value.get(key) if isinstance(self._value, Mapping) else None)

    def __contains__(self, key: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(self._value if isinstance(self._value, Mapping) else ())

    def __len__(self) -> int:
        return len(self._value) if isinstance(self._value, Mapping) else 0

    def __str__(self) -> str:
        return _text(self._value)

    def __repr__(self) -> str:
        return f"Shown({type(self._value).__name__})"


def state(values: Mapping[str, Any]) -> dict[str, PromptValue]:
    """Values as ``FlowManager.state`` should hold them (see ``PromptValue``), set anew for every agent."""
    return {name: PromptValue(value) for name, value in values.items()}


def placeholders(text: str) -> list[str]:
    """The paths (``order.size``) that a text inserts, in order, escaped ones left out."""
    found = BRACED.finditer(text)
    return [match.group(1) for match in found if text[match.start() - 1 : match.start()] != "\\"]


def render(text: str, values: Mapping[str, Any]) -> str:
    """Insert values into a text that pipecat does not render (greeting, announcement, idle prompt, URL).

    The same rules as pipecat's, once and without a second look at what was inserted; what is not there
    becomes "".

    Args:
        values: plain values as ``resolve`` returns them.
    """

    def insert(match: re.Match[str]) -> str:
        if match.group(1):
            return match.group(0)[1:]
        current = PromptValue(values)
        for part in match.group(2).split("."):
            current = current[part]
        return str(current)

    return PLACEHOLDER.sub(insert, text)


def literal(text: str) -> str:
    """The text, escaped so that a node which contains it shows exactly this text to the model."""
    return PLACEHOLDER.sub(lambda match: "\\" + match.group(0), text)


def _is_blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _missing_required(variable: Variable) -> Problem:
    return Problem(
        pointer=pointer(variable.name),
        code="variable_required",
        message=f"'{variable.name}' is required and was not given.",
        remedy=f"Give a value of type {variable.type}"
        + (f": {variable.description}" if variable.description else "."),
    )


def _wrong_type(variable: Variable, expected: str) -> Problem:
    return Problem(
        pointer=pointer(variable.name),
        code="variable_type",
        message=f"'{variable.name}' should be {expected}.",
        remedy=f"Give a value of type {variable.type}"
        + (f": {variable.description}" if variable.description else "."),
    )


def _text(value: Any) -> str:
    if value is None or value == {}:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def _string(value: Any) -> str:
    if isinstance(value, str) and "\0" not in value:
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _text(value)
    raise ValueError("a text")


def _integer(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,18}", value.strip()):
        return int(value)
    raise ValueError("a whole number")


def _number(value: Any) -> int | float:
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,18}(\.[0-9]{1,18})?", value.strip()):
        return float(value) if "." in value else int(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return value
    raise ValueError("a number such as 12.5")


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = value.strip().lower() if isinstance(value, str) else None
    if word in ("true", "yes"):
        return True
    if word in ("false", "no"):
        return False
    raise ValueError("true or false")


def _date(value: Any) -> str:
    if isinstance(value, str):
        text = value.strip()
        for read in (date.fromisoformat, datetime.fromisoformat):
            try:
                return read(text).isoformat()[:10]
            except ValueError:
                continue
    raise ValueError("a date as YYYY-MM-DD")


def _object(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueError("a JSON object") from None
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value) and _is_storable(value):
        return dict(value)
    raise ValueError("a JSON object")


def _is_storable(value: Mapping[str, Any]) -> bool:
    """Whether it is JSON that PostgreSQL keeps as well: no NaN, no infinity, no NUL in a text."""
    try:
        return "\\u0000" not in json.dumps(dict(value), allow_nan=False)
    except (TypeError, ValueError):
        return False


_COERCIONS: Mapping[VariableType, Callable[[Any], Any]] = {
    "string": _string,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "date": _date,
    "object": _object,
}
