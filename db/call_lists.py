"""The calls of an account, in pages."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from db.calls import CallRecord, CallStatus
from db.pool import Executor
from db.rows import Page, after_id, columns, narrow, page, read

_CALL = columns(CallRecord)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFilter:
    """Which calls to list; None does not filter."""

    status: CallStatus | None = None
    number_id: UUID | None = None
    lead_id: UUID | None = None
    template_id: UUID | None = None


async def list_calls(
    db: Executor, account_id: UUID, where: CallFilter, *, limit: int, cursor: str | None = None
) -> Page[CallRecord]:
    """The account's calls, newest first.

    Raises:
        BadCursor: the cursor is not one of this list.
    """
    narrowing, values = narrow(
        {
            "status": where.status,
            "number_id": where.number_id,
            "lead_id": where.lead_id,
            "template_id": where.template_id,
        },
        first=4,
    )
    rows = await db.fetch(
        f"""
        SELECT {_CALL} FROM calls WHERE account_id = $1 AND id < $2{narrowing} ORDER BY id DESC LIMIT $3
        """,  # noqa: S608
        account_id,
        after_id(cursor),
        limit + 1,
        *values,
    )
    return page([read(CallRecord, row) for row in rows], limit, lambda call: call.id)
