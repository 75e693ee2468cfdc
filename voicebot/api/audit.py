"""/audit: the log of changes."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Query
from pydantic import Field

from db import audit
from db.audit import AuditFilter, AuditRecord, Resource
from voicebot.api.access import Reader
from voicebot.api.answers import AnswerOf
from voicebot.api.app_state import AppStateDep
from voicebot.api.documentation import refuses
from voicebot.api.pagination import PageOf, PageQuery
from voicebot.api.resource_router import resource_router

router = resource_router("/audit", "audit")


AuditEntry = Annotated[AuditRecord, AnswerOf("AuditEntry", examples={"action": "update"})]


class AuditQuery(PageQuery):
    """Which changes to list."""

    resource: Resource | None = None
    resource_id: UUID | None = None
    action: Annotated[
        str | None, Field(max_length=40, pattern="^[a-z_]*$", description="A verb, such as `activate`.")
    ] = None


@router.get("", responses=refuses("invalid_request"))
async def list_changes(
    app_state: AppStateDep, reader: Reader, query: Annotated[AuditQuery, Query()]
) -> PageOf[AuditEntry]:
    """All changes in the account, newest first. Entries cannot be altered."""
    where = AuditFilter(resource=query.resource, resource_id=query.resource_id, action=query.action)
    found = await audit.list_changes(
        app_state.database, reader.account_id, where, limit=query.limit, cursor=query.cursor
    )
    return PageOf[AuditEntry].of(found)
