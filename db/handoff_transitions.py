"""Transitions of handoffs as conditional statements: one that lost a race changes no row.

A transition names the state and the epoch that it was decided on. ``voicebot.handoffs.transitions`` says
which ones are allowed; only the claim is decided by its statement, because many operators may race for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from db.errors import ConstraintViolated, NotFound
from db.handoffs import HandoffRecord, State
from db.pool import Executor
from db.rows import columns, read


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """A change of state, decided on a handoff that was read before."""

    to: State
    at: datetime
    event: str = ""
    """Type of the event that reports it; empty: ``handoff.`` and the new state."""
    claimed_by: UUID | None = None
    """The user who holds it afterwards."""
    lease_until: datetime | None = None
    only_if_lapsed: bool = False
    """Whether it applies only if the lease has passed at ``at``, so that a renewal meanwhile prevents it."""
    cause: str | None = None
    resolution: str | None = None
    resolved_by: UUID | None = None
    due_at: datetime | None = None
    """None keeps the stored value; likewise for the three fields below."""
    time_zone: str | None = None
    consent: bool | None = None
    expires_at: datetime | None = None
    leg_id: UUID | None = None
    """The telephone call to the operator that caused it."""

    @property
    def event_type(self) -> str:
        """The type of the event that reports it."""
        return self.event or f"handoff.{self.to}"


_HANDOFF = columns(HandoffRecord)


async def claim(
    db: Executor, account_id: UUID, handoff_id: UUID, user_id: UUID, *, at: datetime, lease_until: datetime
) -> HandoffRecord | None:
    """Count a claim on the operator and give them the handoff, in one conditional statement.

    The conditions are an active user below capacity who is neither away nor exhausted (the rules of
    ``voicebot.availability.check_claim``; a test compares both), and a handoff that waits for a claim.

    Returns:
        The claimed handoff, or None if a condition does not hold. The caller must then roll back the
        transaction, because the claim may have been counted on the operator.
    """
    row = await db.fetchrow(
        f"""
        WITH claimant AS (
            UPDATE operators SET holding = holding + 1, last_seen_at = greatest(last_seen_at, $4),
                signed_on = true, revision = revision + 1,
                activity = CASE activity WHEN 'wrapping_up' THEN 'idle' ELSE activity END,
                activity_until = CASE activity WHEN 'wrapping_up' THEN NULL ELSE activity_until END
            WHERE account_id = $1 AND user_id = $3 AND holding < capacity
                AND (activity <> 'away' OR activity_until <= $4)
                AND (quota = 'free' OR quota = 'timed' AND quota_until <= $4)
                AND EXISTS (SELECT FROM users WHERE users.account_id = $1 AND users.id = $3 AND users.active)
            RETURNING user_id
        )
        UPDATE handoffs SET state = 'claimed', epoch = epoch + 1, claimed_by = claimant.user_id,
            offered_to = NULL, lease_until = $5, claimed_at = coalesce(claimed_at, $4), cause = NULL
        FROM claimant
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
    """Extend the leases of all claims that an operator holds; returns their number."""
    return await db.execute(
        """
        UPDATE handoffs SET lease_until = $3
        WHERE account_id = $1 AND claimed_by = $2 AND state = 'claimed' AND ended_at IS NULL
        """,
        account_id,
        user_id,
        lease_until,
    )


async def renew_bridge(db: Executor, handoff: HandoffRecord, lease_until: datetime) -> bool:
    """Extend the lease of a handoff whose operator is in a browser; False: the claim has ended."""
    changed = await db.execute(
        """
        UPDATE handoffs SET lease_until = greatest(lease_until, $4)
        WHERE account_id = $1 AND id = $2 AND epoch = $3 AND (state = 'claimed' OR state = 'bridged')
            AND claimed_by = $5
        """,
        handoff.account_id,
        handoff.id,
        handoff.epoch,
        lease_until,
        handoff.claimed_by,
    )
    return changed == 1


async def offer(
    db: Executor, account_id: UUID, handoff_id: UUID, user_id: UUID, *, at: datetime, lease_until: datetime
) -> HandoffRecord | None:
    """Offer a queued escalation or a due park to an operator; claims and open offers count.

    The caller has locked the operator's row, so that two offers at once do not use the same capacity.

    Returns:
        The offered handoff, or None if it does not wait any more or the operator has no capacity left.
    """
    row = await db.fetchrow(
        f"""
        UPDATE handoffs SET state = 'offered', offered_to = $3, offered_at = coalesce(offered_at, $4),
            lease_until = $5, cause = NULL
        WHERE account_id = $1 AND id = $2 AND (state = 'queued' OR state = 'due') AND EXISTS (
            SELECT FROM operators operator
            WHERE operator.account_id = $1 AND operator.user_id = $3
                AND operator.holding + (
                    SELECT count(*) FROM handoffs other
                    WHERE other.account_id = $1 AND other.state = 'offered' AND other.offered_to = $3
                ) < operator.capacity)
        RETURNING {_HANDOFF}
        """,  # noqa: S608
        account_id,
        handoff_id,
        user_id,
        at,
        lease_until,
    )
    return None if row is None else read(HandoffRecord, row)


async def renew_offer(db: Executor, offered: HandoffRecord, *, at: datetime, lease_until: datetime) -> None:
    """Extend the lease of an offer that has passed, unless the offer has changed meanwhile."""
    await db.execute(
        """
        UPDATE handoffs SET lease_until = $5
        WHERE account_id = $1 AND id = $2 AND state = 'offered' AND offered_to = $3 AND lease_until <= $4
        """,
        offered.account_id,
        offered.id,
        offered.offered_to,
        at,
        lease_until,
    )


async def store_hang_up(db: Executor, claimed: HandoffRecord) -> HandoffRecord | None:
    """Store as the cause that the caller hung up; the claim stays. None: it is stored, or the claim ended."""
    row = await db.fetchrow(
        f"""
        UPDATE handoffs SET cause = 'caller_hung_up'
        WHERE account_id = $1 AND id = $2 AND state = 'claimed' AND epoch = $3
            AND cause IS DISTINCT FROM 'caller_hung_up'
        RETURNING {_HANDOFF}
        """,  # noqa: S608
        claimed.account_id,
        claimed.id,
        claimed.epoch,
    )
    return None if row is None else read(HandoffRecord, row)


async def set_cause(db: Executor, handoff: HandoffRecord, cause: str | None) -> HandoffRecord | None:
    """Store why the operator of a claim was not connected. Returns None if the claim has ended."""
    row = await db.fetchrow(
        f"""
        UPDATE handoffs SET cause = $5
        WHERE account_id = $1 AND id = $2 AND state = $3 AND epoch = $4 RETURNING {_HANDOFF}
        """,  # noqa: S608
        handoff.account_id,
        handoff.id,
        handoff.state,
        handoff.epoch,
        cause,
    )
    return None if row is None else read(HandoffRecord, row)


async def apply(
    db: Executor, before: HandoffRecord, transition: Transition, *, ended: bool
) -> HandoffRecord | None:
    """Apply a transition if the handoff is still in the state and epoch of ``before``.

    A handoff is abandoned only if its call has ended since the handoff was created.

    Args:
        db: the transaction.
        before: the handoff that the transition was decided on.
        transition: the transition.
        ended: whether the new state is final.

    Returns:
        The changed handoff, or None if it has changed meanwhile.
    """
    row = await db.fetchrow(
        f"""
        UPDATE handoffs SET state = $6, claimed_by = $7, lease_until = $8, offered_to = NULL,
            cause = $9, resolution = coalesce($10, resolution), resolved_by = coalesce($11, resolved_by),
            ended_at = CASE WHEN $12 THEN $13::timestamptz END,
            bridged_at = CASE WHEN $6 = 'bridged' OR $6 = 'connected' THEN coalesce(bridged_at, $13)
                ELSE bridged_at END,
            due_at = coalesce($14, due_at), time_zone = coalesce($15, time_zone),
            expires_at = coalesce($16, expires_at), consent = coalesce($17, consent),
            unclaimed_since = CASE WHEN ($6 = 'queued' OR $6 = 'due') AND $3 <> 'offered' THEN $13
                ELSE unclaimed_since END,
            escalated = CASE WHEN ($6 = 'queued' OR $6 = 'due') AND $3 <> 'offered' THEN 0 ELSE escalated END,
            queue_at = CASE WHEN $14::timestamptz IS NULL THEN queue_at ELSE queue_at + ($14 - due_at) END
        WHERE account_id = $1 AND id = $2 AND state = $3 AND epoch = $4
            AND claimed_by IS NOT DISTINCT FROM $5 AND (NOT $18 OR lease_until <= $13)
            AND ($6 <> 'abandoned' OR EXISTS (
                SELECT FROM calls WHERE calls.account_id = $1 AND calls.id = handoffs.call_id
                    AND calls.ended_at >= handoffs.created_at))
        RETURNING {_HANDOFF}
        """,  # noqa: S608
        before.account_id,
        before.id,
        before.state,
        before.epoch,
        before.claimed_by,
        transition.to,
        transition.claimed_by,
        transition.lease_until,
        transition.cause,
        transition.resolution,
        transition.resolved_by,
        ended,
        transition.at,
        transition.due_at,
        transition.time_zone,
        transition.expires_at,
        transition.consent,
        transition.only_if_lapsed,
    )
    return None if row is None else read(HandoffRecord, row)


async def escalate(db: Executor, waiting: HandoffRecord, level: int) -> HandoffRecord | None:
    """Store that a handoff without a claim was reported to one more level; None: it has changed meanwhile."""
    row = await db.fetchrow(
        f"""
        UPDATE handoffs SET escalated = $5
        WHERE account_id = $1 AND id = $2 AND epoch = $3 AND escalated = $4 AND claimed_by IS NULL
            AND ended_at IS NULL
        RETURNING {_HANDOFF}
        """,  # noqa: S608
        waiting.account_id,
        waiting.id,
        waiting.epoch,
        level - 1,
        level,
    )
    return None if row is None else read(HandoffRecord, row)


async def decline(
    db: Executor, account_id: UUID, handoff_id: UUID, user_id: UUID, *, reason: str, at: datetime
) -> None:
    """Store that a user declined a handoff, so that it is not offered to them again.

    Raises:
        NotFound: the account has no such handoff.
    """
    try:
        await db.execute(
            """
            INSERT INTO handoff_declines (account_id, handoff_id, user_id, reason, at)
            VALUES ($1, $2, $3, $4, $5) ON CONFLICT (handoff_id, user_id) DO NOTHING
            """,
            account_id,
            handoff_id,
            user_id,
            reason,
            at,
        )
    except ConstraintViolated as error:
        if error.constraint == "handoff_declines_account_id_handoff_id_fkey":
            raise NotFound("handoff", handoff_id) from None
        raise


async def set_assessment(
    db: Executor, account_id: UUID, handoff_id: UUID, assessment: Mapping[str, Any], at: datetime
) -> HandoffRecord | None:
    """Store an assessment; None: the handoff has one already, or does not exist."""
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


async def set_note_id(db: Executor, account_id: UUID, handoff_id: UUID, note_id: str) -> HandoffRecord | None:
    """Store the id that the ticket system gave to the notes; None: the handoff has one already."""
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
