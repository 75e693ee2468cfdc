"""What cannot be kept: values that JSON readers let through and that PostgreSQL or a reply would choke on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

MAX_DEPTH = 64
"""Levels of nesting that a document may have; none of ours needs a dozen."""

Path = tuple[str | int, ...]


def unstorable(document: Any) -> Iterator[tuple[Path, str]]:
    """Every part of a document that cannot be kept, with what is wrong with it.

    These are: NaN and infinity (Python's ``json`` reads them, RFC 8259 has none), NUL in a text (``jsonb``
    refuses it), half a surrogate pair (it has no UTF-8), nesting beyond ``MAX_DEPTH``.
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
            # Most of a document are texts: they do not wait, which would need a path for each.
            if isinstance(inner, (dict, list)):
                pending.append(((*path, key if isinstance(key, (str, int)) else str(key)), inner))
            elif fault := _problem_with(inner):
                yield (*path, key), fault


def _problem_with(value: Any) -> str | None:
    if isinstance(value, str):
        if "\0" in value:
            return "contains a NUL character"
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            return "contains half a character"
    elif isinstance(value, float) and not math.isfinite(value):
        return "is no number that JSON has"
    return None
