"""What the check of a template needs from its account, and the recheck of templates that route to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

from db import numbers, revisions, template_sets, templates
from db.errors import NotFound
from db.pool import Executor
from db.revisions import TemplateSnapshot
from db.rows import MAX_LIMIT
from db.templates import TemplateFilter, TemplateRecord
from handlers.registry import HANDLERS
from templates.check import CheckContext, Problem, ProviderTable, check, targets
from templates.model import TemplateContent
from templates.sets import CheckedTemplate, SetContext, SetReferences, check_set, find_references, name_of
from templates.size import oversized
from voicebot.authoring.check_pool import CheckPool
from voicebot.authoring.documents import InvalidTemplate, content_of, uuid_of

ParamsT = ParamSpec("ParamsT")
ResultT = TypeVar("ResultT")

BUILTINS = frozenset(HANDLERS)
"""Names of the built-in functions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetLookup:
    """The part of an account that the check of a set of documents needs."""

    context: SetContext
    named: Mapping[str, TemplateRecord]
    """The account's templates that have the name of one of the set."""


@dataclass(frozen=True, slots=True)
class AccountLookup:
    """Reads what checks need from one account."""

    account_id: UUID
    http_allow: frozenset[str]
    """Private hosts (`host:port`) that HTTP functions may reach."""
    providers: ProviderTable | None
    """The providers that templates may name; None: they are not checked."""
    checks: CheckPool = field(default_factory=CheckPool)
    """Where the checks run."""

    async def look_up_set(self, db: Executor, documents: Sequence[Any]) -> SetLookup:
        """Find the templates and numbers that a set of documents mentions.

        Args:
            db: a database, or the transaction that will write.
            documents: any JSON, as in template files.
        """
        said = await self._run(_references, documents)
        found = await template_sets.find(
            db, self.account_id, names=said.names | said.targets, ids=_ids(said.ids | said.own_ids)
        )
        named = {record.name: record for record in found if record.name in said.names}
        own_ids = {record.id for record in found} & _ids(said.own_ids)
        users = await template_sets.users_of(
            db, self.account_id, own_ids | {record.id for record in named.values()}
        )
        missing = {user for using in users.values() for user in using} - {record.id for record in found}
        if missing:
            found = [*found, *await template_sets.find(db, self.account_id, ids=missing)]
        known = {record.name: str(record.id) for record in found}
        found_numbers = await numbers.find(db, self.account_id, e164s=said.numbers, ids=_ids(said.numbers))
        context = SetContext(
            ids=known,
            templates=await self._run(_contents, found),
            numbers={number.e164: str(number.id) for number in found_numbers},
            active_numbers={str(number.id): number.active for number in found_numbers},
            names=await self._newest_names(db) if said.targets - said.names - known.keys() else (),
            builtins=BUILTINS,
            http_allow=self.http_allow,
            providers=self.providers,
        )
        return SetLookup(context=context, named=named)

    async def check_set(self, db: Executor, documents: Sequence[Any]) -> list[CheckedTemplate]:
        """Check documents against each other and the account.

        A document with an ``id`` is checked as the template of that id, others as the account's template of
        the same name.
        """
        lookup = await self.look_up_set(db, documents)
        own_ids = {
            name_of(document): document["id"]
            for document in documents
            if isinstance(document, dict) and uuid_of(document.get("id"))
        }
        context = replace(lookup.context, ids={**lookup.context.ids, **own_ids})
        return await self._run(check_set, documents, context)

    async def context(self, db: Executor, template_id: UUID | None, content: TemplateContent) -> CheckContext:
        """What one template is checked against: its targets, the templates that route to it, its number."""
        related = {found for found in map(uuid_of, targets(content)) if found}
        if template_id is not None:
            related |= set(await templates.used_by(db, self.account_id, template_id))
        found = await revisions.targets(db, self.account_id, sorted(related)) if related else {}
        return CheckContext(
            template_id=str(template_id) if template_id else None,
            templates=await self._run(_contents, found.values()),
            numbers=await self._number_states(db, uuid_of(content.number_id)),
            builtins=BUILTINS,
            http_allow=self.http_allow,
            providers=self.providers,
        )

    async def recheck_users(self, db: Executor, template_id: UUID) -> None:
        """Check the templates that route to a template that has just changed; see ``recheck``.

        Raises:
            InvalidTemplate: an active template would no longer pass.
        """
        for user_id in await templates.used_by(db, self.account_id, template_id):
            await self.recheck(db, user_id)

    async def recheck(self, db: Executor, template_id: UUID) -> None:
        """Check a template because another one has changed, and store the result as a draft's problems.

        Raises:
            InvalidTemplate: it is active, and would no longer pass.
        """
        record = await templates.get(db, self.account_id, template_id)
        content = await self._run(content_of, record.content, status=record.status)
        errors = (await self._run(check, content, await self.context(db, template_id, content))).errors
        if errors and record.status == "active":
            raise InvalidTemplate([_would_break(record, error) for error in errors])
        problems = [error.to_json() for error in errors]
        if problems != list(record.problems):
            await templates.keep_problems(db, self.account_id, template_id, problems)

    async def _run(
        self, function: Callable[ParamsT, ResultT], *args: ParamsT.args, **named: ParamsT.kwargs
    ) -> ResultT:
        return await self.checks.run(self.account_id, function, *args, **named)

    async def _number_states(self, db: Executor, number_id: UUID | None) -> Mapping[str, bool]:
        if number_id is None:
            return {}
        try:
            number = await numbers.get(db, self.account_id, number_id)
        except NotFound:
            return {}
        return {str(number.id): number.active}

    async def _newest_names(self, db: Executor) -> Sequence[str]:
        """Names to suggest for a misspelt one: those of the newest templates."""
        found = await templates.list_templates(db, self.account_id, TemplateFilter(), limit=MAX_LIMIT)
        return [record.name for record in found.items]


def _references(documents: Sequence[Any]) -> SetReferences:
    """The names and ids in documents; those in a document that is too large do not count."""
    return find_references([document for document in documents if not oversized(document)])


def _contents(records: Iterable[TemplateRecord | TemplateSnapshot]) -> dict[str, TemplateContent]:
    return {str(each.id): content_of(each.content, status=each.status) for each in records}


def _ids(texts: Iterable[str]) -> set[UUID]:
    return {found for found in map(uuid_of, texts) if found}


def _would_break(user: TemplateRecord, error: Problem) -> Problem:
    return Problem(
        pointer="",
        code="breaks_active_template",
        message=f"The active template '{user.name}' ({user.id}) routes here and would break: {error.message}",
        remedy=f"In '{user.name}', at {error.pointer}: {error.remedy}",
    )
