"""/calls: what happened on the telephone, and the way to end it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from db import audit, calls, events, open_handoffs, routes, utterances
from db.audit import Change
from db.calls import CallEnd, CallFilter, CallRecord, CallStatus, Carrier, Direction, EndedBy
from db.handoffs import Intent
from db.routes import RouteContext, RouteStatus
from db.utterances import Source, Speaker
from telephony.carrier import CarrierError
from voicebot.api.access import Operator, Reader
from voicebot.api.app_state import AppState, AppStateDep
from voicebot.api.documentation import refuses
from voicebot.api.pagination import PageOf, PageQuery
from voicebot.api.problems import ApiProblem

router = APIRouter(prefix="/calls", tags=["calls"])

ENDED_BY_OPERATOR = "ended_by_operator"


_COLUMNS = {"from_": "from_number", "to": "to_number"}

HandoffState = Literal["escalated", "parked"]
_HANDED: Mapping[Intent, HandoffState] = {"escalate": "escalated", "park": "parked"}


class Shown(BaseModel):
    """What the records answered here have in common: they are made from rows."""

    model_config = ConfigDict(from_attributes=True)


class Call(Shown):
    """One call."""

    id: UUID
    lead_id: UUID
    number_id: UUID
    carrier: Carrier
    carrier_call_id: str | None
    direction: Direction
    from_: Annotated[str | None, Field(alias="from")]
    to: str
    template_id: UUID
    node: str | None
    status: CallStatus
    ended_by: EndedBy | None
    end_reason: str | None
    outcome: str | None
    resumes: int
    started_at: datetime
    answered_at: datetime | None
    ended_at: datetime | None
    duration_ms: int | None
    handoff_state: Annotated[
        HandoffState | None,
        Field(
            description="`escalated`: a person is asked for or has it; `parked`: somebody is to call later."
        ),
    ]

    @classmethod
    def of(cls, call: CallRecord, intent: Intent | None) -> Self:
        """A call as it is answered; ``intent`` is that of its open handoff."""
        columns = cls.model_fields.keys() - {"handoff_state"}
        record = {name: getattr(call, _COLUMNS.get(name, name)) for name in columns}
        state = _HANDED[intent] if intent else None
        return cls.model_validate({**record, "handoff_state": state}, by_name=True)


class RouteTaken(Shown):
    """One use of `route_to_agent`."""

    id: UUID
    call_id: UUID
    seq: int
    name: str
    hop: int
    from_template_id: UUID
    from_node: str | None
    to_template_id: UUID | None
    to_node: str | None
    reason: str
    context: RouteContext
    announced: bool
    status: RouteStatus
    error_code: str | None
    requested_at: datetime
    switched_at: datetime | None
    first_audio_at: datetime | None
    gap_ms: int | None


class Utterance(Shown):
    """What somebody said; times are milliseconds since the answer."""

    id: UUID
    call_id: UUID
    seq: int
    speaker: Speaker
    template_id: UUID | None
    node: str | None
    text: str
    heard_text: str | None
    interrupted: bool
    source: Source
    started_ms: int
    ended_ms: int | None


class Event(Shown):
    """Something that happened on a call."""

    id: UUID
    call_id: UUID
    seq: int
    type: str
    at: datetime
    template_id: UUID | None
    node: str | None
    data: dict[str, Any]


class CallQuery(PageQuery):
    """Which calls to list."""

    status: CallStatus | None = None
    number_id: UUID | None = None
    lead_id: UUID | None = None
    template_id: UUID | None = None


@router.get("", responses=refuses("invalid_request"))
async def list_calls(
    wired: AppStateDep, reader: Reader, query: Annotated[CallQuery, Query()]
) -> PageOf[Call]:
    """The account's calls, newest first."""
    where = CallFilter(
        status=query.status,
        number_id=query.number_id,
        lead_id=query.lead_id,
        template_id=query.template_id,
    )
    found = await calls.list_calls(
        wired.database, reader.account_id, where, limit=query.limit, cursor=query.cursor
    )
    handed = await open_handoffs.intents(wired.database, reader.account_id, [each.id for each in found.items])
    return PageOf[Call](
        items=[Call.of(each, handed.get(each.id)) for each in found.items], next_cursor=found.next_cursor
    )


@router.get("/{call_id:uuid}", responses=refuses("not_found"))
async def get_call(wired: AppStateDep, reader: Reader, call_id: UUID) -> Call:
    """One call."""
    return await _told(wired, await calls.get(wired.database, reader.account_id, call_id))


@router.get("/{call_id:uuid}/transcript", responses=refuses("not_found"))
async def get_transcript(wired: AppStateDep, reader: Reader, call_id: UUID) -> PageOf[Utterance]:
    """What was said, in order, by whom and under which template; all of it on one page."""
    call = await calls.get(wired.database, reader.account_id, call_id)
    found = await utterances.of_call(wired.database, call.account_id, call.id)
    return PageOf[Utterance](items=[Utterance.model_validate(each) for each in found], next_cursor=None)


@router.get("/{call_id:uuid}/events", responses=refuses("not_found"))
async def get_events(wired: AppStateDep, reader: Reader, call_id: UUID) -> PageOf[Event]:
    """What happened, in order; all of it on one page."""
    call = await calls.get(wired.database, reader.account_id, call_id)
    found = await events.of_call(wired.database, call.account_id, call.id)
    return PageOf[Event](items=[Event.model_validate(each) for each in found], next_cursor=None)


@router.get("/{call_id:uuid}/routes", responses=refuses("not_found"))
async def get_routes(wired: AppStateDep, reader: Reader, call_id: UUID) -> PageOf[RouteTaken]:
    """The call's changes of agent, refused and failed ones included; all of them on one page."""
    call = await calls.get(wired.database, reader.account_id, call_id)
    found = await routes.of_call(wired.database, call.account_id, call.id)
    return PageOf[RouteTaken](items=[RouteTaken.model_validate(each) for each in found], next_cursor=None)


@router.get("/{call_id:uuid}/recording", response_model=None, responses=refuses("not_found"))
async def get_recording(wired: AppStateDep, reader: Reader, call_id: UUID) -> None:
    """The call's recording; 404 where none was made."""
    await calls.get(wired.database, reader.account_id, call_id)
    raise ApiProblem("not_found", "No recording of this call was made.")


@router.post("/{call_id:uuid}/end", responses=refuses("not_found", "carrier_failed"))
async def end_call(wired: AppStateDep, operator: Operator, call_id: UUID) -> Call:
    """Hang up. A call that has ended stays as it ended."""
    call = await calls.get(wired.database, operator.account_id, call_id)
    if call.status == "ended":
        return await _told(wired, call)
    change = Change(key_id=operator.key_id, action="end", resource="call", resource_id=call.id)
    if await wired.call_registry.end(call.id, ended_by="operator", reason=ENDED_BY_OPERATOR):
        await audit.record(wired.database, operator.account_id, change)
    else:
        await _end_elsewhere(wired, call, change)
    return await _told(wired, await calls.get(wired.database, operator.account_id, call.id))


async def _told(wired: AppState, call: CallRecord) -> Call:
    handed = await open_handoffs.intents(wired.database, call.account_id, [call.id])
    return Call.of(call, handed.get(call.id))


async def _end_elsewhere(wired: AppState, call: CallRecord, change: Change) -> None:
    """End a call that another process holds, or none yet: through the carrier, which closes its stream."""
    end = CallEnd(ended_by="operator", end_reason=ENDED_BY_OPERATOR, outcome=None, ended_at=wired.clock.now())
    async with wired.database.transaction() as transaction:
        await calls.finish(transaction, call.account_id, call.id, end)
        await audit.record(transaction, call.account_id, change)
    carrier = wired.carriers.get(call.carrier)
    if carrier is None or call.carrier_call_id is None:
        return
    try:
        await carrier.hang_up(call.carrier_call_id)
    except CarrierError as error:
        raise ApiProblem(
            "carrier_failed", "The call was closed here, but the carrier did not hang up."
        ) from error
