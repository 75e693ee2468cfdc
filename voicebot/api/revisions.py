"""/templates/{id}/revisions and /duplicate: what a template was, and what another one begins with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Query, Response
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
from voicebot.api.templates import SAVE, answered, prepare_greetings
from voicebot.authoring import shown_content
from voicebot.authoring.differences import Difference as TemplateDifference
from voicebot.authoring.differences import differences
from voicebot.authoring.history import duplicate, restore

router = APIRouter(prefix="/templates", tags=["templates"])

Number = Annotated[int, Path(ge=1, le=2**31 - 1, description="A revision.")]


_OMIT = ("account_id", "template_id", "number_id", "content")
_EXAMPLES = {"changed": ["prompt", "routes"]}
Difference = Annotated[TemplateDifference, AnswerOf("Difference", examples={"pointer": "/greeting/text"})]


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionWithContent(RevisionRecord):
    """One save of a template, and what the template was then."""

    template: Annotated[dict[str, Any], DocumentedAs(TemplateContent)]
    differences: list[Difference] | None
    """Where it differs from the revision `against`; null if not asked."""


Revision = Annotated[RevisionRecord, AnswerOf("Revision", omit=_OMIT, examples=_EXAMPLES)]
RevisionDetail = Annotated[RevisionWithContent, AnswerOf("RevisionDetail", omit=_OMIT, examples=_EXAMPLES)]


class RevisionQuery(PageQuery):
    """Nothing but pages."""


class DuplicateBody(BaseModel):
    """What the copy is to be called."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"name": "Acme billing, new"}]})

    name: Annotated[
        str | None, Field(description="Without it: the template's with `(copy)`, or `(copy 2)` and so on.")
    ] = None


Against = Annotated[
    int | None, Query(ge=1, le=2**31 - 1, description="Another revision, to be told where they differ.")
]


@router.get("/{template_id:uuid}/revisions", responses=refuses("not_found", "invalid_request"))
async def list_revisions(
    wired: AppStateDep, reader: Reader, template_id: UUID, query: Annotated[RevisionQuery, Query()]
) -> PageOf[Revision]:
    """Every save of a template, newest first."""
    await templates.get(wired.database, reader.account_id, template_id)
    found = await revisions.list_revisions(
        wired.database, reader.account_id, template_id, limit=query.limit, cursor=query.cursor
    )
    return PageOf[Revision].of(found)


@router.get("/{template_id:uuid}/revisions/{revision:int}", responses=refuses("not_found", "invalid_request"))
async def get_revision(
    wired: AppStateDep, reader: Reader, template_id: UUID, revision: Number, against: Against = None
) -> RevisionDetail:
    """What a template was at a revision; secrets are `***`."""
    await templates.get(wired.database, reader.account_id, template_id)
    kept = await revisions.get(wired.database, reader.account_id, template_id, revision)
    changes = None
    if against is not None:
        other = await revisions.get(wired.database, reader.account_id, template_id, against)
        changes = differences(other.content, kept.content)
    return extended(RevisionWithContent, kept, template=shown_content(kept.content), differences=changes)


@router.post(
    "/{template_id:uuid}/revisions/{revision:int}/restore",
    response_model=Template,
    responses=refuses(*CHANGE, *SAVE, "template_in_use"),
)
async def restore_revision(
    wired: AppStateDep, author: Author, template_id: UUID, revision: Number, if_match: IfMatch
) -> Response:
    """Save what a template was as its newest revision, secrets included; an active one is checked."""
    before = await templates.get(wired.database, author.account_id, template_id)
    if_match.expect(before.revision)
    kept = await revisions.get(wired.database, author.account_id, template_id, revision)
    saved = await restore(wired.authoring, author.editor, before, kept)
    prepare_greetings(wired, saved)
    return answered(saved)


@router.post(
    "/{template_id:uuid}/duplicate",
    status_code=201,
    response_model=Template,
    responses=refuses(*BODY, "not_found", "invalid_request", "invalid_template", "name_taken"),
)
async def duplicate_template(
    wired: AppStateDep, author: Author, template_id: UUID, body: DuplicateBody | None = None
) -> Response:
    """Save a draft that is like a template, secrets included."""
    source = await templates.get(wired.database, author.account_id, template_id)
    name = body.name if body else None
    return answered(await duplicate(wired.authoring, wired.database, author.editor, source, name), 201)
