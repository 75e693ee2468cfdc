"""The audit log: who changed what, and when. An entry is written in the transaction of the change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from db.ids import new_id
from db.pool import Executor
from db.rows import Page, after_id, columns, narrow, page, read

Resource = Literal[
    "account",
    "call",
    "channel",
    "dispatch",
    "handoff",
    "key",
    "lead",
    "notice",
    "number",
    "operator",
    "opt_out",
    "template",
    "user",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """One change."""

    id: UUID
    account_id: UUID
    at: datetime
    key_id: UUID | None
    """The API key that made the change; None: the command line."""
    action: str
    """A verb: ``create``, ``update``, ``activate``, ``delete``, ``revoke``…"""
    resource: Resource
    resource_id: UUID
    revision_before: int | None
    revision_after: int | None
    data: Mapping[str, Any]
    """More facts about the change; never a secret or an address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change to record."""

    key_id: UUID | None
    action: str
    resource: Resource
    resource_id: UUID
    revision_before: int | None = None
    revision_after: int | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    """More facts about the change, as JSON values; never a secret or an address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Which changes to list; None does not filter."""

    resource: Resource | None = None
    resource_id: UUID | None = None
    action: str | None = None


_AUDIT = columns(AuditRecord)


async def record(db: Executor, account_id: UUID, change: Change) -> None:
    """Write an entry; pass the transaction that makes the change."""
    await db.execute(
        """
        INSERT INTO audit (id, account_id, key_id, action, resource, resource_id, revision_before,
            revision_after, data)
        VALUES ($2, $1, $3, $4, $5, $6, $7, $8, $9)
        """,
        account_id,
        new_id(),
        change.key_id,
        change.action,
        change.resource,
        change.resource_id,
        change.revision_before,
        change.revision_after,
        change.data,
    )


async def list_changes(
    db: Executor, account_id: UUID, where: AuditFilter, *, limit: int, cursor: str | None = None
) -> Page[AuditRecord]:
    """The account's changes, newest first.

    Raises:
        BadCursor: the cursor is not one of this list.
    """
    narrowing, values = narrow(
        {"resource": where.resource, "resource_id": where.resource_id, "action": where.action}, first=4
    )
    rows = await db.fetch(
        f"""
        SELECT {_AUDIT} FROM audit WHERE account_id = $1 AND id < $2{narrowing} ORDER BY id DESC LIMIT $3
        """,  # noqa: S608 - only column names
        account_id,
        after_id(cursor),
        limit + 1,
        *values,
    )
    return page([read(AuditRecord, row) for row in rows], limit, lambda change: change.id)
