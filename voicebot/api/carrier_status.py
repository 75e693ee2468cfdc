"""When a carrier says that a call is over: its holder is told, and no call stays open for ever."""

from __future__ import annotations

import asyncio
from typing import Literal

from loguru import logger

from db import calls
from db.calls import CallEnd, CallRecord, CarrierStatus
from telephony.carrier import CallStatus
from voicebot.api.app_state import AppState

_BY_CARRIER = frozenset({"busy", "failed"})


def carrier_end(status: CallStatus) -> CarrierStatus:
    """A carrier's news in the words of the call's record."""
    if status.end_reason is not None:
        return status.end_reason
    if status.status == "in_progress":
        return "in_progress"
    return "queued" if status.carrier_status == "queued" else "ringing"


async def close(wired: AppState, call: CallRecord, status: CallStatus) -> None:
    """See to it that the call ends here too, by the word of whoever knows best how it ended."""
    ended_by: Literal["caller", "carrier"] = "carrier" if status.end_reason in _BY_CARRIER else "caller"
    reason = "hangup" if status.end_reason == "completed" else status.end_reason or "completed"
    ended_at = wired.clock.now()
    await asyncio.sleep(wired.grace.own_s)
    if await wired.call_registry.end(call.id, ended_by=ended_by, reason=reason):
        return
    known = await calls.get(wired.database, call.account_id, call.id)
    if known.answered_at is not None and known.status != "ended":
        await asyncio.sleep(wired.grace.others_s)
    end = CallEnd(ended_by=ended_by, end_reason=reason, outcome=None, ended_at=ended_at)
    finished = await calls.finish(wired.database, call.account_id, call.id, end)
    if finished.first:
        logger.info("call {} closed by the carrier's word: {}", call.id, status.carrier_status)
