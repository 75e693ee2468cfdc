"""Where calls of numbers go while the database does not answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from db.numbers import DEFAULT_PATIENCE_MS
from db.pool import Executor
from db.rows import read


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberFallback:
    """What happens to calls of a number that cannot be answered because the database is down."""

    carrier: str
    e164: str
    fallback_number: str | None = None
    patience_ms: int = DEFAULT_PATIENCE_MS
    language: str = "en"
    """BCP 47; that of the orchestrator that answers the number."""


async def version(db: Executor) -> str:
    """A text that changes whenever what ``fallbacks`` returns does: sums of digests of rows and revisions."""
    [row] = await db.fetch(
        """
        SELECT concat_ws(' ', (SELECT sum(hashtextextended(id::text, revision)) FROM numbers), (
            SELECT sum(hashtextextended(concat(id, number_id), revision)) FROM templates
            WHERE kind = 'orchestrator' AND status = 'active' AND number_id IS NOT NULL
        )) AS version
        """
    )
    return str(row["version"])


async def fallbacks(db: Executor) -> Sequence[NumberFallback]:
    """What happens to calls of the active numbers of all accounts while the database is down."""
    rows = await db.fetch(
        """
        SELECT number.carrier, number.e164, number.fallback_number, number.patience_ms,
            coalesce(template.content ->> 'language', 'en') AS language
        FROM numbers number LEFT JOIN templates template
            ON template.account_id = number.account_id AND template.number_id = number.id
            AND template.kind = 'orchestrator' AND template.status = 'active'
        WHERE number.active
        """
    )
    return [read(NumberFallback, row) for row in rows]
