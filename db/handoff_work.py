"""Whether there may be work on handoffs: one statement for all jobs of a process that has none."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from db.pool import Executor
from db.rows import read


@dataclass(frozen=True, slots=True, kw_only=True)
class HandoffWork:
    """Which jobs may have work, for all accounts."""

    handoffs: bool
    """A handoff is open, or an operator has become silent."""
    legs: bool
    """A leg is not closed."""
    notices: bool
    """A notice waits, or its sending process has died."""
    events: bool
    """An event has no line in the journal."""


async def find(db: Executor, now: datetime, *, silent_since: datetime) -> HandoffWork:
    """Find out which jobs may have work; operators last seen before ``silent_since`` are silent."""
    row = await db.fetchrow(
        """
        SELECT EXISTS (SELECT FROM handoffs WHERE ended_at IS NULL)
                OR EXISTS (SELECT FROM operators WHERE signed_on AND last_seen_at < $2) AS handoffs,
            EXISTS (SELECT FROM handoff_legs WHERE closed_at IS NULL) AS legs,
            EXISTS (SELECT FROM outbox WHERE state = 'waiting')
                OR EXISTS (SELECT FROM outbox WHERE state = 'sending' AND lease_until <= $1) AS notices,
            EXISTS (SELECT FROM handoff_events WHERE kind IS NOT NULL AND line IS NULL) AS events
        """,
        now,
        silent_since,
    )
    assert row is not None  # noqa: S101 - without FROM there is one row
    return read(HandoffWork, row)
