"""From an account to a set of documents that a file can hold, a few at a time."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any
from uuid import UUID

from db import numbers, template_sets
from db.errors import NotFound
from db.pool import Executor
from db.template_sets import TemplateName
from db.templates import TemplateRecord
from templates.sets import FileTemplate, canonical, dump_text, with_names
from voicebot.authoring.check_pool import Checks
from voicebot.authoring.documents import uuid_of
from voicebot.vault import masked

_BATCH = 8
"""How many templates are in memory at the same time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A template as a file has it, and what it was made of."""

    record: TemplateRecord
    document: Mapping[str, Any]


async def find_exported(
    db: Executor, account_id: UUID, *, ids: Sequence[UUID] = (), names: Sequence[str] = ()
) -> Sequence[TemplateName]:
    """The templates that are asked for and those they route to, by name; all where none is asked for.

    Raises:
        NotFound: the account has no template of one of the ids or names.
    """
    if ids or names:
        found = await template_sets.names_with_targets(db, account_id, names=names, ids=ids)
    else:
        found = await template_sets.all_names(db, account_id)
    found_ids, found_names = {each.id for each in found}, {each.name for each in found}
    missing: list[UUID | str] = [each for each in ids if each not in found_ids]
    missing += [each for each in names if each not in found_names]
    if missing:
        raise NotFound("template", missing[0])
    return sorted(found, key=lambda each: each.name)


async def export(
    db: Executor, checks: Checks, account_id: UUID, found: Sequence[TemplateName]
) -> AsyncIterator[Exported]:
    """The documents of templates, in their order. One that has been deleted since is left out."""
    names = {str(each.id): each.name for each in found}
    pending = iter(found)
    while batch := [each.id for each in islice(pending, _BATCH)]:
        records = {record.id: record for record in await template_sets.find(db, account_id, ids=batch)}
        used = {number for each in records.values() if (number := uuid_of(each.content.get("number_id")))}
        e164s = {str(number.id): number.e164 for number in await numbers.find(db, account_id, ids=used)}
        for each in batch:
            if record := records.get(each):
                document = await checks.run(account_id, document_of, record, names, e164s)
                yield Exported(record=record, document=document)


def document_of(record: TemplateRecord, names: Mapping[str, str], e164s: Mapping[str, str]) -> dict[str, Any]:
    """A template as a file has it: names (by id) and numbers (by id) for ids, secrets masked."""
    content = {**masked(record.content), "status": record.status}
    return canonical(FileTemplate.model_validate(with_names(content, names, e164s)))


def to_json(value: Any) -> str:
    """A part of an answer that is sent in parts."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def to_yaml_item(document: Any) -> str:
    """A document as an item of the list ``templates`` of a set."""
    return dump_text({"templates": [document]}).removeprefix("templates:\n")
