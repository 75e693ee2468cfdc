"""The account around a template: what its check looks at, and whose check its change concerns."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from db import numbers, revisions, templates
from db.errors import NotFound
from db.pool import Executor
from db.templates import TemplateRecord
from handlers.registry import HANDLERS
from templates.check import CheckContext, Problem, ProviderTable, check, targets
from templates.model import TemplateContent
from voicebot.authoring.documents import InvalidTemplate, content_of, uuid_of


class Dependents:
    """Looks around in one account."""

    def __init__(self, account_id: UUID, http_allow: frozenset[str], providers: ProviderTable | None) -> None:
        """``http_allow`` are the private hosts that HTTP functions may reach."""
        self._providers = providers
        self._account_id = account_id
        self._http_allow = http_allow

    async def around(self, db: Executor, template_id: UUID | None, content: TemplateContent) -> CheckContext:
        """What the check of a template needs to know: where it leads, who leads to it, its number."""
        near = {found for found in map(uuid_of, targets(content)) if found}
        if template_id is not None:
            near |= set(await templates.used_by(db, self._account_id, template_id))
        found = await revisions.targets(db, self._account_id, sorted(near)) if near else {}
        return CheckContext(
            template_id=str(template_id) if template_id else None,
            templates={str(each.id): content_of(each.content, status=each.status) for each in found.values()},
            numbers=await self._number_states(db, uuid_of(content.number_id)),
            builtins=frozenset(HANDLERS),
            http_allow=self._http_allow,
            providers=self._providers,
        )

    async def recheck_users(self, db: Executor, template_id: UUID) -> None:
        """Check what routes to a template that has just changed; drafts keep the findings as their problems.

        Raises:
            InvalidTemplate: an active template would no longer pass.
        """
        for user_id in await templates.used_by(db, self._account_id, template_id):
            await self.recheck(db, user_id)

    async def recheck(self, db: Executor, template_id: UUID) -> None:
        """Check a template because another one has changed; a draft keeps the findings as its problems.

        Raises:
            InvalidTemplate: it is active, and would no longer pass.
        """
        record = await templates.get(db, self._account_id, template_id)
        content = content_of(record.content, status=record.status)
        errors = check(content, await self.around(db, template_id, content)).errors
        if errors and record.status == "active":
            raise InvalidTemplate([_would_break(record, error) for error in errors])
        problems = [error.to_json() for error in errors]
        if problems != list(record.problems):
            await templates.keep_problems(db, self._account_id, template_id, problems)

    async def _number_states(self, db: Executor, number_id: UUID | None) -> Mapping[str, bool]:
        if number_id is None:
            return {}
        try:
            number = await numbers.get(db, self._account_id, number_id)
        except NotFound:
            return {}
        return {str(number.id): number.active}


def _would_break(user: TemplateRecord, error: Problem) -> Problem:
    return Problem(
        pointer="",
        code="breaks_active_template",
        message=f"The active template '{user.name}' ({user.id}) routes here and would break: {error.message}",
        remedy=f"In '{user.name}', at {error.pointer}: {error.remedy}",
    )
