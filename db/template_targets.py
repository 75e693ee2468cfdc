"""Which templates route to which."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from uuid import UUID

from db.pool import Executor

MAX_REACHED = 500
"""How many templates that are reached through others are read for a check, which refuses far fewer."""


async def used_by(db: Executor, account_id: UUID, template_id: UUID) -> Sequence[UUID]:
    """The templates, drafts included, from which routes lead to this one, directly or through others."""
    rows = await db.fetch(
        """
        WITH RECURSIVE users (id) AS (
            SELECT from_template_id FROM template_references WHERE account_id = $1 AND to_template_id = $2
            UNION
            SELECT reference.from_template_id FROM users
            JOIN template_references reference
                ON reference.account_id = $1 AND reference.to_template_id = users.id
        )
        SELECT id FROM users WHERE id <> $2 ORDER BY id
        """,
        account_id,
        template_id,
    )
    return [row["id"] for row in rows]


async def reached_from(db: Executor, account_id: UUID, ids: Collection[UUID]) -> Sequence[UUID]:
    """The templates to which routes lead from some templates, directly or through others."""
    rows = await db.fetch(
        """
        WITH RECURSIVE reached (id) AS (
            SELECT to_template_id FROM template_references
            WHERE account_id = $1 AND from_template_id = ANY($2::uuid[])
            UNION
            SELECT reference.to_template_id FROM reached
            JOIN template_references reference
                ON reference.account_id = $1 AND reference.from_template_id = reached.id
        )
        SELECT id FROM reached ORDER BY id LIMIT $3
        """,
        account_id,
        list(ids),
        MAX_REACHED,
    )
    return [row["id"] for row in rows]
