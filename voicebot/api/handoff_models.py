"""Request and response models of /handoffs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, Strict

from db.handoffs import HandoffRecord, Intent, Priority, State
from voicebot.api.answers import AnswerOf
from voicebot.api.pagination import PageOf, PageQuery
from voicebot.api.validation import Moment, TimeZone
from voicebot.handoffs.briefing import Briefing
from voicebot.handoffs.handoff_service import Claim

Language = Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}$", examples=["en-US"])]
Team = Annotated[str, Field(min_length=1, max_length=64, examples=["billing"])]
Reason = Annotated[
    str, Field(min_length=1, max_length=2000, examples=["Wants a refund that I may not grant."])
]
Notes = Annotated[str, Field(max_length=10_000)]
Epoch = Annotated[
    int | None,
    Strict(),
    Field(ge=0, le=2**31 - 1, description="Of the claim; the answer is 409 if that claim has ended."),
]


class HandoffBody(BaseModel):
    """A request for a person."""

    model_config = ConfigDict(extra="forbid")

    intent: Annotated[
        Intent,
        Field(description="`escalate`: a person now. `park`: a call later.", examples=["escalate"]),
    ] = "escalate"
    call_id: UUID | None = None
    lead_id: Annotated[UUID | None, Field(description="By default the call's.")] = None
    reason: Reason
    notes: Notes = ""
    priority: Priority = "normal"
    language: Annotated[Language | None, Field(description="By default the agent's.")] = None
    team: Team | None = None
    due_at: Annotated[
        Moment | None, Field(description="Of a park: when to call. Null: as soon as possible.")
    ] = None
    time_zone: Annotated[TimeZone | None, Field(description="The caller's; by default the number's.")] = None
    consent: Annotated[
        bool,
        Strict(),
        Field(
            description="Of a park: whether the caller agreed to be called. Without it, it never becomes due."
        ),
    ] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HandoffWithSnapshot(HandoffRecord):
    """A handoff with the snapshot of its call."""

    snapshot: Mapping[str, Any]
    """Lead, call, template, node, variables, transcript, functions and routes when it was created."""


_OMITTED = ("account_id", "queue_at")
Handoff = Annotated[HandoffRecord, AnswerOf("Handoff", omit=_OMITTED, properties=("call_state",))]
HandoffDetail = Annotated[
    HandoffWithSnapshot, AnswerOf("HandoffDetail", omit=_OMITTED, properties=("call_state",))
]
BriefingAnswer = Annotated[Briefing, AnswerOf("Briefing", omit=())]
ClaimAnswer = Annotated[
    Claim, AnswerOf("Claim", omit=(), types={"handoff": Handoff, "briefing": BriefingAnswer})
]


class QueuePage(PageOf[Handoff]):
    """A page of the queue, in queue order."""

    as_of_seq: Annotated[
        int,
        Field(description="Number of the latest event at this moment; follow the stream with it."),
    ]


class ClaimBody(BaseModel):
    """A claim."""

    model_config = ConfigDict(extra="forbid")

    dial: Annotated[
        bool,
        Strict(),
        Field(description="Whether to call your `phone`, if the caller is on the line and you have one."),
    ] = True


class EpochBody(BaseModel):
    """An operation on a claim."""

    model_config = ConfigDict(extra="forbid")

    epoch: Epoch = None


class ReleaseBody(BaseModel):
    """Release of a claim, or decline of an offer."""

    model_config = ConfigDict(extra="forbid")

    epoch: Epoch = None
    reason: Annotated[str, Field(max_length=500)] = ""


class CancelBody(BaseModel):
    """Why a handoff is not needed any more."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, Field(max_length=500, examples=["The caller was helped elsewhere."])] = ""


class ReassignBody(BaseModel):
    """Who gets a handoff."""

    model_config = ConfigDict(extra="forbid")

    user_id: Annotated[UUID, Field(description="An active user of the account.")]
    dial: Annotated[
        bool,
        Strict(),
        Field(description="Whether to call their `phone`, if the caller is on the line and they have one."),
    ] = True


class ResolveBody(BaseModel):
    """Resolution of a claim."""

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
        Field(
            description="Whether the caller agreed to be called. Null: unchanged for a park, agreed for an "
            "escalation."
        ),
    ] = None
    epoch: Epoch = None


class QueueQuery(PageQuery):
    """Which handoffs to list. Without a state: the open ones."""

    state: State | None = None
    intent: Intent | None = None
    language: Annotated[str | None, Field(max_length=35)] = None
    team: Annotated[str | None, Field(max_length=64)] = None
    call_id: UUID | None = None
