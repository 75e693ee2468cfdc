"""Changes of legs: the telephone calls to persons that callers are connected with.

A row is made before the number is dialled, so that any process can end a leg whose process died. Every change
names the state it starts from; of two that race, one changes the row. Statements lock a leg before the call,
the operator and the handoff.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from db.errors import ConstraintViolated, NotFound
from db.legs import PROGRESS, LegCause, LegDraft, LegRecord, LegResult, LegState, get
from db.pool import Executor, Row
from db.rows import columns, read

_LEG = columns(LegRecord)
_DRAFT = columns(LegDraft)


async def create(db: Executor, draft: LegDraft) -> LegRecord | None:
    """Make the row of a leg; None: the handoff, or the call, has an open leg for the same.

    Raises:
        NotFound: the account has no such handoff, call or user.
    """
    values = [getattr(draft, name) for name in _DRAFT.split(", ")]
    places = ", ".join(f"${place}" for place in range(1, len(values) + 1))
    try:
        row = await db.fetchrow(
            f"""
            INSERT INTO handoff_legs ({_DRAFT}) VALUES ({places})
            ON CONFLICT DO NOTHING RETURNING {_LEG}
            """,  # noqa: S608 - only column names and placeholders
            *values,
        )
    except ConstraintViolated:
        raise NotFound("handoff", draft.handoff_id or draft.call_id) from None
    return _maybe(row)


async def named(db: Executor, leg_id: UUID, carrier_leg_id: str) -> LegRecord:
    """Store the carrier's id of a leg; a stored one stays.

    Raises:
        NotFound: no such leg.
    """
    await db.execute(
        "UPDATE handoff_legs SET carrier_leg_id = $2 WHERE id = $1 AND carrier_leg_id IS NULL",
        leg_id,
        carrier_leg_id,
    )
    return await get(db, leg_id)


async def progressed(
    db: Executor, leg: LegRecord, state: LegState, *, deadline: datetime
) -> LegRecord | None:
    """Move a leg that was not accepted forward; None: it has come as far already, or has ended."""
    return await _move(db, leg, PROGRESS[: PROGRESS.index(state)], state, deadline)


async def accepted(db: Executor, leg: LegRecord, at: datetime, *, deadline: datetime) -> LegRecord | None:
    """The operator accepted; None: the leg was accepted before, or has ended."""
    return await _move(db, leg, PROGRESS, "accepted", deadline, at)


async def bridged(db: Executor, leg: LegRecord, at: datetime, *, deadline: datetime) -> LegRecord | None:
    """Caller and operator are connected; None: the leg has ended."""
    return await _move(db, leg, ["accepted"], "bridged", deadline, at)


async def _move(
    db: Executor,
    leg: LegRecord,
    before: Sequence[LegState],
    state: LegState,
    deadline: datetime,
    at: datetime | None = None,
) -> LegRecord | None:
    row = await db.fetchrow(
        f"""
        UPDATE handoff_legs SET state = $3, deadline = $4,
            accepted_at = CASE $3 WHEN 'accepted' THEN $5 ELSE accepted_at END,
            bridged_at = CASE $3 WHEN 'bridged' THEN $5 ELSE bridged_at END
        WHERE id = $1 AND state = ANY($2::text[]) RETURNING {_LEG}
        """,  # noqa: S608
        leg.id,
        list(before),
        state,
        deadline,
        at,
    )
    return _maybe(row)


async def extend(db: Executor, leg: LegRecord, deadline: datetime) -> None:
    """Move the deadline of a leg that is in the state of ``leg``."""
    await db.execute(
        "UPDATE handoff_legs SET deadline = $3 WHERE id = $1 AND state = $2", leg.id, leg.state, deadline
    )


async def end(
    db: Executor,
    leg: LegRecord,
    *,
    result: LegResult,
    cause: LegCause | None,
    at: datetime,
    retry_at: datetime,
) -> LegRecord | None:
    """End a leg that is in the state of ``leg``; None: it has moved on or has ended.

    From ``retry_at`` on, ``take_unclosed`` returns it until it is closed.
    """
    row = await db.fetchrow(
        f"""
        UPDATE handoff_legs SET state = 'ended', result = $3, cause = $4, ended_at = $5, deadline = NULL,
            retry_at = $6
        WHERE id = $1 AND state = $2 AND state <> 'ended' RETURNING {_LEG}
        """,  # noqa: S608
        leg.id,
        leg.state,
        result,
        cause,
        at,
        retry_at,
    )
    return _maybe(row)


async def left(db: Executor, leg_id: UUID, at: datetime) -> None:
    """The carrier confirmed that the call to the operator is over."""
    await db.execute("UPDATE handoff_legs SET left_at = $2 WHERE id = $1 AND left_at IS NULL", leg_id, at)


async def close(db: Executor, leg_id: UUID, at: datetime) -> None:
    """Nothing remains to be done at the carrier."""
    await db.execute(
        "UPDATE handoff_legs SET closed_at = $2 WHERE id = $1 AND closed_at IS NULL AND ended_at IS NOT NULL",
        leg_id,
        at,
    )


def _maybe(row: Row | None) -> LegRecord | None:
    return None if row is None else read(LegRecord, row)
