"""A call that ended because no TTS service could be connected: the carrier speaks and dials the fallback."""

from __future__ import annotations

from loguru import logger

from db import leads, revisions
from db.call_start import kept_revisions
from db.calls import CallRecord
from db.errors import DatabaseError
from db.handoffs import HandoffDraft
from handlers.escalate_to_person import EscalateToPerson
from handlers.park_call import ParkCall
from telephony.webhook import WebhookReply
from templates.model import TemplateContent
from voicebot.api.carriers.carrier_request import CarrierRequest
from voicebot.call.failure_texts import failure_texts
from voicebot.dispatch.inbound_texts import inbound_texts

CALL_BACK_REASON = "No voice could be connected for the caller, who was told that they will be called back."
OFFERS_PEOPLE = frozenset({EscalateToPerson.name, ParkCall.name})
"""An agent with one of these functions offers its callers persons."""


async def speak_for(request: CarrierRequest, call: CallRecord) -> WebhookReply:
    """The reply with which the carrier apologises and dials the number's fallback.

    Without a fallback, a call-back by a person is requested if the template offers people.
    """
    ours = call.to_number if call.direction == "inbound" else call.from_number or ""
    number = request.app.number_directory.get(request.name, ours)
    words = failure_texts(number.language)
    if number.fallback_number is not None:
        return request.carrier.say_reply(words.moment, number.language, number.fallback_number)
    if await _call_back(request, call):
        return request.carrier.say_reply(inbound_texts(number.language).callback, number.language)
    return request.carrier.say_reply(words.goodbye, number.language)


async def _call_back(request: CarrierRequest, call: CallRecord) -> bool:
    """Request a call-back by a person; repeating it changes nothing. False: none was requested."""
    if call.direction != "inbound":
        return False
    app, template_id = request.app, call.template_id
    try:
        if (await leads.get(app.database, call.account_id, call.lead_id)).phone is None:
            return False
        template = await revisions.for_call(
            app.database, call.account_id, template_id, kept_revisions(call).get(template_id)
        )
        functions = TemplateContent.model_validate(template.content).functions
        if not any(each.type == "builtin" and each.name in OFFERS_PEOPLE for each in functions):
            return False
        draft = HandoffDraft(
            intent="park",
            origin="failed_voice",
            reason=CALL_BACK_REASON,
            created_at=app.clock.now(),
            call_id=call.id,
            consent=True,  # they called, and hear that they are called back
        )
        key = f"no voice {call.id}"
        await app.handoffs.service.create(call.account_id, draft, idempotency_key=key)
    except DatabaseError as error:
        logger.warning("call {}: nobody is asked to call back: {}", call.id, type(error).__name__)
        return False
    return True
