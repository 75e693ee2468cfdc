"""Handoffs: callers who need a person now (escalate) or later (park). See also ``db.handoff_transitions``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from db.errors import ConstraintViolated, IdempotencyKeyReused, NotFound
from db.ids import new_id
from db.pool import Executor, Row
from db.rows import Page, columns, narrow, read, split_cursor, whole_cursor

Intent = Literal["escalate", "park"]
Origin = Literal["model", "failed_route", "failed_model", "person"]
Priority = Literal["low", "normal", "high", "urgent"]
State = Literal[
    "queued", "offered", "claimed", "transferring", "bridged", "resolved", "abandoned", "expired",
    "cancelled", "failed", "converted_to_park", "scheduled", "due", "dialing", "connected", "no_answer",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class HandoffRecord:
    """One handoff, without the snapshot (``snapshot``)."""

    id: UUID
    account_id: UUID
    intent: Intent
    origin: Origin
    state: State
    call_id: UUID | None
    lead_id: UUID | None
    template_id: UUID | None
    """The agent who had the call."""
    node: str | None
    ordinal: int
    """The how-manyth of its call, from 1."""
    reason: str
    notes: str
    priority: Priority
    language: str | None
    team: str | None
    due_at: datetime | None
    time_zone: str | None
    """IANA name; the caller's."""
    consent: bool
    """Whether the caller agreed to be called."""
    created_by: UUID | None
    epoch: int
    """How many claims there have been; a claim's writes name theirs."""
    holder_id: UUID | None
    offered_to: UUID | None
    lease_until: datetime | None
    queue_at: datetime
    """The place in the queue: when it came, moved ahead by its priority."""
    expires_at: datetime
    assessment: Mapping[str, Any] | None
    assessed_at: datetime | None
    cause: str | None
    """Why it is where it is: of a return to the queue, a failure, an end."""
    resolution: str | None
    resolved_by: UUID | None
    note_id: str | None
    """What the account's ticket system calls the notes."""
    continues_id: UUID | None
    """The escalation that was converted to this park."""
    created_at: datetime
    offered_at: datetime | None
    """When it was first offered; so for the other times."""
    claimed_at: datetime | None
    bridged_at: datetime | None
    ended_at: datetime | None

    @property
    def claimed_by(self) -> UUID | None:
        """Its holder, by the name that the outside knows."""
        return self.holder_id


@dataclass(frozen=True, slots=True, kw_only=True)
class HandoffDraft:
    """A handoff to make."""

    id: UUID = field(default_factory=new_id)
    intent: Intent
    origin: Origin
    state: State
    reason: str
    created_at: datetime
    queue_at: datetime
    expires_at: datetime
    call_id: UUID | None = None
    lead_id: UUID | None = None
    template_id: UUID | None = None
    node: str | None = None
    notes: str = ""
    priority: Priority = "normal"
    language: str | None = None
    team: str | None = None
    due_at: datetime | None = None
    time_zone: str | None = None
    consent: bool = False
    snapshot: Mapping[str, Any] = field(default_factory=dict)
    created_by: UUID | None = None
    continues_id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedHandoff:
    """The handoff a wish made, now or when it came first."""

    handoff: HandoffRecord
    created: bool
    """False: the same request was here before, or the call has an open escalation already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFilter:
    """Which handoffs to list; None does not narrow. Without a state: the open ones."""

    state: State | None = None
    intent: Intent | None = None
    language: str | None = None
    team: str | None = None
    call_id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A page of the queue, and the number of the last event that it knows of."""

    page: Page[HandoffRecord]
    as_of_seq: int


_HANDOFF = columns(HandoffRecord)
_DRAFT = columns(HandoffDraft)
_DRAFT_VALUES = ", ".join(f"${place}" for place in range(2, 24))


async def create(
    db: Executor, account_id: UUID, draft: HandoffDraft, *, idempotency_key: str | None = None
) -> CreatedHandoff:
    """Make a handoff; the same id or key, or an open escalation of the call, gives the one made before.

    Raises:
        IdempotencyKeyReused: the key made a handoff from another request.
        NotFound: the account has no such call, lead or template.
    """
    values = [getattr(draft, name) for name in _DRAFT.split(", ")]
    try:
        row = await db.fetchrow(
            f"""
            INSERT INTO handoffs (account_id, {_DRAFT}, idempotency_key, ordinal)
            VALUES ($1, {_DRAFT_VALUES}, $24,
                1 + (SELECT count(*) FROM handoffs earlier WHERE earlier.account_id = $1
                    AND earlier.call_id = $25))
            ON CONFLICT DO NOTHING RETURNING {_HANDOFF}
            """,  # noqa: S608 - only column names
            account_id,
            *values,
            idempotency_key,
            draft.call_id,
        )
    except ConstraintViolated as error:
        for resource, id in (
            ("call", draft.call_id),
            ("lead", draft.lead_id),
            ("template", draft.template_id),
        ):
            if error.constraint == f"handoffs_account_id_{resource}_id_fkey":
                raise NotFound(resource, str(id)) from None
        raise
    if row is not None:
        return CreatedHandoff(handoff=read(HandoffRecord, row), created=True)
    return CreatedHandoff(handoff=await _made_before(db, account_id, draft, idempotency_key), created=False)


async def _made_before(db: Executor, account_id: UUID, draft: HandoffDraft, key: str | None) -> HandoffRecord:
    row = await db.fetchrow(
        f"""
        SELECT {_HANDOFF}, (intent, reason) = ($5, $6) AND call_id IS NOT DISTINCT FROM $4 AS same,
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
    )
    if row is None:
        # What was in the way is gone again: the call's escalation has just ended.
        raise NotFound("handoff", draft.id)
    facts = dict(row)
    same, by_key = facts.pop("same"), facts.pop("by_key")
    if by_key and not same:
        raise IdempotencyKeyReused(row["id"])
    return read(HandoffRecord, facts)


async def get(db: Executor, account_id: UUID, handoff_id: UUID) -> HandoffRecord:
    """One handoff.

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
    """What was frozen when the handoff was made.

    Raises:
        NotFound: the account has no such handoff.
    """
    row = await db.fetchrow(
        "SELECT snapshot FROM handoffs WHERE account_id = $1 AND id = $2", account_id, handoff_id
    )
    if row is None:
        raise NotFound("handoff", handoff_id)
    frozen: Mapping[str, Any] = row["snapshot"]
    return frozen


async def queue(
    db: Executor, account_id: UUID, where: QueueFilter, *, limit: int, cursor: str | None = None
) -> Queue:
    """The account's handoffs, who is to be helped first first.

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
    # One statement, so that the page and the number belong to one moment.
    rows = await db.fetch(
        f"""
        WITH page AS MATERIALIZED (
            SELECT {_HANDOFF} FROM handoffs WHERE account_id = $1 AND (queue_at, id) > ($2, $3){narrowing}
            ORDER BY queue_at, id LIMIT $4
        )
        SELECT page.*, coalesce(s.last_seq, 0) AS as_of_seq
        FROM (SELECT) one LEFT JOIN desk_sequences s ON s.account_id = $1 LEFT JOIN page ON true
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
    last = whole_cursor(items[limit - 1].queue_at, items[limit - 1].id) if len(items) > limit else None
    return Queue(page=Page(items=items[:limit], next_cursor=last), as_of_seq=as_of)


def _found(row: Row | None, handoff_id: UUID) -> HandoffRecord:
    if row is None:
        raise NotFound("handoff", handoff_id)
    return read(HandoffRecord, row)
