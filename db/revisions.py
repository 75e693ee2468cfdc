"""Revisions of templates: calls keep the one that they began with, and authors can restore one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from db.errors import NotFound
from db.pool import Executor
from db.rows import Page, after_number, columns, page, read
from db.templates import Kind, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateSnapshot:
    """A template at one revision, as a call uses it."""

    id: UUID
    account_id: UUID
    name: str
    kind: Kind
    status: Status
    """The present status of the template, not that of the revision; a deleted template is a draft."""
    revision: int
    content: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionRecord:
    """One save of a template."""

    account_id: UUID
    template_id: UUID
    revision: int
    name: str
    kind: Kind
    status: Status
    number_id: UUID | None
    content: Mapping[str, Any]
    changed: Sequence[str]
    """The members of the document that the save changed."""
    saved_by: UUID | None
    """The API key that saved; None: the command line."""
    saved_at: datetime


_REVISION = columns(RevisionRecord)


async def for_call(
    db: Executor, account_id: UUID, template_id: UUID, revision: int | None = None
) -> TemplateSnapshot:
    """A template at the given revision, or at its newest one.

    With a revision, a template that was deleted since is found too.

    Raises:
        NotFound: the account has no such template or revision.
    """
    kept = {} if revision is None else {template_id: revision}
    found = await targets(db, account_id, [template_id], kept)
    if template_id not in found:
        raise NotFound("template", template_id)
    return found[template_id]


async def targets(
    db: Executor, account_id: UUID, template_ids: Sequence[UUID], revisions: Mapping[UUID, int] | None = None
) -> Mapping[UUID, TemplateSnapshot]:
    """Several templates at once, each at its revision in ``revisions`` or at its newest one.

    Templates that do not exist are left out; drafts are included, so callers check ``status`` and ``kind``.
    """
    kept = revisions or {}
    rows = await db.fetch(
        """
        SELECT template.id, template.account_id, kept.name, kept.kind, template.status, kept.revision,
            kept.content
        FROM unnest($2::uuid[], $3::int[]) AS wanted (id, revision)
        JOIN templates template ON template.id = wanted.id
        JOIN template_revisions kept
            ON kept.account_id = template.account_id AND kept.template_id = template.id
            AND kept.revision = coalesce(wanted.revision, template.revision)
        WHERE template.account_id = $1 AND (template.deleted_at IS NULL OR wanted.revision IS NOT NULL)
        """,
        account_id,
        template_ids,
        [kept.get(template_id) for template_id in template_ids],
    )
    return {row["id"]: read(TemplateSnapshot, row) for row in rows}


async def get(db: Executor, account_id: UUID, template_id: UUID, revision: int) -> RevisionRecord:
    """One revision of a template.

    Raises:
        NotFound: the account has no such template or revision.
    """
    row = await db.fetchrow(
        f"""
        SELECT {_REVISION} FROM template_revisions
        WHERE account_id = $1 AND template_id = $2 AND revision = $3
        """,  # noqa: S608 - only column names
        account_id,
        template_id,
        revision,
    )
    if row is None:
        raise NotFound("revision", f"{revision} of template {template_id}")
    return read(RevisionRecord, row)


async def list_revisions(
    db: Executor, account_id: UUID, template_id: UUID, *, limit: int, cursor: str | None = None
) -> Page[RevisionRecord]:
    """A template's revisions, newest first; empty when the account has no such template.

    Raises:
        BadCursor: the cursor is not one of this list.
    """
    rows = await db.fetch(
        f"""
        SELECT {_REVISION} FROM template_revisions
        WHERE account_id = $1 AND template_id = $2 AND revision < $3
        ORDER BY revision DESC LIMIT $4
        """,  # noqa: S608
        account_id,
        template_id,
        after_number(cursor),
        limit + 1,
    )
    return page([read(RevisionRecord, row) for row in rows], limit, lambda revision: revision.revision)
