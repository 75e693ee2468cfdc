"""/templates/{id}/revisions and /templates/{id}/duplicate: older revisions and copies of a template."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from fastapi import Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from db import revisions, templates
from db.revisions import RevisionRecord
from templates.model import Template, TemplateContent
from voicebot.api.access import Author, Reader
from voicebot.api.answers import AnswerOf, DocumentedAs, extended
from voicebot.api.app_state import AppStateDep
from voicebot.api.documentation import BODY, CHANGE, refuses
from voicebot.api.pagination import PageOf, PageQuery
from voicebot.api.preconditions import IfMatch
from voicebot.api.resource_router import resource_router
from voicebot.api.templates import SAVE, answer_saved, answered
from voicebot.authoring import Difference as DocumentDifference
from voicebot.authoring import differences, duplicate, public_content, restore

router = resource_router("/templates", "templates")

Number = Annotated[int, Path(ge=1, le=2**31 - 1, description="A revision.")]


_OMIT = ("account_id", "template_id", "number_id", "content")
_EXAMPLES = {"changed": ["prompt", "routes"]}
Difference = Annotated[DocumentDifference, AnswerOf("Difference", examples={"pointer": "/greeting/text"})]


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionWithContent(RevisionRecord):
    """One save of a template, with the template as it was saved."""

    template: Annotated[dict[str, Any], DocumentedAs(TemplateContent)]
    differences: list[Difference] | None
    """Where it differs from the revision `against`; null if not asked."""


Revision = Annotated[RevisionRecord, AnswerOf("Revision", omit=_OMIT, examples=_EXAMPLES)]
RevisionDetail = Annotated[RevisionWithContent, AnswerOf("RevisionDetail", omit=_OMIT, examples=_EXAMPLES)]


class RevisionQuery(PageQuery):
    """Paging only."""


class DuplicateBody(BaseModel):
    """The copy to make."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"name": "Acme billing, new"}]})

    name: Annotated[
        str | None,
        Field(description="The copy's name; by default the template's with `(copy)`, `(copy 2)` and so on."),
    ] = None


Against = Annotated[
    int | None, Query(ge=1, le=2**31 - 1, description="Another revision, to compare this one with.")
]


@router.get("/{template_id:uuid}/revisions", responses=refuses("not_found", "invalid_request"))
async def list_revisions(
    app_state: AppStateDep, reader: Reader, template_id: UUID, query: Annotated[RevisionQuery, Query()]
) -> PageOf[Revision]:
    """Every save of a template, newest first."""
    await templates.get(app_state.database, reader.account_id, template_id)
    found = await revisions.list_revisions(
        app_state.database, reader.account_id, template_id, limit=query.limit, cursor=query.cursor
    )
    return PageOf[Revision].of(found)


@router.get("/{template_id:uuid}/revisions/{revision:int}", responses=refuses("not_found", "invalid_request"))
async def get_revision(
    app_state: AppStateDep, reader: Reader, template_id: UUID, revision: Number, against: Against = None
) -> RevisionDetail:
    """One revision of a template; secrets are `***`."""
    await templates.get(app_state.database, reader.account_id, template_id)
    kept = await revisions.get(app_state.database, reader.account_id, template_id, revision)
    changes = None
    if against is not None:
        other = await revisions.get(app_state.database, reader.account_id, template_id, against)
        changes = differences(other.content, kept.content)
    return extended(RevisionWithContent, kept, template=public_content(kept.content), differences=changes)


@router.post(
    "/{template_id:uuid}/revisions/{revision:int}/restore",
    response_model=Template,
    responses=refuses(*CHANGE, *SAVE, "template_in_use"),
)
async def restore_revision(
    app_state: AppStateDep, author: Author, template_id: UUID, revision: Number, if_match: IfMatch
) -> Response:
    """Save an older revision as the newest one, secrets included. An active template must pass the check."""
    before = await templates.get(app_state.database, author.account_id, template_id)
    if_match.expect(before.revision)
    kept = await revisions.get(app_state.database, author.account_id, template_id, revision)
    saved = await restore(app_state.authoring, author.editor, before, kept)
    return answer_saved(app_state, saved)


@router.post(
    "/{template_id:uuid}/duplicate",
    status_code=201,
    response_model=Template,
    responses=refuses(
        *BODY, "not_found", "invalid_request", "invalid_template", "name_taken", "rate_limited"
    ),
)
async def duplicate_template(
    app_state: AppStateDep, author: Author, template_id: UUID, body: DuplicateBody | None = None
) -> Response:
    """Save a copy of a template as a draft, secrets included."""
    source = await templates.get(app_state.database, author.account_id, template_id)
    name = body.name if body else None
    return answered(await duplicate(app_state.authoring, author.editor, source, name), 201)
