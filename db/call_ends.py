"""The ends of calls that no process runs, each with its event, several by one statement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from db.calls import FINISH_LEADS, VOICEMAIL, CallEnd, ending
from db.errors import ConstraintViolated, NotFound, SequenceTaken
from db.ids import new_id
from db.pool import Executor

_ATTEMPTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class EndWithEvent:
    """How a call is to end, and what its event ``call.ended`` says."""

    account_id: UUID
    call_id: UUID
    end: CallEnd
    data: Mapping[str, Any]


Finished = Literal["first", "later", "answered", "undecided"]
"""The result of ending a call. ``first``: this is its end. ``later``: it had ended before. ``answered``: it
was answered and continues. ``undecided``: another transaction is changing the call; try again."""


async def finish_with_event(db: Executor, end: EndWithEvent) -> Literal["first", "later"]:
    """End a call as ``calls.finish`` does; its first end is written with the event ``call.ended``.

    ``db`` must not be a transaction, in which a failed attempt could not be repeated.

    Raises:
        NotFound: the account has no such call.
        SequenceTaken: other processes wrote events of the call at the same time in every attempt; try again.
    """
    for _ in range(_ATTEMPTS):
        (finished,) = await _finish(db, [end], "TRUE", "")
        if finished == "first" or finished == "later":
            return finished
    raise SequenceTaken("event", end.call_id, 0)


async def finish_unanswered(db: Executor, ends: Sequence[EndWithEvent]) -> Sequence[Finished]:
    """End different calls as ``finish_with_event`` does, by one statement, except those that were answered.

    Calls that another transaction has locked are left as they are.

    Raises:
        NotFound: the account has no such call.
    """
    return await _finish(db, ends, "calls.answered_at IS NULL", "SKIP LOCKED")


async def _finish(
    db: Executor, ends: Sequence[EndWithEvent], condition: str, lock: Literal["", "SKIP LOCKED"]
) -> Sequence[Finished]:
    try:
        rows = await db.fetch(
            f"""
            WITH given AS MATERIALIZED (
                SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[],
                    $6::timestamptz[], $7::uuid[], $8::jsonb[])
                AS given (account_id, call_id, ended_by, end_reason, outcome, ended_at, event_id, data)
            ), locked AS MATERIALIZED (
                SELECT given.* FROM given
                JOIN calls ON calls.account_id = given.account_id AND calls.id = given.call_id
                WHERE calls.status <> 'ended' AND {condition}
                FOR NO KEY UPDATE OF calls {lock}
            ), call AS (
                UPDATE calls
                SET {ending("locked.ended_by", "locked.end_reason", "locked.outcome", "locked.ended_at")}
                FROM locked WHERE calls.id = locked.call_id
                RETURNING calls.id, calls.account_id, calls.lead_id, calls.template_id, calls.node,
                    calls.outcome, calls.ended_at, locked.event_id, locked.data
            ), lead AS ({FINISH_LEADS}), event AS (
                INSERT INTO events (id, account_id, call_id, seq, type, at, template_id, node, data)
                SELECT call.event_id, call.account_id, call.id, coalesce(earlier.seq, 0) + 1, 'call.ended',
                    greatest(call.ended_at, earlier.at), call.template_id, call.node, call.data
                FROM call CROSS JOIN LATERAL (
                    SELECT max(seq) AS seq, max(at) AS at FROM events WHERE events.call_id = call.id
                ) earlier
            )
            SELECT given.call_id, CASE
                WHEN call.id IS NOT NULL THEN 'first'
                -- A statement whose answer was lost is repeated: its end is the first one too.
                WHEN calls.ended_at = given.ended_at AND (calls.end_reason = '{VOICEMAIL}'
                    OR (calls.ended_by, calls.end_reason) = (given.ended_by, given.end_reason)) THEN 'first'
                WHEN calls.status = 'ended' THEN 'later'
                WHEN {condition} THEN 'undecided'
                ELSE 'answered' END AS finished
            FROM given JOIN calls ON calls.account_id = given.account_id AND calls.id = given.call_id
            LEFT JOIN call ON call.id = calls.id
            """,  # noqa: S608 - written above and in db.calls
            [end.account_id for end in ends],
            [end.call_id for end in ends],
            [end.end.ended_by for end in ends],
            [end.end.end_reason for end in ends],
            [end.end.outcome for end in ends],
            [end.end.ended_at for end in ends],
            [new_id() for _ in ends],
            [end.data for end in ends],
        )
    except ConstraintViolated as error:
        if error.constraint != "events_seq_unique":
            raise
        return ["undecided"] * len(ends)
    found: Mapping[UUID, Finished] = {row["call_id"]: row["finished"] for row in rows}
    for end in ends:
        if end.call_id not in found:
            raise NotFound("call", end.call_id)
    return [found[end.call_id] for end in ends]
