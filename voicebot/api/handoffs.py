"""/handoffs: callers who need a person, claimed and resolved by one."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID
from zoneinfo import available_timezones

from fastapi import APIRouter, Header, Query, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, computed_field

from db import audit, handoffs, users
from db.audit import Change
from db.handoffs import HandoffRecord, Intent, Origin, Priority, QueueFilter, State
from voicebot.api.access import Caller, Dialler, Operator, Reader
from voicebot.api.documentation import BODY, refuses
from voicebot.api.listing import PageOf, PageQuery
from voicebot.api.problems import ApiProblem, FieldError
from voicebot.api.validation import Moment
from voicebot.api.wiring import Wired, Wiring
from voicebot.escalation.desk import Claim, Later
from voicebot.escalation.story import CallState, call_state
from voicebot.escalation.wish import Wish

router = APIRouter(prefix="/handoffs", tags=["handoffs"])

LATEST = timedelta(days=366)
"""How far ahead a call may be parked."""

_ZONES = frozenset(available_timezones())

Language = Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}$", examples=["en-US"])]
Team = Annotated[str, Field(min_length=1, max_length=64, examples=["billing"])]
Reason = Annotated[
    str, Field(min_length=1, max_length=2000, examples=["Wants a refund that I may not grant."])
]
Notes = Annotated[str, Field(max_length=10_000)]


def _known_zone(name: str) -> str:
    if name not in _ZONES:
        raise ValueError("not a name of the IANA time zone database, such as Europe/Berlin")
    return name


TimeZone = Annotated[str, AfterValidator(_known_zone), Field(max_length=64, examples=["Europe/Berlin"])]


class HandoffBody(BaseModel):
    """A caller who needs a person."""

    model_config = ConfigDict(extra="forbid")

    intent: Annotated[
        Intent, Field(description="`escalate`: a person, now. `park`: a call, later.", examples=["escalate"])
    ] = "escalate"
    call_id: UUID | None = None
    lead_id: Annotated[UUID | None, Field(description="Without it: the call's.")] = None
    reason: Reason
    notes: Notes = ""
    priority: Priority = "normal"
    language: Annotated[Language | None, Field(description="Without it: the agent's.")] = None
    team: Team | None = None
    due_at: Annotated[Moment | None, Field(description="Of a park: when to call. Null: soon.")] = None
    time_zone: Annotated[TimeZone | None, Field(description="The caller's; without it: the number's.")] = None
    consent: Annotated[
        bool,
        Strict(),
        Field(description="Of a park: whether the caller agreed to be called. If not, it never becomes due."),
    ] = False


class Handoff(BaseModel):
    """A handoff."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    intent: Intent
    origin: Origin
    state: State
    call_id: UUID | None
    lead_id: UUID | None
    template_id: UUID | None
    node: str | None
    ordinal: Annotated[int, Field(description="The how-manyth handoff of its call.")]
    reason: str
    notes: str
    priority: Priority
    language: str | None
    team: str | None
    due_at: datetime | None
    time_zone: str | None
    consent: bool
    created_by: UUID | None
    epoch: Annotated[int, Field(description="The number of the latest claim; writes of a claim name it.")]
    claimed_by: UUID | None
    offered_to: UUID | None
    lease_until: datetime | None
    expires_at: datetime
    assessment: dict[str, Any] | None
    assessed_at: datetime | None
    cause: str | None
    resolution: str | None
    resolved_by: UUID | None
    note_id: str | None
    continues_id: UUID | None
    created_at: datetime
    offered_at: datetime | None
    claimed_at: datetime | None
    bridged_at: datetime | None
    ended_at: datetime | None

    @computed_field  # type: ignore[prop-decorator]  # pydantic's documented way
    @property
    def call_state(self) -> CallState:
        """What the handoff makes of its call."""
        return call_state(self.intent, self.state)


class HandoffDetail(Handoff):
    """A handoff with what was frozen when it was made."""

    snapshot: dict[str, Any]


class QueuePage(PageOf[Handoff]):
    """A page of the queue, who is to be helped first first."""

    as_of_seq: Annotated[
        int, Field(description="The stream's number of this moment: follow it with `Last-Event-ID`.")
    ]


class BriefingShown(BaseModel):
    """What to know first, in four parts."""

    model_config = ConfigDict(from_attributes=True)

    problem: dict[str, Any]
    tried: dict[str, Any]
    assessment: Annotated[dict[str, Any] | None, Field(description="The model's; null while there is none.")]
    start_here: list[str]


class ClaimShown(BaseModel):
    """A claim, and its briefing."""

    handoff: Handoff
    briefing: BriefingShown


class ReleaseBody(BaseModel):
    """Letting go of a claim, or of an offer."""

    model_config = ConfigDict(extra="forbid")

    epoch: Annotated[
        int | None, Strict(), Field(ge=0, le=2**31 - 1, description="Of the claim; 409 if it is over.")
    ] = None
    reason: Annotated[str, Field(max_length=500)] = ""


class ResolveBody(BaseModel):
    """Being done."""

    model_config = ConfigDict(extra="forbid")

    epoch: Annotated[
        int | None, Strict(), Field(ge=0, le=2**31 - 1, description="Of the claim; 409 if it is over.")
    ] = None
    resolution: Annotated[str, Field(min_length=1, max_length=10_000, examples=["Refunded."])] = "resolved"


class RescheduleBody(BaseModel):
    """Another time to call."""

    model_config = ConfigDict(extra="forbid")

    due_at: Moment
    time_zone: TimeZone | None = None
    consent: Annotated[
        bool | None,
        Strict(),
        Field(description="Whether the caller agreed. Null: as it was; of an escalation, they asked for it."),
    ] = None
    epoch: Annotated[int | None, Strict(), Field(ge=0, le=2**31 - 1)] = None


class QueueQuery(PageQuery):
    """Which handoffs to list. Without a state: those that are open."""

    state: State | None = None
    intent: Intent | None = None
    language: Annotated[str | None, Field(max_length=35)] = None
    team: Annotated[str | None, Field(max_length=64)] = None
    call_id: UUID | None = None


Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        description="The same key with the same body gives the handoff that was made first.",
    ),
]


@router.get("", responses=refuses("invalid_request"))
async def list_handoffs(wired: Wired, reader: Reader, query: Annotated[QueueQuery, Query()]) -> QueuePage:
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
    wired: Wired, dialler: Dialler, body: HandoffBody, response: Response, idempotency_key: Key = None
) -> Handoff:
    """Ask for a person. A call has one open escalation: asking again answers with that one."""
    person = await users.of_key(wired.database, dialler.account_id, dialler.key_id)
    _in_reach(wired, body.due_at)
    wish = Wish(**body.model_dump(), origin="person", created_by=person.id)
    made = await wired.office.desk.create(dialler.account_id, wish, key=idempotency_key)
    if made.created:
        await _audit(wired, dialler, "create", made.handoff)
    else:
        response.headers["Idempotency-Replayed"] = "true"
    response.headers["Location"] = f"/api/v1/handoffs/{made.handoff.id}"
    return Handoff.model_validate(made.handoff)


@router.get("/{handoff_id:uuid}", responses=refuses("not_found"))
async def get_handoff(wired: Wired, reader: Reader, handoff_id: UUID) -> HandoffDetail:
    """One handoff, with its snapshot."""
    found = await handoffs.get(wired.database, reader.account_id, handoff_id)
    frozen = await handoffs.snapshot(wired.database, reader.account_id, handoff_id)
    shown = Handoff.model_validate(found).model_dump(exclude={"call_state"})
    return HandoffDetail(**shown, snapshot=dict(frozen))


@router.post(
    "/{handoff_id:uuid}/claim",
    responses=refuses("not_found", "already_claimed", "capacity_reached", "illegal_move"),
)
async def claim_handoff(wired: Wired, operator: Operator, handoff_id: UUID) -> ClaimShown:
    """Take it. One claim wins; the winner may ask again. Answers with the briefing."""
    person = await users.of_key(wired.database, operator.account_id, operator.key_id)
    won: Claim = await wired.office.desk.claim(operator.account_id, handoff_id, person.id)
    await _audit(wired, operator, "claim", won.handoff)
    return ClaimShown(
        handoff=Handoff.model_validate(won.handoff), briefing=BriefingShown.model_validate(won.briefing)
    )


@router.post(
    "/{handoff_id:uuid}/release",
    responses=refuses(*BODY, "invalid_request", "not_found", "stale_claim", "illegal_move"),
)
async def release_handoff(
    wired: Wired, operator: Operator, handoff_id: UUID, body: ReleaseBody | None = None
) -> Handoff:
    """Give it back to the queue, where it keeps its place."""
    person = await users.of_key(wired.database, operator.account_id, operator.key_id)
    asked = body or ReleaseBody()
    released = await wired.office.desk.release(
        operator.account_id, handoff_id, person.id, epoch=asked.epoch, reason=asked.reason
    )
    await _audit(wired, operator, "release", released)
    return Handoff.model_validate(released)


@router.post(
    "/{handoff_id:uuid}/decline",
    responses=refuses(*BODY, "invalid_request", "not_found", "stale_claim", "illegal_move"),
)
async def decline_handoff(
    wired: Wired, operator: Operator, handoff_id: UUID, body: ReleaseBody | None = None
) -> Handoff:
    """Not take it, and not be asked again."""
    person = await users.of_key(wired.database, operator.account_id, operator.key_id)
    asked = body or ReleaseBody()
    declined = await wired.office.desk.decline(
        operator.account_id, handoff_id, person.id, reason=asked.reason
    )
    await _audit(wired, operator, "decline", declined)
    return Handoff.model_validate(declined)


@router.post(
    "/{handoff_id:uuid}/resolve",
    responses=refuses(*BODY, "invalid_request", "not_found", "stale_claim", "illegal_move"),
)
async def resolve_handoff(
    wired: Wired, operator: Operator, handoff_id: UUID, body: ResolveBody | None = None
) -> Handoff:
    """Be done with it."""
    person = await users.of_key(wired.database, operator.account_id, operator.key_id)
    asked = body or ResolveBody()
    resolved = await wired.office.desk.resolve(
        operator.account_id, handoff_id, person.id, epoch=asked.epoch, resolution=asked.resolution
    )
    await _audit(wired, operator, "resolve", resolved)
    return Handoff.model_validate(resolved)


@router.post(
    "/{handoff_id:uuid}/reschedule",
    responses=refuses(*BODY, "invalid_request", "not_found", "stale_claim", "illegal_move"),
)
async def reschedule_handoff(
    wired: Wired, operator: Operator, handoff_id: UUID, body: RescheduleBody
) -> Handoff:
    """Call at another time. An escalation becomes a park, which is answered."""
    person = await users.of_key(wired.database, operator.account_id, operator.key_id)
    _in_reach(wired, body.due_at)
    parked = await wired.office.desk.reschedule(
        operator.account_id,
        handoff_id,
        person.id,
        Later(due_at=body.due_at, time_zone=body.time_zone, consent=body.consent),
        epoch=body.epoch,
    )
    await _audit(wired, operator, "reschedule", parked)
    return Handoff.model_validate(parked)


def _in_reach(wired: Wiring, due_at: datetime | None) -> None:
    now = wired.clock.now()
    if due_at is not None and not now - LATEST < due_at < now + LATEST:
        fault = FieldError(
            pointer="/due_at",
            code="out_of_reach",
            message="The time is more than a year away.",
            remedy="Choose a nearer one.",
        )
        raise ApiProblem("invalid_request", fault.message, errors=[fault])


async def _audit(wired: Wiring, who: Caller, action: str, handoff: HandoffRecord) -> None:
    change = Change(key_id=who.key_id, action=action, resource="handoff", resource_id=handoff.id)
    await audit.record(wired.database, who.account_id, change)
