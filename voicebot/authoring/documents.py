"""Documents: what an author sends, what is stored, what the API shows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from db.templates import TemplateRecord
from templates.check import check_document
from templates.model import TemplateContent
from templates.problem import Problem
from templates.sets import without_server_fields
from voicebot.vault import masked


class InvalidTemplate(ValueError):
    """The template cannot be saved as it is; the same document will be refused again."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        super().__init__(f"The template has {count} {'fault' if count == 1 else 'faults'}.")


def read_document(document: Any) -> TemplateContent:
    """The template in a document.

    Raises:
        InvalidTemplate: its shape is at fault; every fault that can be found in it is told.
    """
    try:
        return TemplateContent.model_validate(without_server_fields(document))
    except ValidationError:
        _, report = check_document(without_server_fields(document))
        raise InvalidTemplate(report.errors) from None


def content_of(document: Mapping[str, Any], **changes: Any) -> TemplateContent:
    """The template in a stored document, secrets still sealed."""
    return TemplateContent.model_validate({**document, **changes})


def shown(record: TemplateRecord) -> dict[str, Any]:
    """A template as the API answers it, JSON values only."""
    return {
        "id": str(record.id),
        **shown_content(record.content),
        "revision": record.revision,
        "problems": list(record.problems),
        "created_at": record.created_at.isoformat().replace("+00:00", "Z"),
        "updated_at": record.updated_at.isoformat().replace("+00:00", "Z"),
    }


def shown_content(content: Mapping[str, Any]) -> dict[str, Any]:
    """What an author wrote of a template, in its usual order and without its secrets."""
    safe = masked(content)
    return {name: safe[name] for name in TemplateContent.model_fields if name in safe}


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The members in which two documents differ."""
    names = before.keys() | after.keys()
    return sorted(name for name in names if not _same(before.get(name), after.get(name)))


def _same(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same; to Python `true` and 1 are, and it compares flows slowly."""
    return json.dumps(one) == json.dumps(other) or (
        json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    )


def uuid_of(text: object) -> UUID | None:
    """The id in a text, None where there is none: an author may have written anything."""
    try:
        return UUID(text) if isinstance(text, str) else None
    except ValueError:
        return None
