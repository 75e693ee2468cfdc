"""Inbound calls of numbers with a policy, or without an orchestrator: taken, refused, or offered a menu.

It is decided in one transaction that locks the number, before a media stream opens: by the policy of the
number, then by that of the template that would answer. The events of the call tell it: ``inbound.refused``
with the reason, the action, and the template if the policy is a template's; ``inbound.menu`` with the agents
of a menu, and ``inbound.chosen`` after it. A call that hears a menu is recorded with its first agent.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from loguru import logger

from db import bridged_calls, calls, carrier_calls, events, inbound
from db.calls import CallEnd, CallRecord
from db.errors import NotFound
from db.events import EventRecord
from db.ids import id_of
from db.inbound import REFUSED, AnsweringTemplate, CalledNumber, InboundCall, StartedCall
from db.pool import Database, Transaction
from telephony.bridge import Whisper
from telephony.carrier import TransferRequest
from telephony.webhook import WebhookReply
from templates.inbound import InboundPolicy, Reason, Refusal
from voicebot.api.carriers.carrier_request import CarrierRequest
from voicebot.dispatch.inbound_policy import CallFacts, Menu, answering, refusal_of
from voicebot.dispatch.inbound_texts import inbound_texts, menu_text

ATTEMPT = "attempt"
"""The parameter of a menu's URL: how many times the menu was spoken."""

INBOUND_REFUSED = "inbound.refused"
TEMPLATE = "template_id"
"""The member of ``inbound.*`` events that names a template."""
LEAD = "lead_id"
"""The member of ``inbound.refused`` that names the lead of a call-back."""

INSTEAD_OF = "instead_of"
"""The member of ``inbound.refused`` that names the action that was not possible."""

ATTEMPTS = 3
KEY_TIMEOUT_S = 5

FORWARDS = 3
"""How many calls of a caller a number forwards within ``FORWARDS_FOR``.

More are most likely one call that another number forwards back to this one, without end.
"""
FORWARDS_FOR = timedelta(minutes=1)

_REJECT = Refusal(action="reject")


@dataclass(frozen=True, slots=True)
class Choice:
    """What a caller answered to a menu that was said ``attempt`` times; no key: nothing."""

    attempt: int
    key: str | None

    def of(self, call: CallRecord, number: CalledNumber) -> AnsweringTemplate | None:
        """The template that the call's menu named with this key; None: none, or it answers no more."""
        keys = {str(key): offered for key, offered in enumerate(call.offered_template_ids or (), 1)}
        chosen = keys.get(self.key or "")
        return next((template for template in number.templates if template.id == chosen), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """What a caller hears instead of an agent, or before one.

    Attributes:
        number: the number that was called.
        template: the template in whose voice and language it is spoken.
        text: the words.
        attempt: the words are a menu, spoken this many times, from 1; None: the call ends with them.
    """

    number: CalledNumber
    template: AnsweringTemplate
    text: str
    attempt: int | None = None


@dataclass(frozen=True, slots=True)
class Forwarded:
    """The call is connected with a number, E.164."""

    to: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """The call is not taken; ``busy``: the caller is to hear a busy tone."""

    busy: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """A policy does not take a call; it is that of ``template``, or of the number if that is None."""

    refusal: Refusal
    reason: Reason
    template: AnsweringTemplate | None


Decision = StartedCall | Announcement | Forwarded | Rejected


async def decide(database: Database, call_in: InboundCall, choice: Choice | None = None) -> Decision:
    """The call if it is accepted, or what happens to it instead.

    Args:
        database: where it is decided.
        call_in: the call.
        choice: what the caller answered to a menu; None: no menu was said yet.

    Raises:
        UnknownNumber: no account has this number active at this carrier.
    """
    async with database.transaction() as transaction:
        number = await inbound.called_number(transaction, call_in)
        answers = answering(number.templates)
        known = await _known(transaction, call_in)
        if known is not None and is_decided(known):
            return StartedCall(call=known, created=False)  # the webhook was sent again
        if answers is None:
            logger.warning("number {} has no active template", number.id)
            return Rejected() if number.fallback_number is None else Forwarded(number.fallback_number)
        first = answers.templates[0] if isinstance(answers, Menu) else answers
        if known is not None and known.end_reason == REFUSED:
            return await _refused_before(transaction, known, number, first)
        if known is not None:
            return await _chosen(transaction, call_in, known, number, answers, choice)
        refused = await _refusal(transaction, call_in, number, None)
        if refused is None and not isinstance(answers, Menu):
            refused = await _refusal(transaction, call_in, number, answers)
        started = await inbound.begin_with(transaction, call_in, number, first)
        if refused is not None:
            return await _refuse(transaction, call_in, started.call, number, first, refused)
        if isinstance(answers, Menu):
            return await _offer(transaction, call_in, started.call, number, answers, 1)
        return started


def is_decided(call: CallRecord) -> bool:
    """Whether a call was taken, or has ended; not one that was refused, or that hears a menu."""
    is_in_menu = call.offered_template_ids is not None and call.status != "ended"
    return not is_in_menu and call.end_reason != REFUSED


def reply(request: CarrierRequest, decision: Announcement | Forwarded | Rejected) -> WebhookReply:
    """The reply to the carrier for a call without an agent.

    Where the carrier cannot say a text, or cannot wait for a key, our media socket does
    (``voicebot.api.carriers.announcements``).
    """
    carrier = request.carrier
    match decision:
        case Rejected(busy):
            return carrier.reject(busy=busy)
        case Forwarded(to):
            return carrier.transfer_reply(TransferRequest(to=to))
    bridge = request.app.bridge_carriers.get(request.name)
    if request.flow is not None or bridge is None:
        return _by_stream(request, decision)
    text, language = decision.text, decision.template.language
    if decision.attempt is None:
        return carrier.say_reply(text, language)
    url = f"{request.webhooks_url}/menu?{ATTEMPT}={decision.attempt}"
    return bridge.whisper_reply(
        Whisper(text=text, language=language, key_url=url, silence_url=url, key_timeout_s=KEY_TIMEOUT_S)
    )


def _by_stream(request: CarrierRequest, said: Announcement) -> WebhookReply:
    number, rate = said.number, request.carrier.sample_rate
    speech = request.app.call_registry.announcement(number.account_id, said.template.id, said.text, rate)
    request.app.background.start(speech, name="preparing an announcement", droppable=True)
    return request.announce(number.account_id, number.id)


async def _known(transaction: Transaction, call_in: InboundCall) -> CallRecord | None:
    try:
        return await carrier_calls.by_carrier_id(transaction, call_in.carrier, call_in.carrier_call_id)
    except NotFound:
        return None


async def _refusal(
    transaction: Transaction, call_in: InboundCall, number: CalledNumber, template: AnsweringTemplate | None
) -> Refused | None:
    """Why the policy of a template, or of the number, refuses a call; None: it accepts it."""
    written = number.inbound if template is None else template.inbound
    if not written:
        return None
    policy = InboundPolicy.model_validate(written)
    facts = await _facts(transaction, call_in, number, policy, None if template is None else template.id)
    reason = refusal_of(policy, facts, "number_busy" if template is None else "template_busy")
    return None if reason is None else Refused(policy.refusal_for(reason), reason, template)


async def _facts(
    transaction: Transaction,
    call_in: InboundCall,
    number: CalledNumber,
    policy: InboundPolicy,
    template_id: UUID | None,
) -> CallFacts:
    caller, recent, live = inbound.caller_of(call_in), 0, 0
    if caller is not None and policy.per_caller is not None:
        since = call_in.started_at - timedelta(milliseconds=policy.per_caller.per_ms)
        recent = await inbound.taken_calls(transaction, number.id, caller, since, template_id)
    if policy.max_concurrent is not None:
        live = await inbound.live_calls(transaction, number.id, template_id)
    return CallFacts(
        at=call_in.started_at, zone=ZoneInfo(number.time_zone), caller=caller, recent_calls=recent,
        live_calls=live,
    )  # fmt: skip


async def _refuse(
    transaction: Transaction,
    call_in: InboundCall,
    call: CallRecord,
    number: CalledNumber,
    template: AnsweringTemplate,
    refused: Refused,
) -> Decision:
    """End a refused call, and create the lead of a call-back."""
    refusal, at = refused.refusal, call_in.started_at
    caller = inbound.caller_of(call_in)
    told: dict[str, str] = {"reason": refused.reason, "action": refusal.action}
    if refusal.action == "forward" and await _goes_round(transaction, number, caller, at):
        logger.warning("number {} rejects a call that it has forwarded {} times", number.id, FORWARDS)
        refusal = _REJECT
        told |= {"action": refusal.action, INSTEAD_OF: "forward"}
    end = CallEnd(ended_by="system", end_reason=REFUSED, outcome=None, ended_at=at)
    await calls.finish(transaction, call.account_id, call.id, end)
    if refused.template is not None:
        told[TEMPLATE] = str(refused.template.id)
    if refusal.action == "callback" and caller is not None:
        lead_id = await inbound.call_back(transaction, call, template.id, caller)
        if lead_id is not None:
            told[LEAD] = str(lead_id)
    await events.append(transaction, EventRecord.unnumbered(call, INBOUND_REFUSED, told, at))
    ended = {"ended_by": "system", "reason": REFUSED}
    await events.append(transaction, EventRecord.unnumbered(call, "call.ended", ended, at))
    if refusal.action == "forward" and refusal.number is not None:
        await bridged_calls.forward(transaction, call.account_id, call.id, refusal.number)
    return _refused(refusal, number, template, is_called_back=LEAD in told)


async def _goes_round(
    transaction: Transaction, number: CalledNumber, caller: str | None, at: datetime
) -> bool:
    """Whether the number has forwarded this caller so often that the call is most likely led back to it."""
    if caller is None:  # calls of others would count
        return False
    return await inbound.forwarded_calls(transaction, number.id, caller, at - FORWARDS_FOR) >= FORWARDS


async def _refused_before(
    transaction: Transaction, call: CallRecord, number: CalledNumber, first: AnsweringTemplate
) -> Decision:
    """The reply for a call that was refused before, by the policy that refused it."""
    happened = await events.of_call(transaction, call.account_id, call.id)
    told = next((event.data for event in happened if event.type == INBOUND_REFUSED), {})
    template = next((each for each in number.templates if each.id == call.initial_template_id), first)
    written = template.inbound if TEMPLATE in told else number.inbound
    refusal = InboundPolicy.model_validate(written or {}).refusal_for(told.get("reason", "not_accepting"))
    if INSTEAD_OF in told:
        refusal = _REJECT
    return _refused(refusal, number, template, is_called_back=LEAD in told)


def _refused(
    refusal: Refusal, number: CalledNumber, template: AnsweringTemplate, *, is_called_back: bool
) -> Announcement | Forwarded | Rejected:
    """The answer; a caller for whom there is no lead is promised no call back, whatever the author's text."""
    match refusal.action:
        case "say":
            return Announcement(number=number, template=template, text=refusal.text)
        case "callback":
            texts = inbound_texts(template.language)
            text = (refusal.text.strip() or texts.callback) if is_called_back else texts.refused
            return Announcement(number=number, template=template, text=text)
        case "forward" if refusal.number is not None:
            return Forwarded(refusal.number)
    return Rejected(busy=refusal.action == "busy")


async def _offer(
    transaction: Transaction,
    call_in: InboundCall,
    call: CallRecord,
    number: CalledNumber,
    menu: Menu,
    attempt: int,
) -> Announcement:
    """A menu, which is told once for each list of agents."""
    offered = [template.id for template in menu.templates]
    await inbound.offer(transaction, call, offered)
    data = {"template_ids": [str(each) for each in offered]}
    event_id = id_of(call.id, "inbound.menu", *data["template_ids"])
    await events.append(
        transaction, EventRecord.unnumbered(call, "inbound.menu", data, call_in.started_at, event_id)
    )
    first = menu.templates[0]
    text = menu_text([template.name for template in menu.templates], first.language)
    return Announcement(number=number, template=first, text=text, attempt=attempt)


async def _chosen(
    transaction: Transaction,
    call_in: InboundCall,
    call: CallRecord,
    number: CalledNumber,
    answers: AnsweringTemplate | Menu,
    choice: Choice | None,
) -> Decision:
    """The call with the agent that was chosen, or the menu again, which is said three times at most.

    If the agents have changed meanwhile so that there is no menu any more, who is left answers.
    """
    said = 0 if choice is None else choice.attempt
    chosen = None if choice is None else choice.of(call, number)
    if chosen is None and isinstance(answers, Menu) and said < ATTEMPTS:
        return await _offer(transaction, call_in, call, number, answers, said + 1)
    key = None if chosen is None or choice is None else choice.key
    template = chosen or (answers.templates[0] if isinstance(answers, Menu) else answers)
    refused = await _refusal(transaction, call_in, number, template)
    started = await inbound.choose(transaction, call, template)
    data = {TEMPLATE: str(template.id), "key": key}
    await events.append(
        transaction, EventRecord.unnumbered(started.call, "inbound.chosen", data, call_in.started_at)
    )
    if refused is not None:
        return await _refuse(transaction, call_in, started.call, number, template, refused)
    return started
