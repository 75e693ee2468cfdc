"""Calls that leave their agent to be connected with a person, and may return to the agent.

Meanwhile the status of such a call is `transferring`: it has no media stream and no lease, because the
carrier holds it. Each change is one conditional statement, so a repeated or late report of the carrier
changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from db.calls import CallRecord
from db.pool import Executor, Row
from db.rows import columns, read

_CALL = columns(CallRecord)
_LEASE = "held_until = greatest(held_until, now() + interval '90 seconds')"


async def begin_transfer(
    db: Executor, account_id: UUID, call_id: UUID, connect_to: str | None = None
) -> CallRecord | None:
    """Record that the call leaves its agent, to be connected with a number; None: it is not in progress."""
    row = await db.fetchrow(
        f"""
        UPDATE calls SET status = 'transferring', connect_to = $3
        WHERE account_id = $1 AND id = $2 AND status = 'in_progress' AND carrier_call_id IS NOT NULL
        RETURNING {_CALL}
        """,  # noqa: S608 - only column names
        account_id,
        call_id,
        connect_to,
    )
    return _maybe(row)


async def forward(db: Executor, account_id: UUID, call_id: UUID, connect_to: str) -> CallRecord | None:
    """Have a refused call connected with a number; None: the account has no such call."""
    row = await db.fetchrow(
        f"UPDATE calls SET connect_to = $3 WHERE account_id = $1 AND id = $2 RETURNING {_CALL}",  # noqa: S608
        account_id,
        call_id,
        connect_to,
    )
    return _maybe(row)


async def cancel_transfer(db: Executor, account_id: UUID, call_id: UUID) -> CallRecord | None:
    """Record that the call has not left its agent, because the carrier refused; None: it has ended."""
    row = await db.fetchrow(
        f"""
        UPDATE calls SET status = 'in_progress', connect_to = NULL, {_LEASE}
        WHERE account_id = $1 AND id = $2 AND status = 'transferring' RETURNING {_CALL}
        """,  # noqa: S608
        account_id,
        call_id,
    )
    return _maybe(row)


async def return_to_agent(db: Executor, account_id: UUID, call_id: UUID) -> CallRecord | None:
    """Record that the call returns to its agent over a new stream; None: it has already, or has ended."""
    row = await db.fetchrow(
        f"""
        UPDATE calls SET status = 'in_progress', resumes = resumes + 1, reconnecting = true,
            connect_to = NULL, {_LEASE}
        WHERE account_id = $1 AND id = $2 AND status = 'transferring' RETURNING {_CALL}
        """,  # noqa: S608
        account_id,
        call_id,
    )
    return _maybe(row)


async def transferring(db: Executor, account_id: UUID, call_id: UUID) -> CallRecord | None:
    """The call, if it has left its agent and has neither returned nor ended."""
    row = await db.fetchrow(
        f"SELECT {_CALL} FROM calls WHERE account_id = $1 AND id = $2 AND status = 'transferring'",  # noqa: S608
        account_id,
        call_id,
    )
    return _maybe(row)


def _maybe(row: Row | None) -> CallRecord | None:
    return None if row is None else read(CallRecord, row)


async def transferring_by_flow(db: Executor, carriers: Sequence[str], limit: int) -> Sequence[CallRecord]:
    """Calls of all accounts that the flow of a carrier connects, or will connect, with a person."""
    rows = await db.fetch(
        f"""
        SELECT {_CALL} FROM calls
        WHERE status = 'transferring' AND carrier = ANY($1::text[]) AND carrier_call_id IS NOT NULL
        ORDER BY id LIMIT $2
        """,  # noqa: S608
        list(carriers),
        limit,
    )
    return [read(CallRecord, row) for row in rows]
