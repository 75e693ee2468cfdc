"""The webhooks of carriers: voice, status, stream, resume. The code is the same for all carriers.

Those of carriers with a flow are in `flow_webhooks`, those about legs in `leg_webhooks`. `webhook_path`
receives and verifies them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

from loguru import logger

from db import attempts, calls, carrier_calls, events, inbound
from db.calls import CallRecord
from db.errors import (
    DatabaseBusy,
    DatabaseUnavailable,
    NoOrchestrator,
    NotFound,
    PolicyApplies,
    UnknownNumber,
)
from db.events import EventRecord
from db.ids import id_of
from db.inbound import InboundCall, StartedCall
from telephony.carrier import TransferRequest
from telephony.webhook import IncomingCall, WebhookReply
from voicebot.admission import Refusal
from voicebot.api.carriers import attempt_webhooks, carrier_status, flow_webhooks, leg_webhooks
from voicebot.api.carriers.attempt_webhooks import dialled
from voicebot.api.carriers.call_ends import finish
from voicebot.api.carriers.carrier_request import (
    MAX_RESUMES,
    NO_CAPACITY,
    NO_CONTENT,
    RESUMES,
    TTS_UNAVAILABLE,
    WAITING_SINCE,
    CarrierRequest,
)
from voicebot.api.carriers.inbound_calls import ATTEMPT as MENU_ATTEMPT
from voicebot.api.carriers.inbound_calls import Choice, Decision, Rejected, decide, is_decided, reply
from voicebot.api.carriers.tts_unavailable import speak_for
from voicebot.call.failure_texts import failure_texts
from voicebot.call.person.carrier_transfers import TRANSFER

DATABASE_WAIT_S = 1.2
"""How long a webhook that connects a call waits for the database; it must be answered within 2 s."""

DATABASE_PAUSE_S = 1
"""How long the carrier waits before it asks again, in whole seconds."""

_MAX_DIGITS = 15

MAX_ERROR = 500
"""The maximum length of a carrier's error text, in characters; the rest is cut off."""


async def voice(request: CarrierRequest) -> WebhookReply:
    """Connect a call; while the database is down it waits."""
    return await _once_the_database_answers(request, "voice", _voice(request))


async def resume(request: CarrierRequest) -> WebhookReply:
    """Reconnect a call whose stream has ended; while the database is down it waits."""
    return await _once_the_database_answers(request, "resume", _resume(request))


async def _once_the_database_answers(
    request: CarrierRequest, webhook: str, work: Coroutine[Any, Any, WebhookReply]
) -> WebhookReply:
    try:
        return await request.app.background.in_time(work, DATABASE_WAIT_S, name=f"the webhook {webhook}")
    except (TimeoutError, DatabaseUnavailable, DatabaseBusy) as error:
        request.is_late = True
        logger.warning("a call waits for the database: {}", type(error).__name__)
        return wait_for_database(request, webhook)


async def _voice(request: CarrierRequest) -> WebhookReply:
    """Create the call with its lead, or find it if the webhook is repeated, and connect it.

    A call that was answered gets no further token, because the webhook is a copy.
    """
    incoming = request.carrier.incoming_call(request.webhook)
    if incoming.direction == "outbound":
        call = await dialled(request, incoming.carrier_call_id, incoming.reference)
        return await _connect_dialled(request, call)
    if incoming.reference is not None:  # the direction may be that of the carrier's first leg
        with suppress(NotFound):
            call = await dialled(request, incoming.carrier_call_id, incoming.reference)
            if call.direction == "outbound":
                return await _connect_dialled(request, call)
    return await _take(request, incoming, None)


async def _connect_dialled(request: CarrierRequest, call: CallRecord) -> WebhookReply:
    """Connect a call that we placed, unless it was cancelled while it rang."""
    if call.answered_at:
        return await flow_webhooks.rejoin(request, call)
    if await attempts.is_wanted(request.app.database, call):
        return request.connect(call)
    await finish(request.app, call, "system", attempts.CANCELLED)
    return request.carrier.hang_up_reply()


async def menu(request: CarrierRequest) -> WebhookReply:
    """Handle the caller's choice from a menu of agents; while the database is down it waits."""
    incoming = request.carrier.incoming_call(request.webhook)
    bridge = request.app.bridge_carriers.get(request.name)
    key = None if bridge is None else bridge.pressed_key(request.webhook)
    choice = Choice(_whole_number(request.webhook.query.get(MENU_ATTEMPT)) or 1, key)
    return await _once_the_database_answers(request, "menu", _take(request, incoming, choice))


async def _take(request: CarrierRequest, incoming: IncomingCall, choice: Choice | None) -> WebhookReply:
    """Connect an inbound call if it is accepted."""
    call_in = InboundCall(
        carrier=request.name,
        carrier_call_id=incoming.carrier_call_id,
        to_number=incoming.to,
        from_number=incoming.from_ or None,
        started_at=request.app.clock.now(),
        caller_known=incoming.caller_known,
    )
    decision: Decision
    try:
        begun = await inbound.begin(request.app.database, call_in)
    except UnknownNumber:
        logger.warning("rejected a call of {} to an unknown number", request.name)
        return request.carrier.reject()
    except (NoOrchestrator, PolicyApplies):
        decision = await decide(request.app.database, call_in, choice)
    else:
        decision = begun if is_decided(begun.call) else await decide(request.app.database, call_in, choice)
    if isinstance(decision, Rejected) and choice is not None:
        return request.carrier.hang_up_reply()  # the menu has answered the call
    if not isinstance(decision, StartedCall):
        return reply(request, decision)
    started = decision
    if started.call.end_reason == NO_CAPACITY:  # the webhook was sent again
        return fallback(request)
    if started.created and (refusal := request.app.admission.refusal()) is not None:
        await _refuse(request, started.call, refusal)
        return fallback(request)
    if started.call.answered_at:
        return await flow_webhooks.rejoin(request, started.call)
    request.app.admission.expect(started.call.id)
    return request.connect(started.call)


async def _refuse(request: CarrierRequest, call: CallRecord, refusal: Refusal) -> None:
    """End a call that this process is too full to answer."""
    app = request.app
    app.metrics.calls_refused.labels(refusal).inc()
    logger.warning("call {}: not answered, because this process is full ({})", call.id, refusal)
    await finish(app, call, "system", NO_CAPACITY, cause=refusal)


async def _resume(request: CarrierRequest) -> WebhookReply:
    """Handle the end of a stream: hang up if the call has ended, otherwise reconnect it, at most three times.

    Hand-overs by a stopping process do not count. The signed URL identifies the stream that has ended, so a
    copy of the request changes nothing.
    """
    incoming = request.carrier.incoming_call(request.webhook)
    try:
        call = await dialled(request, incoming.carrier_call_id, incoming.reference)
    except NotFound:
        return request.carrier.hang_up_reply()
    if request.flow is not None:
        return await flow_webhooks.again(request, request.flow, call)
    if call.end_reason == TTS_UNAVAILABLE:
        return await speak_for(request, call)
    if TRANSFER in request.webhook.query:
        return await leg_webhooks.after_transfer(request, call)
    if (leg := await leg_webhooks.leg_of_caller(request, call)) is not None:
        return await leg_webhooks.caller_back(request, leg, call)
    if call.status == "transferring":
        return await leg_webhooks.after_transfer(request, call, was_dialled=False)
    query = request.webhook.query
    resumes = _whole_number(query.get(RESUMES))
    if resumes is not None and WAITING_SINCE in query and call.resumes == resumes + 1:
        # It was counted, but too late to be answered.
        return request.connect(call)
    is_copy = resumes is not None and resumes != call.resumes
    if is_copy or request.is_late or call.status == "ended" or call.resumes - call.handovers >= MAX_RESUMES:
        return request.carrier.hang_up_reply()
    call = await calls.resumed(request.app.database, call.account_id, call.id, call.resumes + 1)
    logger.info("call {}: the stream was lost; resume {}", call.id, call.resumes)
    return request.connect(call)


def wait_for_database(request: CarrierRequest, webhook: str) -> WebhookReply:
    """The database does not answer: have the carrier ask again until the number's ``patience_ms`` is over.

    Then the call goes to the number's fallback, or the carrier apologises.
    """
    number = request.number()
    now_ms = round(request.app.clock.now().timestamp() * 1000)
    since_ms = min(_whole_number(request.webhook.query.get(WAITING_SINCE)) or now_ms, now_ms)
    if now_ms - since_ms < number.patience_ms:
        query = {**request.webhook.query, WAITING_SINCE: since_ms}
        url = f"{request.webhooks_url}/{webhook}?{urlencode(query)}"
        return request.carrier.wait_reply(DATABASE_PAUSE_S, url)
    return fallback(request)


def fallback(request: CarrierRequest) -> WebhookReply:
    """Connect the call to its number's fallback, or have the carrier apologise."""
    number = request.number()
    if number.fallback_number is not None:
        return request.carrier.transfer_reply(TransferRequest(to=number.fallback_number))
    return request.carrier.say_reply(failure_texts(number.language).goodbye, number.language)


def _whole_number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS else None


async def stream(request: CarrierRequest) -> WebhookReply:
    """Record the failure of a media stream; the socket reports its other events."""
    report = request.carrier.stream_status(request.webhook)
    if report.event != "failed":
        return NO_CONTENT
    app, error = request.app, (report.error or "unknown")[:MAX_ERROR]
    try:
        call = await _known(request, report.carrier_call_id)
    except NotFound:
        return NO_CONTENT
    # A copy of the request has the same id, and changes nothing.
    event_id = id_of(call.id, "stream.failed", report.stream_id, error)
    event = EventRecord.unnumbered(call, "stream.failed", {"error": error}, app.clock.now(), event_id)
    # The process that has the call may be writing its events: append() numbers this one after them.
    if await events.append(app.database, event):
        app.metrics.stream_errors.labels(request.name).inc()
        logger.warning("{} call {}: the media stream failed: {}", request.name, report.carrier_call_id, error)
    return NO_CONTENT


async def _known(request: CarrierRequest, carrier_call_id: str) -> CallRecord:
    return await carrier_calls.by_carrier_id(request.app.database, request.name, carrier_call_id)


WEBHOOKS: Mapping[str, Callable[[CarrierRequest], Awaitable[WebhookReply]]] = {
    "voice": voice,
    "menu": menu,
    "status": carrier_status.status,
    "stream": stream,
    "machine": attempt_webhooks.machine,
    "resume": resume,
    "leg": leg_webhooks.leg_status,
    "whisper": leg_webhooks.whisper,
    "key": leg_webhooks.key,
    "left": leg_webhooks.operator_left,
    "conference": leg_webhooks.conference,
    "to-person": flow_webhooks.to_person,
    "connect": flow_webhooks.connect,
    "again": resume,
}
"""The function of each webhook, for all carriers; `webhook_path` verifies the requests."""
