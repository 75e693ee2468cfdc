"""How a template's leads are dialled, and what is reported of its calls."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from templates.bounds import Bounds, Count, TextPattern

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

TIME_OF_DAY = TextPattern("([01][0-9]|2[0-3]):[0-5][0-9]|24:00")
"""Hours and minutes; 24:00 is the end of the day."""

Milliseconds = Annotated[Count, Bounds(1000, 30 * 86_400_000)]


class OutboundPart(BaseModel):
    """Base of the parts: immutable, unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True)


class CallingWindow(OutboundPart):
    """When people are called, by the wall clock of their own time zone."""

    from_: Annotated[str, TIME_OF_DAY] = Field(
        default="09:00", alias="from", description="First time of day at which calls are placed."
    )
    to: Annotated[str, TIME_OF_DAY] = Field(
        default="20:00", description="Time of day from which on no call is placed; later than `from`."
    )
    days: tuple[Day, ...] = Field(default=DAYS, description="Days of the week on which calls are placed.")


class RetryPauses(OutboundPart):
    """How long to wait before the next attempt, by how the last one ended, in ms."""

    busy: Milliseconds = Field(default=300_000, description="The line was busy.")
    no_answer: Milliseconds = Field(default=3_600_000, description="Nobody answered, or the carrier gave up.")
    voicemail: Milliseconds = Field(default=14_400_000, description="A machine answered.")
    failed: Milliseconds = Field(default=600_000, description="The carrier could not place the call.")
    dropped: Milliseconds = Field(
        default=120_000, description="The call was answered and then ended by a failure of ours."
    )


class RateLimit(OutboundPart):
    """How often the account may call one person, whatever the template."""

    calls: Annotated[Count, Bounds(1, 1000)] = Field(default=3, description="Calls to one person.")
    per_ms: Milliseconds = Field(default=86_400_000, description="Length of the period, in ms.")


class Precheck(OutboundPart):
    """An HTTP server that is asked before each call whether the person is to be called."""

    url: str = Field(
        default="",
        description=(
            "Where the lead is posted, signed with the account's key. 2xx: it is dialled, unless the answer "
            'is `{"proceed": false}`; 4xx: it ends as `skipped`.'
        ),
        examples=["https://example.com/may-call"],
    )
    timeout_ms: Annotated[Count, Bounds(100, 10_000)] = Field(
        default=3000, description="Time limit for the answer, in ms."
    )
    on_failure: Literal["proceed", "skip"] = Field(
        default="proceed", description="What happens without an answer, or with another status."
    )


class Voicemail(OutboundPart):
    """What happens when an answering machine answers."""

    action: Literal["hang_up", "message", "continue"] = Field(
        default="hang_up",
        description=(
            "`hang_up` at once; leave the `message` after the beep; or `continue`: the carrier does not look "
            "for machines."
        ),
    )
    message: str = Field(
        default="",
        description="Text that is left, in the carrier's voice. May contain `{{ name }}`.",
        examples=["This is Acme. Please call us back at 415 555 0100."],
    )


class OutputField(OutboundPart):
    """A value that a model reads from the transcript when a call has ended."""

    type: Literal["string", "number", "integer", "boolean", "date"] = Field(
        default="string", description="Type of the value; `date` is YYYY-MM-DD."
    )
    description: str = Field(
        default="",
        description="What the value is. The model reads it.",
        examples=["Whether the person wants to be visited"],
    )
    enum: tuple[str, ...] = Field(
        default=(),
        description="The only values of a `string`; empty: any.",
        examples=[["morning", "afternoon"]],
    )


class Outbound(OutboundPart):
    """How the leads of a template are dialled, and what is reported of its calls, inbound ones too."""

    window: CallingWindow = Field(default_factory=CallingWindow, description="When people are called.")
    max_attempts: Annotated[Count, Bounds(1, 20)] = Field(
        default=3, description="How many calls are placed at most until one is answered."
    )
    retry: RetryPauses = Field(default_factory=RetryPauses, description="Pauses between attempts, in ms.")
    rate_limit: RateLimit | None = Field(
        default_factory=RateLimit, description="Limit of calls to one person; null: none."
    )
    precheck: Precheck | None = Field(
        default=None, description="Who is asked before each call; null: nobody."
    )
    voicemail: Voicemail = Field(
        default_factory=Voicemail, description="What is done with answering machines."
    )
    webhook_url: str | None = Field(
        default=None,
        description=(
            "Where `call.ended`, `lead.finished` and `alert` are posted, signed with the account's key. "
            "Null: nowhere."
        ),
        examples=["https://example.com/hooks/calls"],
    )
    output: dict[str, OutputField] = Field(
        default_factory=dict,
        description=(
            "Fields that a model fills from the transcript when a call has ended, by name. A field that the "
            "transcript says nothing about is null; all are absent if the model failed."
        ),
        examples=[{"wants_visit": {"type": "boolean", "description": "Whether they want to be visited"}}],
    )
