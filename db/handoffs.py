"""Handoffs: callers who need a person now (escalate) or later (park). See also ``db.handoff_transitions``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from db.errors import ConstraintViolated, IdempotencyKeyReused, NotFound
from db.ids import new_id
from db.pool import Executor, Row
from db.rows import Page, columns, narrow, read, split_cursor, whole_cursor

Intent = Literal["escalate", "park"]
Origin = Literal["model", "failed_route", "failed_model", "failed_voice", "person"]
Priority = Literal["low", "normal", "high", "urgent"]
State = Literal[
    "queued", "offered", "claimed", "transferring", "bridged", "resolved", "abandoned", "expired",
    "cancelled", "failed", "converted_to_park", "scheduled", "due", "dialing", "connected", "no_answer",
]  # fmt: skip
CallState = Literal["active", "escalated", "parked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HandoffRecord:
    """A handoff, without its snapshot."""

    id: UUID
    account_id: UUID
    intent: Intent
    origin: Origin
    state: State
    call_id: UUID | None
    lead_id: UUID | None
    template_id: UUID | None
    """The agent that had the call."""
    node: str | None
    """The agent's flow node at that moment."""
    ordinal: int
    """Ordinal of the handoff within its call, from 1."""
    reason: str
    notes: str
    priority: Priority
    language: str | None
    """BCP 47 tag."""
    team: str | None
    due_at: datetime | None
    """Of a park: when to call."""
    time_zone: str | None
    """IANA name of the caller's time zone."""
    consent: bool
    """Whether the caller agreed to be called."""
    created_by: UUID | None
    """The user who created the handoff; null: an agent."""
    epoch: int
    """Number of the latest claim, from 1; writes that belong to a claim send it."""
    claimed_by: UUID | None
    """The user who holds the claim."""
    offered_to: UUID | None
    """The user to whom the handoff is offered."""
    lease_until: datetime | None
    """When the claim or the offer lapses unless it is renewed."""
    queue_at: datetime
    """Sort key of the queue: the creation time, moved earlier by the priority."""
    expires_at: datetime
    assessment: Mapping[str, Any] | None
    """The language model's assessment: likely_cause, next_steps, confidence."""
    assessed_at: datetime | None
    cause: str | None
    """Reason of the latest change of state, such as a return to the queue, a failure or an end."""
    resolution: str | None
    resolved_by: UUID | None
    note_id: str | None
    """The id that the account's ticket system gave to the notes."""
    continues_id: UUID | None
    """The escalation that was converted to this park."""
    created_at: datetime
    offered_at: datetime | None
    """When it was first offered."""
    claimed_at: datetime | None
    """When it was first claimed."""
    bridged_at: datetime | None
    """When the caller was first connected to an operator."""
    ended_at: datetime | None

    @property
    def call_state(self) -> CallState:
        """State of the call that follows from the handoff: `escalated` or `parked` until it is claimed."""
        if self.state == "converted_to_park":
            return "parked"
        if self.ended_at is not None or self.claimed_by is not None:
            return "active"
        return "escalated" if self.intent == "escalate" else "parked"


@dataclass(frozen=True, slots=True, kw_only=True)
class HandoffDraft:
    """A handoff to create. Its id is made with the draft, so creating it twice gives one handoff."""

    id: UUID = field(default_factory=new_id)
    intent: Intent
    origin: Origin
    reason: str
    created_at: datetime
    call_id: UUID | None = None
    lead_id: UUID | None = None
    """None: the call's lead."""
    template_id: UUID | None = None
    """Set from the call when the handoff is created, like ``node``."""
    node: str | None = None
    notes: str = ""
    priority: Priority = "normal"
    language: str | None = None
    """BCP 47 tag; None: the language of the agent that has the call."""
    team: str | None = None
    due_at: datetime | None = None
    """Of a park: when to call; None: at ``created_at``."""
    time_zone: str | None = None
    """IANA name; None: the time zone of the number that was called."""
    consent: bool = False
    """Whether the caller agreed to be called."""
    created_by: UUID | None = None
    """The user who asks; None: an agent."""
    continues_id: UUID | None = None
    """The escalation that a park continues."""
    escalate_after_ms: int = 120_000
    """Time without a claim after which admins are notified; owners after twice that time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedHandoff:
    """The result of ``create``."""

    handoff: HandoffRecord
    created: bool
    """False: an earlier request created it, or the call already has an open escalation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFilter:
    """Which handoffs to list; None does not filter. Without a state: the open ones."""

    state: State | None = None
    intent: Intent | None = None
    language: str | None = None
    team: str | None = None
    call_id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePage(Page[HandoffRecord]):
    """A page of the queue, and the number of the last event that it includes."""

    as_of_seq: int
    """Sequence number of the account's latest event at that moment; send it as `Last-Event-ID`."""


_HANDOFF = columns(HandoffRecord)
_TRIES = 3
_DRAFT = columns(HandoffDraft)
_DRAFT_VALUES = ", ".join(f"${place}" for place in range(2, 2 + len(fields(HandoffDraft))))


async def create(
    db: Executor,
    account_id: UUID,
    draft: HandoffDraft,
    *,
    state: State,
    queue_at: datetime,
    expires_at: datetime,
    snapshot: Mapping[str, Any] | None = None,
    idempotency_key: str | None = None,
) -> CreatedHandoff:
    """Create a handoff, or return the earlier one with the same id or key, or the call's open escalation.

    Raises:
        IdempotencyKeyReused: the key created a handoff with another intent, reason, call or lead.
        NotFound: the account has no such call, lead or template.
    """
    try:
        for _ in range(_TRIES):
            row = await _insert(
                db, account_id, draft, state, queue_at, expires_at, snapshot or {}, idempotency_key
            )
            if row is not None:
                return CreatedHandoff(handoff=read(HandoffRecord, row), created=True)
            existing = await _existing(db, account_id, draft, idempotency_key)
            if existing is not None:
                return CreatedHandoff(handoff=existing, created=False)
            # The open escalation that prevented the insert has ended meanwhile.
    except ConstraintViolated as error:
        for resource, id in (
            ("call", draft.call_id),
            ("lead", draft.lead_id),
            ("template", draft.template_id),
        ):
            if error.constraint == f"handoffs_account_id_{resource}_id_fkey":
                raise NotFound(resource, str(id)) from None
        raise
    raise NotFound("handoff", draft.id)


async def _insert(db: Executor, account_id: UUID, draft: HandoffDraft, *more: object) -> Row | None:
    """Insert a row; ``more``: state, queue_at, expires_at, snapshot and idempotency_key."""
    values = [getattr(draft, name) for name in _DRAFT.split(", ")]
    place = 2 + len(values)
    return await db.fetchrow(
        f"""
        INSERT INTO handoffs (account_id, {_DRAFT}, state, queue_at, expires_at, snapshot,
            idempotency_key, ordinal)
        VALUES ($1, {_DRAFT_VALUES}, ${place}, ${place + 1}, ${place + 2}, ${place + 3}, ${place + 4},
            1 + (SELECT count(*) FROM handoffs earlier WHERE earlier.account_id = $1
                AND earlier.call_id = ${place + 5}))
        ON CONFLICT DO NOTHING RETURNING {_HANDOFF}
        """,  # noqa: S608 - only column names and placeholders
        account_id,
        *values,
        *more,
        draft.call_id,
    )


async def _existing(
    db: Executor, account_id: UUID, draft: HandoffDraft, key: str | None
) -> HandoffRecord | None:
    """The handoff with the same id or key, or the call's open escalation."""
    row = await db.fetchrow(
        f"""
        SELECT {_HANDOFF}, (intent, reason) = ($5, $6) AND call_id IS NOT DISTINCT FROM $4
                AND ($4 IS NOT NULL OR lead_id IS NOT DISTINCT FROM $7) AS same,
            id <> $2 AND idempotency_key IS NOT DISTINCT FROM $3 AND $3 IS NOT NULL AS by_key
        FROM handoffs
        WHERE account_id = $1 AND (id = $2 OR idempotency_key = $3
            OR (call_id = $4 AND intent = 'escalate' AND $5 = 'escalate' AND ended_at IS NULL))
        ORDER BY id = $2 DESC, (idempotency_key IS NOT DISTINCT FROM $3) DESC LIMIT 1
        """,  # noqa: S608
        account_id,
        draft.id,
        key,
        draft.call_id,
        draft.intent,
        draft.reason,
        draft.lead_id,
    )
    if row is None:
        return None
    values = dict(row)
    same, by_key = values.pop("same"), values.pop("by_key")
    if by_key and not same:
        raise IdempotencyKeyReused(row["id"])
    return read(HandoffRecord, values)


async def get(db: Executor, account_id: UUID, handoff_id: UUID) -> HandoffRecord:
    """Get one handoff.

    Raises:
        NotFound: the account has no such handoff.
    """
    row = await db.fetchrow(
        f"SELECT {_HANDOFF} FROM handoffs WHERE account_id = $1 AND id = $2",  # noqa: S608
        account_id,
        handoff_id,
    )
    return _found(row, handoff_id)


async def snapshot(db: Executor, account_id: UUID, handoff_id: UUID) -> Mapping[str, Any]:
    """Get the snapshot of the call that was stored when the handoff was created.

    Raises:
        NotFound: the account has no such handoff.
    """
    row = await db.fetchrow(
        "SELECT snapshot FROM handoffs WHERE account_id = $1 AND id = $2", account_id, handoff_id
    )
    if row is None:
        raise NotFound("handoff", handoff_id)
    document: Mapping[str, Any] = row["snapshot"]
    return document


async def queue(
    db: Executor, account_id: UUID, where: QueueFilter, *, limit: int, cursor: str | None = None
) -> QueuePage:
    """List the account's handoffs in queue order.

    Raises:
        BadCursor: the cursor is not one of this list.
    """
    narrowing, values = narrow(
        {
            "state": where.state,
            "intent": where.intent,
            "language": where.language,
            "team": where.team,
            "call_id": where.call_id,
        },
        first=5,
    )
    if where.state is None:
        narrowing += " AND ended_at IS NULL"
    # One statement, so that the page and the event number come from one snapshot of the database.
    rows = await db.fetch(
        f"""
        WITH page AS MATERIALIZED (
            SELECT {_HANDOFF} FROM handoffs WHERE account_id = $1 AND (queue_at, id) > ($2, $3){narrowing}
            ORDER BY queue_at, id LIMIT $4
        )
        SELECT page.*, coalesce(s.last_seq, 0) AS as_of_seq
        FROM (SELECT) single LEFT JOIN handoff_event_sequences s ON s.account_id = $1 LEFT JOIN page ON true
        ORDER BY page.queue_at, page.id
        """,  # noqa: S608
        account_id,
        *split_cursor(cursor),
        limit + 1,
        *values,
    )
    as_of = rows[0]["as_of_seq"] if rows else 0
    items = [
        read(HandoffRecord, {name: value for name, value in dict(row).items() if name != "as_of_seq"})
        for row in rows
        if row["id"] is not None
    ]
    more = len(items) > limit
    next_cursor = whole_cursor(items[limit - 1].queue_at, items[limit - 1].id) if more else None
    return QueuePage(items=items[:limit], next_cursor=next_cursor, as_of_seq=as_of)


def _found(row: Row | None, handoff_id: UUID) -> HandoffRecord:
    if row is None:
        raise NotFound("handoff", handoff_id)
    return read(HandoffRecord, row)
