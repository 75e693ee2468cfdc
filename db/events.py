"""The events of calls. They are written once and never changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from db.calls import CallRecord
from db.errors import ConstraintViolated, SequenceTaken
from db.ids import new_id
from db.pool import Executor
from db.rows import columns, read


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRecord:
    """One event of a call."""

    id: UUID
    account_id: UUID
    call_id: UUID
    seq: int
    """The number of the event within its call."""
    type: str
    """Lower case, at most one dot: ``route.done``, ``barge_in``."""
    at: datetime
    template_id: UUID | None
    node: str | None
    data: Mapping[str, Any]
    """JSON values."""

    @classmethod
    def unnumbered(
        cls, call: CallRecord, type_: str, data: Mapping[str, Any], at: datetime, event_id: UUID | None = None
    ) -> Self:
        """An event of a call as it is now, for ``append``; by default with a new id."""
        return cls(
            id=event_id or new_id(),
            account_id=call.account_id,
            call_id=call.id,
            seq=0,  # append() numbers it
            type=type_,
            at=at,
            template_id=call.template_id,
            node=call.node,
            data=data,
        )


_EVENT = columns(EventRecord)
_ATTEMPTS = 5


async def record(db: Executor, event: EventRecord) -> None:
    """Write an event; writing it again changes nothing.

    Raises:
        SequenceTaken: another event of the call has this ``seq``.
        ConstraintViolated: the account has no such call or template, or the type is malformed.
    """
    try:
        await db.execute(
            f"""
            INSERT INTO events ({_EVENT}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
            ON CONFLICT (id) DO NOTHING
            """,  # noqa: S608 - only column names
            event.id,
            event.account_id,
            event.call_id,
            event.seq,
            event.type,
            event.at,
            event.template_id,
            event.node,
            event.data,
        )
    except ConstraintViolated as error:
        if error.constraint == "events_seq_unique":
            raise SequenceTaken("event", event.call_id, event.seq) from None
        raise


async def append(db: Executor, event: EventRecord) -> bool:
    """Write an event with the next number of its call, ignoring its ``seq``; again changes nothing.

    For a process that does not number the events, or whose number another process has used. Its time is
    moved to that of the event before it if it is earlier, since the clocks of processes differ.

    Returns:
        Whether it was written; False: it was there already.

    Raises:
        SequenceTaken: other processes wrote at the same time in every attempt; try again.
        ConstraintViolated: the account has no such call or template, or the type is malformed.
    """
    for _ in range(_ATTEMPTS):
        try:
            async with db.transaction() as attempt:  # inside another one, only this one fails
                written = await attempt.execute(
                    f"""
                    INSERT INTO events ({_EVENT})
                    SELECT $1, $2, $3, coalesce(max(seq), 0) + 1, $4, greatest($5, max(at)), $6, $7, $8
                    FROM events WHERE call_id = $3
                    ON CONFLICT (id) DO NOTHING
                    """,  # noqa: S608 - only column names
                    event.id,
                    event.account_id,
                    event.call_id,
                    event.type,
                    event.at,
                    event.template_id,
                    event.node,
                    event.data,
                )
        except ConstraintViolated as error:
            if error.constraint != "events_seq_unique":
                raise
        else:
            return bool(written)
    raise SequenceTaken("event", event.call_id, event.seq)


async def of_call(db: Executor, account_id: UUID, call_id: UUID) -> Sequence[EventRecord]:
    """The call's events in order; empty if the account has no such call."""
    rows = await db.fetch(
        f"SELECT {_EVENT} FROM events WHERE account_id = $1 AND call_id = $2 ORDER BY seq",  # noqa: S608
        account_id,
        call_id,
    )
    return [read(EventRecord, row) for row in rows]
