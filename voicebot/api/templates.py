"""/templates: what authors write."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal
from uuid import UUID

from fastapi import Depends, Query, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from db import templates
from db.templates import Kind, Status, TemplateFilter, TemplateRecord
from templates.model import Template, TemplateProblem
from voicebot.api.access import Author, Reader
from voicebot.api.app_state import AppState, AppStateDep
from voicebot.api.documentation import BODY, CHANGE, NOT_MODIFIED, TEMPLATE_EXAMPLES, refuses, request_body
from voicebot.api.media_types import MERGE_PATCH, json_text
from voicebot.api.pagination import PageOf, PageQuery, streamed
from voicebot.api.preconditions import IfMatch, IfNoneMatch, MaybeIfMatch, etag, unchanged
from voicebot.api.resource_router import resource_router
from voicebot.authoring import JsonText, MergePatch, SavedTemplate, answer_of, to_json

SAVE = ("invalid_template", "name_taken", "orchestrator_exists", "invalid_request", "rate_limited")
"""Codes with which a save of a template may be refused."""

STATUS = ("not_found", "precondition_failed", "template_in_use")
"""Further codes with which a change of status may be refused."""

router = resource_router("/templates", "templates")

# The check reads and validates documents: it finds all faults, a model would find those of shape only.
Document = Annotated[JsonText, Depends(json_text)]
_DOCUMENT = request_body({"$ref": "#/components/schemas/TemplateContent"}, TEMPLATE_EXAMPLES)
_ANY_JSON = request_body({"title": "A template, or any JSON"}, TEMPLATE_EXAMPLES)
_PATCH = request_body(
    {"$ref": "#/components/schemas/TemplatePatch"},
    {"description": {"value": {"description": "Answers questions about invoices."}}},
    MERGE_PATCH,
)


class TemplateQuery(PageQuery):
    """Which templates to list."""

    kind: Kind | None = None
    status: Status | None = None
    number_id: UUID | None = None
    name: Annotated[
        str | None, Field(max_length=200, description="Part of the name; case does not matter.")
    ] = None


class SchemaQuery(BaseModel):
    """Which schema."""

    model_config = ConfigDict(extra="forbid")

    form: Annotated[
        Literal["api", "file"],
        Field(description="`api`: what this API takes. `file`: a file, with names in place of ids."),
    ] = "api"


class SchemaResponse(JSONResponse):
    """A JSON Schema."""

    media_type = "application/schema+json"


class CheckReport(BaseModel):
    """The result of the check: errors prevent activation, warnings do not; notes are not mistakes."""

    ok: bool
    errors: list[TemplateProblem]
    warnings: list[TemplateProblem]
    notes: list[TemplateProblem]


@router.get("", response_model=PageOf[Template], responses=refuses("invalid_request"))
async def list_templates(
    app_state: AppStateDep, reader: Reader, query: Annotated[TemplateQuery, Query()]
) -> Response:
    """The account's templates, newest first."""
    where = TemplateFilter(
        kind=query.kind, status=query.status, number_id=query.number_id, name_contains=query.name or ""
    )
    found = await templates.list_templates(
        app_state.database, reader.account_id, where, limit=query.limit, cursor=query.cursor
    )
    return streamed(found, lambda record: to_json(answer_of(record)))


@router.post(
    "", status_code=201, response_model=Template, responses=refuses(*BODY, *SAVE), openapi_extra=_DOCUMENT
)
async def create_template(app_state: AppStateDep, author: Author, document: Document) -> Response:
    """Save a new template. A draft may have any fault but one of shape; they are answered as `problems`."""
    saved = await app_state.authoring.create(author.editor, document)
    return answer_saved(app_state, saved, 201)


@router.post(
    "/check",
    response_model=CheckReport,
    responses=refuses(*BODY, "invalid_request", "rate_limited"),
    openapi_extra=_ANY_JSON,
)
async def check_template(app_state: AppStateDep, reader: Reader, document: Document) -> Response:
    """All problems of a template; nothing is saved. Names may be used for ids, as in files."""
    report = await app_state.authoring.check(reader.account_id, document)
    return JSONResponse(report.to_json())


@router.get("/schema", response_class=SchemaResponse, responses=refuses("invalid_request"))
async def template_schema(app_state: AppStateDep, query: Annotated[SchemaQuery, Query()]) -> Response:
    """The JSON Schema of a template (or of a file of templates), for an editor's completion; needs no key."""
    # Made at the first request, which takes 60 ms of CPU time.
    return SchemaResponse(await asyncio.to_thread(app_state.authoring.schema, query.form))


@router.get(
    "/{template_id:uuid}",
    response_model=Template,
    responses=NOT_MODIFIED | refuses("not_found", "rate_limited"),
)
async def get_template(
    app_state: AppStateDep, reader: Reader, template_id: UUID, if_none_match: IfNoneMatch
) -> Response:
    """One template."""
    record = await templates.get(app_state.database, reader.account_id, template_id)
    if if_none_match.has(record.revision):
        return unchanged(record.revision)
    return answered(await app_state.authoring.with_warnings(record))


@router.put(
    "/{template_id:uuid}",
    response_model=Template,
    responses=refuses(*BODY, *CHANGE, *SAVE, "template_in_use"),
    openapi_extra=_DOCUMENT,
)
async def replace_template(
    app_state: AppStateDep,
    author: Author,
    template_id: UUID,
    if_match: IfMatch,
    document: Document,
) -> Response:
    """Replace a template by another document. Secrets that are `***` are kept."""
    before = await templates.get(app_state.database, author.account_id, template_id)
    if_match.expect(before.revision)
    saved = await app_state.authoring.replace(author.editor, before, document)
    return answer_saved(app_state, saved)


@router.patch(
    "/{template_id:uuid}",
    response_model=Template,
    responses=refuses(*BODY, *CHANGE, *SAVE, "template_in_use"),
    openapi_extra=_PATCH,
)
async def patch_template(
    app_state: AppStateDep,
    author: Author,
    template_id: UUID,
    if_match: IfMatch,
    patch: Document,
) -> Response:
    """Change parts of a template (RFC 7396): values replace, null removes, lists are replaced as a whole."""
    before = await templates.get(app_state.database, author.account_id, template_id)
    if_match.expect(before.revision)
    saved = await app_state.authoring.replace(author.editor, before, MergePatch(answer_of(before), patch))
    return answer_saved(app_state, saved)


@router.delete(
    "/{template_id:uuid}", status_code=204, responses=refuses(*CHANGE, "template_in_use", "rate_limited")
)
async def delete_template(
    app_state: AppStateDep, author: Author, template_id: UUID, if_match: IfMatch
) -> Response:
    """Delete a template; calls in progress continue with it."""
    before = await templates.get(app_state.database, author.account_id, template_id)
    if_match.expect(before.revision)
    await app_state.authoring.delete(author.editor, before)
    return Response(status_code=204)


@router.post("/{template_id:uuid}/activate", response_model=Template, responses=refuses(*STATUS, *SAVE))
async def activate_template(
    app_state: AppStateDep, author: Author, template_id: UUID, if_match: MaybeIfMatch
) -> Response:
    """Activate a template; it must pass the check. One that is active is not saved again."""
    saved = await app_state.authoring.set_status(author.editor, template_id, "active", if_match.expect)
    return answer_saved(app_state, saved)


@router.post("/{template_id:uuid}/deactivate", response_model=Template, responses=refuses(*STATUS, *SAVE))
async def deactivate_template(
    app_state: AppStateDep, author: Author, template_id: UUID, if_match: MaybeIfMatch
) -> Response:
    """Make a template a draft, which takes no calls; refused while active templates route to it."""
    saved = await app_state.authoring.set_status(author.editor, template_id, "draft", if_match.expect)
    return answered(saved)


def answered(record: TemplateRecord, status: int = 200) -> Response:
    """The response for a template, with its ETag."""
    headers = {"ETag": etag(record.revision)}
    body = answer_of(record)
    if isinstance(record, SavedTemplate):
        body["warnings"] = [warning.to_json() for warning in record.warnings]
    if status == 201:
        headers["Location"] = f"/api/v1/templates/{record.id}"
    return JSONResponse(body, status, headers=headers)


def answer_saved(app_state: AppState, record: TemplateRecord, status: int = 200) -> Response:
    """The response for a template that was just saved."""
    prepare_greetings(app_state, record.account_id, record.id, record.status)
    return answered(record, status)


def prepare_greetings(app_state: AppState, account_id: UUID, template_id: UUID, status: str) -> None:
    """Start to synthesise an active template's greetings, so that the first call need not wait for them."""
    if status == "active":
        preparing = app_state.call_registry.prepare_greetings(account_id, template_id)
        app_state.background.start(preparing, name=f"preparing greetings of template {template_id}")
