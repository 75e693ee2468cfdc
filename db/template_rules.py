"""Row locks that enforce the rules between templates under concurrent saves.

Activating an orchestrator locks its targets. Deactivating an agent locks the agent, then reads which
templates route to it. One of two such transactions therefore waits for the other and sees its result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from db.errors import NotFound, RevisionConflict, TargetsUnavailable, TemplateInUse
from db.pool import Transaction
from db.rows import MAX_LIMIT


async def lock(transaction: Transaction, account_id: UUID, template_id: UUID, expected_revision: int) -> None:
    """Lock a template that is to be changed.

    Raises:
        NotFound: the account has no such template.
        RevisionConflict: it is not at ``expected_revision``.
    """
    row = await transaction.fetchrow(
        """
        SELECT revision FROM templates
        WHERE account_id = $1 AND id = $2 AND deleted_at IS NULL FOR NO KEY UPDATE
        """,
        account_id,
        template_id,
    )
    if row is None:
        raise NotFound("template", template_id)
    if row["revision"] != expected_revision:
        raise RevisionConflict("template", template_id, row["revision"])


async def lock_number(transaction: Transaction, account_id: UUID, number_id: UUID) -> None:
    """Lock the number, so that it exists until the transaction ends.

    Raises:
        NotFound: the account has no such number.
    """
    row = await transaction.fetchrow(
        "SELECT id FROM numbers WHERE account_id = $1 AND id = $2 AND deleted_at IS NULL FOR SHARE",
        account_id,
        number_id,
    )
    if row is None:
        raise NotFound("number", number_id)


async def answering(transaction: Transaction, account_id: UUID, number_id: UUID) -> Mapping[UUID, int]:
    """The active templates that answer a number, the newest if there are too many, and their revisions."""
    rows = await transaction.fetch(
        """
        SELECT id, revision FROM templates
        WHERE account_id = $1 AND number_id = $2 AND status = 'active' AND deleted_at IS NULL
        ORDER BY id DESC LIMIT $3
        """,
        account_id,
        number_id,
        MAX_LIMIT,
    )
    return {row["id"]: row["revision"] for row in rows}


async def lock_targets(transaction: Transaction, account_id: UUID, references: Sequence[UUID]) -> None:
    """Lock the targets, so that each is an active agent until the transaction ends.

    Raises:
        TargetsUnavailable: some are not.
    """
    rows = await transaction.fetch(
        """
        SELECT id FROM templates
        WHERE account_id = $1 AND id = ANY($2::uuid[]) AND kind = 'agent' AND status = 'active'
        ORDER BY id FOR SHARE
        """,
        account_id,
        references,
    )
    available = {row["id"] for row in rows}
    missing = [target for target in dict.fromkeys(references) if target not in available]
    if missing:
        raise TargetsUnavailable(missing)


async def refuse_if_used(transaction: Transaction, account_id: UUID, template_id: UUID) -> None:
    """Check that no active template routes to this one, which the transaction has locked.

    Raises:
        TemplateInUse: some do.
    """
    rows = await transaction.fetch(
        """
        SELECT source.id FROM template_references reference
        JOIN templates source
            ON source.account_id = reference.account_id AND source.id = reference.from_template_id
        WHERE reference.account_id = $1 AND reference.to_template_id = $2 AND source.status = 'active'
            AND source.id <> $2
        ORDER BY source.id
        """,
        account_id,
        template_id,
    )
    if rows:
        raise TemplateInUse([row["id"] for row in rows])


async def set_references(
    transaction: Transaction, account_id: UUID, template_id: UUID, references: Sequence[UUID]
) -> None:
    """Store which templates this one routes to; those that do not exist are left out."""
    await transaction.execute(
        """
        DELETE FROM template_references
        WHERE account_id = $1 AND from_template_id = $2 AND to_template_id <> ALL($3::uuid[])
        """,
        account_id,
        template_id,
        references,
    )
    await transaction.execute(
        """
        INSERT INTO template_references (account_id, from_template_id, to_template_id)
        SELECT account_id, $2, id FROM templates
        WHERE account_id = $1 AND id = ANY($3::uuid[]) AND deleted_at IS NULL
        ON CONFLICT DO NOTHING
        """,
        account_id,
        template_id,
        references,
    )
