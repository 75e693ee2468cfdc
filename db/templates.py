"""Templates. Their content is the author's document, which this package stores without reading it.

Every save writes a revision in the same transaction, so that a call keeps the revision that it began with.
Constraints of the schema and row locks enforce what must hold under concurrent saves: one active orchestrator
per number, unique names, and active route targets of active orchestrators.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from db import template_rules
from db.errors import (
    ConstraintViolated,
    DatabaseBusy,
    NameTaken,
    NotFound,
    OrchestratorExists,
)
from db.ids import new_id
from db.pool import Executor, Row, Transaction
from db.rows import Page, after_id, columns, narrow, page, read

Kind = Literal["agent", "orchestrator"]
Status = Literal["draft", "active"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateRecord:
    """A template as it is now."""

    id: UUID
    account_id: UUID
    name: str
    kind: Kind
    status: Status
    number_id: UUID | None
    revision: int
    content: Mapping[str, Any]
    problems: Sequence[Any]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateDraft:
    """The columns that a save writes."""

    name: str
    kind: Kind
    status: Status
    number_id: UUID | None
    content: Mapping[str, Any]
    """The whole document, as JSON values."""
    problems: Sequence[Any] = ()
    """The problems that the check found, as JSON values."""
    references: Sequence[UUID] = ()
    """The templates that it routes to. Those that do not exist, which a draft may name, are left out."""
    changed: Sequence[str] = ()
    """Names of the members that the save changes, for the list of revisions."""
    saved_by: UUID | None = None
    """The API key that saves; None: the command line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateFilter:
    """Which templates to list; None does not filter."""

    kind: Kind | None = None
    status: Status | None = None
    number_id: UUID | None = None
    name_contains: str = ""
    """Case does not matter; empty does not filter."""


_TEMPLATE = columns(TemplateRecord)
_RETURNED = "id, account_id, name, kind, status, number_id, revision, created_at, updated_at"
"""What a save returns: without the document, which the caller has and which may be large."""
_ATTEMPTS = 3


async def get(db: Executor, account_id: UUID, template_id: UUID) -> TemplateRecord:
    """One template.

    Raises:
        NotFound: the account has no such template.
    """
    row = await db.fetchrow(
        f"SELECT {_TEMPLATE} FROM templates WHERE account_id = $1 AND id = $2 AND deleted_at IS NULL",  # noqa: S608
        account_id,
        template_id,
    )
    if row is None:
        raise NotFound("template", template_id)
    return read(TemplateRecord, row)


async def by_name(db: Executor, account_id: UUID, name: str) -> TemplateRecord:
    """The template with exactly this name.

    Raises:
        NotFound: the account has no such template.
    """
    row = await db.fetchrow(
        f"SELECT {_TEMPLATE} FROM templates WHERE account_id = $1 AND name = $2 AND deleted_at IS NULL",  # noqa: S608
        account_id,
        name,
    )
    if row is None:
        raise NotFound("template", name)
    return read(TemplateRecord, row)


async def names(db: Executor, account_id: UUID, *, beginning: str) -> Sequence[str]:
    """The names of the account's templates that begin with a text."""
    rows = await db.fetch(
        """
        SELECT name FROM templates
        WHERE account_id = $1 AND deleted_at IS NULL AND starts_with(name, $2) ORDER BY name
        """,
        account_id,
        beginning,
    )
    return [row["name"] for row in rows]


async def list_templates(
    db: Executor, account_id: UUID, where: TemplateFilter, *, limit: int, cursor: str | None = None
) -> Page[TemplateRecord]:
    """The account's templates, newest first.

    Raises:
        BadCursor: the cursor is not one of this list.
    """
    narrowing, values = narrow(
        {"kind": where.kind, "status": where.status, "number_id": where.number_id}, first=5
    )
    rows = await db.fetch(
        f"""
        SELECT {_TEMPLATE} FROM templates
        WHERE account_id = $1 AND deleted_at IS NULL AND id < $2
            AND strpos(lower(name), lower($4)) > 0{narrowing}
        ORDER BY id DESC LIMIT $3
        """,  # noqa: S608
        account_id,
        after_id(cursor),
        limit + 1,
        where.name_contains,
        *values,
    )
    return page([read(TemplateRecord, row) for row in rows], limit, lambda template: template.id)


async def create(
    db: Executor,
    account_id: UUID,
    draft: TemplateDraft,
    *,
    template_id: UUID | None = None,
    in_set: bool = False,
) -> TemplateRecord:
    """Create a template at revision 1, with a new id or (in a set, where others refer to it) a given one.

    ``in_set``: its targets may be written after it; ``settle_targets`` follows when all are.

    Raises:
        NameTaken, OrchestratorExists, TargetsUnavailable: see db.errors.
        NotFound: the account has no such number.
    """
    own_id = template_id or new_id()

    async def insert(transaction: Transaction) -> Row | None:
        return await transaction.fetchrow(
            f"""
            INSERT INTO templates (id, account_id, name, kind, status, number_id, content, problems)
            VALUES ($2, $1, $3, $4, $5, $6, $7, $8) RETURNING {_RETURNED}
            """,  # noqa: S608
            account_id,
            own_id,
            draft.name,
            draft.kind,
            draft.status,
            draft.number_id,
            draft.content,
            draft.problems,
        )

    return await _save(db, account_id, draft, insert, in_set=in_set)


async def update(
    db: Executor,
    account_id: UUID,
    template_id: UUID,
    draft: TemplateDraft,
    *,
    expected_revision: int,
    in_set: bool = False,
) -> TemplateRecord:
    """Replace a template; activation and deactivation are updates like any other. ``in_set``: see ``create``.

    Raises:
        NotFound: the account has no such template or number.
        RevisionConflict: it is not at ``expected_revision``.
        TemplateInUse: it would no longer be an active agent, and active templates route to it.
        NameTaken, OrchestratorExists, TargetsUnavailable: see db.errors.
    """

    async def replace(transaction: Transaction) -> Row | None:
        await template_rules.lock(transaction, account_id, template_id, expected_revision)
        if (draft.kind, draft.status) != ("agent", "active"):
            await template_rules.refuse_if_used(transaction, account_id, template_id)
        return await transaction.fetchrow(
            f"""
            UPDATE templates SET name = $3, kind = $4, status = $5, number_id = $6, content = $7,
                problems = $8, revision = revision + 1, updated_at = now()
            WHERE account_id = $1 AND id = $2 RETURNING {_RETURNED}
            """,  # noqa: S608
            account_id,
            template_id,
            draft.name,
            draft.kind,
            draft.status,
            draft.number_id,
            draft.content,
            draft.problems,
        )

    return await _save(db, account_id, draft, replace, in_set=in_set)


async def settle_targets(
    transaction: Transaction, account_id: UUID, template_id: UUID, draft: TemplateDraft
) -> None:
    """Store which templates a saved one routes to; lock those of an active one until the transaction ends.

    Raises:
        TargetsUnavailable: it is active, and some of its targets are not.
    """
    await template_rules.set_references(transaction, account_id, template_id, draft.references)
    if draft.status == "active":
        await template_rules.lock_targets(transaction, account_id, draft.references)


async def delete(db: Executor, account_id: UUID, template_id: UUID, *, expected_revision: int) -> None:
    """Delete a template. Calls in progress continue with it, and records keep its id.

    Raises:
        NotFound: the account has no such template.
        RevisionConflict: it is not at ``expected_revision``.
        TemplateInUse: active templates route to it.
    """
    async with db.transaction() as transaction:
        await template_rules.lock(transaction, account_id, template_id, expected_revision)
        await template_rules.refuse_if_used(transaction, account_id, template_id)
        await transaction.execute(
            """
            UPDATE templates SET status = 'draft', number_id = NULL, deleted_at = now(), updated_at = now(),
                revision = revision + 1
            WHERE account_id = $1 AND id = $2
            """,
            account_id,
            template_id,
        )
        await template_rules.set_references(transaction, account_id, template_id, ())


async def keep_problems(db: Executor, account_id: UUID, template_id: UUID, problems: Sequence[Any]) -> None:
    """Replace the problems of a template because another one has changed; this writes no revision."""
    await db.execute(
        "UPDATE templates SET problems = $3 WHERE account_id = $1 AND id = $2",
        account_id,
        template_id,
        problems,
    )


async def _save(
    db: Executor,
    account_id: UUID,
    draft: TemplateDraft,
    write: Callable[[Transaction], Awaitable[Row | None]],
    *,
    in_set: bool,
) -> TemplateRecord:
    """Write the template, its references and its revision in one transaction."""
    for _ in range(_ATTEMPTS):
        try:
            async with db.transaction() as transaction:
                if draft.number_id is not None:
                    await template_rules.lock_number(transaction, account_id, draft.number_id)
                row = await write(transaction)
                if row is None:
                    raise DatabaseBusy("The template was not written; try again.")
                saved = TemplateRecord(**dict(row), content=draft.content, problems=list(draft.problems))
                if in_set:
                    await template_rules.set_references(transaction, account_id, saved.id, draft.references)
                else:
                    await settle_targets(transaction, account_id, saved.id, draft)
                await _keep_revision(transaction, saved, draft)
                return saved
        except ConstraintViolated as error:
            await _raise_specific_error(db, account_id, draft, error)
    raise DatabaseBusy("Other requests keep changing this number's orchestrator; try again.")


async def _raise_specific_error(
    db: Executor, account_id: UUID, draft: TemplateDraft, error: ConstraintViolated
) -> None:
    """Raise the error that the violation means; return if its cause is gone and a new attempt may succeed."""
    if error.constraint == "templates_name_unique":
        raise NameTaken(draft.name) from None
    if error.constraint != "templates_one_active_orchestrator":
        raise error
    winner = await db.fetchrow(
        """
        SELECT id, name FROM templates
        WHERE account_id = $1 AND number_id = $2 AND kind = 'orchestrator' AND status = 'active'
        """,
        account_id,
        draft.number_id,
    )
    if winner is not None:
        raise OrchestratorExists(winner["id"], winner["name"]) from None


async def _keep_revision(transaction: Transaction, saved: TemplateRecord, draft: TemplateDraft) -> None:
    await transaction.execute(
        """
        INSERT INTO template_revisions (account_id, template_id, revision, name, kind, status, number_id,
            content, changed, saved_by)
        SELECT account_id, id, revision, name, kind, status, number_id, content, $3, $4
        FROM templates WHERE account_id = $1 AND id = $2
        """,
        saved.account_id,
        saved.id,
        draft.changed,
        draft.saved_by,
    )
