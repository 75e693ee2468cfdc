"""Ends a call when the carrier reports its end, so that no call stays live for ever."""

from __future__ import annotations

import asyncio
from typing import Literal

from loguru import logger

from db import calls
from db.calls import CallRecord, CarrierStatus
from telephony.webhook import CallStatus
from voicebot.api.app_state import AppState
from voicebot.api.call_ends import end_with_person, finish

_BY_CARRIER = frozenset({"busy", "failed"})


def carrier_end(status: CallStatus) -> CarrierStatus:
    """A carrier's status as the call record stores it."""
    if status.end_reason is not None:
        return status.end_reason
    if status.status == "in_progress":
        return "in_progress"
    return "queued" if status.carrier_status == "queued" else "ringing"


async def close(app: AppState, call: CallRecord) -> None:
    """End the call here too, as its terminal status says, after waiting for a better source of how it ended.

    The media socket of the call knows best, then another process that runs the call, then the carrier.
    """
    status = call.carrier_status
    ended_by: Literal["caller", "carrier"] = "carrier" if status in _BY_CARRIER else "caller"
    reason = "hangup" if status == "completed" else status or "completed"
    if call.status == "transferring":  # with an operator: no process has its media socket
        await end_with_person(app, call, ended_by, reason)
        return
    ended_at = app.clock.now()
    await asyncio.sleep(app.grace.own_s)
    if await app.call_registry.end(call.id, ended_by=ended_by, reason=reason):
        return
    now = await calls.get(app.database, call.account_id, call.id)
    if now.answered_at is not None and now.status != "ended":
        await asyncio.sleep(app.grace.others_s)
    if await finish(app, call, ended_by, reason, ended_at):
        logger.info("call {}: ended by the carrier's status {}", call.id, status)
