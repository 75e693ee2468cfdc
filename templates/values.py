r"""Typed variables: validation, coercion and defaults, and insertion into texts.

Values must not become part of a template. Therefore values reach prompts through the flow's state, which
pipecat inserts once on entering a node, so that ``{{ x }}`` in a value is not replaced. Text that is put into
a node itself (the conversation so far) passes through ``literal``, so that pipecat renders it unchanged.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime
from typing import Any, TypeGuard

from templates.model import Source, Variable, VariableType
from templates.problem import Problem, pointer

_INSERTION = r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)\s*\}\}"
PLACEHOLDER = re.compile(rf"(\\?){_INSERTION}")
r"""pipecat's placeholders: ``{{ key }}`` or ``{{ key.sub }}``; a leading backslash escapes it.

Specified in ``FlowConfig``'s docstring; a test compares this module with a real ``FlowManager``.
"""

BRACED = re.compile(_INSERTION)
"""A placeholder, escaped or not. The pattern begins with a literal, which makes the search fast."""


MAX_CALL_TEXT = 2000
"""Maximum number of characters of a text that is set during a call: by the model, or from an HTTP answer."""

MAX_CALL_LINES = 20
"""Maximum number of lines of such a text."""

MAX_CALL_OBJECT = 16_384
"""Maximum size of such an object in characters of JSON."""


class InvalidValues(ValueError):
    """The values for a template's variables are missing or of a wrong type. A retry does not help."""

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
    """Determine the value of every declared variable, as JSON values.

    Args:
        variables: the template's declarations.
        given: name → value for the variables of ``source``. Undeclared names are ignored, because one payload
            is used for all templates of a call.
        source: the source of the variables in ``given``. Only these can be reported as missing.
        known: name → value for the variables of the other source, e.g. the payload's when a route hands over
            ``call`` variables. They are validated, but not required.

    Returns:
        name → value for all variables: the given or known value in its type, else the default, else ``None``.
        Use ``state`` to convert it for ``FlowManager.state``.

    Raises:
        InvalidValues: with all problems, each with a pointer into ``given`` or ``known``.
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
            if source == variable.source == "call":
                require_short(values[variable.name])
        except ValueError as error:
            problems.append(_wrong_type(variable, str(error)))
    if problems:
        raise InvalidValues(problems)
    return values


def coerce(kind: VariableType, value: Any) -> Any:
    """Convert a value to the JSON form of a type: for an integer, ``"42"`` becomes 42.

    Raises:
        ValueError: the message names what was expected; it does not contain the value, which may be private.
    """
    return _COERCIONS[kind](value)


def schema_of(variable: Variable) -> dict[str, Any]:
    """The JSON Schema of a variable's value, for a model that gives it."""
    return dict(_SCHEMAS[variable.type])


def require_short(value: Any) -> None:
    """Refuse a value that is too large to be set during a call.

    Such a value becomes part of instructions to a model, and a caller may have chosen it.

    Raises:
        ValueError: the message names the limit.
    """
    if isinstance(value, str):
        if shortened(value) != value:
            raise ValueError(f"at most {MAX_CALL_TEXT} characters in at most {MAX_CALL_LINES} lines")
    elif isinstance(value, Mapping) and len(json.dumps(dict(value), ensure_ascii=False)) > MAX_CALL_OBJECT:
        raise ValueError(f"at most {MAX_CALL_OBJECT} characters as JSON")


def shortened(text: str) -> str:
    """A text cut off at the limits of a text that is set during a call."""
    lines = text.split("\n", MAX_CALL_LINES)
    short = "\n".join(lines[:MAX_CALL_LINES])[:MAX_CALL_TEXT]
    return text if len(short) == len(text) else f"{short[: MAX_CALL_TEXT - 1]}…"


class PromptValue(Mapping[str, Any]):
    """A value for prompts: a missing value is "", and every path into it exists.

    pipecat does not enter a node with a placeholder whose path does not exist, which would end the call
    because of an optional field.
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
        return f"PromptValue({type(self._value).__name__})"


def state(values: Mapping[str, Any]) -> dict[str, PromptValue]:
    """Values for ``FlowManager.state`` (see ``PromptValue``), to be set for each agent."""
    return {name: PromptValue(value) for name, value in values.items()}


def placeholders(text: str) -> list[str]:
    """The paths (e.g. ``order.size``) of a text's placeholders, in order, without escaped ones."""
    found = BRACED.finditer(text)
    return [match.group(1) for match in found if text[match.start() - 1 : match.start()] != "\\"]


def render(text: str, values: Mapping[str, Any]) -> str:
    """Insert values into a text that pipecat does not render (greeting, announcement, idle prompt, URL).

    Follows pipecat's rules. Inserted values are not rendered again; missing values become "".

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
    """Escape a text so that a node that contains it renders exactly this text."""
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
        message=f"'{variable.name}' must be {expected}.",
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
    if _is_number(value):
        return _text(value)
    raise ValueError("a string")


def _integer(value: Any) -> int:
    if _is_number(value) and (isinstance(value, int) or value.is_integer()):
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,18}", value.strip()):
        return int(value)
    raise ValueError("an integer")


def _number(value: Any) -> int | float:
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,18}(\.[0-9]{1,18})?", value.strip()):
        return float(value) if "." in value else int(value)
    if _is_number(value):
        return value
    raise ValueError("a number such as 12.5")


def _is_number(value: Any) -> TypeGuard[int | float]:
    """Whether a value is a number that other programs read too: not NaN, no integer above all floats."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and abs(value) <= sys.float_info.max


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
        except (ValueError, RecursionError):
            raise ValueError("a JSON object") from None
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value) and _is_storable(value):
        return dict(value)
    raise ValueError("a JSON object")


def _is_storable(value: Mapping[str, Any]) -> bool:
    """Whether the value is JSON that PostgreSQL can store: no NaN, no infinity, no NUL in a string."""
    try:
        return "\\u0000" not in json.dumps(dict(value), allow_nan=False)
    except (TypeError, ValueError):
        return False


_SCHEMAS: Mapping[VariableType, Mapping[str, str]] = {
    **{kind: {"type": kind} for kind in ("string", "integer", "number", "boolean", "object")},
    "date": {"type": "string", "format": "date"},
}

_COERCIONS: Mapping[VariableType, Callable[[Any], Any]] = {
    "string": _string,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "date": _date,
    "object": _object,
}
