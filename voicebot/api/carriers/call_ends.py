"""The ends of calls that no process runs, as webhooks report them."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any, Literal

from db import call_ends
from db.call_ends import EndWithEvent, Finished
from db.calls import CallEnd, CallRecord, EndedBy
from db.carrier_calls import ReportedCall
from db.pool import Executor
from voicebot.api.app_state import AppState
from voicebot.background import BackgroundTasks
from voicebot.batches import Batches

INTERVAL_S = 0.1
"""The shortest time between two statements that end calls; nobody waits for these ends."""


def unanswered_ends(database: Executor, background: BackgroundTasks) -> Batches[EndWithEvent, Finished]:
    """What ends calls together."""
    store = partial(call_ends.finish_unanswered, database)
    return Batches(store, background, "ends of calls", interval_s=INTERVAL_S)


async def finish(
    app: AppState,
    call: CallRecord | ReportedCall,
    ended_by: EndedBy,
    reason: str,
    at: datetime | None = None,
    **more: Any,
) -> bool:
    """End a call at a time, by default now; False if it had ended. ``more`` is added to the event's data."""
    end = _end_of(call, ended_by, reason, at or app.clock.now(), **more)
    return await call_ends.finish_with_event(app.database, end) == "first"


async def finish_unanswered(
    app: AppState, call: ReportedCall, ended_by: EndedBy, reason: str, at: datetime
) -> Literal["first", "later", "answered"]:
    """End a call at a time, together with others, unless it was answered."""
    end = _end_of(call, ended_by, reason, at)
    while (finished := await app.unanswered_ends.put(end)) == "undecided":
        pass
    return finished


def _end_of(
    call: CallRecord | ReportedCall, ended_by: EndedBy, reason: str, at: datetime, **more: Any
) -> EndWithEvent:
    return EndWithEvent(
        account_id=call.account_id,
        call_id=call.id,
        end=CallEnd(ended_by=ended_by, end_reason=reason, outcome=None, ended_at=at),
        data={"ended_by": ended_by, "reason": reason, **more},
    )


async def end_with_person(app: AppState, call: CallRecord, ended_by: EndedBy, reason: str) -> None:
    """End a call while its caller is connected with an operator, or about to be."""
    if await finish(app, call, ended_by, reason):
        app.metrics.count_end(ended_by, reason)
    await app.handoffs.legs.caller_left(call)
