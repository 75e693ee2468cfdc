"""What /handoffs takes and answers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID
from zoneinfo import available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, computed_field

from db.handoffs import Intent, Origin, Priority, State
from voicebot.api.pagination import PageOf, PageQuery
from voicebot.api.validation import Moment
from voicebot.handoffs.events import CallState, call_state

_ZONES = frozenset(available_timezones())

Language = Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}$", examples=["en-US"])]
Team = Annotated[str, Field(min_length=1, max_length=64, examples=["billing"])]
Reason = Annotated[
    str, Field(min_length=1, max_length=2000, examples=["Wants a refund that I may not grant."])
]
Notes = Annotated[str, Field(max_length=10_000)]
Epoch = Annotated[
    int | None, Strict(), Field(ge=0, le=2**31 - 1, description="Of the claim; 409 if it is over.")
]


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

    epoch: Epoch = None
    reason: Annotated[str, Field(max_length=500)] = ""


class ResolveBody(BaseModel):
    """Being done."""

    model_config = ConfigDict(extra="forbid")

    epoch: Epoch = None
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
    epoch: Epoch = None


class QueueQuery(PageQuery):
    """Which handoffs to list. Without a state: those that are open."""

    state: State | None = None
    intent: Intent | None = None
    language: Annotated[str | None, Field(max_length=35)] = None
    team: Annotated[str | None, Field(max_length=64)] = None
    call_id: UUID | None = None
