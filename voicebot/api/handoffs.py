"""/handoffs: callers who need a person, claimed and resolved by one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Response

from db import audit, handoffs, users
from db.audit import Change
from db.handoffs import HandoffRecord, QueueFilter
from voicebot.api.access import LeadWriter, Operator, Principal, Reader
from voicebot.api.app_state import AppState, AppStateDep
from voicebot.api.documentation import BODY, refuses
from voicebot.api.handoff_models import (
    BriefingShown,
    ClaimShown,
    Handoff,
    HandoffBody,
    HandoffDetail,
    QueuePage,
    QueueQuery,
    ReleaseBody,
    RescheduleBody,
    ResolveBody,
)
from voicebot.api.problems import ApiProblem, FieldError
from voicebot.handoffs.create_request import CreateHandoff
from voicebot.handoffs.handoff_service import Claim, Reschedule

router = APIRouter(prefix="/handoffs", tags=["handoffs"])

LATEST = timedelta(days=366)
"""How far ahead a call may be parked."""

MOVE = refuses(*BODY, "invalid_request", "not_found", "stale_claim", "illegal_move")
"""What a move may be refused for."""

Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        description="The same key with the same body gives the handoff that was made first.",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class AtDesk:
    """Who moves a handoff: the holder of a key, and the person it speaks for."""

    caller: Principal
    person_id: UUID

    @property
    def account_id(self) -> UUID:
        """The account of both."""
        return self.caller.account_id


async def at_desk(wired: AppStateDep, operator: Operator) -> AtDesk:
    """A dependency: the person who asks, if their role takes handoffs."""
    person = await users.of_key(wired.database, operator.account_id, operator.key_id)
    return AtDesk(caller=operator, person_id=person.id)


Taker = Annotated[AtDesk, Depends(at_desk)]


@router.get("", responses=refuses("invalid_request"))
async def list_handoffs(
    wired: AppStateDep, reader: Reader, query: Annotated[QueueQuery, Query()]
) -> QueuePage:
    """The queue: highest priority first, then oldest; waiting makes up for priority: nobody starves."""
    where = QueueFilter(
        state=query.state,
        intent=query.intent,
        language=query.language,
        team=query.team,
        call_id=query.call_id,
    )
    found = await handoffs.queue(
        wired.database, reader.account_id, where, limit=query.limit, cursor=query.cursor
    )
    return QueuePage(
        items=[Handoff.model_validate(each) for each in found.page.items],
        next_cursor=found.page.next_cursor,
        as_of_seq=found.as_of_seq,
    )


@router.post(
    "", status_code=201, responses=refuses(*BODY, "invalid_request", "idempotency_key_reused", "not_found")
)
async def create_handoff(
    wired: AppStateDep,
    dialler: LeadWriter,
    body: HandoffBody,
    response: Response,
    idempotency_key: Key = None,
) -> Handoff:
    """Ask for a person. A call has one open escalation: asking again answers with that one."""
    person = await users.of_key(wired.database, dialler.account_id, dialler.key_id)
    _in_reach(wired, body.due_at)
    wish = CreateHandoff(**body.model_dump(), origin="person", created_by=person.id)
    made = await wired.office.desk.create(dialler.account_id, wish, key=idempotency_key)
    response.headers["Location"] = f"/api/v1/handoffs/{made.handoff.id}"
    if not made.created:
        response.headers["Idempotency-Replayed"] = "true"
        return Handoff.model_validate(made.handoff)
    return await _done(wired, dialler, "create", made.handoff)


@router.get("/{handoff_id:uuid}", responses=refuses("not_found"))
async def get_handoff(wired: AppStateDep, reader: Reader, handoff_id: UUID) -> HandoffDetail:
    """One handoff, with its snapshot."""
    found = await handoffs.get(wired.database, reader.account_id, handoff_id)
    frozen = await handoffs.snapshot(wired.database, reader.account_id, handoff_id)
    shown = Handoff.model_validate(found).model_dump(exclude={"call_state"})
    return HandoffDetail(**shown, snapshot=dict(frozen))


@router.post(
    "/{handoff_id:uuid}/claim",
    responses=refuses("not_found", "already_claimed", "capacity_reached", "illegal_move"),
)
async def claim_handoff(wired: AppStateDep, taker: Taker, handoff_id: UUID) -> ClaimShown:
    """Take it. One claim wins; the winner may ask again. Answers with the briefing."""
    won: Claim = await wired.office.desk.claim(taker.account_id, handoff_id, taker.person_id)
    handoff = await _done(wired, taker.caller, "claim", won.handoff)
    return ClaimShown(handoff=handoff, briefing=BriefingShown.model_validate(won.briefing))


@router.post("/{handoff_id:uuid}/release", responses=MOVE)
async def release_handoff(
    wired: AppStateDep, taker: Taker, handoff_id: UUID, body: ReleaseBody | None = None
) -> Handoff:
    """Give it back to the queue, where it keeps its place."""
    asked = body or ReleaseBody()
    released = await wired.office.desk.release(
        taker.account_id, handoff_id, taker.person_id, epoch=asked.epoch, reason=asked.reason
    )
    return await _done(wired, taker.caller, "release", released)


@router.post("/{handoff_id:uuid}/decline", responses=MOVE)
async def decline_handoff(
    wired: AppStateDep, taker: Taker, handoff_id: UUID, body: ReleaseBody | None = None
) -> Handoff:
    """Not take it, and not be asked again."""
    asked = body or ReleaseBody()
    declined = await wired.office.desk.decline(
        taker.account_id, handoff_id, taker.person_id, reason=asked.reason
    )
    return await _done(wired, taker.caller, "decline", declined)


@router.post("/{handoff_id:uuid}/resolve", responses=MOVE)
async def resolve_handoff(
    wired: AppStateDep, taker: Taker, handoff_id: UUID, body: ResolveBody | None = None
) -> Handoff:
    """Be done with it."""
    asked = body or ResolveBody()
    resolved = await wired.office.desk.resolve(
        taker.account_id, handoff_id, taker.person_id, epoch=asked.epoch, resolution=asked.resolution
    )
    return await _done(wired, taker.caller, "resolve", resolved)


@router.post("/{handoff_id:uuid}/reschedule", responses=MOVE)
async def reschedule_handoff(
    wired: AppStateDep, taker: Taker, handoff_id: UUID, body: RescheduleBody
) -> Handoff:
    """Call at another time. An escalation becomes a park, which is answered."""
    _in_reach(wired, body.due_at)
    later = Reschedule(due_at=body.due_at, time_zone=body.time_zone, consent=body.consent)
    parked = await wired.office.desk.reschedule(
        taker.account_id, handoff_id, taker.person_id, later, epoch=body.epoch
    )
    return await _done(wired, taker.caller, "reschedule", parked)


def _in_reach(wired: AppState, due_at: datetime | None) -> None:
    now = wired.clock.now()
    if due_at is not None and not now - LATEST < due_at < now + LATEST:
        fault = FieldError(
            pointer="/due_at",
            code="out_of_reach",
            message="The time is more than a year away.",
            remedy="Choose a nearer one.",
        )
        raise ApiProblem("invalid_request", fault.message, errors=[fault])


async def _done(wired: AppState, who: Principal, action: str, handoff: HandoffRecord) -> Handoff:
    """The handoff as it is answered, after a line in the audit list."""
    change = Change(key_id=who.key_id, action=action, resource="handoff", resource_id=handoff.id)
    await audit.record(wired.database, who.account_id, change)
    return Handoff.model_validate(handoff)
