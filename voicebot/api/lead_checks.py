"""Makes leads of request bodies: number, template, payload and times must be valid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, TypeAdapter

from db import numbers, templates
from db.errors import NotFound
from db.leads import LeadDraft
from db.pool import Executor
from templates.model import Variable
from templates.problem import Problem, pointer
from templates.size import JsonLimits
from templates.values import InvalidValues, resolve
from voicebot.api.numbers import E164
from voicebot.api.problems import FieldError
from voicebot.api.validation import Moment, TimeZone
from voicebot.authoring import content_of

PAYLOAD_LIMITS = JsonLimits()


class LeadBody(BaseModel):
    """A person to call."""

    model_config = ConfigDict(extra="forbid")

    phone: E164
    number_id: Annotated[UUID, Field(description="The account's number to call from.")]
    template_id: Annotated[UUID, Field(description="The active template that begins the conversation.")]
    payload: Annotated[
        dict[str, Any],
        Field(
            description="Values for the template's variables of source `payload`.", examples=[{"name": "Ada"}]
        ),
    ] = Field(default_factory=dict)
    priority: Annotated[
        int, Field(strict=True, ge=-100, le=100, description="The highest is dialled first.")
    ] = 0
    earliest_at: Annotated[Moment | None, Field(description="No call before; null: as soon as possible.")] = (
        None
    )
    latest_at: Annotated[
        Moment | None, Field(description="No call from then on; later than `earliest_at`. Null: no end.")
    ] = None
    time_zone: Annotated[
        TimeZone | None,
        Field(description="IANA name of the person's time zone; null: that of the number."),
    ] = None


MOST_LEADS = 200
"""Leads of one request; more are uploaded."""

_ONE: TypeAdapter[LeadBody] = TypeAdapter(LeadBody)
_SEVERAL: TypeAdapter[list[LeadBody]] = TypeAdapter(
    Annotated[list[LeadBody], Field(min_length=1, max_length=MOST_LEADS)]
)


def _one_or_several(body: object) -> LeadBody | list[LeadBody]:
    """The kind of a body, so that it is validated as one lead or as a list."""
    return _SEVERAL.validate_python(body) if isinstance(body, list) else _ONE.validate_python(body)


LeadBodies = Annotated[
    LeadBody | list[LeadBody],
    PlainValidator(
        _one_or_several,
        json_schema_input_type=LeadBody
        | Annotated[list[LeadBody], Field(min_length=1, max_length=MOST_LEADS)],
    ),
]
"""A lead, or several that are stored together or not at all."""


class LeadRefused(Exception):
    """A lead that cannot be dialled as it was sent."""

    def __init__(self, code: str, detail: str, errors: list[FieldError]) -> None:
        """``code`` is that of the problem."""
        super().__init__(detail)
        self.code, self.detail, self.errors = code, detail, errors


@dataclass(slots=True)
class LeadChecks:
    """Makes drafts from bodies of one account; numbers and templates are read once."""

    db: Executor
    account_id: UUID
    now: datetime
    _numbers: dict[UUID, LeadRefused | None] = field(default_factory=dict)
    _variables: dict[UUID, tuple[Variable, ...] | LeadRefused] = field(default_factory=dict)

    async def draft(self, body: LeadBody) -> LeadDraft:
        """The lead of a body.

        Raises:
            LeadRefused: number, template, payload or times cannot be used.
        """
        if fault := PAYLOAD_LIMITS.fault(body.payload):
            raise _too_large(*fault)
        if fault_of_number := await self._fault_of_number(body.number_id):
            raise fault_of_number
        self._check_times(body)
        return LeadDraft(
            direction="outbound",
            phone=body.phone,
            number_id=body.number_id,
            template_id=body.template_id,
            payload=body.payload,
            variables=_values(await self.variables(body.template_id), body.payload),
            priority=body.priority,
            earliest_at=body.earliest_at,
            latest_at=body.latest_at,
            time_zone=body.time_zone,
        )

    async def variables(self, template_id: UUID) -> tuple[Variable, ...]:
        """The variables of an active template.

        Raises:
            LeadRefused: there is none.
        """
        if template_id not in self._variables:
            self._variables[template_id] = await self._read_variables(template_id)
        found = self._variables[template_id]
        if isinstance(found, LeadRefused):
            raise found
        return found

    async def _fault_of_number(self, number_id: UUID) -> LeadRefused | None:
        if number_id not in self._numbers:
            self._numbers[number_id] = await self._read_fault_of_number(number_id)
        return self._numbers[number_id]

    async def _read_fault_of_number(self, number_id: UUID) -> LeadRefused | None:
        try:
            number = await numbers.get(self.db, self.account_id, number_id)
        except NotFound:
            return _unusable("number_id", "number_missing", "The account has no such number.")
        if not number.active:
            remedy = "Activate the number (`active`), or use another one."
            return _unusable("number_id", "number_inactive", "The number is not active.", remedy)
        if number.channels <= number.reserved_inbound:
            message = f"The number reserves all its channels ({number.channels}) for inbound calls."
            remedy = "Set `reserved_inbound` of the number below its `channels`, or use another number."
            return _unusable("number_id", "channels_reserved", message, remedy)
        return None

    async def _read_variables(self, template_id: UUID) -> tuple[Variable, ...] | LeadRefused:
        try:
            template = await templates.get(self.db, self.account_id, template_id)
        except NotFound:
            return _unusable("template_id", "template_missing", "The account has no such template.")
        if template.status != "active":
            return _unusable(
                "template_id", "template_inactive", "The template is a draft: activate it first."
            )
        return content_of(template.content).variables

    def _check_times(self, body: LeadBody) -> None:
        if body.latest_at is None:
            return
        if body.latest_at <= self.now:
            raise _bad_time("The time is over.", "Send a time in the future.")
        if body.earliest_at is not None and body.latest_at <= body.earliest_at:
            raise _bad_time("'latest_at' is not later than 'earliest_at'.", "Send a later time.")


def _values(variables: tuple[Variable, ...], payload: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return resolve(variables, payload, source="payload")
    except InvalidValues as error:
        detail = "The payload does not fit the template's variables."
        faults = [_in_payload(problem) for problem in error.problems]
        raise LeadRefused("invalid_payload", detail, faults) from None


def _bad_time(message: str, remedy: str) -> LeadRefused:
    fault = FieldError(pointer="/latest_at", code="time_over", message=message, remedy=remedy)
    return LeadRefused("invalid_request", message, [fault])


def _unusable(
    name: str,
    code: str,
    message: str,
    remedy: str = "Use the id of a number or an active template of this account.",
) -> LeadRefused:
    fault = FieldError(pointer=f"/{name}", code=code, message=message, remedy=remedy)
    return LeadRefused("invalid_request", message, [fault])


def _too_large(path: tuple[str | int, ...], fault: str) -> LeadRefused:
    place = pointer("payload", *path)
    fault_of_payload = FieldError(
        pointer=place,
        code="too_large",
        message=f"The value at '{place[:200]}' {fault}.",
        remedy="Send only the values that the template's variables need.",
    )
    return LeadRefused("invalid_payload", "The payload is too large.", [fault_of_payload])


def _in_payload(problem: Problem) -> FieldError:
    return FieldError(**{**problem.to_json(), "pointer": f"/payload{problem.pointer}"})
