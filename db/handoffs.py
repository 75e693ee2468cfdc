"""Handoffs: a caller who needs a person, now (escalate) or later (park). Moves are conditional statements.

Whoever moves one says which state and epoch they saw; a move that comes too late touches no row. The
statements know no rules: which moves there are says ``voicebot.escalation.moves``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
class Move:
    """A change of state, decided on what was read."""

    to: State
    at: datetime
    holder_id: UUID | None = None
    """Who holds it afterwards."""
    lease_until: datetime | None = None
    ends: bool = False
    cause: str | None = None
    resolution: str | None = None
    resolved_by: UUID | None = None
    due_at: datetime | None = None
    """None keeps what is there, as for the two below."""
    time_zone: str | None = None
    expires_at: datetime | None = None


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


async def claim(
    db: Executor, account_id: UUID, handoff_id: UUID, user_id: UUID, *, at: datetime, lease_until: datetime
) -> HandoffRecord | None:
    """Take a place at the operator and the handoff in one conditional statement; None: not both to be had.

    A place is to be had by an active user with room who is neither away nor exhausted; see
    ``voicebot.availability.check_claim``, with which a test compares it. On None the transaction is to be
    undone, since the place may have been taken.
    """
    row = await db.fetchrow(
        f"""
        WITH place AS (
            UPDATE operators SET holding = holding + 1, last_seen_at = greatest(last_seen_at, $4),
                signed_on = true, revision = revision + 1,
                activity = CASE activity WHEN 'wrapping_up' THEN 'idle' ELSE activity END,
                activity_until = CASE activity WHEN 'wrapping_up' THEN NULL ELSE activity_until END
            WHERE account_id = $1 AND user_id = $3 AND holding < capacity
                AND (activity <> 'away' OR activity_until <= $4)
                AND (quota = 'free' OR quota = 'timed' AND quota_until <= $4)
                AND EXISTS (SELECT FROM users person WHERE person.account_id = $1 AND person.id = $3
                    AND person.active)
            RETURNING user_id
        )
        UPDATE handoffs SET state = 'claimed', epoch = epoch + 1, holder_id = place.user_id,
            offered_to = NULL, lease_until = $5, claimed_at = coalesce(claimed_at, $4), cause = NULL
        FROM place
        WHERE account_id = $1 AND id = $2 AND (state = 'queued' OR state = 'offered' OR state = 'due')
        RETURNING {_HANDOFF}
        """,  # noqa: S608
        account_id,
        handoff_id,
        user_id,
        at,
        lease_until,
    )
    return None if row is None else read(HandoffRecord, row)


async def renew(db: Executor, account_id: UUID, user_id: UUID, lease_until: datetime) -> int:
    """Extend the leases of all claims that an operator holds; returns how many."""
    return await db.execute(
        """
        UPDATE handoffs SET lease_until = $3
        WHERE account_id = $1 AND holder_id = $2 AND state = 'claimed' AND ended_at IS NULL
        """,
        account_id,
        user_id,
        lease_until,
    )


async def offer(
    db: Executor, account_id: UUID, handoff_id: UUID, user_id: UUID, *, at: datetime, lease_until: datetime
) -> HandoffRecord | None:
    """Point a queued handoff at somebody; None: it is not queued any more."""
    row = await db.fetchrow(
        f"""
        UPDATE handoffs SET state = 'offered', offered_to = $3, offered_at = coalesce(offered_at, $4),
            lease_until = $5, cause = NULL
        WHERE account_id = $1 AND id = $2 AND state = 'queued' RETURNING {_HANDOFF}
        """,  # noqa: S608
        account_id,
        handoff_id,
        user_id,
        at,
        lease_until,
    )
    return None if row is None else read(HandoffRecord, row)


async def move(db: Executor, seen: HandoffRecord, move: Move) -> HandoffRecord | None:
    """Move a handoff on from where it was seen; None: it is elsewhere by now, and nothing was done."""
    row = await db.fetchrow(
        f"""
        UPDATE handoffs SET state = $6, holder_id = $7, lease_until = $8, offered_to = NULL,
            cause = $9, resolution = coalesce($10, resolution), resolved_by = coalesce($11, resolved_by),
            ended_at = CASE WHEN $12 THEN $13::timestamptz END,
            bridged_at = CASE WHEN $6 = 'bridged' OR $6 = 'connected' THEN coalesce(bridged_at, $13)
                ELSE bridged_at END,
            due_at = coalesce($14, due_at), time_zone = coalesce($15, time_zone),
            expires_at = coalesce($16, expires_at),
            queue_at = CASE WHEN $14::timestamptz IS NULL THEN queue_at ELSE queue_at + ($14 - due_at) END
        WHERE account_id = $1 AND id = $2 AND state = $3 AND epoch = $4
            AND holder_id IS NOT DISTINCT FROM $5
        RETURNING {_HANDOFF}
        """,  # noqa: S608
        seen.account_id,
        seen.id,
        seen.state,
        seen.epoch,
        seen.holder_id,
        move.to,
        move.holder_id,
        move.lease_until,
        move.cause,
        move.resolution,
        move.resolved_by,
        move.ends,
        move.at,
        move.due_at,
        move.time_zone,
        move.expires_at,
    )
    return None if row is None else read(HandoffRecord, row)


async def decline(
    db: Executor, account_id: UUID, handoff_id: UUID, user_id: UUID, *, reason: str, at: datetime
) -> None:
    """Remember that somebody does not want it, so that it is not offered to them again."""
    await db.execute(
        """
        INSERT INTO handoff_declines (account_id, handoff_id, user_id, reason, at) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (handoff_id, user_id) DO NOTHING
        """,
        account_id,
        handoff_id,
        user_id,
        reason,
        at,
    )


async def assess(
    db: Executor, account_id: UUID, handoff_id: UUID, assessment: Mapping[str, Any], at: datetime
) -> HandoffRecord | None:
    """Add an assessment; None: there is one already, or no such handoff."""
    row = await db.fetchrow(
        f"""
        UPDATE handoffs SET assessment = $3, assessed_at = $4
        WHERE account_id = $1 AND id = $2 AND assessment IS NULL RETURNING {_HANDOFF}
        """,  # noqa: S608
        account_id,
        handoff_id,
        assessment,
        at,
    )
    return None if row is None else read(HandoffRecord, row)


async def note(db: Executor, account_id: UUID, handoff_id: UUID, note_id: str) -> HandoffRecord | None:
    """Keep what the ticket system calls the notes; the first name stays, None then."""
    row = await db.fetchrow(
        f"""
        UPDATE handoffs SET note_id = $3 WHERE account_id = $1 AND id = $2 AND note_id IS NULL
        RETURNING {_HANDOFF}
        """,  # noqa: S608
        account_id,
        handoff_id,
        note_id,
    )
    return None if row is None else read(HandoffRecord, row)


async def held_by(db: Executor, account_id: UUID, user_id: UUID) -> Sequence[HandoffRecord]:
    """What an operator holds, oldest first."""
    rows = await db.fetch(
        f"""
        SELECT {_HANDOFF} FROM handoffs
        WHERE account_id = $1 AND holder_id = $2 AND ended_at IS NULL ORDER BY id
        """,  # noqa: S608
        account_id,
        user_id,
    )
    return [read(HandoffRecord, row) for row in rows]


async def open_of_call(db: Executor, account_id: UUID, call_id: UUID) -> Sequence[HandoffRecord]:
    """The call's handoffs that have not ended, oldest first."""
    rows = await db.fetch(
        f"""
        SELECT {_HANDOFF} FROM handoffs
        WHERE account_id = $1 AND call_id = $2 AND ended_at IS NULL ORDER BY id
        """,  # noqa: S608
        account_id,
        call_id,
    )
    return [read(HandoffRecord, row) for row in rows]


async def to_look_after(db: Executor, now: datetime, *, limit: int) -> Sequence[HandoffRecord]:
    """Open handoffs of all accounts for which something is due: a lease, a time, a caller who is gone."""
    rows = await db.fetch(
        f"""
        SELECT {columns(HandoffRecord, "handoff")} FROM handoffs handoff
        LEFT JOIN calls call ON call.account_id = handoff.account_id AND call.id = handoff.call_id
        WHERE handoff.ended_at IS NULL AND (
            handoff.expires_at <= $1 OR handoff.lease_until <= $1
            OR (handoff.state = 'scheduled' AND handoff.due_at <= $1)
            OR (handoff.intent = 'escalate' AND call.ended_at >= handoff.created_at
                AND handoff.state <> 'bridged'))
        ORDER BY handoff.expires_at LIMIT $2
        """,  # noqa: S608
        now,
        limit,
    )
    return [read(HandoffRecord, row) for row in rows]


async def queued(db: Executor, *, limit: int) -> Sequence[HandoffRecord]:
    """Handoffs of all accounts that nobody has been offered, who is to be helped first first."""
    rows = await db.fetch(
        f"""
        SELECT {columns(HandoffRecord, "handoff")} FROM handoffs handoff
        WHERE handoff.ended_at IS NULL AND handoff.state = 'queued' AND EXISTS (
            SELECT FROM operators operator WHERE operator.account_id = handoff.account_id
                AND operator.signed_on AND operator.holding < operator.capacity)
        ORDER BY handoff.queue_at, handoff.id LIMIT $1
        """,  # noqa: S608
        limit,
    )
    return [read(HandoffRecord, row) for row in rows]


def _found(row: Row | None, handoff_id: UUID) -> HandoffRecord:
    if row is None:
        raise NotFound("handoff", handoff_id)
    return read(HandoffRecord, row)
