"""Templates by the set: found together, held together, and what lets a set change hands at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

from db.pool import Executor, Transaction
from db.rows import columns, read
from db.templates import TemplateRecord

_TEMPLATE = columns(TemplateRecord)


async def find(
    db: Executor, account_id: UUID, *, names: Collection[str] = (), ids: Collection[UUID] = ()
) -> Sequence[TemplateRecord]:
    """Those of the account's templates that have one of these names or ids."""
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


async def users_of(db: Executor, account_id: UUID, ids: Collection[UUID]) -> Mapping[UUID, Sequence[UUID]]:
    """By template, the templates (drafts included) that route to it; those nobody routes to are left out."""
    rows = await db.fetch(
        """
        SELECT to_template_id, array_agg(from_template_id ORDER BY from_template_id) AS users
        FROM template_references WHERE account_id = $1 AND to_template_id = ANY($2::uuid[])
        GROUP BY to_template_id
        """,
        account_id,
        list(ids),
    )
    return {row["to_template_id"]: row["users"] for row in rows}


async def hold(transaction: Transaction, account_id: UUID, ids: Collection[UUID]) -> Mapping[UUID, int]:
    """Keep others from changing templates until we commit; their revisions. Deleted ones are left out.

    In the order of ids: two who hold sets that overlap wait for each other in turn.
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
    """Take templates off their numbers, which those saved next in this transaction can then have."""
    await transaction.execute(
        "UPDATE templates SET number_id = NULL WHERE account_id = $1 AND id = ANY($2::uuid[])",
        account_id,
        list(ids),
    )
