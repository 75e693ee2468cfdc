"""The end of a call that no process runs, with its event, in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from db import calls, events
from db.calls import CallEnd, CallRecord, EndedBy
from db.events import EventRecord
from db.ids import new_id
from voicebot.api.app_state import AppState


async def finish(
    app: AppState, call: CallRecord, ended_by: EndedBy, reason: str, at: datetime | None = None, **more: Any
) -> bool:
    """End a call at a time, by default now; False if it had ended. ``more`` is added to the event's data."""
    at = at or app.clock.now()
    end = CallEnd(ended_by=ended_by, end_reason=reason, outcome=None, ended_at=at)
    async with app.database.transaction() as transaction:
        finished = await calls.finish(transaction, call.account_id, call.id, end)
        if finished.first:
            data = {"ended_by": ended_by, "reason": reason, **more}
            await events.append(transaction, call_event(call, "call.ended", data, at))
    return finished.first


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
