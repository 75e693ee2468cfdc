"""/templates/export and /templates/import: templates as files have them, a set at a time."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from templates.model import Revision, TemplateProblem
from templates.sets import FileTemplate, UnreadableText, dump_text, members, read_text
from voicebot.api.access import Author, Reader
from voicebot.api.app_state import AppState, AppStateDep
from voicebot.api.documentation import BODY, SET_EXAMPLES, refuses
from voicebot.api.error_handlers import of_database
from voicebot.api.media_types import YAML, is_yaml, json_or_yaml, prefers_yaml
from voicebot.api.problems import ApiProblem, FieldError
from voicebot.api.validation import invalid_body
from voicebot.authoring import Imported, ImportOptions, SetMoved, SetRefused, export

MAX_TEMPLATES = 500
"""How many templates one import may save: they are written in one transaction."""

router = APIRouter(prefix="/templates", tags=["templates"], dependencies=[Depends(json_or_yaml)])


class TemplateSet(BaseModel):
    """Templates as files have them; see `GET /templates/schema?form=file`."""

    model_config = ConfigDict(extra="forbid")

    templates: list[FileTemplate] = Field(max_length=MAX_TEMPLATES)
    expect: dict[str, Revision | None] = Field(
        default_factory=dict,
        description=(
            "Revisions that the account's templates must have, by name; null: there must be none of the "
            "name. Otherwise nothing is imported."
        ),
    )


class ExportQuery(BaseModel):
    """Which templates to export, and how."""

    model_config = ConfigDict(extra="forbid")

    format: Annotated[
        Literal["json", "yaml"] | None, Field(description="Goes before the `Accept` header; default JSON.")
    ] = None
    id: Annotated[list[UUID], Field(description="Templates by id.", max_length=200)] = []
    name: Annotated[list[str], Field(description="Templates by name.", max_length=200)] = []
    revisions: Annotated[
        bool, Field(description="Add `expect`, so that an import is refused once somebody else has saved.")
    ] = False


class ImportQuery(BaseModel):
    """How to import."""

    model_config = ConfigDict(extra="forbid")

    dry_run: Annotated[bool, Field(description="Answer what would happen, and change nothing.")] = False


class ImportedTemplate(BaseModel):
    """What became of a template of the set."""

    name: str
    id: str | None = Field(description="Null for a template that a dry run would create.")
    action: Literal["created", "updated", "unchanged"]
    revision: int
    changed: list[str] = Field(description="Members that are not as they were.")
    problems: list[TemplateProblem] = Field(description="Errors that a draft still has.")
    warnings: list[TemplateProblem]


class ImportAnswer(BaseModel):
    """What was done, or would have been; in the order of the set."""

    dry_run: bool
    templates: list[ImportedTemplate]


_IMPORT_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            media_type: {
                "schema": {
                    "anyOf": [
                        {"$ref": "#/components/schemas/TemplateSet"},
                        {"$ref": "#/components/schemas/FileTemplate"},
                    ]
                },
                "examples": SET_EXAMPLES,
            }
            for media_type in ("application/json", YAML)
        },
    }
}


@router.get(
    "/export",
    response_model=TemplateSet,
    responses={
        200: {"content": {YAML: {"schema": {"$ref": "#/components/schemas/TemplateSet"}}}},
        **refuses("not_found", "invalid_request"),
    },
)
async def export_templates(
    wired: AppStateDep, reader: Reader, request: Request, query: Annotated[ExportQuery, Query()]
) -> Response:
    """Templates with those they route to, as files have them: names for ids, secrets as `***`.

    Without `id` and `name` all of the account's. JSON or YAML, by `format` or `Accept`.
    """
    found = await export(wired.database, reader.account_id, ids=query.id, names=query.name)
    document: dict[str, Any] = {"templates": [each.document for each in found]}
    if query.revisions:
        document["expect"] = {each.record.name: each.record.revision for each in found}
    wants_yaml = query.format == "yaml" or (query.format is None and prefers_yaml(request))
    if not wants_yaml:
        return JSONResponse(document, headers={"Vary": "Accept"})
    text = await asyncio.to_thread(dump_text, document)
    return Response(text, media_type=YAML, headers={"Vary": "Accept"})


@router.post(
    "/import",
    response_model=ImportAnswer,
    responses=refuses(
        *BODY,
        "invalid_yaml",
        "invalid_request",
        "invalid_template",
        "orchestrator_exists",
        "template_in_use",
        "precondition_failed",
    ),
    openapi_extra=_IMPORT_BODY,
)
async def import_templates(
    wired: AppStateDep, author: Author, request: Request, query: Annotated[ImportQuery, Query()]
) -> Response:
    """Create and update templates by their names, all of a set or none of it.

    Routes name templates of the set or of the account. What is as it was is not saved again. A secret that
    is `***` stays as it is. The body is JSON or YAML: a template, or a list of them under `templates`.
    """
    wish = _wish(await asyncio.to_thread(_document, await request.body(), is_yaml(request)), query.dry_run)
    try:
        done = await wired.authoring.import_set(author.editor, wish)
    except SetMoved as error:
        raise ApiProblem(
            "precondition_failed",
            str(error),
            errors=[FieldError(**each.problem().to_json()) for each in error.moves],
        ) from None
    except SetRefused as error:
        raise _refused(error) from None
    if not query.dry_run:
        for each in done:
            _prepare(wired, author.account_id, each)
    return JSONResponse({"dry_run": query.dry_run, "templates": [_told(each) for each in done]})


def _document(body: bytes, yaml: bool) -> Any:
    try:
        return read_text(body, "yaml" if yaml else "json").document
    except UnreadableText as error:
        where = f"Line {error.line}: " if error.line is not None else ""
        raise ApiProblem("invalid_yaml" if yaml else "invalid_json", f"{where}{error}") from None


_EXPECT = TypeAdapter(dict[str, Revision | None])


def _wish(document: Any, dry_run: bool) -> ImportOptions:
    """What a body asks for.

    Raises:
        ApiProblem: it is a list of templates with something wrong around them.
    """
    if not isinstance(document, dict) or "templates" not in document:
        return ImportOptions(documents=members(document), dry_run=dry_run)
    try:
        # The templates themselves are looked at by the check, which finds all faults at once.
        around = _Around.model_validate(document)
    except ValidationError as error:
        raise invalid_body(error) from None
    return ImportOptions(documents=members(document), expect=around.expect, dry_run=dry_run)


class _Around(TemplateSet):
    templates: list[Any] = Field(max_length=MAX_TEMPLATES)


def _refused(error: SetRefused) -> ApiProblem:
    problem = of_database(error.cause)
    told = [each.model_copy(update={"pointer": error.entry.pointer(each.pointer)}) for each in problem.errors]
    if not told:
        remedy = "Change the templates that route here, in the same set."
        told = [
            FieldError(pointer=error.entry.place, code=problem.code, message=problem.detail, remedy=remedy)
        ]
    problem.errors = told
    return problem


def _told(imported: Imported) -> dict[str, Any]:
    return {
        "name": imported.name,
        "id": str(imported.template_id) if imported.template_id else None,
        "action": imported.action,
        "revision": imported.revision,
        "changed": list(imported.changed),
        "problems": [each.to_json() for each in imported.problems],
        "warnings": [each.to_json() for each in imported.warnings],
    }


def _prepare(wired: AppState, account_id: UUID, imported: Imported) -> None:
    """Have the greeting of what is active now made before somebody calls; nobody waits for it."""
    if imported.status == "active" and imported.action != "unchanged" and imported.template_id is not None:
        preparing = wired.call_registry.prepare_greetings(account_id, imported.template_id)
        wired.background.start(preparing, name=f"preparing greetings of template {imported.template_id}")
