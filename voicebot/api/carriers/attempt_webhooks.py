"""Webhooks about calls that we placed: finding the call, and who answered it."""

from __future__ import annotations

from contextlib import suppress
from uuid import UUID

from db import attempts, carrier_calls
from db.calls import CallRecord
from db.errors import NotFound
from telephony.machines import MachineCarrier
from telephony.webhook import WebhookReply
from voicebot.api.carriers.carrier_request import NO_CONTENT, CarrierRequest
from voicebot.dispatch.dispatcher import ATTEMPT, RINGING


async def dialled(request: CarrierRequest, carrier_call_id: str, reference: str | None = None) -> CallRecord:
    """The call of a webhook; the row of an attempt may not have the carrier's id yet.

    The URL, or the `reference` that was given to the carrier, names the call; an unknown one is ignored.

    Raises:
        NotFound: there is no such call, or the attempt has another id.
    """
    database, named = request.app.database, _uuid(request.webhook.query.get(ATTEMPT))
    attempt = named or _uuid(reference)
    call = None if attempt is None else await attempts.attempt_of(database, attempt)
    if call is not None and call.carrier != request.name:
        call = None
    if call is None and named is None:
        return await carrier_calls.by_carrier_id(database, request.name, carrier_call_id)
    if call is None or call.carrier_call_id not in (None, carrier_call_id):
        raise NotFound("call", carrier_call_id)
    if call.carrier_call_id is None:
        placed = await attempts.placed(database, call.account_id, call.id, carrier_call_id, RINGING)
        if placed is None:
            raise NotFound("call", carrier_call_id)
        return placed
    return call


async def machine(request: CarrierRequest) -> WebhookReply:
    """The carrier reports who answered a call that we placed."""
    app, carrier = request.app, request.app.carriers[request.name]
    if not isinstance(carrier, MachineCarrier):
        return NO_CONTENT
    with suppress(NotFound):
        detection = carrier.detection(request.webhook)
        call = await dialled(request, detection.carrier_call_id)
        await app.machines.reported(call, detection)
    return NO_CONTENT


def _uuid(text: str | None) -> UUID | None:
    try:
        return None if text is None else UUID(text)
    except ValueError:
        return None
