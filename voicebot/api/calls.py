"""/calls: the account's calls, their transcripts, events and routes; ending a call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal
from uuid import UUID

from fastapi import Query, Request, Response

from db import audit, call_lists, calls, events, model_requests, open_handoffs, routes, utterances
from db.audit import Change
from db.call_lists import CallFilter
from db.calls import CallEnd, CallRecord, CallStatus
from db.events import EventRecord
from db.handoffs import Intent
from db.model_requests import ModelRequestRecord
from db.routes import RouteRecord
from db.rows import after_seq
from db.utterances import UtteranceRecord
from telephony.errors import CarrierError
from voicebot.api.access import Operator, Reader
from voicebot.api.answers import AnswerOf, extended
from voicebot.api.app_state import AppState, AppStateDep
from voicebot.api.documentation import refuses
from voicebot.api.pagination import PageOf, PageQuery
from voicebot.api.problems import ApiProblem
from voicebot.api.resource_router import resource_router
from voicebot.api.worker_forwarding import answer_of_other, is_of_worker

router = resource_router("/calls", "calls")

ENDED_BY_OPERATOR = "ended_by_operator"
_END_TIMEOUT_S = 10.0


HandoffState = Literal["escalated", "parked"]
_HANDOFF_STATES: Mapping[Intent, HandoffState] = {"escalate": "escalated", "park": "parked"}


@dataclass(frozen=True, slots=True, kw_only=True)
class CallWithHandoff(CallRecord):
    """One call."""

    handoff_state: HandoffState | None
    """`escalated`: a person is requested or has the call; `parked`: a person is to call back later."""


Call = Annotated[
    CallWithHandoff,
    AnswerOf(
        "Call",
        omit=(
            "account_id",
            "carrier_status",
            "handovers",
            "initial_template_id",
            "offered_template_ids",
            "revisions",
            "variables",
        ),
        properties=("duration_ms",),
        aliases={"from_number": "from", "to_number": "to"},
    ),
]
RouteTaken = Annotated[RouteRecord, AnswerOf("RouteTaken")]
Utterance = Annotated[UtteranceRecord, AnswerOf("Utterance")]
Event = Annotated[EventRecord, AnswerOf("Event")]
ModelRequest = Annotated[
    ModelRequestRecord,
    AnswerOf(
        "ModelRequest",
        omit=("account_id", "shared"),
        examples={
            "messages": [
                {"role": "system", "content": "You are the receptionist of Acme."},
                {"role": "user", "content": "Where is my parcel?"},
            ],
            "settings": {"provider": "openai", "model": "gpt-4.1-mini", "temperature": 0.2},
            "function_calls": [{"name": "find_parcel", "arguments": {"number": "4471"}}],
            "tokens": {"prompt": 412, "completion": 18, "cached": 0, "total": 430},
        },
    ),
]


class CallQuery(PageQuery):
    """Which calls to list."""

    status: CallStatus | None = None
    number_id: UUID | None = None
    lead_id: UUID | None = None
    template_id: UUID | None = None


@router.get("", responses=refuses("invalid_request"))
async def list_calls(
    app_state: AppStateDep, reader: Reader, query: Annotated[CallQuery, Query()]
) -> PageOf[Call]:
    """The account's calls, newest first."""
    where = CallFilter(
        status=query.status,
        number_id=query.number_id,
        lead_id=query.lead_id,
        template_id=query.template_id,
    )
    found = await call_lists.list_calls(
        app_state.database, reader.account_id, where, limit=query.limit, cursor=query.cursor
    )
    call_ids = [each.id for each in found.items]
    intents = await open_handoffs.intents(app_state.database, reader.account_id, call_ids)
    return PageOf[Call](
        items=[_with_handoff(each, intents.get(each.id)) for each in found.items],
        next_cursor=found.next_cursor,
    )


@router.get("/{call_id:uuid}", responses=refuses("not_found"))
async def get_call(app_state: AppStateDep, reader: Reader, call_id: UUID) -> Call:
    """One call."""
    return await _answer(app_state, await calls.get(app_state.database, reader.account_id, call_id))


@router.get("/{call_id:uuid}/transcript", responses=refuses("not_found"))
async def get_transcript(app_state: AppStateDep, reader: Reader, call_id: UUID) -> PageOf[Utterance]:
    """The transcript: what was said, in order, by whom and with which template; all on one page."""
    call = await calls.get(app_state.database, reader.account_id, call_id)
    found = await utterances.of_call(app_state.database, call.account_id, call.id)
    return PageOf[Utterance](items=list(found), next_cursor=None)


@router.get("/{call_id:uuid}/events", responses=refuses("not_found"))
async def get_events(app_state: AppStateDep, reader: Reader, call_id: UUID) -> PageOf[Event]:
    """The call's events in order, all on one page."""
    call = await calls.get(app_state.database, reader.account_id, call_id)
    found = await events.of_call(app_state.database, call.account_id, call.id)
    return PageOf[Event](items=list(found), next_cursor=None)


@router.get("/{call_id:uuid}/routes", responses=refuses("not_found"))
async def get_routes(app_state: AppStateDep, reader: Reader, call_id: UUID) -> PageOf[RouteTaken]:
    """The call's routes between agents, refused and failed ones included, all on one page."""
    call = await calls.get(app_state.database, reader.account_id, call_id)
    found = await routes.of_call(app_state.database, call.account_id, call.id)
    return PageOf[RouteTaken](items=list(found), next_cursor=None)


@router.get("/{call_id:uuid}/turns", responses=refuses("not_found", "invalid_request"))
async def get_turns(
    app_state: AppStateDep, reader: Reader, call_id: UUID, query: Annotated[PageQuery, Query()]
) -> PageOf[ModelRequest]:
    """The requests to the language model in order: what it was shown, what it answered, times and cost.

    A failed request has the vendor's code in `error`.
    """
    call = await calls.get(app_state.database, reader.account_id, call_id)
    found = await model_requests.of_call(
        app_state.database, call.account_id, call.id, after=after_seq(query.cursor), limit=query.limit
    )
    return PageOf[ModelRequest](items=list(found.items), next_cursor=found.next_cursor)


@router.post("/{call_id:uuid}/end", response_model=Call, responses=refuses("not_found", "carrier_failed"))
async def end_call(
    app_state: AppStateDep, operator: Operator, call_id: UUID, request: Request
) -> CallWithHandoff | Response:
    """End a call. One that has ended is not changed."""
    call = await calls.get(app_state.database, operator.account_id, call_id)
    if call.status == "ended":
        return await _answer(app_state, call)
    change = Change(key_id=operator.key_id, action="end", resource="call", resource_id=call.id)
    if await app_state.call_registry.end(call.id, ended_by="operator", reason=ENDED_BY_OPERATOR):
        await audit.record(app_state.database, operator.account_id, change)
    elif is_of_worker(request):
        raise ApiProblem("not_found", "Another worker has the call.")
    elif answer := await answer_of_other(app_state, request, refusal="not_found", timeout_s=_END_TIMEOUT_S):
        return answer
    else:
        await _end_elsewhere(app_state, call, change)
    return await _answer(app_state, await calls.get(app_state.database, operator.account_id, call.id))


async def _answer(app_state: AppState, call: CallRecord) -> Call:
    intents = await open_handoffs.intents(app_state.database, call.account_id, [call.id])
    return _with_handoff(call, intents.get(call.id))


def _with_handoff(call: CallRecord, intent: Intent | None) -> Call:
    """A call as the API presents it; ``intent`` is that of its open handoff."""
    state = _HANDOFF_STATES[intent] if intent else None
    return extended(CallWithHandoff, call, handoff_state=state)


async def _end_elsewhere(app_state: AppState, call: CallRecord, change: Change) -> None:
    """End a call that this process does not run, in the database and at the carrier."""
    end = CallEnd(
        ended_by="operator", end_reason=ENDED_BY_OPERATOR, outcome=None, ended_at=app_state.clock.now()
    )
    async with app_state.database.transaction() as transaction:
        await calls.finish(transaction, call.account_id, call.id, end)
        await audit.record(transaction, call.account_id, change)
    carrier = app_state.carriers.get(call.carrier)
    if carrier is None or call.carrier_call_id is None:
        return
    try:
        await carrier.hang_up(call.carrier_call_id)
    except CarrierError as error:
        raise ApiProblem(
            "carrier_failed", "The call was ended here, but the carrier did not hang up."
        ) from error
