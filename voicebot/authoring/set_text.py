"""The text of a set of templates, read into its documents where templates are checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from templates.model import Revision
from templates.sets import members, read_text
from voicebot.authoring.sources import PackedDocument

MAX_TEMPLATES = 500
"""How many templates one import may save: they are written in one transaction."""

_MAX_FAULTS = 100


class InvalidSet(ValueError):
    """A member beside the list of templates is not valid. ``faults`` are pydantic's, at most 100."""

    def __init__(self, faults: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(faults)
        self.faults = tuple(faults)


class SetEnvelope(BaseModel):
    """A set. Its templates are validated by the check, which finds all their faults at once."""

    model_config = ConfigDict(extra="forbid")

    templates: list[Any] = Field(max_length=MAX_TEMPLATES)
    expect: dict[str, Revision | None] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadSet:
    """The documents of a set, each with its pointer into the text, and the revisions that it expects."""

    documents: Sequence[tuple[str, PackedDocument]]
    expect: Mapping[str, int | None] = field(default_factory=dict)


def read_set(text: bytes, *, is_yaml: bool) -> ReadSet:
    """Read a template, or an object with a list of them.

    Raises:
        UnreadableText: the text is neither.
        InvalidSet: see there.
    """
    document = read_text(text, "yaml" if is_yaml else "json").document
    expect: Mapping[str, int | None] = {}
    if isinstance(document, dict) and "templates" in document:
        try:
            expect = SetEnvelope.model_validate(document).expect
        except ValidationError as error:
            faults = error.errors(include_url=False, include_input=False, include_context=False)
            raise InvalidSet([dict(each) for each in faults[:_MAX_FAULTS]]) from None
    listed = [(place, PackedDocument.of(each)) for place, each in members(document)]
    return ReadSet(documents=listed, expect=expect)
