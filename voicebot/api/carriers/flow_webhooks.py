"""The webhooks of carriers with a flow, which asks at each branch after a media stream has ended.

It asks whether to connect the caller with a number, with which number, and finally whether to open another
media socket. Each answer follows from the state of the call, so a request may be repeated.
"""

from __future__ import annotations

import asyncio

from loguru import logger

from db import bridged_calls, calls, events, legs
from db.calls import CallRecord
from db.errors import DatabaseBusy, DatabaseUnavailable, NotFound
from db.events import EventRecord
from db.inbound import REFUSED
from telephony.errors import CarrierError
from telephony.flow import Connection, FlowCarrier
from telephony.webhook import EndReason, WebhookReply
from voicebot.api.app_state import AppState
from voicebot.api.carriers.attempt_webhooks import dialled
from voicebot.api.carriers.call_ends import end_with_person, finish
from voicebot.api.carriers.carrier_request import MAX_RESUMES, NO_CAPACITY, TTS_UNAVAILABLE, CarrierRequest
from voicebot.api.carriers.leg_webhooks import RESOLVED, TRANSFERRED

DATABASE_WAIT_S = 1.0
"""How long a branch waits for the database; a carrier waits for 5 s, and the caller hears nothing."""

STREAM_LOST = "stream_lost"
"""The end reason of a call whose stream was lost and not resumed."""

_UNANSWERED = frozenset({NO_CAPACITY, TTS_UNAVAILABLE})
"""The end reasons of calls that are connected with the number's fallback."""


async def to_person(request: CarrierRequest) -> WebhookReply:
    """Whether the caller is to be connected with a number."""
    flow = _flow(request)
    return flow.branch_reply(await _destination(request) is not None)


async def connect(request: CarrierRequest) -> WebhookReply:
    """The number with which the caller is to be connected; repeating the request changes nothing."""
    return _flow(request).connect_reply(await _destination(request))


async def _destination(request: CarrierRequest) -> Connection | None:
    """The number to connect the caller with: the call's, or the number's fallback if no agent can answer.

    The called party sees our number.
    """
    app = request.app
    incoming = request.carrier.incoming_call(request.webhook)
    reading = dialled(request, incoming.carrier_call_id, incoming.reference)
    to: str | None = None
    try:
        call = await app.background.in_time(reading, DATABASE_WAIT_S, name="reading a call's destination")
    except (NotFound, TimeoutError, DatabaseUnavailable, DatabaseBusy):
        ours = incoming.from_ if incoming.direction == "outbound" else incoming.to
        to = request.number().fallback_number
    else:
        ours = (call.to_number if call.direction == "inbound" else call.from_number) or ""
        if call.status == "transferring" or call.end_reason == REFUSED:
            to = call.connect_to
        elif call.end_reason in _UNANSWERED:
            to = app.number_directory.get(request.name, ours).fallback_number
    return None if to is None else Connection(to=to, caller_id=ours or None)


async def rejoin(request: CarrierRequest, call: CallRecord) -> WebhookReply:
    """The voice webhook of a call that was answered before.

    The flow opens another media socket, unless the call's stream is still open here: then the request is a
    copy.
    """
    if request.flow is None:
        return request.carrier.hang_up_reply()
    database = request.app.database
    if call.status == "transferring":
        back = await bridged_calls.return_to_agent(database, call.account_id, call.id)
    elif request.app.call_registry.takeover(call.id) is not None:
        back = call
    else:
        back = await calls.reconnect(database, call.account_id, call.id)
    return request.connect(back or call)


async def again(request: CarrierRequest, flow: FlowCarrier, call: CallRecord) -> WebhookReply:
    """Whether a call whose stream, or connection with a number, has ended gets another media socket."""
    app = request.app
    if call.status == "transferring":
        return await _after_connection(request, flow, call)
    if call.status == "ended" or request.is_late:
        return flow.branch_reply(False)
    end = flow.stream_end(request.webhook)
    if end is not None and end.by == "caller" and not end.failed:
        app.background.start(_caller_left(app, call), name=f"closing call {call.id}")
        return flow.branch_reply(False)
    back = await calls.reconnect(app.database, call.account_id, call.id, limit=MAX_RESUMES)
    if back is None:
        if await finish(app, call, "carrier", STREAM_LOST):
            app.metrics.count_end("carrier", STREAM_LOST)
        return flow.branch_reply(False)
    logger.info("call {}: the stream has ended; resume {}", call.id, back.resumes)
    return flow.branch_reply(True)


async def _after_connection(request: CarrierRequest, flow: FlowCarrier, call: CallRecord) -> WebhookReply:
    """The connection with a number has ended: end the call, or resume it if nobody answered."""
    app = request.app
    outcome = flow.dial_outcome(request.webhook) or await _asked_outcome(flow, call) or "completed"
    if outcome == "canceled":
        await end_with_person(app, call, "caller", "hangup")
        return flow.branch_reply(False)
    with_person = [
        leg for leg in await legs.of_call(app.database, call.account_id, call.id) if not leg.closed_at
    ]
    if with_person and with_person[-1].to_number == call.connect_to:
        back = await app.handoffs.legs.connection_over(with_person[-1], outcome)
        if back is None:
            await finish(app, call, "operator", RESOLVED)
        return flow.branch_reply(back is not None)
    if outcome == "completed":
        await finish(app, call, "agent", TRANSFERRED)
        return flow.branch_reply(False)
    back = await bridged_calls.return_to_agent(app.database, call.account_id, call.id)
    if back is not None:
        event = EventRecord.unnumbered(call, "transfer.failed", {"outcome": outcome}, app.clock.now())
        await events.append(app.database, event)
    return flow.branch_reply(back is not None)


async def _asked_outcome(flow: FlowCarrier, call: CallRecord) -> EndReason | None:
    try:
        return await flow.connected_outcome(call.carrier_call_id or "")
    except CarrierError as error:
        logger.warning("call {}: it is not known how its transfer ended: {}", call.id, error)
        return None


async def _caller_left(app: AppState, call: CallRecord) -> None:
    """End a call whose caller has hung up, unless its media socket reports it."""
    await asyncio.sleep(app.grace.own_s)
    if not await app.call_registry.end(call.id, ended_by="caller", reason="hangup"):
        await finish(app, call, "caller", "hangup")


def _flow(request: CarrierRequest) -> FlowCarrier:
    """The carrier as a ``FlowCarrier``; only such carriers have these webhooks."""
    if request.flow is None:
        raise ValueError(f"{request.name} has no flow")
    return request.flow
