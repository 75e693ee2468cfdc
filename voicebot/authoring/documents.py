"""Template documents: as sent, as stored, as answered by the API, and how they differ."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

from pydantic import ValidationError

from db.templates import TemplateRecord
from templates.check import check_document
from templates.model import TemplateContent
from templates.problem import Problem, pointer
from templates.sets import without_server_fields
from templates.size import oversized
from voicebot.authoring.sources import read_source
from voicebot.vault import masked

_ABSENT = object()


class InvalidTemplate(ValueError):
    """The template cannot be saved as it is; the same document will be refused again."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        super().__init__(f"The template has {count} {'fault' if count == 1 else 'faults'}.")

    def __reduce__(self) -> tuple[type[Self], tuple[Sequence[Problem]]]:
        """For pickle: made of its problems, not of its message."""
        return type(self), (self.problems,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One place in which two documents differ."""

    pointer: str
    """JSON pointer (RFC 6901) of the place."""
    before: Any
    """The value at the other revision; None also where there was none."""
    after: Any
    """The value at this revision; None also where there is none."""


def read_document(document: Any) -> TemplateContent:
    """The template in a document, which may be a source (``sources``).

    Raises:
        InvalidJson: it is a text that is not JSON.
        InvalidTemplate: it does not have the shape of a template; all faults that can be found are listed.
    """
    own = without_server_fields(read_source(document))
    if not oversized(own):
        with contextlib.suppress(ValidationError):
            return TemplateContent.model_validate(own)
    _, report = check_document(own)
    raise InvalidTemplate(report.errors)


def content_of(document: Mapping[str, Any], **changes: Any) -> TemplateContent:
    """The template in a stored document, with its secrets still encrypted."""
    return TemplateContent.model_validate({**document, **changes})


def answer_of(record: TemplateRecord) -> dict[str, Any]:
    """A template as the API answers it, as JSON values."""
    return {
        "id": str(record.id),
        **public_content(record.content),
        "revision": record.revision,
        "problems": list(record.problems),
        "created_at": record.created_at.isoformat().replace("+00:00", "Z"),
        "updated_at": record.updated_at.isoformat().replace("+00:00", "Z"),
    }


def public_content(content: Mapping[str, Any]) -> dict[str, Any]:
    """A stored document with its members in the order of the schema and its secrets masked."""
    safe = masked(content)
    return {name: safe[name] for name in TemplateContent.model_fields if name in safe}


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Names of the top-level members in which two documents differ, sorted."""
    names = before.keys() | after.keys()
    return sorted(name for name in names if not _same(before.get(name), after.get(name)))


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Difference]:
    """Where two stored documents differ, in the order of their members.

    Lists of the same length are compared item by item, others as a whole. A secret that differs is listed as
    ``***`` on both sides.
    """
    safe = (masked(before), masked(after))
    return [
        Difference(pointer=pointer(*path), before=_at(safe[0], path), after=_at(safe[1], path))
        for path in _different_paths(before, after, ())
    ]


def uuid_of(text: object) -> UUID | None:
    """The id that a value holds; None where it is not an id, since an author may have written anything."""
    try:
        return UUID(text) if isinstance(text, str) else None
    except ValueError:
        return None


def _same(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same. Python says so of `true` and 1, and compares flows slowly."""
    return json.dumps(one) == json.dumps(other) or (
        json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    )


def _different_paths(before: Any, after: Any, path: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in {**before, **after}:
            yield from _different_paths(before.get(name, _ABSENT), after.get(name, _ABSENT), (*path, name))
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, pair in enumerate(zip(before, after, strict=True)):
            yield from _different_paths(*pair, (*path, index))
    elif before != after:
        yield path


def _at(document: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        if isinstance(document, dict) and step not in document:
            return None
        document = document[step]
    return document
