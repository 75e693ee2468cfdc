"""Moves of handoffs: conditional statements. One that comes too late touches no row.

Whoever moves one says which state and epoch they saw. Which moves there are says
``voicebot.handoffs.transitions``; only the claim decides for itself, since many may want the same one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from db.handoffs import HandoffRecord, State
from db.pool import Executor
from db.rows import columns, read


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
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
    """None keeps what is there, as for the three below."""
    time_zone: str | None = None
    consent: bool | None = None
    expires_at: datetime | None = None


_HANDOFF = columns(HandoffRecord)


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


async def move(db: Executor, seen: HandoffRecord, move: Transition) -> HandoffRecord | None:
    """Move a handoff on from where it was seen; None: it is elsewhere by now, and nothing was done."""
    row = await db.fetchrow(
        f"""
        UPDATE handoffs SET state = $6, holder_id = $7, lease_until = $8, offered_to = NULL,
            cause = $9, resolution = coalesce($10, resolution), resolved_by = coalesce($11, resolved_by),
            ended_at = CASE WHEN $12 THEN $13::timestamptz END,
            bridged_at = CASE WHEN $6 = 'bridged' OR $6 = 'connected' THEN coalesce(bridged_at, $13)
                ELSE bridged_at END,
            due_at = coalesce($14, due_at), time_zone = coalesce($15, time_zone),
            expires_at = coalesce($16, expires_at), consent = coalesce($17, consent),
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
        move.consent,
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
