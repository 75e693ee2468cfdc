"""/templates: what authors write."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Body, Query, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from db import templates
from db.templates import Kind, Status, TemplateFilter, TemplateRecord
from templates.model import Template, TemplateProblem
from voicebot.api.access import Author, Reader
from voicebot.api.app_state import AppState, AppStateDep
from voicebot.api.documentation import BODY, CHANGE, NOT_MODIFIED, TEMPLATE_EXAMPLES, refuses
from voicebot.api.merge_patch import MEDIA_TYPE as MERGE_PATCH
from voicebot.api.merge_patch import merged
from voicebot.api.pagination import PageOf, PageQuery, answer
from voicebot.api.preconditions import IfMatch, IfNoneMatch, MaybeIfMatch, etag, unchanged
from voicebot.authoring import shown

SAVE = ("invalid_template", "name_taken", "orchestrator_exists", "invalid_request")
"""What a template that is to be saved may be refused for."""

STATUS = ("not_found", "precondition_failed", "template_in_use")
"""What a change of status may be refused for besides."""

router = APIRouter(prefix="/templates", tags=["templates"])

# The check itself reads the document: it finds all faults, where a model would tell of those of shape alone.
_SCHEMA = WithJsonSchema({"$ref": "#/components/schemas/TemplateContent"})
Document = Annotated[Any, Body(openapi_examples=TEMPLATE_EXAMPLES), _SCHEMA]
AnyJson = Annotated[
    Any, Body(openapi_examples=TEMPLATE_EXAMPLES), WithJsonSchema({"title": "A template, or any JSON"})
]
Patch = Annotated[
    Any,
    Body(media_type=MERGE_PATCH, examples=[{"description": "Answers questions about invoices."}]),
    WithJsonSchema({"type": "object", "additionalProperties": True}),
]


class TemplateQuery(PageQuery):
    """Which templates to list."""

    kind: Kind | None = None
    status: Status | None = None
    number_id: UUID | None = None
    name: Annotated[str | None, Field(max_length=200, description="Part of the name, in any case.")] = None


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
    """What the check found: errors refuse activation, warnings do not."""

    ok: bool
    errors: list[TemplateProblem]
    warnings: list[TemplateProblem]


@router.get("", response_model=PageOf[Template], responses=refuses("invalid_request"))
async def list_templates(
    wired: AppStateDep, reader: Reader, query: Annotated[TemplateQuery, Query()]
) -> Response:
    """The account's templates, newest first."""
    where = TemplateFilter(
        kind=query.kind, status=query.status, number_id=query.number_id, name_contains=query.name or ""
    )
    found = await templates.list_templates(
        wired.database, reader.account_id, where, limit=query.limit, cursor=query.cursor
    )
    return JSONResponse(answer([shown(record) for record in found.items], found.next_cursor))


@router.post("", status_code=201, response_model=Template, responses=refuses(*BODY, *SAVE))
async def create_template(wired: AppStateDep, author: Author, document: Document) -> Response:
    """Save a new template. A draft may have any fault but one of shape, and its `problems` are answered."""
    saved = await wired.authoring.create(author.editor, document)
    prepare_greetings(wired, saved)
    return answered(saved, 201)


@router.post("/check", response_model=CheckReport, responses=refuses(*BODY, "invalid_request"))
async def check_template(wired: AppStateDep, reader: Reader, document: AnyJson) -> Response:
    """What is wrong with a template, all at once; nothing is saved. Names may stand for ids, as in files."""
    report = await wired.authoring.check(reader.account_id, document)
    return JSONResponse(report.to_json())


@router.get("/schema", response_class=SchemaResponse, responses=refuses("invalid_request"))
async def template_schema(wired: AppStateDep, _: Reader, query: Annotated[SchemaQuery, Query()]) -> Response:
    """The JSON Schema of a template (or of a file of templates), for an editor's completion."""
    return SchemaResponse(wired.authoring.schema(query.form))


@router.get("/{template_id:uuid}", response_model=Template, responses=NOT_MODIFIED | refuses("not_found"))
async def get_template(
    wired: AppStateDep, reader: Reader, template_id: UUID, if_none_match: IfNoneMatch
) -> Response:
    """One template."""
    record = await templates.get(wired.database, reader.account_id, template_id)
    return unchanged(record.revision) if if_none_match.has(record.revision) else answered(record)


@router.put(
    "/{template_id:uuid}",
    response_model=Template,
    responses=refuses(*BODY, *CHANGE, *SAVE, "template_in_use"),
)
async def replace_template(
    wired: AppStateDep,
    author: Author,
    template_id: UUID,
    if_match: IfMatch,
    document: Document,
) -> Response:
    """Replace a template by another document. Secrets that are `***` stay as they are."""
    before = await templates.get(wired.database, author.account_id, template_id)
    if_match.expect(before.revision)
    saved = await wired.authoring.replace(author.editor, before, document)
    prepare_greetings(wired, saved)
    return answered(saved)


@router.patch(
    "/{template_id:uuid}",
    response_model=Template,
    responses=refuses(*BODY, *CHANGE, *SAVE, "template_in_use"),
)
async def patch_template(
    wired: AppStateDep,
    author: Author,
    template_id: UUID,
    if_match: IfMatch,
    patch: Patch,
) -> Response:
    """Change parts of a template (RFC 7396): what is given replaces, null removes, lists go as a whole."""
    before = await templates.get(wired.database, author.account_id, template_id)
    if_match.expect(before.revision)
    saved = await wired.authoring.replace(author.editor, before, merged(shown(before), patch))
    prepare_greetings(wired, saved)
    return answered(saved)


@router.delete("/{template_id:uuid}", status_code=204, responses=refuses(*CHANGE, "template_in_use"))
async def delete_template(
    wired: AppStateDep, author: Author, template_id: UUID, if_match: IfMatch
) -> Response:
    """Take a template out of use; calls in progress go on with it."""
    before = await templates.get(wired.database, author.account_id, template_id)
    if_match.expect(before.revision)
    await wired.authoring.delete(author.editor, before)
    return Response(status_code=204)


@router.post("/{template_id:uuid}/activate", response_model=Template, responses=refuses(*STATUS, *SAVE))
async def activate_template(
    wired: AppStateDep, author: Author, template_id: UUID, if_match: MaybeIfMatch
) -> Response:
    """Have a template take calls; it must pass the check. One that is active stays as it is."""
    saved = await wired.authoring.set_status(author.editor, template_id, "active", if_match.expect)
    prepare_greetings(wired, saved)
    return answered(saved)


@router.post("/{template_id:uuid}/deactivate", response_model=Template, responses=refuses(*STATUS, *SAVE))
async def deactivate_template(
    wired: AppStateDep, author: Author, template_id: UUID, if_match: MaybeIfMatch
) -> Response:
    """Take a template out of service, as a draft; refused while active templates route to it."""
    saved = await wired.authoring.set_status(author.editor, template_id, "draft", if_match.expect)
    return answered(saved)


def answered(record: TemplateRecord, status: int = 200) -> Response:
    """A template as an answer, with its ETag."""
    headers = {"ETag": etag(record.revision)}
    if status == 201:
        headers["Location"] = f"/api/v1/templates/{record.id}"
    return JSONResponse(shown(record), status, headers=headers)


def prepare_greetings(wired: AppState, saved: TemplateRecord) -> None:
    """Have the greeting of what is active now made before somebody calls; nobody waits for it."""
    if saved.status == "active":
        preparing = wired.call_registry.prepare_greetings(saved.account_id, saved.id)
        wired.background.start(preparing, name=f"preparing greetings of template {saved.id}")
