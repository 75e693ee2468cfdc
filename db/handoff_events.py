"""Events of handoffs, operators and routes: one gapless sequence per account, committed with the change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from db.handoffs import HandoffRecord
from db.pool import Executor, Transaction
from db.rows import columns, read

JournalKind = Literal[
    "router_escalation", "worker_started", "worker_completed", "goal_created", "gate_transition",
    "proof_ready", "cancelled", "failed", "refused",
]  # fmt: skip

CHANNEL = "voicebot_handoffs"
"""Name of the NOTIFY channel; the payload is ``account_id:seq``."""

_KINDS: Mapping[str, JournalKind] = {
    "handoff.offered": "gate_transition",
    "handoff.claimed": "worker_started",
    "handoff.released": "gate_transition",
    "handoff.declined": "refused",
    "handoff.lapsed": "gate_transition",
    "handoff.due": "gate_transition",
    "handoff.rescheduled": "gate_transition",
    "handoff.transferring": "gate_transition",
    "handoff.bridged": "gate_transition",
    "handoff.dialing": "gate_transition",
    "handoff.ringing": "gate_transition",
    "handoff.accepted": "gate_transition",
    "handoff.returned": "worker_completed",
    "handoff.connected": "gate_transition",
    "handoff.resolved": "worker_completed",
    "handoff.abandoned": "cancelled",
    "handoff.expired": "cancelled",
    "handoff.cancelled": "cancelled",
    "handoff.converted_to_park": "cancelled",
    "handoff.failed": "failed",
    "handoff.no_answer": "failed",
    "handoff.assessed": "proof_ready",
}
"""Journal kind by event type; ``handoff.created`` depends on the intent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandoffEventRecord:
    """One event."""

    account_id: UUID
    seq: int
    """Position in the account's sequence, from 1 and without a gap."""
    type: str
    """Event type, such as ``handoff.claimed`` or ``operator.changed``."""
    at: datetime
    handoff_id: UUID | None
    call_id: UUID | None
    actor_id: UUID | None
    """The user who caused it; None: the program."""
    data: Mapping[str, Any]
    kind: JournalKind | None
    """Its kind in the journal; None: it is not journaled."""
    line: int | None
    """Its line in the journal, once it has been numbered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The range of an account's stored events."""

    oldest: int
    """Sequence number of the oldest stored event; ``last + 1`` if none is stored."""
    last: int
    """Sequence number of the latest committed event; 0 before the first."""


_EVENT = columns(HandoffEventRecord)


async def append(
    db: Transaction,
    account_id: UUID,
    type: str,
    at: datetime,
    *,
    handoff_id: UUID | None = None,
    call_id: UUID | None = None,
    actor_id: UUID | None = None,
    data: Mapping[str, Any] | None = None,
    kind: JournalKind | None = None,
) -> int:
    """Write an event under the account's next sequence number; NOTIFY is sent when the transaction commits.

    It must be the last statement of the transaction, because it locks the account's sequence until then.

    Args:
        db: the transaction of the change that the event reports.
        account_id: the account.
        type: the event type, such as ``handoff.claimed``.
        at: when it happened.
        handoff_id: the handoff that it is about.
        call_id: the call that it is about.
        actor_id: the user who caused it; None: the program.
        data: JSON values.
        kind: its kind in the journal; None: it is not journaled.

    Returns:
        The sequence number.
    """
    row = await db.fetchrow(
        """
        WITH next AS (
            INSERT INTO handoff_event_sequences AS s (account_id, last_seq) VALUES ($1, 1)
            ON CONFLICT (account_id) DO UPDATE SET last_seq = s.last_seq + 1 RETURNING s.last_seq
        ), written AS (
            INSERT INTO handoff_events (account_id, seq, type, at, handoff_id, call_id, actor_id, data, kind)
            SELECT $1, next.last_seq, $2, $3, $4, $5, $6, $7, $8 FROM next RETURNING seq
        )
        SELECT seq, pg_notify($9, $1::text || ':' || seq::text) FROM written
        """,
        account_id,
        type,
        at,
        handoff_id,
        call_id,
        actor_id,
        data or {},
        kind,
        CHANNEL,
    )
    assert row is not None  # noqa: S101 - an INSERT … RETURNING of one row
    seq: int = row["seq"]
    return seq


async def append_change(
    db: Transaction,
    handoff: HandoffRecord,
    type: str,
    at: datetime,
    *,
    actor_id: UUID | None = None,
    summary: str = "",
    leg_id: UUID | None = None,
) -> int:
    """Write the event of a change to a handoff; see ``append``.

    Args:
        db: the transaction of the change.
        handoff: the handoff after the change.
        type: the event type, ``handoff.`` and a verb.
        at: when it happened.
        actor_id: the user who changed it; None: the program.
        summary: one line for the journal; by default the cause of the change.
        leg_id: the telephone call to the operator that it is about.

    Returns:
        The sequence number.
    """
    kind = _KINDS.get(type)
    if type == "handoff.created":
        kind = "router_escalation" if handoff.intent == "escalate" else "goal_created"
    return await append(
        db,
        handoff.account_id,
        type,
        at,
        handoff_id=handoff.id,
        call_id=handoff.call_id,
        actor_id=actor_id,
        data=_change_data(handoff, type, kind, summary) | _leg_data(handoff, leg_id),
        kind=kind,
    )


def _change_data(handoff: HandoffRecord, type: str, kind: JournalKind | None, summary: str) -> dict[str, Any]:
    data: dict[str, Any] = {
        "intent": handoff.intent,
        "state": handoff.state,
        "epoch": handoff.epoch,
        "claimed_by": str(handoff.claimed_by) if handoff.claimed_by else None,
        "offered_to": str(handoff.offered_to) if handoff.offered_to else None,
        "priority": handoff.priority,
        "language": handoff.language,
        "team": handoff.team,
        "due_at": handoff.due_at.isoformat() if handoff.due_at else None,
        "cause": handoff.cause,
        "call_state": handoff.call_state,
        "summary": summary or handoff.cause or type.partition(".")[2],
    }
    if type == "handoff.resolved":
        data["summary"] = f"completed: {handoff.resolution or 'resolved'}"
    if kind == "router_escalation":
        data["auto_proceed"] = handoff.origin != "person"
    if type == "handoff.assessed" and handoff.assessment is not None:
        data["confidence"] = handoff.assessment.get("confidence")
    return data


def _leg_data(handoff: HandoffRecord, leg_id: UUID | None) -> dict[str, Any]:
    return {} if leg_id is None else {"handoff_id": str(handoff.id), "leg": str(leg_id)}


async def after(db: Executor, account_id: UUID, seq: int, *, limit: int) -> Sequence[HandoffEventRecord]:
    """Events after ``seq``, in order."""
    rows = await db.fetch(
        f"SELECT {_EVENT} FROM handoff_events WHERE account_id = $1 AND seq > $2 ORDER BY seq LIMIT $3",  # noqa: S608
        account_id,
        seq,
        limit,
    )
    return [read(HandoffEventRecord, row) for row in rows]


async def bounds(db: Executor, account_id: UUID) -> Bounds:
    """Get the range of the account's stored events."""
    row = await db.fetchrow(
        """
        SELECT coalesce((SELECT last_seq FROM handoff_event_sequences WHERE account_id = $1), 0) AS last,
            (SELECT seq FROM handoff_events WHERE account_id = $1 ORDER BY seq LIMIT 1) AS oldest
        """,
        account_id,
    )
    last = 0 if row is None else row["last"]
    oldest = None if row is None else row["oldest"]
    return Bounds(oldest=last + 1 if oldest is None else oldest, last=last)


async def last_seqs(db: Executor, account_ids: Sequence[UUID]) -> Mapping[UUID, int]:
    """Latest sequence number of each account; accounts without events are left out."""
    rows = await db.fetch(
        "SELECT account_id, last_seq FROM handoff_event_sequences WHERE account_id = ANY($1::uuid[])",
        list(account_ids),
    )
    return {row["account_id"]: row["last_seq"] for row in rows}


async def delete_old(db: Executor, before: datetime, *, limit: int) -> int:
    """Delete events older than ``before`` that are in the journal or are not journaled.

    The event with the highest journal line is kept, because the next line is numbered from it.

    Returns:
        The number of deleted events.
    """
    return await db.execute(
        """
        DELETE FROM handoff_events WHERE (account_id, seq) IN (
            SELECT account_id, seq FROM handoff_events
            WHERE at < $1 AND (kind IS NULL OR line < (SELECT max(line) FROM handoff_events))
            ORDER BY at LIMIT $2)
        """,
        before,
        limit,
    )
