"""The fields that a place in a document may have, for suggestions: from the models that describe it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from difflib import get_close_matches
from typing import Any, get_args, get_origin

from pydantic import BaseModel


def fields_at(model: type[BaseModel], path: Sequence[str | int]) -> frozenset[str]:
    """Names of the fields that an object at ``path`` may have in a document; empty if it is none of a model.

    Args:
        model: describes the whole document.
        path: keys and indexes of the object.
    """
    found: list[type[BaseModel]] = [model]
    inside = False  # a list or a mapping, whose items have the models that were found
    for part in path:
        members = (
            [each.model_fields[part] for each in found if part in each.model_fields] if not inside else []
        )
        if members:
            found = [inner for each in members for inner in _models(each.annotation)]
            inside = any(_has_items(each.annotation) for each in members)
        elif inside:
            inside = False
        else:
            return frozenset()
    return frozenset(field.alias or name for each in found for name, field in each.model_fields.items())


def suggestion(name: str, known: Collection[str]) -> str:
    """The known name that an unknown one may stand for, as a sentence behind a space; "" if there is none."""
    near = get_close_matches(name, sorted(known), n=1, cutoff=0.7)
    return f" Did you mean '{near[0]}'?" if near and near[0] != name else ""


def _has_items(annotation: Any) -> bool:
    """Whether an annotation is that of a list, a tuple or a mapping, or a union with one."""
    origin = get_origin(annotation)
    if isinstance(origin, type) and issubclass(origin, list | tuple | dict):
        return True
    return any(_has_items(each) for each in get_args(annotation))


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models in an annotation: in lists, mappings, unions and annotated types."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    else:
        for inner in get_args(annotation):
            yield from _models(inner)
