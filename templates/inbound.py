"""Which inbound calls are taken: the policy of a number, and of a template.

Unlike the rest of a template, a policy is checked completely by its model, so a draft cannot have an
incomplete one: a number has the same model, and is in use as soon as it is saved.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from templates.outbound import DAYS, Day

_TIME = "^([01][0-9]|2[0-3]):[0-5][0-9]$|^24:00$"


def _is_time(text: str) -> str:
    if re.fullmatch(_TIME, text) is None:
        raise ValueError("must be a time of day, such as 09:00, or 24:00 for the end of the day")
    return text


E164 = Annotated[str, Field(pattern=r"^\+[1-9][0-9]{1,14}$", description="E.164.", examples=["+14155550100"])]
TimeOfDay = Annotated[
    str, AfterValidator(_is_time), Field(json_schema_extra={"pattern": _TIME}, examples=["09:00"])
]
Milliseconds = Annotated[int, Field(strict=True, ge=1000, le=30 * 86_400_000)]


def _is_date(text: str) -> str:
    with suppress(ValueError):
        if date.fromisoformat(text).isoformat() == text:
            return text
    raise ValueError("must be a date, such as 2026-12-25")


Holiday = Annotated[
    str, AfterValidator(_is_date), Field(json_schema_extra={"format": "date"}, examples=["2026-12-25"])
]
"""A date as text: a number would be read as seconds."""

Action = Literal["reject", "busy", "say", "forward", "callback"]
Busy = Literal["number_busy", "template_busy"]
Reason = Literal["not_accepting", "blocked", "outside_hours", "caller_limit"] | Busy
"""Why a call is not taken."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True)


class Hours(_Part):
    """When calls are taken, by the wall clock of the number's time zone."""

    from_: Annotated[TimeOfDay, Field(alias="from", description="First time of day.")] = "00:00"
    to: Annotated[
        TimeOfDay,
        Field(
            description="Time of day from which on no call is taken; on the next day if it is before `from`."
        ),
    ] = "24:00"
    days: Annotated[
        tuple[Day, ...],
        Field(min_length=1, max_length=7, description="Days of the week on which the hours begin."),
    ] = DAYS
    holidays: Annotated[
        tuple[Holiday, ...], Field(max_length=500, description="Days on which they do not: YYYY-MM-DD.")
    ] = ()

    @model_validator(mode="after")
    def _open_at_some_time(self) -> Hours:
        if self.from_ == "24:00":
            raise ValueError("`from` must be before 24:00; the next day begins with 00:00")
        if self.to == self.from_:
            raise ValueError("`to` must differ from `from`; the whole day is 00:00 to 24:00")
        return self


class PerCaller(_Part):
    """How often one caller may call."""

    calls: Annotated[int, Field(strict=True, ge=1, le=1000, description="Calls of one caller.", examples=[5])]
    per_ms: Annotated[Milliseconds, Field(description="Length of the period, in ms.", examples=[3_600_000])]


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
    text: Annotated[
        str,
        Field(
            max_length=1000,
            description="Said in the carrier's own voice.",
            examples=["We are closed. Please call again tomorrow."],
        ),
    ] = ""
    number: Annotated[E164 | None, Field(description="Where calls are forwarded to.")] = None

    @model_validator(mode="after")
    def _complete(self) -> Refusal:
        if self.action == "say" and not self.text.strip():
            raise ValueError("`say` needs a `text`")
        if self.action == "forward" and self.number is None:
            raise ValueError("`forward` needs a `number`")
        return self

    @property
    def leads_to_a_call(self) -> bool:
        """Whether the caller is connected with somebody, now or later."""
        return self.action in ("forward", "callback")


def _for(reason: str, action: Action) -> Any:
    return Field(description=reason, examples=[{"action": action}])


class Refusals(_Part):
    """What happens to calls that are not taken for one reason. Null: what `refusal` says."""

    not_accepting: Annotated[Refusal | None, _for("`accepting` is false.", "callback")] = None
    blocked: Annotated[
        Refusal | None, _for("The caller is in `blocked`. Not `forward` or `callback`.", "reject")
    ] = None
    outside_hours: Annotated[Refusal | None, _for("It is outside `hours`.", "callback")] = None
    caller_limit: Annotated[
        Refusal | None, _for("The caller has called as often as `per_caller` says.", "reject")
    ] = None
    number_busy: Annotated[
        Refusal | None, _for("The number has `max_concurrent` calls. Only in a number.", "busy")
    ] = None
    template_busy: Annotated[
        Refusal | None, _for("The template has `max_concurrent` calls. Only in a template.", "busy")
    ] = None

    @field_validator("blocked")
    @classmethod
    def _blocked_reaches_nobody(cls, refusal: Refusal | None) -> Refusal | None:
        if refusal is not None and refusal.leads_to_a_call:
            raise ValueError("a blocked caller is connected with nobody; use `reject`, `busy` or `say`")
        return refusal


class InboundPolicy(_Part):
    """Which inbound calls are taken, and what happens to the others."""

    accepting: Annotated[bool, Field(strict=True, description="Whether any call is taken.")] = True
    hours: Annotated[Hours | None, Field(description="Null: at any time.")] = None
    blocked: Annotated[tuple[E164, ...], Field(max_length=1000, description="Callers not taken.")] = ()
    per_caller: Annotated[PerCaller | None, Field(description="Null: no limit.")] = None
    max_concurrent: Annotated[
        int | None,
        Field(
            strict=True, ge=1, le=1000, description="Inbound calls at once; null: no limit.", examples=[20]
        ),
    ] = None
    refusal: Annotated[Refusal, Field(description="Action, with its text or number.")] = Refusal()
    refusals: Annotated[
        Refusals,
        Field(
            description="Other actions for single reasons, each with its text or number.",
            examples=[{"outside_hours": {"action": "callback"}, "template_busy": {"action": "busy"}}],
        ),
    ] = Refusals()

    def refusal_for(self, reason: Reason) -> Refusal:
        """What happens to a call that is refused for a reason; a blocked caller is connected with nobody."""
        written: Refusal | None = getattr(self.refusals, reason)
        if written is not None:
            return written
        return Refusal() if reason == "blocked" and self.refusal.leads_to_a_call else self.refusal

    @property
    def calls_back(self) -> bool:
        """Whether there is a reason for which callers are called back."""
        return any(refusal.action == "callback" for _, refusal in self.all_refusals())

    def all_refusals(self) -> Iterator[tuple[tuple[str, ...], Refusal]]:
        """What is written for all reasons and for single ones, each with its path in the policy."""
        yield ("refusal",), self.refusal
        for reason in Refusals.model_fields:
            written: Refusal | None = getattr(self.refusals, reason)
            if written is not None:
                yield ("refusals", reason), written
