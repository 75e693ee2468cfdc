"""Values that Python's JSON parser accepts, but that cannot be stored in PostgreSQL or encoded in UTF-8."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

MAX_DEPTH = 64
"""Maximum number of nesting levels of a document; a template needs fewer than 12."""

Path = tuple[str | int, ...]


def unstorable(document: Any) -> Iterator[tuple[Path, str]]:
    """The path of each value that cannot be stored, with the problem as a predicate ("contains …").

    These are: NaN and infinity (not in RFC 8259, but accepted by Python's ``json``), NUL in a string (refused
    by ``jsonb``), lone surrogates (not encodable in UTF-8), and nesting deeper than ``MAX_DEPTH``.
    """
    if fault := _problem_with(document):
        yield (), fault
    pending: list[tuple[Path, Any]] = [((), document)]
    while pending:
        path, value = pending.pop()
        if not isinstance(value, (dict, list)):
            continue
        if len(path) >= MAX_DEPTH:
            yield path, f"is nested deeper than {MAX_DEPTH} levels"
            continue
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            if fault := _problem_with(key):
                yield (*path, key), f"has a name that {fault}"
            # Most values are strings: they are checked here, so that no path is made for them.
            if isinstance(inner, (dict, list)):
                pending.append(((*path, key if isinstance(key, (str, int)) else str(key)), inner))
            elif fault := _problem_with(inner):
                yield (*path, key), fault


def shallow(document: Any, levels: int) -> Any:
    """A copy of a JSON value with null for objects and lists that are more than ``levels`` levels deep."""
    if not isinstance(document, dict | list):
        return document
    if not levels:
        return None
    if isinstance(document, dict):
        return {name: shallow(value, levels - 1) for name, value in document.items()}
    return [shallow(value, levels - 1) for value in document]


def _problem_with(value: Any) -> str | None:
    if isinstance(value, str):
        if "\0" in value:
            return "contains a NUL character"
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            return "contains a lone surrogate"
    elif isinstance(value, float) and not math.isfinite(value):
        return "is not a JSON number"
    return None
