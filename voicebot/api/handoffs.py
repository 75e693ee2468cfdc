"""/handoffs: requests for a person, which operators claim and resolve."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Header, Query, Request, Response

from db import audit, handoffs, users
from db.audit import Change
from db.handoffs import HandoffDraft, HandoffRecord, QueueFilter
from voicebot.api.access import LeadWriter, Operator, Principal, Reader
from voicebot.api.answers import extended
from voicebot.api.app_state import AppState, AppStateDep
from voicebot.api.carriers.carrier_request import origin_of
from voicebot.api.documentation import BODY, refuses
from voicebot.api.handoff_models import (
    CancelBody,
    ClaimAnswer,
    ClaimBody,
    EpochBody,
    Handoff,
    HandoffBody,
    HandoffDetail,
    HandoffWithSnapshot,
    QueuePage,
    QueueQuery,
    ReassignBody,
    ReleaseBody,
    RescheduleBody,
    ResolveBody,
)
from voicebot.api.problems import ApiProblem, FieldError
from voicebot.api.resource_router import resource_router
from voicebot.handoffs.bridge import NotDialable
from voicebot.handoffs.create import Reschedule
from voicebot.handoffs.transitions import StaleClaim

router = resource_router("/handoffs", "handoffs")

MAX_DISTANCE = timedelta(days=366)
"""How far from now a call may be scheduled."""

CHANGE = refuses(*BODY, "invalid_request", "not_found", "stale_claim", "illegal_move")
"""Refusals of the changes to a handoff."""

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        description=(
            "A repetition with the same key returns the first handoff; intent, reason, call_id and lead_id "
            "must be the same."
        ),
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who changes a handoff: the holder of an API key and the key's user."""

    principal: Principal
    user_id: UUID

    @property
    def account_id(self) -> UUID:
        """The account of both."""
        return self.principal.account_id

    @property
    def supervises(self) -> bool:
        """Whether they may act on handoffs that another operator holds."""
        return self.principal.role in ("owner", "admin")


async def acting_operator(state: AppStateDep, operator: Operator) -> Actor:
    """A dependency: the user of the key, if their role may claim handoffs."""
    user = await users.of_key(state.database, operator.account_id, operator.key_id)
    return Actor(principal=operator, user_id=user.id)


ActingOperator = Annotated[Actor, Depends(acting_operator)]


@router.get("", responses=refuses("invalid_request"))
async def list_handoffs(
    state: AppStateDep, reader: Reader, query: Annotated[QueueQuery, Query()]
) -> QueuePage:
    """List handoffs in queue order: by creation time, moved earlier or later by the priority."""
    where = QueueFilter(
        state=query.state,
        intent=query.intent,
        language=query.language,
        team=query.team,
        call_id=query.call_id,
    )
    found = await handoffs.queue(
        state.database, reader.account_id, where, limit=query.limit, cursor=query.cursor
    )
    return QueuePage(items=list(found.items), next_cursor=found.next_cursor, as_of_seq=found.as_of_seq)


@router.post(
    "",
    status_code=201,
    responses=refuses(*BODY, "invalid_request", "idempotency_key_reused", "not_found"),
)
async def create_handoff(
    state: AppStateDep,
    writer: LeadWriter,
    body: HandoffBody,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> Handoff:
    """Request a person. A call has one open escalation; requesting again returns that one."""
    user = await users.of_key(state.database, writer.account_id, writer.key_id)
    _check_distance(state, body.due_at)
    draft = HandoffDraft(
        **body.model_dump(), origin="person", created_by=user.id, created_at=state.clock.now()
    )
    made = await state.handoffs.service.create(writer.account_id, draft, idempotency_key=idempotency_key)
    response.headers["Location"] = f"/api/v1/handoffs/{made.handoff.id}"
    if made.created:
        await _audit(state, writer, "create", made.handoff)
    else:
        response.headers["Idempotency-Replayed"] = "true"
    return made.handoff


@router.get("/{handoff_id:uuid}", responses=refuses("not_found"))
async def get_handoff(state: AppStateDep, reader: Reader, handoff_id: UUID) -> HandoffDetail:
    """Get one handoff with the snapshot of its call."""
    handoff = await handoffs.get(state.database, reader.account_id, handoff_id)
    snapshot = await handoffs.snapshot(state.database, reader.account_id, handoff_id)
    return extended(HandoffWithSnapshot, handoff, snapshot=snapshot)


@router.post(
    "/{handoff_id:uuid}/claim",
    responses=refuses(
        *BODY, "invalid_request", "not_found", "already_claimed", "capacity_reached", "illegal_move"
    ),
)
async def claim_handoff(
    request: Request,
    state: AppStateDep,
    operator: ActingOperator,
    handoff_id: UUID,
    body: ClaimBody | None = None,
) -> ClaimAnswer:
    """Claim a handoff and get the briefing. One operator succeeds; repeating it returns the claim.

    Your telephone rings if the caller is on the line, unless `dial` is false.
    """
    claim = await state.handoffs.service.claim(operator.account_id, handoff_id, operator.user_id)
    await _audit(state, operator.principal, "claim", claim.handoff)
    if (body or ClaimBody()).dial:
        with contextlib.suppress(NotDialable, StaleClaim):
            await state.handoffs.bridge.dial(
                operator.account_id, handoff_id, operator.user_id, origin_of(state, request)
            )
    return claim


@router.post("/{handoff_id:uuid}/dial", responses=CHANGE)
async def dial_operator(
    request: Request,
    state: AppStateDep,
    operator: ActingOperator,
    handoff_id: UUID,
    body: EpochBody | None = None,
) -> Handoff:
    """Have your telephone called for a claimed handoff. It rings once at a time."""
    return await state.handoffs.bridge.dial(
        operator.account_id,
        handoff_id,
        operator.user_id,
        origin_of(state, request),
        epoch=(body or EpochBody()).epoch,
    )


@router.post("/{handoff_id:uuid}/accept", responses=CHANGE)
async def accept_call(
    state: AppStateDep, operator: ActingOperator, handoff_id: UUID, body: EpochBody | None = None
) -> Handoff:
    """Accept the caller while you hear the whisper on your telephone, instead of pressing 1."""
    return await state.handoffs.bridge.accept(
        operator.account_id, handoff_id, operator.user_id, epoch=(body or EpochBody()).epoch
    )


@router.post("/{handoff_id:uuid}/return", responses=CHANGE)
async def return_caller(
    state: AppStateDep, operator: ActingOperator, handoff_id: UUID, body: EpochBody | None = None
) -> Handoff:
    """Give the caller, with whom you are connected, back to the agent. The handoff is resolved."""
    return await state.handoffs.bridge.give_back(
        operator.account_id, handoff_id, operator.user_id, epoch=(body or EpochBody()).epoch
    )


@router.post("/{handoff_id:uuid}/release", responses=CHANGE)
async def release_handoff(
    state: AppStateDep, operator: ActingOperator, handoff_id: UUID, body: ReleaseBody | None = None
) -> Handoff:
    """Return a claim to its place in the queue. Admins and owners can release the claim of another."""
    body = body or ReleaseBody()
    released = await state.handoffs.service.release(
        operator.account_id,
        handoff_id,
        operator.user_id,
        epoch=body.epoch,
        reason=body.reason,
        supervises=operator.supervises,
    )
    return await _audit(state, operator.principal, "release", released)


@router.post("/{handoff_id:uuid}/cancel", responses=CHANGE)
async def cancel_handoff(
    state: AppStateDep, operator: ActingOperator, handoff_id: UUID, body: CancelBody | None = None
) -> Handoff:
    """End a handoff that is not needed any more; operators only one that they hold."""
    body = body or CancelBody()
    cancelled = await state.handoffs.supervision.cancel(
        operator.account_id,
        handoff_id,
        operator.user_id,
        reason=body.reason,
        supervises=operator.supervises,
    )
    return await _audit(state, operator.principal, "cancel", cancelled)


@router.post(
    "/{handoff_id:uuid}/reassign",
    responses=refuses(
        *BODY, "invalid_request", "not_found", "stale_claim", "illegal_move", "capacity_reached"
    ),
)
async def reassign_handoff(
    request: Request, state: AppStateDep, operator: ActingOperator, handoff_id: UUID, body: ReassignBody
) -> Handoff:
    """Give a handoff to another operator, who holds the claim then; operators only one that they hold.

    As after a claim, the telephone of the other operator rings if the caller is on the line.
    """
    reassigned = await state.handoffs.supervision.reassign(
        operator.account_id, handoff_id, operator.user_id, body.user_id, supervises=operator.supervises
    )
    if body.dial:
        with contextlib.suppress(NotDialable, StaleClaim):
            await state.handoffs.bridge.dial(
                operator.account_id, handoff_id, body.user_id, origin_of(state, request)
            )
    return await _audit(state, operator.principal, "reassign", reassigned)


@router.post("/{handoff_id:uuid}/decline", responses=CHANGE)
async def decline_handoff(
    state: AppStateDep, operator: ActingOperator, handoff_id: UUID, body: ReleaseBody | None = None
) -> Handoff:
    """Decline a handoff, so that it is not offered to you again."""
    body = body or ReleaseBody()
    declined = await state.handoffs.service.decline(
        operator.account_id, handoff_id, operator.user_id, reason=body.reason
    )
    return await _audit(state, operator.principal, "decline", declined)


@router.post("/{handoff_id:uuid}/resolve", responses=CHANGE)
async def resolve_handoff(
    state: AppStateDep, operator: ActingOperator, handoff_id: UUID, body: ResolveBody | None = None
) -> Handoff:
    """Resolve a claimed handoff."""
    body = body or ResolveBody()
    resolved = await state.handoffs.service.resolve(
        operator.account_id, handoff_id, operator.user_id, epoch=body.epoch, resolution=body.resolution
    )
    return await _audit(state, operator.principal, "resolve", resolved)


@router.post("/{handoff_id:uuid}/reschedule", responses=CHANGE)
async def reschedule_handoff(
    state: AppStateDep, operator: ActingOperator, handoff_id: UUID, body: RescheduleBody
) -> Handoff:
    """Set another time to call. An escalation is converted to a park, which is returned."""
    _check_distance(state, body.due_at)
    later = Reschedule(due_at=body.due_at, time_zone=body.time_zone, consent=body.consent)
    parked = await state.handoffs.service.reschedule(
        operator.account_id, handoff_id, operator.user_id, later, epoch=body.epoch
    )
    return await _audit(state, operator.principal, "reschedule", parked)


def _check_distance(state: AppState, due_at: datetime | None) -> None:
    now = state.clock.now()
    if due_at is not None and not now - MAX_DISTANCE < due_at < now + MAX_DISTANCE:
        fault = FieldError(
            pointer="/due_at",
            code="out_of_reach",
            message="The time is more than a year away.",
            remedy="Choose a time within a year.",
        )
        raise ApiProblem("invalid_request", fault.message, errors=[fault])


async def _audit(state: AppState, who: Principal, action: str, handoff: HandoffRecord) -> HandoffRecord:
    """Add a line to the audit list and return the handoff."""
    change = Change(key_id=who.key_id, action=action, resource="handoff", resource_id=handoff.id)
    await audit.record(state.database, who.account_id, change)
    return handoff
