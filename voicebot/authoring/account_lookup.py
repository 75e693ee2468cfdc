"""What an account holds of all that a set of documents speaks of."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from db import numbers, template_sets, templates
from db.pool import Executor
from db.rows import MAX_LIMIT
from db.templates import TemplateFilter, TemplateRecord
from handlers.registry import HANDLERS
from templates.check import ProviderTable
from templates.sets import CheckedTemplate, SetContext, check_set, find_references, name_of
from voicebot.authoring.documents import content_of, uuid_of

BUILTINS = frozenset(HANDLERS)
"""The built-in functions that there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountLookup:
    """What was found.

    Attributes:
        outside: the account, as the check of a set wants it.
        named: the account's templates that have the name of one of the set.
    """

    outside: SetContext
    named: Mapping[str, TemplateRecord]


async def account_lookup(
    db: Executor,
    account_id: UUID,
    documents: Sequence[Any],
    http_allow: frozenset[str],
    providers: ProviderTable | None,
) -> AccountLookup:
    """Look around in an account.

    Args:
        db: a database, or the transaction that will write.
        account_id: the account.
        documents: any JSON, as files have it.
        http_allow: the private hosts that HTTP functions may reach.
        providers: what there is to be named as provider; None: not known.
    """
    said = find_references(documents)
    near = await template_sets.find(
        db, account_id, names=said.names | said.targets, ids=_ids(said.ids | said.own_ids)
    )
    named = {record.name: record for record in near if record.name in said.names}
    own_ids = {record.id for record in near} & _ids(said.own_ids)
    users = await template_sets.users_of(db, account_id, own_ids | {record.id for record in named.values()})
    more = {user for found in users.values() for user in found} - {record.id for record in near}
    near = [*near, *(await template_sets.find(db, account_id, ids=more) if more else ())]
    known = {record.name: str(record.id) for record in near}
    own_numbers = await numbers.find(db, account_id, e164s=said.numbers, ids=_ids(said.numbers))
    outside = SetContext(
        ids=known,
        templates={str(record.id): content_of(record.content, status=record.status) for record in near},
        numbers={number.e164: str(number.id) for number in own_numbers},
        active_numbers={str(number.id): number.active for number in own_numbers},
        names=await _names(db, account_id) if said.targets - said.names - known.keys() else (),
        builtins=BUILTINS,
        http_allow=http_allow,
        providers=providers,
    )
    return AccountLookup(outside=outside, named=named)


async def check_around(
    db: Executor,
    account_id: UUID,
    documents: Sequence[Any],
    http_allow: frozenset[str],
    providers: ProviderTable | None,
) -> list[CheckedTemplate]:
    """What the check finds in a set of documents, with an account around them.

    A document that says an id is the template of that id; else one of the account that has its name.
    """
    found = await account_lookup(db, account_id, documents, http_allow, providers)
    own_ids = {
        name_of(document): document["id"]
        for document in documents
        if isinstance(document, dict) and uuid_of(document.get("id"))
    }
    outside = replace(found.outside, ids={**found.outside.ids, **own_ids})
    return await asyncio.to_thread(check_set, documents, outside)


def _ids(texts: Iterable[str]) -> set[UUID]:
    return {found for found in map(uuid_of, texts) if found}


async def _names(db: Executor, account_id: UUID) -> Sequence[str]:
    """Names that a misspelt one may have meant: those of the newest templates."""
    found = await templates.list_templates(db, account_id, TemplateFilter(), limit=MAX_LIMIT)
    return [record.name for record in found.items]
