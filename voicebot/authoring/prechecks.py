"""Friendly looks before a save. The database decides as well: deleting them changes no outcome."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

from db import templates
from db.errors import OrchestratorExists
from db.pool import Executor
from db.templates import TemplateFilter
from templates.model import TemplateContent
from voicebot.authoring.documents import uuid_of

Precheck = Callable[[Executor, UUID, UUID | None, TemplateContent], Awaitable[None]]
"""Looks at (database, account, the template if it exists, what it shall become) before a save."""


async def no_other_orchestrator(
    db: Executor, account_id: UUID, template_id: UUID | None, content: TemplateContent
) -> None:
    """Name the orchestrator that has the number, before the database has to refuse this one.

    Raises:
        OrchestratorExists: the number is answered by another one.
    """
    number_id = uuid_of(content.number_id)
    if number_id is None or (content.kind, content.status) != ("orchestrator", "active"):
        return
    where = TemplateFilter(kind="orchestrator", status="active", number_id=number_id)
    found = await templates.list_templates(db, account_id, where, limit=1)
    for other in found.items:
        if other.id != template_id:
            raise OrchestratorExists(other.id, other.name)


PRECHECKS: tuple[Precheck, ...] = (no_other_orchestrator,)
