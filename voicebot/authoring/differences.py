"""Differences: what is not the same in two documents, place by place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from templates.problem import pointer
from voicebot.vault import masked

_ABSENT = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One place in which two documents differ."""

    pointer: str
    """JSON pointer (RFC 6901) of the place."""
    before: Any
    """The value at the other revision; None also where there was none."""
    after: Any
    """The value at this revision; None also where there is none."""


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Difference]:
    """Where two stored documents differ, in the order of their members.

    Lists of one length are compared item by item, others as a whole. A secret that is another one is told of
    as ``***`` on both sides.
    """
    safe = (masked(before), masked(after))
    return [
        Difference(pointer=pointer(*path), before=_at(safe[0], path), after=_at(safe[1], path))
        for path in _paths(before, after, ())
    ]


def _paths(before: Any, after: Any, path: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in {**before, **after}:
            yield from _paths(before.get(name, _ABSENT), after.get(name, _ABSENT), (*path, name))
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, pair in enumerate(zip(before, after, strict=True)):
            yield from _paths(*pair, (*path, index))
    elif before != after:
        yield path


def _at(document: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        if isinstance(document, dict) and step not in document:
            return None
        document = document[step]
    return document
