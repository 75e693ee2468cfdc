"""/audit: who changed what, and when."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from db import audit
from db.audit import AuditFilter, Resource
from voicebot.api.access import Reader
from voicebot.api.app_state import AppStateDep
from voicebot.api.documentation import refuses
from voicebot.api.pagination import PageOf, PageQuery

router = APIRouter(prefix="/audit", tags=["audit"])


class ChangeShown(BaseModel):
    """One change."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    at: datetime
    key_id: Annotated[UUID | None, Field(description="The key that made it; null: the command line.")]
    action: Annotated[str, Field(examples=["update"])]
    resource: Resource
    resource_id: UUID
    revision_before: int | None
    revision_after: int | None
    data: Annotated[
        dict[str, Any], Field(description="What else helps a reader; never a secret or an address.")
    ]


class AuditQuery(PageQuery):
    """Which changes to list."""

    resource: Resource | None = None
    resource_id: UUID | None = None
    action: Annotated[
        str | None, Field(max_length=40, pattern="^[a-z_]*$", description="A verb, such as `activate`.")
    ] = None


@router.get("", responses=refuses("invalid_request"))
async def list_changes(
    wired: AppStateDep, reader: Reader, query: Annotated[AuditQuery, Query()]
) -> PageOf[ChangeShown]:
    """Every change of the account's, newest first. Nobody can alter the list."""
    where = AuditFilter(resource=query.resource, resource_id=query.resource_id, action=query.action)
    found = await audit.list_changes(
        wired.database, reader.account_id, where, limit=query.limit, cursor=query.cursor
    )
    return PageOf[ChangeShown](
        items=[ChangeShown.model_validate(each) for each in found.items], next_cursor=found.next_cursor
    )
