"""What happened at the desk: one gapless sequence an account, committed with the change itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from db.pool import Executor, Transaction
from db.rows import columns, read

JournalKind = Literal[
    "router_escalation", "worker_started", "worker_completed", "goal_created", "gate_transition",
    "proof_ready", "cancelled", "failed", "refused",
]  # fmt: skip

CHANNEL = "voicebot_desk"
"""What NOTIFY is called; its payload is ``account_id:seq``. It wakes, and nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandoffEventRecord:
    """One event."""

    account_id: UUID
    seq: int
    type: str
    """``handoff.claimed``, ``operator.changed``…"""
    at: datetime
    handoff_id: UUID | None
    call_id: UUID | None
    actor_id: UUID | None
    """The user who did it; None: the program."""
    data: Mapping[str, Any]
    kind: JournalKind | None
    """What it is in the journal; None: not of its story."""
    line: int | None
    """Its line in the journal, once it has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandoffEvent:
    """An event to write."""

    type: str
    at: datetime
    handoff_id: UUID | None = None
    call_id: UUID | None = None
    actor_id: UUID | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    kind: JournalKind | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Which events of an account there are."""

    oldest: int
    """The first that is still kept; ``last + 1`` when none is."""
    last: int
    """The last that was committed; 0 before the first."""


_EVENT = columns(HandoffEventRecord)


async def append(db: Transaction, account_id: UUID, event: HandoffEvent) -> int:
    """Write an event under the account's next number, and wake who waits once it is committed.

    To be the last statement of its transaction: it holds the account's sequence until the commit.

    Returns:
        Its number.
    """
    row = await db.fetchrow(
        """
        WITH next AS (
            INSERT INTO desk_sequences AS s (account_id, last_seq) VALUES ($1, 1)
            ON CONFLICT (account_id) DO UPDATE SET last_seq = s.last_seq + 1 RETURNING s.last_seq
        ), written AS (
            INSERT INTO desk_events (account_id, seq, type, at, handoff_id, call_id, actor_id, data, kind)
            SELECT $1, next.last_seq, $2, $3, $4, $5, $6, $7, $8 FROM next RETURNING seq
        )
        SELECT seq, pg_notify($9, $1::text || ':' || seq::text) FROM written
        """,
        account_id,
        event.type,
        event.at,
        event.handoff_id,
        event.call_id,
        event.actor_id,
        event.data,
        event.kind,
        CHANNEL,
    )
    assert row is not None  # noqa: S101 - an INSERT … RETURNING of one row
    seq: int = row["seq"]
    return seq


async def after(db: Executor, account_id: UUID, seq: int, *, limit: int) -> Sequence[HandoffEventRecord]:
    """The events that follow ``seq``, in order."""
    rows = await db.fetch(
        f"SELECT {_EVENT} FROM desk_events WHERE account_id = $1 AND seq > $2 ORDER BY seq LIMIT $3",  # noqa: S608
        account_id,
        seq,
        limit,
    )
    return [read(HandoffEventRecord, row) for row in rows]


async def bounds(db: Executor, account_id: UUID) -> Bounds:
    """Which events there are."""
    row = await db.fetchrow(
        """
        SELECT coalesce((SELECT last_seq FROM desk_sequences WHERE account_id = $1), 0) AS last,
            (SELECT seq FROM desk_events WHERE account_id = $1 ORDER BY seq LIMIT 1) AS oldest
        """,
        account_id,
    )
    last = 0 if row is None else row["last"]
    oldest = None if row is None else row["oldest"]
    return Bounds(oldest=last + 1 if oldest is None else oldest, last=last)


async def last_seqs(db: Executor, account_ids: Sequence[UUID]) -> Mapping[UUID, int]:
    """The last number of each of these accounts; those without events are left out."""
    rows = await db.fetch(
        "SELECT account_id, last_seq FROM desk_sequences WHERE account_id = ANY($1::uuid[])",
        list(account_ids),
    )
    return {row["account_id"]: row["last_seq"] for row in rows}


async def forget(db: Executor, before: datetime, *, limit: int = 1000) -> int:
    """Remove events older than ``before`` that the journal has, or does not want; returns how many.

    The newest line of the journal stays, since the next one is counted from it.
    """
    return await db.execute(
        """
        DELETE FROM desk_events WHERE (account_id, seq) IN (
            SELECT account_id, seq FROM desk_events
            WHERE at < $1 AND (kind IS NULL OR line < (SELECT max(line) FROM desk_events))
            ORDER BY at LIMIT $2)
        """,
        before,
        limit,
    )
