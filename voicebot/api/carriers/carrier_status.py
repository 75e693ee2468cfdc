"""Status callbacks: store the status, and end a call whose end the carrier reports."""

from __future__ import annotations

import asyncio
from typing import Literal

from loguru import logger

from db import calls
from db.calls import CarrierStatus
from db.carrier_calls import ReportedCall
from db.errors import NotFound
from telephony.webhook import CallStatus, WebhookReply
from voicebot.api.app_state import AppState
from voicebot.api.carriers.attempt_webhooks import dialled
from voicebot.api.carriers.call_ends import end_with_person, finish, finish_unanswered
from voicebot.api.carriers.carrier_request import NO_CONTENT, CarrierRequest
from voicebot.dispatch.dispatcher import ATTEMPT

_BY_CARRIER = frozenset({"busy", "failed"})


def carrier_end(status: CallStatus) -> CarrierStatus:
    """A carrier's status as the call record stores it."""
    if status.end_reason is not None:
        return status.end_reason
    if status.status == "in_progress":
        return "in_progress"
    return "queued" if status.carrier_status == "queued" else "ringing"


async def status(request: CarrierRequest) -> WebhookReply:
    """Record the status of a call. After a terminal status, later ones change nothing."""
    report = request.carrier.call_status(request.webhook)
    try:
        call = await _record(request, report)
    except NotFound:
        if report.terminal:
            request.app.background.start(_end_when_stored(request, report), name="end of an unknown call")
        return NO_CONTENT
    if call is not None and report.terminal and call.status != "ended":
        closing = _close(request.app, call, request.name, report.carrier_call_id)
        request.app.background.start(closing, name=f"closing call {call.id}")
    else:
        request.is_settled = True
    return NO_CONTENT


async def _record(request: CarrierRequest, report: CallStatus) -> ReportedCall | None:
    """Store a status; it may arrive before the carrier's answer to the dial. None: it is known."""
    status = (request.name, report.carrier_call_id, carrier_end(report))
    try:
        return await request.app.status_writer.store(*status)
    except NotFound:
        if ATTEMPT not in request.webhook.query:
            raise
        await dialled(request, report.carrier_call_id)
        return await request.app.status_writer.store(*status)


async def _end_when_stored(request: CarrierRequest, report: CallStatus) -> None:
    """End a call whose end was reported before the webhook that makes it was done.

    A caller may hang up while that webhook waits for the database, in this process or another one.
    """
    await asyncio.sleep(request.app.grace.own_s)
    try:
        call = await _record(request, report)
    except NotFound:
        return
    if call is not None and call.status != "ended":
        await _close(request.app, call, request.name, report.carrier_call_id)


async def _close(app: AppState, call: ReportedCall, carrier: str, carrier_call_id: str) -> None:
    try:
        await close(app, call)
    except Exception:
        # So that a repetition closes the call.
        app.status_writer.forget(carrier, carrier_call_id)
        app.settled_requests.clear()
        raise


async def close(app: AppState, call: ReportedCall) -> None:
    """End the call according to its terminal status, after waiting for a better source of how it ended.

    The best source is the call's media socket, then another process that runs the call, then the carrier.
    """
    status = call.carrier_status
    ended_by: Literal["caller", "carrier"] = "carrier" if status in _BY_CARRIER else "caller"
    reason = "hangup" if status == "completed" else status
    if call.status == "transferring":  # with an operator: no process has its media socket
        record = await calls.get(app.database, call.account_id, call.id)
        await end_with_person(app, record, ended_by, reason)
        return
    ended_at = app.clock.now()
    await asyncio.sleep(app.grace.own_s)
    if await app.call_registry.end(call.id, ended_by=ended_by, reason=reason):
        return
    finished = await finish_unanswered(app, call, ended_by, reason, ended_at)
    is_first = finished == "first"
    if finished == "answered":
        await asyncio.sleep(app.grace.others_s)
        is_first = await finish(app, call, ended_by, reason, ended_at)
    if is_first:
        logger.info("call {}: ended by the carrier's status {}", call.id, status)
