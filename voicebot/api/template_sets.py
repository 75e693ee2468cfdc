"""/templates/export and /templates/import: sets of templates in the format of files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from templates.model import Revision, TemplateProblem
from templates.sets import FileTemplate, UnreadableText, dump_text
from voicebot.api.access import Author, Reader
from voicebot.api.app_state import AppStateDep
from voicebot.api.documentation import BODY, SET_EXAMPLES, refuses
from voicebot.api.error_handlers import of_database
from voicebot.api.media_types import YAML, is_yaml, json_or_yaml, prefers_yaml
from voicebot.api.problems import ApiProblem, FieldError
from voicebot.api.resource_router import resource_router
from voicebot.api.templates import prepare_greetings
from voicebot.api.validation import invalid_body
from voicebot.authoring import (
    MAX_TEMPLATES,
    Imported,
    ImportOptions,
    InvalidSet,
    RevisionsMoved,
    SetRefused,
    export,
    find_exported,
    import_set,
    read_set,
    to_json,
    to_yaml_item,
)

router = resource_router("/templates", "templates", media_types=json_or_yaml)


class TemplateSet(BaseModel):
    """Templates in the format of files; see `GET /templates/schema?form=file`."""

    model_config = ConfigDict(extra="forbid")

    templates: list[FileTemplate] = Field(max_length=MAX_TEMPLATES)
    expect: dict[str, Revision | None] = Field(
        default_factory=dict,
        description=(
            "Revisions that the account's templates must have, by name; null: the account must have no "
            "template of the name. Otherwise nothing is imported."
        ),
    )


class ExportQuery(BaseModel):
    """Which templates to export, and how."""

    model_config = ConfigDict(extra="forbid")

    format: Annotated[
        Literal["json", "yaml"] | None,
        Field(description="Takes precedence over the `Accept` header; default JSON."),
    ] = None
    id: Annotated[list[UUID], Field(description="Templates by id.", max_length=200)] = []
    name: Annotated[list[str], Field(description="Templates by name.", max_length=200)] = []
    revisions: Annotated[
        bool,
        Field(description="Add `expect`, so that an import is refused if another request has saved since."),
    ] = False


class ImportQuery(BaseModel):
    """How to import."""

    model_config = ConfigDict(extra="forbid")

    dry_run: Annotated[bool, Field(description="Answer what would happen, without changing anything.")] = (
        False
    )


class ImportedTemplate(BaseModel):
    """The result for one template of the set."""

    name: str
    id: str | None = Field(description="Null for a template that a dry run would create.")
    action: Literal["created", "updated", "unchanged"]
    revision: int
    changed: list[str] = Field(description="Members that the import changes.")
    problems: list[TemplateProblem] = Field(description="Errors that a draft still has.")
    warnings: list[TemplateProblem]


class ImportAnswer(BaseModel):
    """The results, in the order of the set; of a dry run, what they would be."""

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
    app_state: AppStateDep, reader: Reader, request: Request, query: Annotated[ExportQuery, Query()]
) -> Response:
    """Templates and their route targets in the format of files: names for ids, secrets as `***`.

    Without `id` and `name`, all templates of the account. JSON or YAML, by `format` or `Accept`.
    """
    found = await find_exported(app_state.database, reader.account_id, ids=query.id, names=query.name)
    checks = app_state.authoring.checks
    exported = export(app_state.database, checks, reader.account_id, found)
    wants_yaml = query.format == "yaml" or (query.format is None and prefers_yaml(request))

    async def text() -> AsyncIterator[str]:
        """The set, template by template, so that no part of it takes long or much memory."""
        form, expect = _YAML if wants_yaml else _JSON, dict[str, int]()
        async for each in exported:
            yield form.between if expect else form.begin
            yield await checks.run(reader.account_id, form.item, each.document)
            expect[each.record.name] = each.record.revision
        yield form.end if expect else form.empty
        if query.revisions:
            yield form.expect(expect)
        yield form.last

    media_type = YAML if wants_yaml else "application/json"
    return StreamingResponse(text(), media_type=media_type, headers={"Vary": "Accept"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """How a set is written in parts."""

    begin: str
    item: Callable[[Any], str]
    between: str
    end: str
    empty: str
    expect: Callable[[Mapping[str, int]], str]
    last: str


_YAML = _Form(
    begin="templates:\n",
    item=to_yaml_item,
    between="",
    end="",
    empty="templates: []\n",
    expect=lambda expect: dump_text({"expect": expect}),
    last="",
)
_JSON = _Form(
    begin='{"templates":[',
    item=to_json,
    between=",",
    end="]",
    empty='{"templates":[]',
    expect=lambda expect: f',"expect":{to_json(expect)}',
    last="}",
)


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
        "rate_limited",
    ),
    openapi_extra=_IMPORT_BODY,
)
async def import_templates(
    app_state: AppStateDep, author: Author, request: Request, query: Annotated[ImportQuery, Query()]
) -> Response:
    """Create and update templates by their names, all of a set or none of it.

    Routes name templates of the set or of the account. An unchanged template is not saved again. A secret
    that is `***` is kept. The body is JSON or YAML: a template, or a list of them under `templates`.
    """
    yaml, checks = is_yaml(request), app_state.authoring.checks
    try:
        read = await checks.run(author.account_id, read_set, await request.body(), is_yaml=yaml)
    except UnreadableText as error:
        where = f"Line {error.line}: " if error.line is not None else ""
        raise ApiProblem("invalid_yaml" if yaml else "invalid_json", f"{where}{error}") from None
    except InvalidSet as error:
        raise invalid_body(error.faults) from None
    options = ImportOptions(documents=read.documents, expect=read.expect, dry_run=query.dry_run)
    try:
        imported = await import_set(app_state.authoring, author.editor, options)
    except RevisionsMoved as error:
        raise ApiProblem(
            "precondition_failed",
            str(error),
            errors=[FieldError(**each.problem().to_json()) for each in error.moves],
        ) from None
    except SetRefused as error:
        raise _refused(error) from None
    for each in imported:
        if each.template_id and each.action != "unchanged" and not query.dry_run:
            prepare_greetings(app_state, author.account_id, each.template_id, each.status)
    return JSONResponse({"dry_run": query.dry_run, "templates": [_answer(each) for each in imported]})


def _refused(error: SetRefused) -> ApiProblem:
    problem = of_database(error.cause)
    errors = [
        each.model_copy(update={"pointer": error.entry.pointer(each.pointer)}) for each in problem.errors
    ]
    if not errors:
        remedy = "Change the templates that route here, in the same set."
        errors = [
            FieldError(pointer=error.entry.place, code=problem.code, message=problem.detail, remedy=remedy)
        ]
    problem.errors = errors
    return problem


def _answer(imported: Imported) -> dict[str, Any]:
    return {
        "name": imported.name,
        "id": str(imported.template_id) if imported.template_id else None,
        "action": imported.action,
        "revision": imported.revision,
        "changed": list(imported.changed),
        "problems": [each.to_json() for each in imported.problems],
        "warnings": [each.to_json() for each in imported.warnings],
    }
