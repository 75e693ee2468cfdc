"""Exporting templates of an account in the format of files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from db import numbers, template_sets, templates
from db.errors import NotFound
from db.pool import Executor
from db.rows import MAX_LIMIT
from db.templates import TemplateFilter, TemplateRecord
from templates.sets import FileTemplate, canonical, with_names
from voicebot.authoring.documents import uuid_of
from voicebot.vault import masked


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A template in the format of files, and its record."""

    record: TemplateRecord
    document: Mapping[str, Any]


async def export(
    db: Executor, account_id: UUID, *, ids: Sequence[UUID] = (), names: Sequence[str] = ()
) -> list[Exported]:
    """The requested templates and their route targets, sorted by name; all templates if none is requested.

    Raises:
        NotFound: the account has no template of one of the ids or names.
    """
    records = await (_requested(db, account_id, ids, names) if ids or names else _all(db, account_id))
    by_id = {str(record.id): record.name for record in records}
    used = {found for record in records if (found := uuid_of(record.content.get("number_id")))}
    e164s = {str(number.id): number.e164 for number in await numbers.find(db, account_id, ids=used)}
    return [
        Exported(record=record, document=document_of(record, by_id, e164s))
        for record in sorted(records, key=lambda record: record.name)
    ]


def document_of(record: TemplateRecord, names: Mapping[str, str], e164s: Mapping[str, str]) -> dict[str, Any]:
    """A template in the format of files: names and E.164 numbers in place of ids, secrets masked."""
    content = {**masked(record.content), "status": record.status}
    return canonical(FileTemplate.model_validate(with_names(content, names, e164s)))


async def _requested(
    db: Executor, account_id: UUID, ids: Sequence[UUID], names: Sequence[str]
) -> list[TemplateRecord]:
    found = {record.id: record for record in await template_sets.find(db, account_id, names=names, ids=ids)}
    by_name = {record.name for record in found.values()}
    missing: list[UUID | str] = [each for each in ids if each not in found]
    missing += [each for each in names if each not in by_name]
    if missing:
        raise NotFound("template", missing[0])
    targets = {
        target
        for record in found.values()
        for route in record.content.get("routes", ())
        if (target := uuid_of(route["template_id"]))
    }
    more = await template_sets.find(db, account_id, ids=targets - found.keys())
    return [*found.values(), *more]


async def _all(db: Executor, account_id: UUID) -> list[TemplateRecord]:
    found: list[TemplateRecord] = []
    cursor: str | None = None
    while True:
        page = await templates.list_templates(
            db, account_id, TemplateFilter(), limit=MAX_LIMIT, cursor=cursor
        )
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            return found
