"""Tools as they are offered in a request, and the words they are made of."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from voicebot.sandbox.model.words import tokens

_CLOSING = re.compile(
    r"^(?:end|hang|finish|terminate|close)_?(?:up|the)?_?(?:call|conversation|line)?", re.IGNORECASE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A tool that is offered. `table` holds its routing table: an enum value and when to choose it."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    chooser: str = ""
    table: Mapping[str, str] = field(default_factory=dict)

    @property
    def properties(self) -> Mapping[str, Mapping[str, Any]]:
        """The schema of each argument."""
        return self.parameters.get("properties") or {}

    @property
    def closes(self) -> bool:
        """Whether it ends the call: that is done at a farewell and never by likeness."""
        return bool(_CLOSING.match(self.name)) and bool(
            {"call", "conversation", "up"} & set(tokens(spaced(self.name)))
        )


def tool_of(offered: Mapping[str, Any]) -> Tool:
    """Read a tool as it stands in a request."""
    function = offered["function"]
    parameters = function.get("parameters") or {}
    description = str(function.get("description") or "")
    properties: Mapping[str, Mapping[str, Any]] = parameters.get("properties") or {}
    for name, schema in properties.items():
        values = [str(value) for value in schema.get("enum") or ()]
        lines = _table(values, f"{description}\n{schema.get('description', '')}")
        if lines:
            table = {value: lines.get(value, "") for value in values}
            return Tool(
                name=function["name"], description="", parameters=parameters, chooser=name, table=table
            )
    return Tool(name=function["name"], description=description, parameters=parameters)


def spaced(name: str) -> str:
    """A name as words."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).replace("_", " ").replace("-", " ")


def positive(description: str) -> str:
    """Leave out what must not be done, and what is to be said."""
    parts = re.split(r"(?<=[.!?;])\s+", description)
    return " ".join(
        p for p in parts if not re.match(r"\s*(?:do not|don't|never|say|not)\b", p, re.IGNORECASE)
    )


def _table(values: Sequence[str], text: str) -> dict[str, str]:
    """Find lines "value: when" in a text."""
    lines: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, when = line.strip().lstrip("-*• ").partition(":")
        if colon and name.strip() in values:
            lines[name.strip()] = when.strip()
    return lines
