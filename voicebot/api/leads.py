"""/leads: the people that calls are about."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any
from uuid import UUID

from fastapi import Header, Query, Response
from pydantic import Field, TypeAdapter
from pydantic_core import PydanticSerializationError

from db import audit, leads
from db.audit import Change
from db.calls import Direction
from db.leads import LeadDraft, LeadFilter, LeadRecord, LeadStatus
from templates.storable import MAX_DEPTH, shallow
from voicebot.api.access import LeadWriter, Principal, Reader
from voicebot.api.answers import AnswerOf
from voicebot.api.app_state import AppState, AppStateDep
from voicebot.api.calls import RouteTaken
from voicebot.api.documentation import BODY, refuses
from voicebot.api.lead_checks import LeadBodies, LeadBody, LeadChecks, LeadRefused
from voicebot.api.pagination import PageOf, PageQuery, streamed
from voicebot.api.problems import ApiProblem
from voicebot.api.resource_router import resource_router

router = resource_router("/leads", "leads")


Lead = Annotated[LeadRecord, AnswerOf("Lead", types={"routes": list[RouteTaken]})]


class LeadQuery(PageQuery):
    """Which leads to list."""

    status: LeadStatus | None = None
    direction: Direction | None = None
    phone: Annotated[str | None, Field(max_length=20)] = None
    number_id: UUID | None = None
    template_id: UUID | None = None


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
    response_model=Lead | PageOf[Lead],
    responses=refuses(*BODY, "invalid_request", "invalid_payload", "idempotency_key_reused"),
)
async def create_lead(
    app_state: AppStateDep,
    caller: LeadWriter,
    body: LeadBodies,
    idempotency_key: Key = None,
) -> Response:
    """Create a lead: a person to call. The payload must fit the template's variables.

    A list of up to 200 leads is stored as a whole or not at all; it is answered with the leads as `items`, in
    the same order.
    """
    if isinstance(body, LeadBody):
        return await _create(app_state, caller, body, idempotency_key)
    return await _create_several(app_state, caller, body, idempotency_key)


async def _create(
    app_state: AppState, caller: Principal, body: LeadBody, idempotency_key: str | None
) -> Response:
    checks = LeadChecks(app_state.database, caller.account_id, app_state.clock.now())
    try:
        draft = await checks.draft(body)
    except LeadRefused as refused:
        raise ApiProblem(refused.code, refused.detail, errors=refused.errors) from None
    async with app_state.database.transaction() as transaction:
        result = await leads.create(transaction, caller.account_id, draft, idempotency_key=idempotency_key)
        if result.created:
            change = Change(
                key_id=caller.key_id, action="create", resource="lead", resource_id=result.lead.id
            )
            await audit.record(transaction, caller.account_id, change)
        # Before the commit: a lead that cannot be represented in the answer is not stored.
        answer = _answer(result.lead)
    headers = {"Location": f"/api/v1/leads/{result.lead.id}"}
    if not result.created:
        headers["Idempotency-Replayed"] = "true"
    return Response(answer, 201, headers, media_type="application/json")


async def _create_several(
    app_state: AppState, caller: Principal, bodies: Sequence[LeadBody], idempotency_key: str | None
) -> Response:
    """The key of each lead, made of the request's key and the lead's place in the list."""
    checks = LeadChecks(app_state.database, caller.account_id, app_state.clock.now())
    drafts: list[tuple[LeadDraft, str | None]] = []
    for place, body in enumerate(bodies):
        try:
            draft = await checks.draft(body)
        except LeadRefused as refused:
            errors = [
                each.model_copy(update={"pointer": f"/{place}{each.pointer}"}) for each in refused.errors
            ]
            raise ApiProblem(refused.code, refused.detail, errors=errors) from None
        drafts.append((draft, None if idempotency_key is None else f"{idempotency_key}/{place}"))
        await asyncio.sleep(0)
    async with app_state.database.transaction() as transaction:
        made = await leads.create_all(transaction, caller.account_id, drafts)
        created = [each.lead for each in made if each.created]
        if created:
            change = Change(
                key_id=caller.key_id, action="create", resource="lead", resource_id=created[0].id,
                data={"leads": [str(lead.id) for lead in created]},
            )  # fmt: skip
            await audit.record(transaction, caller.account_id, change)
        answers = [_answer(each.lead) for each in made]
    headers = {} if created else {"Idempotency-Replayed": "true"}
    body_of_answer = b'{"items":[' + b",".join(answers) + b'],"next_cursor":null}'
    return Response(body_of_answer, 201, headers, media_type="application/json")


@router.get("/{lead_id:uuid}", response_model=Lead, responses=refuses("not_found"))
async def get_lead(app_state: AppStateDep, reader: Reader, lead_id: UUID) -> Response:
    """One lead."""
    found = await leads.get(app_state.database, reader.account_id, lead_id)
    return Response(_stored_answer(found), media_type="application/json")


def _answer(lead: LeadRecord) -> bytes:
    return _LEAD.dump_json(_LEAD.validate_python(lead), by_alias=True)


def _stored_answer(lead: LeadRecord) -> bytes:
    """A lead as JSON, without levels that are too deep: version 0.1.0 stored such payloads."""
    try:
        return _answer(lead)
    except PydanticSerializationError:
        return _answer(
            replace(
                lead, payload=shallow(lead.payload, MAX_DEPTH), variables=shallow(lead.variables, MAX_DEPTH)
            )
        )
