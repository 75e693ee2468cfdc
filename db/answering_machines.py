"""What answered an outbound call: a person or a machine, and what is done once about a machine."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from db.calls import AnsweredBy, CallRecord
from db.pool import Executor
from db.rows import columns, read

_CALL = columns(CallRecord)


async def report_answered_by(db: Executor, call_id: UUID, who: AnsweredBy) -> CallRecord | None:
    """Store who answered a live outbound call; a machine stays. Returns the call as it was before.

    Returns None if the call is not outbound or not live.
    """
    row = await db.fetchrow(
        f"""
        WITH before AS (
            SELECT {_CALL} FROM calls
            WHERE id = $1 AND direction = 'outbound' AND status <> 'ended' FOR UPDATE
        ), reported AS (
            UPDATE calls SET answered_by = CASE calls.answered_by WHEN 'machine' THEN 'machine' ELSE $2 END
            FROM before WHERE calls.id = before.id
        )
        SELECT {_CALL} FROM before
        """,  # noqa: S608
        call_id,
        who,
    )
    return None if row is None else read(CallRecord, row)


async def begin_machine_action(db: Executor, call_id: UUID) -> bool:
    """Whether this process is to act on the machine that answered; True once for each call."""
    begun = await db.execute(
        """
        UPDATE calls SET machine_action_at = now()
        WHERE id = $1 AND machine_action_at IS NULL AND answered_by = 'machine' AND status <> 'ended'
        """,
        call_id,
    )
    return begun > 0


async def leave_to_message(
    db: Executor, account_id: UUID, call_id: UUID, lasts: timedelta
) -> CallRecord | None:
    """The call is about to leave its agent, to leave a message; it ends after ``lasts`` at the latest.

    It may not have reached its agent yet. Returns None if it has ended, or the carrier has it already.
    """
    row = await db.fetchrow(
        f"""
        UPDATE calls SET status = 'transferring', held_until = now() + $3::interval,
            answered_at = coalesce(answered_at, now())
        WHERE account_id = $1 AND id = $2 AND (status = 'in_progress' OR status = 'ringing')
        RETURNING {_CALL}
        """,  # noqa: S608
        account_id,
        call_id,
        lasts,
    )
    return None if row is None else read(CallRecord, row)
