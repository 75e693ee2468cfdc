"""The end of a call that no process runs, with its event, by one statement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from db import calls
from db.calls import CallEnd, FinishedCall
from db.errors import ConstraintViolated, SequenceTaken
from db.ids import new_id
from db.pool import Executor

_ATTEMPTS = 5

_FINISH_WITH_EVENT = calls.finish_statement(
    where="AND (answered_at IS NULL OR NOT $9)",
    also=""", event AS (
            INSERT INTO events (id, account_id, call_id, seq, type, at, template_id, node, data)
            SELECT $7, call.account_id, call.id, coalesce(earlier.seq, 0) + 1, 'call.ended',
                greatest($6, earlier.at), call.template_id, call.node, $8
            FROM call, (SELECT max(seq) AS seq, max(at) AS at FROM events WHERE call_id = $2) AS earlier
        )""",
)


async def finish_with_event(
    db: Executor,
    account_id: UUID,
    call_id: UUID,
    end: CallEnd,
    data: Mapping[str, Any],
    *,
    only_unanswered: bool = False,
) -> FinishedCall:
    """End a call as ``calls.finish`` does; its first end is written with the event ``call.ended``.

    Args:
        db: the connection; not a transaction, in which a failed attempt could not be repeated.
        account_id: the account.
        call_id: the call.
        end: how it ends.
        data: what the event says.
        only_unanswered: whether a call that was answered is left as it is.

    Raises:
        NotFound: the account has no such call.
        SequenceTaken: other processes wrote events of the call at the same time in every attempt; try again.
    """
    for _ in range(_ATTEMPTS):
        try:
            return await calls.finish(
                db, account_id, call_id, end, _FINISH_WITH_EVENT, new_id(), data, only_unanswered
            )
        except ConstraintViolated as error:
            if error.constraint != "events_seq_unique":
                raise
    raise SequenceTaken("event", call_id, 0)
