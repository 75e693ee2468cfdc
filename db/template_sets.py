"""Queries and locks for several templates at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from db.pool import Executor, Transaction
from db.rows import columns, read
from db.templates import TemplateRecord

_TEMPLATE = columns(TemplateRecord)


async def find(
    db: Executor, account_id: UUID, *, names: Collection[str] = (), ids: Collection[UUID] = ()
) -> Sequence[TemplateRecord]:
    """The account's templates with one of these names or ids."""
    rows = await db.fetch(
        f"""
        SELECT {_TEMPLATE} FROM templates
        WHERE account_id = $1 AND deleted_at IS NULL AND (name = ANY($2::text[]) OR id = ANY($3::uuid[]))
        ORDER BY id
        """,  # noqa: S608 - only column names
        account_id,
        list(names),
        list(ids),
    )
    return [read(TemplateRecord, row) for row in rows]


@dataclass(frozen=True, slots=True)
class TemplateName:
    """A template without its content."""

    id: UUID
    name: str


async def all_names(db: Executor, account_id: UUID) -> Sequence[TemplateName]:
    """All templates of the account."""
    rows = await db.fetch(
        "SELECT id, name FROM templates WHERE account_id = $1 AND deleted_at IS NULL", account_id
    )
    return [read(TemplateName, row) for row in rows]


async def names_with_targets(
    db: Executor, account_id: UUID, *, names: Collection[str], ids: Collection[UUID]
) -> Sequence[TemplateName]:
    """The templates with one of these names or ids, and those to which their routes lead, also by others."""
    rows = await db.fetch(
        """
        WITH RECURSIVE wanted (id) AS (
            SELECT id FROM templates
            WHERE account_id = $1 AND deleted_at IS NULL AND (name = ANY($2::text[]) OR id = ANY($3::uuid[]))
            UNION
            SELECT reference.to_template_id FROM wanted
            JOIN template_references reference
                ON reference.account_id = $1 AND reference.from_template_id = wanted.id
        )
        SELECT id, name FROM templates
        WHERE account_id = $1 AND deleted_at IS NULL AND id IN (SELECT id FROM wanted)
        """,
        account_id,
        list(names),
        list(ids),
    )
    return [read(TemplateName, row) for row in rows]


async def users_of(db: Executor, account_id: UUID, ids: Collection[UUID]) -> Mapping[UUID, Sequence[UUID]]:
    """By template, the templates (drafts included) from which routes lead to it, directly or through others.

    Templates without users are left out.
    """
    rows = await db.fetch(
        """
        WITH RECURSIVE found (root, id) AS (
            SELECT to_template_id, from_template_id FROM template_references
            WHERE account_id = $1 AND to_template_id = ANY($2::uuid[])
            UNION
            SELECT found.root, reference.from_template_id FROM found
            JOIN template_references reference
                ON reference.account_id = $1 AND reference.to_template_id = found.id
        )
        SELECT root, array_agg(id ORDER BY id) AS users FROM found WHERE id <> root GROUP BY root
        """,
        account_id,
        list(ids),
    )
    return {row["root"]: row["users"] for row in rows}


async def lock(transaction: Transaction, account_id: UUID, ids: Collection[UUID]) -> Mapping[UUID, int]:
    """Lock templates until the transaction ends; return their revisions. Deleted ones are left out.

    They are locked in the order of their ids, so that overlapping sets do not deadlock.
    """
    rows = await transaction.fetch(
        """
        SELECT id, revision FROM templates
        WHERE account_id = $1 AND id = ANY($2::uuid[]) AND deleted_at IS NULL
        ORDER BY id FOR NO KEY UPDATE
        """,
        account_id,
        list(ids),
    )
    return {row["id"]: row["revision"] for row in rows}


async def release_numbers(transaction: Transaction, account_id: UUID, ids: Collection[UUID]) -> None:
    """Detach templates from their numbers, which others in the same transaction can then take."""
    await transaction.execute(
        "UPDATE templates SET number_id = NULL WHERE account_id = $1 AND id = ANY($2::uuid[])",
        account_id,
        list(ids),
    )
