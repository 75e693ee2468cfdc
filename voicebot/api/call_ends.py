"""The end of a call that no process runs, and the events of calls that webhooks report."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from db.call_ends import finish_with_event
from db.calls import CallEnd, CallRecord, EndedBy, FinishedCall
from db.carrier_calls import ReportedCall
from db.events import EventRecord
from db.ids import new_id
from voicebot.api.app_state import AppState


async def finish(
    app: AppState,
    call: CallRecord | ReportedCall,
    ended_by: EndedBy,
    reason: str,
    at: datetime | None = None,
    **more: Any,
) -> bool:
    """End a call at a time, by default now; False if it had ended. ``more`` is added to the event's data."""
    end = CallEnd(ended_by=ended_by, end_reason=reason, outcome=None, ended_at=at or app.clock.now())
    data = {"ended_by": ended_by, "reason": reason, **more}
    finished = await finish_with_event(app.database, call.account_id, call.id, end, data)
    return finished.first


async def finish_unanswered(
    app: AppState, call: ReportedCall, ended_by: EndedBy, reason: str, at: datetime
) -> FinishedCall:
    """End a call at a time, unless it was answered."""
    end = CallEnd(ended_by=ended_by, end_reason=reason, outcome=None, ended_at=at)
    data = {"ended_by": ended_by, "reason": reason}
    return await finish_with_event(app.database, call.account_id, call.id, end, data, only_unanswered=True)


async def end_with_person(app: AppState, call: CallRecord, ended_by: EndedBy, reason: str) -> None:
    """End a call while its caller is connected with an operator, or about to be."""
    if await finish(app, call, ended_by, reason):
        app.metrics.count_end(ended_by, reason)
    await app.handoffs.legs.caller_left(call)


def call_event(
    call: CallRecord, type_: str, data: Mapping[str, Any], at: datetime, event_id: UUID | None = None
) -> EventRecord:
    """An event of a call, which this process need not have; by default with a new id."""
    return EventRecord(
        id=event_id or new_id(),
        account_id=call.account_id,
        call_id=call.id,
        seq=0,  # replaced: append() numbers it
        type=type_,
        at=at,
        template_id=call.template_id,
        node=call.node,
        data=data,
    )
