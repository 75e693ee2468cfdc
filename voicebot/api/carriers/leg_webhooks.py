"""The webhooks about legs, which connect callers with operators by telephone. Their URLs name the leg.

The signature of a webhook covers its URL, so the id of the leg is the one that we gave to the carrier.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

from db import bridged_calls, calls, events, legs
from db.calls import CallRecord
from db.errors import NotFound
from db.events import EventRecord
from db.legs import LegRecord
from telephony.bridge import BridgeCarrier
from telephony.errors import BadWebhook
from telephony.webhook import WebhookReply
from voicebot.api.carriers.call_ends import end_with_person, finish
from voicebot.api.carriers.carrier_request import NO_CONTENT, WAITING_SINCE, CarrierRequest

RESOLVED = "handoff_resolved"
"""The end reason of a call whose caller was connected with an operator, who has hung up."""

TRANSFERRED = "transferred"
"""The end reason of a call whose caller was connected with another number."""

LEG = "leg"
"""The parameter that names the leg in the URL of a webhook."""

OnLeg = Callable[[CarrierRequest, BridgeCarrier, LegRecord], Awaitable[WebhookReply]]


def about_leg(handler: OnLeg) -> Callable[[CarrierRequest], Awaitable[WebhookReply]]:
    """Handle a webhook about a leg; if the leg does not exist, the call is ended."""

    async def webhook(request: CarrierRequest) -> WebhookReply:
        carrier = request.app.bridge_carriers.get(request.name)
        leg = await leg_of(request)
        if carrier is None or leg is None:
            return request.carrier.hang_up_reply()
        return await handler(request, carrier, leg)

    return webhook


async def leg_of(request: CarrierRequest) -> LegRecord | None:
    """The leg that a webhook's URL names."""
    try:
        return await legs.get(request.app.database, UUID(request.webhook.query.get(LEG, "")))
    except (NotFound, ValueError):
        return None


async def leg_of_caller(request: CarrierRequest, call: CallRecord) -> LegRecord | None:
    """The leg after which the carrier asks for instructions; None: the call was not with a person.

    If the process was lost while the call was leaving, the URL names no leg.
    """
    leg = await leg_of(request)
    if leg is None and call.status == "transferring":
        of_call = await legs.of_call(request.app.database, call.account_id, call.id)
        leg = of_call[-1] if of_call else None
    return leg if leg is not None and leg.call_id == call.id else None


@about_leg
async def leg_status(request: CarrierRequest, carrier: BridgeCarrier, leg: LegRecord) -> WebhookReply:
    """The progress or the end of the call to the operator."""
    report = carrier.call_status(request.webhook)
    await request.app.handoffs.legs.status(leg, report, carrier.answered_by(request.webhook))
    return NO_CONTENT


@about_leg
async def whisper(request: CarrierRequest, carrier: BridgeCarrier, leg: LegRecord) -> WebhookReply:
    """The operator's telephone was answered."""
    status = carrier.call_status(request.webhook)
    by = carrier.answered_by(request.webhook)
    return await request.app.handoffs.legs.answered(leg, status.carrier_call_id, by)


@about_leg
async def key(request: CarrierRequest, carrier: BridgeCarrier, leg: LegRecord) -> WebhookReply:
    """The operator pressed a key, or none in time."""
    status = carrier.call_status(request.webhook)
    pressed = carrier.pressed_key(request.webhook)
    return await request.app.handoffs.legs.key(leg, status.carrier_call_id, pressed)


@about_leg
async def operator_left(request: CarrierRequest, carrier: BridgeCarrier, leg: LegRecord) -> WebhookReply:
    """The operator is no longer in the conference."""
    status = carrier.call_status(request.webhook)
    return await request.app.handoffs.legs.operator_left(leg, status)


@about_leg
async def conference(request: CarrierRequest, carrier: BridgeCarrier, leg: LegRecord) -> WebhookReply:
    """An event of the conference. It has no effect: the reports of the calls are sufficient."""
    del request, carrier, leg
    return NO_CONTENT


async def caller_back(request: CarrierRequest, leg: LegRecord, call: CallRecord) -> WebhookReply:
    """The caller is no longer connected with the operator: return to the agent, or hang up."""
    app = request.app
    if has_hung_up(request):
        await end_with_person(app, call, "caller", "hangup")
        return request.carrier.hang_up_reply()
    back = await app.handoffs.legs.caller_back(leg)
    if back is not None:
        return request.connect(back)
    call = await calls.get(app.database, call.account_id, call.id)
    if call.status == "transferring" and leg.destination is not None:
        await finish(app, call, "agent", TRANSFERRED)
    elif call.status == "transferring":
        await finish(app, call, "operator", RESOLVED)
    elif call.status == "in_progress" and WAITING_SINCE in request.webhook.query:
        return request.connect(call)  # it came back too late to be answered
    return request.carrier.hang_up_reply()


async def after_transfer(
    request: CarrierRequest, call: CallRecord, *, was_dialled: bool = True
) -> WebhookReply:
    """The connection of a transferred call has ended; if nobody answered, return to the agent.

    ``was_dialled`` is false for a call whose process was lost before the carrier was told to dial.
    """
    app = request.app
    carrier = app.bridge_carriers.get(request.name)
    outcome = None if carrier is None or not was_dialled else carrier.dial_outcome(request.webhook)
    if call.status != "transferring":  # a copy, or the call has ended
        is_late = call.status == "in_progress" and WAITING_SINCE in request.webhook.query
        return request.connect(call) if is_late else request.carrier.hang_up_reply()
    if has_hung_up(request):
        await end_with_person(app, call, "caller", "hangup")
        return request.carrier.hang_up_reply()
    if outcome == "completed":
        await finish(app, call, "agent", TRANSFERRED)
        return request.carrier.hang_up_reply()
    data = {"outcome": outcome or "failed"} if was_dialled else {"outcome": "process_lost"}
    await events.append(app.database, EventRecord.unnumbered(call, "transfer.failed", data, app.clock.now()))
    back = await bridged_calls.return_to_agent(app.database, call.account_id, call.id)
    return request.carrier.hang_up_reply() if back is None else request.connect(back)


def has_hung_up(request: CarrierRequest) -> bool:
    """Whether a request for instructions says that the call has ended."""
    try:
        return request.carrier.call_status(request.webhook).terminal
    except BadWebhook:
        return False
