"""What carriers call: voice, status, stream, resume. No carrier is known by name here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from time import perf_counter

from fastapi import APIRouter, Request, Response
from loguru import logger

from db import call_tokens, calls, events
from db import inbound as inbound_calls
from db.calls import CallRecord
from db.calls import Carrier as CarrierName
from db.errors import NoOrchestrator, NotFound, UnknownNumber
from db.events import EventRecord
from db.ids import new_id
from db.inbound import InboundCall
from telephony.carrier import (
    AnswerUrls,
    BadSignature,
    BadWebhook,
    TransferRequest,
    WebhookReply,
    WebhookRequest,
)
from voicebot.api.app_state import AppState, AppStateDep
from voicebot.api.carrier_status import carrier_end, close
from voicebot.api.problems import ApiProblem
from voicebot.config import websocket_url

router = APIRouter(prefix="/webhooks", include_in_schema=False)

TOKEN_LIFE = timedelta(seconds=60)
"""From the answer to the media socket's start; a carrier takes a second or two."""

MAX_RESUMES = 3
"""How often a call whose stream was lost is connected again."""


MAX_ERROR = 500
"""How much of a carrier's words about a failure is kept, in characters."""


class Visit:
    """One webhook (its signature is to be right): where it came to, whom it is from, what it says."""

    def __init__(self, wired: AppState, name: CarrierName, webhook: WebhookRequest, origin: str) -> None:
        """``origin`` is where carriers reach this server: ``https://host`` and any prefix."""
        self.wired = wired
        self.name = name
        self.carrier = wired.carriers[name]
        self.webhook = webhook
        self._origin = origin

    async def connect(self, call: CallRecord) -> WebhookReply:
        """Lead the call to our media socket with a fresh token; hang up if it has just ended."""
        try:
            token = await call_tokens.issue(self.wired.database, call.account_id, call.id, TOKEN_LIFE)
        except NotFound:
            return self.carrier.hang_up_reply()
        return self.carrier.answer(token, self._urls())

    def _urls(self) -> AnswerUrls:
        webhooks = f"{self._origin}/webhooks/{self.name}"
        return AnswerUrls(
            media_url=websocket_url(f"{self._origin}/media/{self.name}"),
            stream_status_url=f"{webhooks}/stream",
            resume_url=f"{webhooks}/resume",
        )


async def voice(visit: Visit) -> WebhookReply:
    """A call comes in: made with its lead, or found when the webhook comes again, and connected."""
    incoming = visit.carrier.incoming_call(visit.webhook)
    if incoming.direction == "outbound":
        return await visit.connect(await _known(visit, incoming.carrier_call_id))
    inbound = InboundCall(
        carrier=visit.name,
        carrier_call_id=incoming.carrier_call_id,
        to_number=incoming.to,
        from_number=incoming.from_ or None,
        started_at=visit.wired.clock.now(),
    )
    try:
        began = await inbound_calls.begin(visit.wired.database, inbound)
    except UnknownNumber:
        logger.warning("a call of {} to an unknown number was rejected", visit.name)
        return visit.carrier.reject()
    except NoOrchestrator as error:
        logger.warning("number {}: no active orchestrator answers it", error.number_id)
        if error.fallback_number is None:
            return visit.carrier.reject()
        return visit.carrier.transfer_reply(TransferRequest(to=error.fallback_number))
    if began.created:
        # While the carrier opens its stream, the greeting is fetched from where a restart left it.
        greeting = visit.wired.call_registry.prepare_greetings(
            began.call.account_id, began.call.initial_template_id
        )
        visit.wired.background.start(greeting, name="fetching a greeting", droppable=True)
    return await visit.connect(began.call)


async def resume(visit: Visit) -> WebhookReply:
    """The call's stream is over: hang up if the call is, else connect it again, a few times at most."""
    incoming = visit.carrier.incoming_call(visit.webhook)
    try:
        call = await _known(visit, incoming.carrier_call_id)
    except NotFound:
        return visit.carrier.hang_up_reply()
    if call.status == "ended" or call.resumes >= MAX_RESUMES:
        return visit.carrier.hang_up_reply()
    call = await calls.resumed(visit.wired.database, call.account_id, call.id, call.resumes + 1)
    logger.info("call {}: stream lost, resumed for the {}. time", call.id, call.resumes)
    return await visit.connect(call)


async def status(visit: Visit) -> WebhookReply:
    """News of a call. A terminal status wins; whatever comes after it changes nothing."""
    news = visit.carrier.call_status(visit.webhook)
    wired = visit.wired
    try:
        call = await calls.carrier_status(wired.database, visit.name, news.carrier_call_id, carrier_end(news))
    except NotFound:
        return NOTED
    if news.terminal and call.status != "ended":
        wired.background.start(close(wired, call, news), name=f"closing call {call.id}")
    return NOTED


async def stream(visit: Visit) -> WebhookReply:
    """News of a media stream; only its failure is of interest, since its socket tells the rest."""
    news = visit.carrier.stream_status(visit.webhook)
    if news.event != "failed":
        return NOTED
    wired, error = visit.wired, (news.error or "unknown")[:MAX_ERROR]
    wired.metrics.stream_errors.labels(visit.name).inc()
    logger.warning("{} call {}: the media stream failed: {}", visit.name, news.carrier_call_id, error)
    try:
        call = await _known(visit, news.carrier_call_id)
    except NotFound:
        return NOTED
    if not wired.call_registry.stream_failed(call.id, error):
        # Another process may have the call and be writing its events: this one goes behind them.
        await events.append(wired.database, stream_failure(call, error, wired.clock.now()))
    return NOTED


def stream_failure(call: CallRecord, error: str, at: datetime) -> EventRecord:
    """The event that tells of a failed stream, of a call that this process does not have."""
    return EventRecord(
        id=new_id(),
        account_id=call.account_id,
        call_id=call.id,
        seq=0,  # behind all others
        type="stream.failed",
        at=at,
        template_id=call.template_id,
        node=call.node,
        data={"error": error},
    )


NOTED = WebhookReply(status=204, content_type="text/plain", body="")

WEBHOOKS: Mapping[str, Callable[[Visit], Awaitable[WebhookReply]]] = {
    "voice": voice,
    "status": status,
    "stream": stream,
    "resume": resume,
}


@router.post("/{carrier}/{webhook}")
async def receive(request: Request, wired: AppStateDep, carrier: CarrierName, webhook: str) -> Response:
    """Verify, then do what the webhook is for. A forged one gets 403 and not a word."""
    work = WEBHOOKS.get(webhook)
    if carrier not in wired.carriers or work is None:
        raise ApiProblem("not_found", "There is no such webhook here.")
    began = perf_counter()
    response = await _reply(request, wired, carrier, work)
    seconds = perf_counter() - began
    wired.metrics.webhook_seconds.labels(carrier, webhook, response.status_code).observe(seconds)
    return response


async def _reply(
    request: Request, wired: AppState, name: CarrierName, work: Callable[[Visit], Awaitable[WebhookReply]]
) -> Response:
    webhook = WebhookRequest.received(
        method=request.method,
        url=str(request.url),
        headers=request.headers,
        body=await request.body(),
    )
    origin = wired.settings.public_url or str(request.base_url).rstrip("/")
    visit = Visit(wired, name, webhook, origin)
    try:
        visit.carrier.verify(webhook)
        reply = await work(visit)
    except BadSignature as error:
        logger.warning("{} {}: refused: {}", request.method, request.url.path, error)
        return Response(status_code=403)
    except BadWebhook as error:
        raise ApiProblem("invalid_webhook", str(error)) from error
    return Response(reply.body, reply.status, media_type=reply.content_type)


async def _known(visit: Visit, carrier_call_id: str) -> CallRecord:
    return await calls.by_carrier_id(visit.wired.database, visit.name, carrier_call_id)
