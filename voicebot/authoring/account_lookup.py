"""What the check of a template needs from its account, and the recheck of templates that route to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ParamSpec, Self, TypeVar
from uuid import UUID

from db import numbers, revisions, template_sets, template_targets, templates
from db.numbers import NumberRecord
from db.pool import Executor
from db.revisions import TemplateSnapshot
from db.rows import MAX_LIMIT
from db.templates import TemplateFilter, TemplateRecord
from templates.check import (
    BUILTIN_FUNCTIONS,
    CarrierRules,
    CheckContext,
    KnownNumber,
    Problem,
    ProviderTable,
    Report,
    check,
    targets,
)
from templates.model import TemplateContent
from templates.sets import CheckedTemplate, SetContext, SetReferences, check_set, find_references, name_of
from templates.size import oversized
from voicebot.authoring.check_pool import Checks, DirectChecks
from voicebot.authoring.documents import InvalidTemplate, content_of, uuid_of
from voicebot.authoring.number_check import known_number
from voicebot.authoring.sources import read_source

ParamsT = ParamSpec("ParamsT")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredContent:
    """A template of the account as it is stored; the check reads it."""

    id: str
    document: Mapping[str, Any]
    status: str

    @classmethod
    def of(cls, record: TemplateRecord | TemplateSnapshot) -> Self:
        """That of a row."""
        return cls(id=str(record.id), document=record.content, status=record.status)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetLookup:
    """The part of an account that the check of a set of documents needs."""

    context: SetContext
    """Without ``templates``, which are ``stored``."""
    stored: Sequence[StoredContent]
    named: Mapping[str, TemplateRecord]
    """The account's templates that have the name of one of the set."""


@dataclass(frozen=True, slots=True)
class AccountLookup:
    """Reads what checks need from one account.

    A document may be any JSON, or a source of it (``sources``).
    """

    account_id: UUID
    http_allow: frozenset[str]
    """Private hosts (`host:port`) that HTTP functions may reach."""
    providers: ProviderTable | None
    """The providers that templates may name; None: they are not checked."""
    builtins: frozenset[str] = BUILTIN_FUNCTIONS
    """Names of the built-in functions of this server."""
    checks: Checks = field(default_factory=DirectChecks)
    """Where the checks run."""
    carriers: Mapping[str, CarrierRules] = field(default_factory=dict)
    """What calls can do, by the name of their carrier; one that is absent has no limits."""

    async def look_up_set(self, db: Executor, documents: Sequence[Any]) -> SetLookup:
        """Find the templates and numbers that a set of documents mentions.

        Args:
            db: a database, or the transaction that will write.
            documents: as in template files.
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
        present = {record.id for record in found}
        missing = {user for using in users.values() for user in using}
        missing |= set(await template_targets.reached_from(db, self.account_id, present))
        missing -= present
        if missing:
            found = [*found, *await template_sets.find(db, self.account_id, ids=missing)]
        known = {record.name: str(record.id) for record in found}
        number_ids = {record.number_id for record in found if record.number_id} | _ids(said.numbers)
        found_numbers = await numbers.find(db, self.account_id, e164s=said.numbers, ids=number_ids)
        context = SetContext(
            ids=known,
            numbers={number.e164: str(number.id) for number in found_numbers},
            known_numbers=self._known(found_numbers),
            names=await self._newest_names(db) if said.targets - said.names - known.keys() else (),
            builtins=self.builtins,
            http_allow=self.http_allow,
            providers=self.providers,
        )
        return SetLookup(context=context, stored=[StoredContent.of(each) for each in found], named=named)

    async def check_set(self, db: Executor, documents: Sequence[Any]) -> list[CheckedTemplate]:
        """Check documents against each other and the account.

        A document with an ``id`` is checked as the template of that id, others as the account's template of
        the same name.
        """
        lookup = await self.look_up_set(db, documents)
        return await self._run(_checked_set, documents, lookup.context, lookup.stored)

    async def report(self, db: Executor, document: Any) -> Report:
        """The report of ``check_set`` for one document."""
        lookup = await self.look_up_set(db, [document])
        return await self._run(_report, document, lookup.context, lookup.stored)

    async def context(
        self, db: Executor, template_id: UUID | None, content: TemplateContent
    ) -> tuple[CheckContext, Sequence[StoredContent]]:
        """What one template is checked against: where its routes lead, what routes to it, and its number.

        The templates are not in the context: ``check_against`` adds them.
        """
        related = {found for found in map(uuid_of, targets(content)) if found}
        if related:
            related |= set(await template_targets.reached_from(db, self.account_id, related))
        if template_id is not None:
            related |= set(await template_targets.used_by(db, self.account_id, template_id))
            related.discard(template_id)
        found = await revisions.targets(db, self.account_id, sorted(related)) if related else {}
        named = [content.number_id, *(each.content.get("number_id") for each in found.values())]
        number_ids = {number_id for number_id in map(uuid_of, named) if number_id}
        context = CheckContext(
            template_id=str(template_id) if template_id else None,
            numbers=self._known(await numbers.find(db, self.account_id, ids=number_ids))
            if number_ids
            else {},
            builtins=self.builtins,
            http_allow=self.http_allow,
            providers=self.providers,
        )
        return context, [StoredContent.of(each) for each in found.values()]

    async def recheck_users(self, db: Executor, template_id: UUID) -> None:
        """Check the templates from which routes lead to one that has just changed; see ``recheck``.

        Raises:
            InvalidTemplate: an active template would no longer pass.
        """
        for user_id in await template_targets.used_by(db, self.account_id, template_id):
            await self.recheck(db, user_id)

    async def recheck(self, db: Executor, template_id: UUID) -> None:
        """Check a template because another one has changed, and store the result as a draft's problems.

        Raises:
            InvalidTemplate: it is active, and would no longer pass.
        """
        record = await templates.get(db, self.account_id, template_id)
        content = await self._run(content_of, record.content, status=record.status)
        context, stored = await self.context(db, template_id, content)
        errors = (await self._run(check_against, content, context, stored)).errors
        if errors and record.status == "active":
            raise InvalidTemplate([_would_break(record, error) for error in errors])
        problems = [error.to_json() for error in errors]
        if problems != list(record.problems):
            await templates.keep_problems(db, self.account_id, template_id, problems)

    async def _run(
        self, function: Callable[ParamsT, ResultT], *args: ParamsT.args, **named: ParamsT.kwargs
    ) -> ResultT:
        return await self.checks.run(self.account_id, function, *args, **named)

    def _known(self, found: Sequence[NumberRecord]) -> Mapping[str, KnownNumber]:
        return {
            str(number.id): known_number(number, self.carriers.get(number.carrier, CarrierRules()))
            for number in found
        }

    async def _newest_names(self, db: Executor) -> Sequence[str]:
        """Names to suggest for a misspelt one: those of the newest templates."""
        found = await templates.list_templates(db, self.account_id, TemplateFilter(), limit=MAX_LIMIT)
        return [record.name for record in found.items]


def check_against(content: TemplateContent, context: CheckContext, stored: Sequence[StoredContent]) -> Report:
    """Check a template in a context with these templates of its account."""
    return check(content, replace(context, templates=contents_of(stored)))


def contents_of(stored: Sequence[StoredContent]) -> dict[str, TemplateContent]:
    """Stored templates by their id."""
    return {each.id: content_of(each.document, status=each.status) for each in stored}


def _references(documents: Sequence[Any]) -> SetReferences:
    """The names and ids in documents; those in a document that is too large do not count."""
    return find_references([read for read in map(read_source, documents) if not oversized(read)])


def _checked_set(
    documents: Sequence[Any], context: SetContext, stored: Sequence[StoredContent]
) -> list[CheckedTemplate]:
    written = [read_source(each) for each in documents]
    own_ids = {
        name_of(document): document["id"]
        for document in written
        if isinstance(document, dict) and uuid_of(document.get("id"))
    }
    whole = replace(context, ids={**context.ids, **own_ids}, templates=contents_of(stored))
    return check_set(written, whole)


def _report(document: Any, context: SetContext, stored: Sequence[StoredContent]) -> Report:
    [checked] = _checked_set([document], context, stored)
    return checked.report


def _ids(texts: Iterable[str]) -> set[UUID]:
    return {found for found in map(uuid_of, texts) if found}


def _would_break(user: TemplateRecord, error: Problem) -> Problem:
    return Problem(
        pointer="",
        code="breaks_active_template",
        message=f"The active template '{user.name}' ({user.id}) routes here and would break: {error.message}",
        remedy=f"In '{user.name}', at {error.pointer}: {error.remedy}",
    )
