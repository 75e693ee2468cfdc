"""/leads: the people that calls are about."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Query, Response
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic_core import PydanticSerializationError

from db import audit, leads, numbers, templates
from db.audit import Change
from db.calls import Direction
from db.errors import NotFound
from db.leads import LeadDraft, LeadFilter, LeadRecord, LeadStatus
from templates.problem import Problem, pointer
from templates.size import JsonLimits
from templates.storable import MAX_DEPTH, shallow
from templates.values import InvalidValues, resolve
from voicebot.api.access import LeadWriter, Reader
from voicebot.api.answers import AnswerOf
from voicebot.api.app_state import AppState, AppStateDep
from voicebot.api.calls import RouteTaken
from voicebot.api.documentation import BODY, refuses
from voicebot.api.numbers import E164
from voicebot.api.pagination import PageOf, PageQuery, streamed
from voicebot.api.problems import ApiProblem, FieldError
from voicebot.authoring import content_of

router = APIRouter(prefix="/leads", tags=["leads"])


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


Lead = Annotated[LeadRecord, AnswerOf("Lead", types={"routes": list[RouteTaken]})]


class LeadQuery(PageQuery):
    """Which leads to list."""

    status: LeadStatus | None = None
    direction: Direction | None = None
    phone: Annotated[str | None, Field(max_length=20)] = None
    number_id: UUID | None = None
    template_id: UUID | None = None


PAYLOAD_LIMITS = JsonLimits()
_LEAD: TypeAdapter[Any] = TypeAdapter(Lead)

Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        description="A repeated request with the same key and body returns the lead of the first one.",
    ),
]


@router.get("", response_model=PageOf[Lead], responses=refuses("invalid_request"))
async def list_leads(
    app_state: AppStateDep, reader: Reader, query: Annotated[LeadQuery, Query()]
) -> Response:
    """The account's leads, newest first."""
    where = LeadFilter(
        status=query.status,
        direction=query.direction,
        phone=query.phone,
        number_id=query.number_id,
        template_id=query.template_id,
    )
    found = await leads.list_leads(
        app_state.database, reader.account_id, where, limit=query.limit, cursor=query.cursor
    )
    return streamed(found, _stored_answer)


@router.post(
    "",
    status_code=201,
    response_model=Lead,
    responses=refuses(*BODY, "invalid_request", "invalid_payload", "idempotency_key_reused"),
)
async def create_lead(
    app_state: AppStateDep,
    caller: LeadWriter,
    body: LeadBody,
    idempotency_key: Key = None,
) -> Response:
    """Create a lead: a person to call. The payload must fit the template's variables."""
    if fault := PAYLOAD_LIMITS.fault(body.payload):
        raise _too_large(*fault)
    draft = LeadDraft(
        direction="outbound",
        phone=body.phone,
        number_id=body.number_id,
        template_id=body.template_id,
        payload=body.payload,
        variables=await _values(app_state, caller.account_id, body),
    )
    async with app_state.database.transaction() as transaction:
        result = await leads.create(transaction, caller.account_id, draft, idempotency_key=idempotency_key)
        if result.created:
            change = Change(
                key_id=caller.key_id, action="create", resource="lead", resource_id=result.lead.id
            )
            await audit.record(transaction, caller.account_id, change)
        # Before the commit: a lead that cannot be answered is not stored.
        answer = _answer(result.lead)
    headers = {"Location": f"/api/v1/leads/{result.lead.id}"}
    if not result.created:
        headers["Idempotency-Replayed"] = "true"
    return Response(answer, 201, headers, media_type="application/json")


@router.get("/{lead_id:uuid}", response_model=Lead, responses=refuses("not_found"))
async def get_lead(app_state: AppStateDep, reader: Reader, lead_id: UUID) -> Response:
    """One lead."""
    found = await leads.get(app_state.database, reader.account_id, lead_id)
    return Response(_stored_answer(found), media_type="application/json")


def _answer(lead: LeadRecord) -> bytes:
    return _LEAD.dump_json(_LEAD.validate_python(lead), by_alias=True)


def _stored_answer(lead: LeadRecord) -> bytes:
    """A lead as JSON, without what is too deep: version 0.1.0 stored payloads that cannot be answered."""
    try:
        return _answer(lead)
    except PydanticSerializationError:
        return _answer(
            replace(
                lead, payload=shallow(lead.payload, MAX_DEPTH), variables=shallow(lead.variables, MAX_DEPTH)
            )
        )


async def _values(app_state: AppState, account_id: UUID, body: LeadBody) -> dict[str, Any]:
    """The payload as values of the template's variables; 422 where it does not fit."""
    try:
        await numbers.get(app_state.database, account_id, body.number_id)
    except NotFound:
        raise _unusable("number_id", "number_missing", "The account has no such number.") from None
    try:
        template = await templates.get(app_state.database, account_id, body.template_id)
    except NotFound:
        raise _unusable("template_id", "template_missing", "The account has no such template.") from None
    if template.status != "active":
        raise _unusable("template_id", "template_inactive", "The template is a draft: activate it first.")
    try:
        return resolve(content_of(template.content).variables, body.payload, source="payload")
    except InvalidValues as error:
        raise ApiProblem(
            "invalid_payload",
            "The payload does not fit the template's variables.",
            errors=[_in_payload(problem) for problem in error.problems],
        ) from None


def _unusable(field: str, code: str, message: str) -> ApiProblem:
    remedy = "Use the id of a number or an active template of this account."
    fault = FieldError(pointer=f"/{field}", code=code, message=message, remedy=remedy)
    return ApiProblem("invalid_request", message, errors=[fault])


def _too_large(path: tuple[str | int, ...], fault: str) -> ApiProblem:
    place = pointer("payload", *path)
    fault_of_payload = FieldError(
        pointer=place,
        code="too_large",
        message=f"The value at '{place[:200]}' {fault}.",
        remedy="Send only the values that the template's variables need.",
    )
    return ApiProblem("invalid_payload", "The payload is too large.", errors=[fault_of_payload])


def _in_payload(problem: Problem) -> FieldError:
    return FieldError(**{**problem.to_json(), "pointer": f"/payload{problem.pointer}"})
