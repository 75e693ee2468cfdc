"""Limits on the size of a template document, which hold before any other rule looks at it.

They bound what the check of one template costs, so that no document can occupy the process for long. They
are far above what a template for a conversation needs: one with 200 nodes has less than 200 KiB.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from templates.storable import MAX_DEPTH

MAX_CHARACTERS = 256 * 1024
"""Maximum number of characters of all strings and names together."""

MAX_VALUES = 10_000
"""Maximum number of values."""

MAX_NAME = 200
"""Maximum number of characters of a name: of a field, a node, a header or a case of a branch."""

MAX_TEXT = 4000
"""Maximum number of characters of a string that is not in ``TEXTS``."""

TEXTS: Mapping[str, int] = {
    "prompt": 100_000,
    "role_message": 50_000,
    "content": 50_000,
    "url": 2048,
    "pattern": 500,
}
"""Maximum number of characters of a string, by the name of its field."""

ENTRIES: Mapping[str, int] = {
    "nodes": 500,
    "variables": 200,
    "routes": 100,
    "functions": 100,
    "global_functions": 100,
    "destinations": 100,
    "cases": 100,
    "keep": 100,
    "task_messages": 50,
    "headers": 50,
    "secret_headers": 50,
    "query": 50,
    "prompts": 20,
    "backup": 5,
    "fillers": 20,
    "blocked": 1000,
    "holidays": 500,
    "pre_actions": 20,
    "post_actions": 20,
}
"""Maximum number of entries of a list or an object, by the name of its field."""

MAX_ENTRIES = 100
"""Maximum number of entries of a list or an object that is not in ``ENTRIES``."""

MAX_FREE_VALUES = 500
"""Maximum number of values of a field that may be any JSON: parameters, body, settings or default."""

MAX_FREE_DEPTH = 24
"""Maximum number of levels of such a field."""

MAX_PATTERNS = 50
"""Maximum number of patterns in the parameters of all functions together."""

_MAX_FAULTS = 20
_FREE_FIELDS = frozenset(
    {("functions", "parameters"), ("functions", "body"), ("variables", "default")}
    | {(service, "settings") for service in ("tts", "stt", "llm")}
)

Path = tuple[str | int, ...]
Fault = tuple[Path, str]


def oversized(document: Any) -> list[Fault]:
    """The places at which a document is too large, with the limit as a predicate ("has more than …").

    At most 20 places are listed. The cost is at most that of visiting ``MAX_VALUES`` values.
    """
    return list(islice(_Measure().faults(document), _MAX_FAULTS))


@dataclass(frozen=True, slots=True)
class JsonLimits:
    """Limits of a JSON value that is not a template."""

    levels: int = 16
    values: int = 1000
    characters: int = 64 * 1024

    def fault(self, document: Any) -> Fault | None:
        """Where a value exceeds a limit, with the limit as a predicate; None if it does not."""
        pending: list[tuple[Path, Any]] = [((), document)]
        values = characters = 0
        while pending:
            path, value = pending.pop()
            values += 1
            if len(path) > self.levels:
                return path, f"is nested deeper than {self.levels} levels"
            if isinstance(value, str):
                characters += len(value)
            elif isinstance(value, dict):
                characters += sum(len(str(name)) for name in value)
                pending += [((*path, _name(name)), inner) for name, inner in value.items()]
            elif isinstance(value, list):
                pending += [((*path, index), inner) for index, inner in enumerate(value)]
            if values + len(pending) > self.values:
                return path, f"brings the number of values above {self.values}"
            if characters > self.characters:
                return path, f"brings the number of characters above {self.characters}"
        return None


@dataclass(slots=True)
class _FreeField:
    """A field that may be any JSON."""

    path: Path
    values: int = 0


@dataclass(slots=True)
class _Measure:
    """The counts of one document."""

    characters: int = 0
    values: int = 0
    patterns: int = 0

    def faults(self, document: Any) -> Iterator[Fault]:
        """The faults in a document; the last one is that of the whole document, if it has one."""
        pending: list[tuple[Path, Any, _FreeField | None]] = [((), document, None)]
        while pending:
            path, value, free = pending.pop()
            free = _FreeField(path) if free is None and _is_free(path) else free
            faults = list(self._value(path, value, free))
            if len(path) >= MAX_DEPTH:
                faults.append((path, f"is nested deeper than {MAX_DEPTH} levels"))
            yield from faults
            if self.values > MAX_VALUES or self.characters > MAX_CHARACTERS:
                yield (), f"has more than {MAX_VALUES} values or {MAX_CHARACTERS} characters"
                return
            # What is inside a place with a fault is not measured: its number of values may be the fault.
            if not faults and isinstance(value, dict):
                pending += [((*path, _name(name)), inner, free) for name, inner in value.items()]
            elif not faults and isinstance(value, list):
                pending += [((*path, index), inner, free) for index, inner in enumerate(value)]

    def _value(self, path: Path, value: Any, free: _FreeField | None) -> Iterator[Fault]:
        self.values += 1
        if free is not None:
            yield from _free(path, free)
        if isinstance(value, str):
            self.characters += len(value)
            yield from self._text(path, value, free)
        elif isinstance(value, (dict, list)):
            limit = MAX_FREE_VALUES if free is not None else ENTRIES.get(_field(path), MAX_ENTRIES)
            if len(value) > limit:
                yield path, f"has more than {limit} entries"
                return
            yield from self._names(path, value)

    def _names(self, path: Path, value: dict[Any, Any] | list[Any]) -> Iterator[Fault]:
        lengths = [len(str(name)) for name in value] if isinstance(value, dict) else []
        self.characters += sum(lengths)
        if any(length > MAX_NAME for length in lengths):
            yield path, f"has a name of more than {MAX_NAME} characters"

    def _text(self, path: Path, text: str, free: _FreeField | None) -> Iterator[Fault]:
        name = _field(path)
        limit = TEXTS.get(name, MAX_TEXT) if free is None or name == "pattern" else MAX_TEXT
        if len(text) > limit:
            yield path, f"has more than {limit} characters"
        if name == "pattern" and free is not None and free.path[-1] == "parameters":
            self.patterns += 1
            if self.patterns > MAX_PATTERNS:
                yield path, f"is one of more than {MAX_PATTERNS} patterns of the template"


def _free(path: Path, free: _FreeField) -> Iterator[Fault]:
    free.values += 1
    if len(path) - len(free.path) > MAX_FREE_DEPTH:
        yield path, f"is nested deeper than {MAX_FREE_DEPTH} levels"
    if free.values == MAX_FREE_VALUES + 1:
        yield free.path, f"has more than {MAX_FREE_VALUES} values"


def _is_free(path: Path) -> bool:
    inner = path[:1] + path[3:] if path[1:2] == ("backup",) else path
    return len(inner) in (2, 3) and (inner[0], inner[-1]) in _FREE_FIELDS


def _field(path: Path) -> str:
    """The name of the field that holds a value, directly or as an item of its list."""
    return next((part for part in path[:-3:-1] if isinstance(part, str)), "")


def _name(name: Any) -> str | int:
    return name if isinstance(name, (str, int)) else str(name)
