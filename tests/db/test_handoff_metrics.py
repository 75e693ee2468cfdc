"""The desk's figures against a recomputation that knows nothing of SQL."""

import math
import random
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

from db import handoff_metrics
from db.handoff_metrics import Durations, Window
from db.ids import new_id
from db.pool import Database
from tests.db.seed import NOON, SeededAccount

STATES = ("queued", "claimed", "bridged", "resolved", "abandoned", "expired", "failed")


def nearest_rank(values: list[int], share: float) -> int | None:
    return sorted(values)[math.ceil(share * len(values)) - 1] if values else None


def times(values: list[int]) -> Durations:
    return Durations(
        count=len(values),
        p50=nearest_rank(values, 0.5),
        p90=nearest_rank(values, 0.9),
        p99=nearest_rank(values, 0.99),
    )


async def test_figures_equal_a_brute_force_recomputation(database: Database, seeded: SeededAccount) -> None:
    """Percentiles, service level, failures by cause and counts of 300 random handoffs are exact."""
    chance = random.Random(3)
    user = new_id()
    await database.execute(
        "INSERT INTO users (id, account_id, name, role) VALUES ($2, $1, 'x', 'operator')", seeded.id, user
    )

    def later(at: datetime | None, odds: float) -> datetime | None:
        if at is None or chance.random() > odds:
            return None
        return at + timedelta(milliseconds=chance.randint(0, 120_000))

    rows: list[dict[str, Any]] = []
    for _ in range(300):
        made = NOON - timedelta(seconds=chance.randint(0, 100_000))
        state = chance.choice(STATES)
        claimed = later(made, 0.7) if state not in ("claimed", "bridged") else later(made, 1)
        rows.append(
            {
                "state": state,
                "created_at": made,
                "offered_at": later(made, 0.8),
                "claimed_at": claimed,
                "bridged_at": later(claimed, 0.6),
                "ended_at": later(made, 1) if state in STATES[3:] else None,
                "claimed_by": user if state in ("claimed", "bridged") else None,
                "cause": chance.choice([None, "a", "b"]),
            }
        )
    for row in rows:
        await database.execute(
            """
            INSERT INTO handoffs (id, account_id, intent, origin, ordinal, reason, priority, snapshot,
                queue_at, expires_at, state, created_at, offered_at, claimed_at, bridged_at, ended_at,
                claimed_by, cause)
            VALUES ($1, $2, 'escalate', 'model', 1, 'r', 'normal', '{}', $4, $4, $3, $4, $5, $6, $7, $8, $9,
                $10)
            """,
            new_id(),
            seeded.id,
            *row.values(),
        )
    window = Window(since=NOON - timedelta(seconds=80_000), until=NOON - timedelta(seconds=5_000))
    found = await handoff_metrics.of_account(database, seeded.id, window, in_time_ms=30_000, now=NOON)

    inside = [row for row in rows if window.since <= row["created_at"] < window.until]

    def took(column: str) -> list[int]:
        return [
            round((row[column] - row["created_at"]) / timedelta(milliseconds=1))
            for row in inside
            if row[column]
        ]

    assert (found.to_offer, found.to_claim, found.to_bridge) == (
        times(took("offered_at")),
        times(took("claimed_at")),
        times(took("bridged_at")),
    )
    in_time = sum(ms <= 30_000 for ms in took("claimed_at"))
    assert (found.in_time, found.in_time + found.late) == (in_time, len(inside))
    assert found.states == Counter(row["state"] for row in inside)
    failed = [row for row in inside if row["state"] in ("failed", "abandoned", "expired")]
    assert found.failures == Counter(row["cause"] or row["state"] for row in failed)
    still_open = [row for row in rows if row["ended_at"] is None]
    assert (found.open, found.oldest_open_at) == (
        len(still_open),
        min(row["created_at"] for row in still_open),
    )
    assert found.abandoned == sum(row["state"] == "abandoned" for row in rows)
    totals, history = await handoff_metrics.totals(database), await handoff_metrics.history(database)
    assert totals.open == Counter(row["state"] for row in still_open)
    assert history.handoffs == Counter(row["state"] for row in rows if row["ended_at"] is not None)
    assert (totals.waiting_notices, history.notices) == ({}, {})


async def test_metrics_without_handoffs(database: Database, seeded: SeededAccount) -> None:
    """Without handoffs the counts are 0 and the percentiles are absent."""
    window = Window(since=NOON - timedelta(days=1), until=NOON)
    found = await handoff_metrics.of_account(database, seeded.id, window, in_time_ms=1, now=NOON)

    assert (found.open, found.abandoned, found.created, found.to_claim) == (0, 0, 0, times([]))
