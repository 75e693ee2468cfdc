"""What happens to an inbound call before it is connected. Pure: nothing here knows a carrier or the database.

The settings are a number's (``inbound``). ``refusal_of`` says whether its calls are taken now, ``answering``
who answers them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from db.inbound import AnsweringTemplate
from templates.outbound import DAYS, Day
from voicebot.dispatch.windows import Window

MAX_CHOICES = 9
"""How many agents a menu offers: one for each key."""

E164 = Annotated[str, Field(pattern=r"^\+[1-9][0-9]{1,14}$", description="E.164.", examples=["+14155550100"])]
TimeOfDay = Annotated[str, Field(pattern="^([01][0-9]|2[0-3]):[0-5][0-9]$|^24:00$")]
Milliseconds = Annotated[int, Field(strict=True, ge=1000, le=30 * 86_400_000)]


def _is_date(text: str) -> str:
    if date.fromisoformat(text).isoformat() != text:
        raise ValueError("must be a date, such as 2026-12-25")
    return text


Holiday = Annotated[
    str, AfterValidator(_is_date), Field(json_schema_extra={"format": "date"}, examples=["2026-12-25"])
]
"""A date as text: a number would be read as seconds."""

Reason = Literal["not_accepting", "blocked", "outside_hours", "caller_limit", "number_busy"]
Action = Literal["reject", "busy", "say", "forward", "callback"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True)


class Hours(_Part):
    """When calls are taken, by the wall clock of the number's time zone."""

    from_: Annotated[TimeOfDay, Field(alias="from", description="First time of day.")] = "00:00"
    to: Annotated[TimeOfDay, Field(description="Time of day from which on no call is taken.")] = "24:00"
    days: Annotated[tuple[Day, ...], Field(min_length=1, max_length=7)] = DAYS
    holidays: Annotated[
        tuple[Holiday, ...], Field(max_length=500, description="Days on which no call is taken: YYYY-MM-DD.")
    ] = ()

    @model_validator(mode="after")
    def _open_at_some_time(self) -> Hours:
        if self.to <= self.from_:
            raise ValueError("`to` must be later than `from`")
        return self


class PerCaller(_Part):
    """How often one caller may call."""

    calls: Annotated[int, Field(strict=True, ge=1, le=1000, description="Calls of one caller.")]
    per_ms: Annotated[Milliseconds, Field(description="Length of the period, in ms.")]


class Refusal(_Part):
    """What happens to a call that is not taken."""

    action: Annotated[
        Action,
        Field(
            description=(
                "`reject`; `busy`: a busy tone; `say` the text and hang up; `forward` to the number; "
                "`callback`: say the text, and make a lead for a call back."
            )
        ),
    ] = "reject"
    text: Annotated[str, Field(max_length=1000, description="Said in the carrier's own voice.")] = ""
    number: Annotated[E164 | None, Field(description="Where calls are forwarded to.")] = None

    @model_validator(mode="after")
    def _complete(self) -> Refusal:
        if self.action == "say" and not self.text.strip():
            raise ValueError("`say` needs a `text`")
        if self.action == "forward" and self.number is None:
            raise ValueError("`forward` needs a `number`")
        return self


class InboundPolicy(_Part):
    """Which inbound calls of a number are taken, and what happens to the others."""

    accepting: Annotated[bool, Field(strict=True, description="Whether any call is taken.")] = True
    hours: Annotated[Hours | None, Field(description="Null: at any time.")] = None
    blocked: Annotated[tuple[E164, ...], Field(max_length=1000, description="Callers not taken.")] = ()
    per_caller: Annotated[PerCaller | None, Field(description="Null: no limit.")] = None
    max_concurrent: Annotated[
        int | None, Field(strict=True, ge=1, le=1000, description="Inbound calls at once; null: no limit.")
    ] = None
    refusal: Refusal = Refusal()


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFacts:
    """What the decision depends on.

    Attributes:
        at: the present moment.
        zone: the number's time zone.
        caller: E.164; None if the caller withheld their number.
        recent_calls: calls of this caller that were taken in the period of ``per_caller``.
        live_calls: inbound calls of the number that have not ended.
    """

    at: datetime
    zone: ZoneInfo
    caller: str | None
    recent_calls: int = 0
    live_calls: int = 0


@dataclass(frozen=True, slots=True)
class Menu:
    """Several agents answer the number: the caller chooses one by its key, from 1."""

    templates: Sequence[AnsweringTemplate]


def refusal_of(policy: InboundPolicy, facts: CallFacts) -> Reason | None:
    """Why a call is not taken; None: it is."""
    if not policy.accepting:
        return "not_accepting"
    if facts.caller is not None and facts.caller in policy.blocked:
        return "blocked"
    if policy.hours is not None and not is_open(policy.hours, facts.at, facts.zone):
        return "outside_hours"
    limit = policy.per_caller
    if limit is not None and facts.caller is not None and facts.recent_calls >= limit.calls:
        return "caller_limit"
    if policy.max_concurrent is not None and facts.live_calls >= policy.max_concurrent:
        return "number_busy"
    return None


def is_open(hours: Hours, at: datetime, zone: ZoneInfo) -> bool:
    """Whether a moment is within the hours and on no holiday."""
    closes = None if hours.to == "24:00" else time.fromisoformat(hours.to)
    window = Window(opens=time.fromisoformat(hours.from_), closes=closes, days=hours.days)
    return window.contains(at, zone) and at.astimezone(zone).date().isoformat() not in hours.holidays


def answering(templates: Sequence[AnsweringTemplate]) -> AnsweringTemplate | Menu | None:
    """Who answers: the orchestrator, else the only agent, else a menu of the agents; None: nobody.

    ``templates`` are the active ones of the number, oldest first.
    """
    for template in templates:
        if template.kind == "orchestrator":
            return template
    if len(templates) > 1:
        return Menu(templates[:MAX_CHOICES])
    return templates[0] if templates else None
