"""Inbound calls of numbers with a policy, or without an orchestrator: taken, refused, or offered a menu.

It is decided in one transaction that locks the number, before a media stream opens, and told in the events of
the call: ``inbound.refused`` with the reason and the action, ``inbound.chosen`` after a menu.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from zoneinfo import ZoneInfo

from loguru import logger

from db import bridged_calls, calls, events, inbound, leads
from db.calls import CallEnd
from db.errors import NotFound
from db.inbound import REFUSED, AnsweringTemplate, CalledNumber, InboundCall, StartedCall
from db.leads import LeadDraft
from db.pool import Transaction
from telephony.bridge import Whisper
from telephony.carrier import TransferRequest, WebhookReply
from voicebot.api.call_ends import call_event
from voicebot.api.carrier_request import CarrierRequest
from voicebot.dispatch.inbound_policy import (
    CallFacts,
    InboundPolicy,
    Menu,
    Reason,
    Refusal,
    answering,
    refusal_of,
)
from voicebot.dispatch.inbound_texts import inbound_texts, menu_text

ATTEMPT = "attempt"
"""The parameter of a menu's URL: how often the menu was said."""

ATTEMPTS = 3
KEY_TIMEOUT_S = 5


@dataclass(frozen=True, slots=True)
class Choice:
    """What a caller answered to a menu that was said ``attempt`` times; no key: nothing."""

    attempt: int
    key: str | None

    def of(self, menu: Menu) -> AnsweringTemplate | None:
        """The chosen template; None: there is none for this key."""
        keys = {str(key): template for key, template in enumerate(menu.templates, 1)}
        return keys.get(self.key or "")


async def decide(
    request: CarrierRequest, call_in: InboundCall, choice: Choice | None = None
) -> StartedCall | WebhookReply:
    """The call, if it is taken, or what the carrier is answered instead.

    Args:
        request: the carrier's request.
        call_in: the call that it is about.
        choice: what the caller answered to a menu; None: no menu was said yet.

    Raises:
        UnknownNumber: no account has this number active at this carrier.
    """
    async with request.app.database.transaction() as transaction:
        number = await inbound.called_number(transaction, call_in)
        answers = answering(number.templates)
        if answers is None:
            logger.warning("number {} has no active template", number.id)
            return _elsewhere(request, number.fallback_number)
        first = answers.templates[0] if isinstance(answers, Menu) else answers
        policy = InboundPolicy.model_validate(number.inbound)
        known = await _known(transaction, call_in)
        if known is not None and known.call.end_reason != REFUSED:
            return known  # the webhook was sent again
        reason = refusal_of(policy, await _facts(transaction, call_in, number, policy))
        if known is not None or reason is not None:
            if reason is not None and known is None:
                await _refuse(transaction, call_in, number, first, policy.refusal, reason)
            return _refusal_reply(request, policy.refusal, first.language)
        if isinstance(answers, Menu):
            return await _chosen(request, transaction, call_in, number, answers, choice)
        return await inbound.begin_with(transaction, call_in, number, answers)


async def _known(transaction: Transaction, call_in: InboundCall) -> StartedCall | None:
    try:
        call = await calls.by_carrier_id(transaction, call_in.carrier, call_in.carrier_call_id)
    except NotFound:
        return None
    return StartedCall(call=call, created=False)


async def _facts(
    transaction: Transaction, call_in: InboundCall, number: CalledNumber, policy: InboundPolicy
) -> CallFacts:
    caller, recent = inbound.caller_of(call_in), 0
    if caller is not None and policy.per_caller is not None:
        since = call_in.started_at - timedelta(milliseconds=policy.per_caller.per_ms)
        recent = await inbound.taken_calls(transaction, number.id, caller, since)
    return CallFacts(
        at=call_in.started_at, zone=ZoneInfo(number.time_zone), caller=caller, recent_calls=recent,
        live_calls=number.live_calls,
    )  # fmt: skip


async def _refuse(
    transaction: Transaction,
    call_in: InboundCall,
    number: CalledNumber,
    template: AnsweringTemplate,
    refusal: Refusal,
    reason: Reason,
) -> None:
    """Record a call that is not taken, and make the lead of a call-back."""
    call = (await inbound.begin_with(transaction, call_in, number, template)).call
    at = call_in.started_at
    end = CallEnd(ended_by="system", end_reason=REFUSED, outcome=None, ended_at=at)
    await calls.finish(transaction, call.account_id, call.id, end)
    told = {"reason": reason, "action": refusal.action}
    await events.append(transaction, call_event(call, "inbound.refused", told, at))
    ended = {"ended_by": "system", "reason": REFUSED}
    await events.append(transaction, call_event(call, "call.ended", ended, at))
    caller = inbound.caller_of(call_in)
    if refusal.action == "forward" and refusal.number is not None:
        await bridged_calls.forward(transaction, call.account_id, call.id, refusal.number)
    if refusal.action == "callback" and caller is not None:
        lead = LeadDraft(
            direction="outbound", phone=caller, number_id=number.id, template_id=template.id, payload={},
            variables={},
        )  # fmt: skip
        await leads.add(transaction, number.account_id, lead, idempotency_key=f"callback {call.id}")


def _refusal_reply(request: CarrierRequest, refusal: Refusal, language: str) -> WebhookReply:
    carrier = request.carrier
    match refusal.action:
        case "say":
            return carrier.say_reply(refusal.text, language)
        case "callback":
            return carrier.say_reply(refusal.text.strip() or inbound_texts(language).callback, language)
        case "forward" if refusal.number is not None:
            return carrier.transfer_reply(TransferRequest(to=refusal.number))
    return carrier.reject(busy=refusal.action == "busy")


async def _chosen(
    request: CarrierRequest,
    transaction: Transaction,
    call_in: InboundCall,
    number: CalledNumber,
    menu: Menu,
    choice: Choice | None,
) -> StartedCall | WebhookReply:
    """The call with the agent that the caller has chosen, or the menu, which is said three times at most."""
    said = 0 if choice is None else choice.attempt
    chosen = None if choice is None else choice.of(menu)
    bridge = request.app.bridge_carriers.get(request.name)
    if chosen is None and said < ATTEMPTS and bridge is not None:
        language = menu.templates[0].language
        url = f"{request.webhooks_url}/menu?{ATTEMPT}={said + 1}"
        text = menu_text([template.name for template in menu.templates], language)
        return bridge.whisper_reply(
            Whisper(text=text, language=language, key_url=url, silence_url=url, key_timeout_s=KEY_TIMEOUT_S)
        )
    template = chosen or menu.templates[0]
    started = await inbound.begin_with(transaction, call_in, number, template)
    data = {"template_id": str(template.id), "key": None if chosen is None or choice is None else choice.key}
    event = call_event(started.call, "inbound.chosen", data, call_in.started_at)
    await events.append(transaction, event)
    return started


def _elsewhere(request: CarrierRequest, fallback_number: str | None) -> WebhookReply:
    """No template answers the number."""
    if fallback_number is None:
        return request.carrier.reject()
    return request.carrier.transfer_reply(TransferRequest(to=fallback_number))
