"""Accounts with many leads for `bench.dispatch`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from db import accounts, numbers, templates
from db.numbers import NumberDraft
from db.pool import Database
from db.templates import TemplateDraft

BATCH = 5000
"""Leads of one statement."""

ALWAYS = {"from": "00:00", "to": "24:00"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """One account's numbers and template."""

    account_id: UUID
    number_ids: list[UUID]
    template_id: UUID


async def campaign(
    database: Database, name: str, first: int, numbers_count: int, channels: int, **outbound: Any
) -> Campaign:
    """An account with so many numbers, from ``first`` on, and an active template."""
    account = (await accounts.create(database, name)).id
    ids = []
    for index in range(numbers_count):
        number = NumberDraft(e164=f"+1415{first + index}", carrier="twilio")
        ids.append((await numbers.create(database, account, number)).id)
    await database.execute("UPDATE numbers SET channels = $2 WHERE account_id = $1", account, channels)
    return Campaign(
        account_id=account, number_ids=ids, template_id=await template(database, account, outbound)
    )


async def template(database: Database, account_id: UUID, outbound: Mapping[str, Any]) -> UUID:
    """An active template with settings for dialling."""
    row = await database.fetchrow("SELECT count(*) AS n FROM templates")
    name = f"Reminder {row['n'] if row else 0}"
    settings = {"window": ALWAYS, "rate_limit": None, **outbound}
    content = {"name": name, "prompt": "You remind.", "outbound": settings}
    draft = TemplateDraft(name=name, kind="agent", status="active", number_id=None, content=content)
    return (await templates.create(database, account_id, draft)).id


async def add_leads(
    database: Database, to: Campaign, count: int, *, at: datetime, over_s: float = 0, area: int = 212,
    leads_per_person: int = 1,
) -> None:  # fmt: skip
    """Store leads; they are due from ``at`` on, evenly over ``over_s`` seconds."""
    for first in range(0, count, BATCH):
        last = min(first + BATCH, count) - 1
        await _add_leads(database, to, (first, last), at, over_s / count, area, leads_per_person)


async def _add_leads(
    database: Database, to: Campaign, which: tuple[int, int], at: datetime, every_s: float, area: int,
    leads_per_person: int,
) -> None:  # fmt: skip
    await database.execute(
        """
        INSERT INTO leads (id, account_id, direction, phone, number_id, initial_template_id, template_id,
            payload, variables, status, earliest_at, next_attempt_at)
        SELECT gen_random_uuid(), $1, 'outbound', '+1' || $6::text || lpad((n / $7)::text, 7, '0'),
            ($2::uuid[])[1 + n % cardinality($2::uuid[])], $3, $3, '{}', '{}', 'queued', due, due
        FROM generate_series($4::int, $9::int) n
        CROSS JOIN LATERAL (SELECT $5::timestamptz + n * $8::interval AS due) at
        """,
        to.account_id,
        to.number_ids,
        to.template_id,
        which[0],
        at,
        str(area),
        leads_per_person,
        timedelta(seconds=every_s),
        which[1],
    )
