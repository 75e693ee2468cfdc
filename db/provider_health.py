"""Health of the providers of speech and language, and of the carriers, shared by the server processes.

They belong to the server and not to an account, so no row has an account.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from db.pool import Executor
from db.rows import columns, read

ProviderKind = Literal["stt", "llm", "tts"]
HealthKind = Literal[ProviderKind, "carrier"]
ProviderFault = Literal["unauthorized", "billing", "rate_limited", "outage"]
"""Why a provider is not used: the key is refused, the account is not paid, too many requests, or failures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderHealth:
    """The facts from which ``voicebot.availability`` decides whether a provider is used.

    For carriers ``voicebot.dispatch.breaker`` decides.
    """

    fault: ProviderFault | None = None
    until: datetime | None = None
    """When a fault may be over; null without a fault."""
    failures: int = 0
    """Failures since the provider last worked."""
    probe_until: datetime | None = None
    """Until when the one probe that is under way may take; null: none is."""
    reason: str = ""
    """What the latest failure was, without secrets."""
    failed_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderHealthRecord(ProviderHealth):
    """The stored health of one provider with one credential."""

    kind: HealthKind
    provider: str
    credential: str
    """The variable that holds the key, and a fingerprint of the key."""


_HEALTH = columns(ProviderHealthRecord)


async def all_of(db: Executor) -> Sequence[ProviderHealthRecord]:
    """The health of all providers and carriers that have failed at some time."""
    rows = await db.fetch(f"SELECT {_HEALTH} FROM provider_health ORDER BY kind, provider")  # noqa: S608
    return [read(ProviderHealthRecord, row) for row in rows]


async def change(
    db: Executor,
    kind: HealthKind,
    provider: str,
    credential: str,
    rule: Callable[[ProviderHealth], ProviderHealth | None],
) -> ProviderHealthRecord | None:
    """Apply a rule to the stored facts while the row is locked.

    Args:
        db: the pool, or a transaction.
        kind: what the provider is used for.
        provider: its name.
        credential: the variable that holds its key, and a fingerprint of the key.
        rule: computes the new facts; None leaves them as they are.

    Returns:
        The new facts; None if the rule changed nothing.
    """
    key = (kind, provider, credential)
    async with db.transaction() as transaction:
        await transaction.execute(
            """
            INSERT INTO provider_health (kind, provider, credential) VALUES ($1, $2, $3)
            ON CONFLICT DO NOTHING
            """,
            *key,
        )
        where = "WHERE kind = $1 AND provider = $2 AND credential = $3"
        row = await transaction.fetchrow(f"SELECT {_HEALTH} FROM provider_health {where} FOR UPDATE", *key)  # noqa: S608
        if row is None:
            return None
        new = rule(read(ProviderHealthRecord, row))
        if new is None:
            return None
        changed = await transaction.fetchrow(
            f"""
            UPDATE provider_health SET fault = $4, until = $5, failures = $6, probe_until = $7, reason = $8,
                failed_at = $9, changed_at = now()
            {where} RETURNING {_HEALTH}
            """,  # noqa: S608
            *key,
            new.fault,
            new.until,
            new.failures,
            new.probe_until,
            new.reason,
            new.failed_at,
        )
        return None if changed is None else read(ProviderHealthRecord, changed)
