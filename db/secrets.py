"""Encrypted secrets of all accounts, for a change of the key: the rows that have them, in batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from db.pool import Database, Executor, Row

BATCH = 20
"""How many rows are locked at the same time."""

RewriteDocument = Callable[[Mapping[str, Any]], Mapping[str, Any] | None]
"""Returns a template's document with other secrets; None: it stays."""

RewriteText = Callable[[str], str | None]
"""Returns another form of a secret; None: it stays."""

_FIRST = UUID(int=0)


async def rewrite_templates(database: Database, rewrite: RewriteDocument) -> None:
    """Rewrite the documents of all templates that have secrets; their revisions stay the same."""
    last = _FIRST
    while True:
        async with database.transaction() as transaction:
            rows = await transaction.fetch(
                """
                SELECT id, content FROM templates WHERE id > $1 AND content::text LIKE '%"secret_headers"%'
                ORDER BY id LIMIT $2 FOR UPDATE
                """,
                last,
                BATCH,
            )
            for row in rows:
                if (document := rewrite(row["content"])) is not None:
                    statement = "UPDATE templates SET content = $2 WHERE id = $1"
                    await transaction.execute(statement, row["id"], document)
        if not rows:
            return
        last = rows[-1]["id"]


async def rewrite_revisions(database: Database, rewrite: RewriteDocument) -> None:
    """Rewrite the documents of all kept revisions that have secrets."""
    last, revision = _FIRST, 0
    while True:
        async with database.transaction() as transaction:
            rows = await transaction.fetch(
                """
                SELECT template_id, revision, content FROM template_revisions
                WHERE (template_id, revision) > ($1, $2) AND content::text LIKE '%"secret_headers"%'
                ORDER BY template_id, revision LIMIT $3 FOR UPDATE
                """,
                last,
                revision,
                BATCH,
            )
            for row in rows:
                if (document := rewrite(row["content"])) is not None:
                    await transaction.execute(
                        "UPDATE template_revisions SET content = $3 WHERE template_id = $1 AND revision = $2",
                        row["template_id"],
                        row["revision"],
                        document,
                    )
        if not rows:
            return
        last, revision = rows[-1]["template_id"], rows[-1]["revision"]


async def rewrite_channels(database: Database, rewrite: RewriteText) -> None:
    """Rewrite the signing keys of all channels."""
    async with database.transaction() as transaction:
        for row in await _channels(transaction):
            if (secret := rewrite(row["secret"])) is not None:
                statement = "UPDATE channels SET secret = $2 WHERE id = $1"
                await transaction.execute(statement, row["id"], secret)


async def rewrite_accounts(database: Database, rewrite: RewriteText) -> None:
    """Rewrite the accounts' keys for webhooks."""
    async with database.transaction() as transaction:
        statement = "SELECT id, webhook_secret FROM accounts WHERE webhook_secret IS NOT NULL FOR UPDATE"
        for row in await transaction.fetch(statement):
            if (secret := rewrite(row["webhook_secret"])) is not None:
                statement = "UPDATE accounts SET webhook_secret = $2 WHERE id = $1"
                await transaction.execute(statement, row["id"], secret)


async def _channels(db: Executor) -> list[Row]:
    return list(await db.fetch("SELECT id, secret FROM channels WHERE secret IS NOT NULL FOR UPDATE"))
